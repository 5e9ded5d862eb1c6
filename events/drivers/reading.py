"""Reading in the portal's own database as an event store: it ends when it takes too long.

No question is added by that: PostgreSQL is told its limit in the same message as the query, and
SQLite asks now and then whether to go on.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from django.db import connection
from django.db.utils import OperationalError

from beidou.base.sentences import Sentence
from events.drivers import patience
from events.drivers.errors import SearchTooSlow

STEPS_BETWEEN = 100_000
"""Steps of SQLite, some milliseconds of them, after which it asks: each time it may have to wait
for another thread."""
_CODES, _STOPPED = ("sqlstate", "sqlite_errorname"), {"57014", "SQLITE_INTERRUPT"}


@contextmanager
def in_time() -> Iterator[None]:
    """SearchTooSlow when what is read within takes longer than there is patience for.  In a
    transaction on PostgreSQL nothing else can be asked after that."""
    ends_at = time.monotonic() + patience.left(patience.READ_SECONDS)
    limited = _on_postgresql if connection.vendor == "postgresql" else _on_sqlite
    try:
        with limited(ends_at):
            yield
    except OperationalError as error:
        if not _STOPPED & {getattr(error.__cause__, name, "") for name in _CODES}:
            raise
        raise _too_slow() from error


def _too_slow() -> SearchTooSlow:
    return SearchTooSlow(
        Sentence(
            "The event store answers too slowly, so that the search was stopped. One of a shorter "
            "time, or of fewer clusters, takes less."
        )
    )


def _on_postgresql(ends_at: float) -> AbstractContextManager[None]:
    def execute(run: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        left = int((ends_at - time.monotonic()) * 1000)
        if left <= 0:
            raise _too_slow()
        # Outside of a transaction the first lasts until the end of the message, and the last is
        # for one: what is asked in it afterwards has its usual time again.
        answer = run(
            f"SET LOCAL statement_timeout = {left}; {sql}; SET LOCAL statement_timeout TO DEFAULT",
            params,
            many,
            context,
        )
        context["cursor"].nextset()
        return answer

    return connection.execute_wrapper(execute)


@contextmanager
def _on_sqlite(ends_at: float) -> Iterator[None]:
    """Around all that is read, because SQLite finds a row when it is fetched."""
    if time.monotonic() >= ends_at:
        raise _too_slow()
    connection.ensure_connection()
    raw = connection.connection
    raw.set_progress_handler(lambda: time.monotonic() > ends_at, STEPS_BETWEEN)
    try:
        yield
    finally:
        raw.set_progress_handler(None, 0)
