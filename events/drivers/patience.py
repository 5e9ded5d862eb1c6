"""How long whoever asks waits in all, over however many requests of an event store.

A page that shows something else, too, must not wait as long as a search may::

    with patience.of(2):
        search.page(...)
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

READ_SECONDS = 10.0
"""For one question to any store, when whoever asks says nothing else."""
_ends_at: ContextVar[float | None] = ContextVar("event_store_patience", default=None)


@contextmanager
def of(seconds: float) -> Iterator[None]:
    """The stores are asked for no longer than that; within another one, the shorter counts."""
    token = _ends_at.set(time.monotonic() + left(seconds))
    try:
        yield
    finally:
        _ends_at.reset(token)


def left(seconds: float) -> float:
    """Of ``seconds``, as many as there are; none or less when the time is over."""
    ends_at = _ends_at.get()
    return seconds if ends_at is None else min(seconds, ends_at - time.monotonic())


def is_over() -> bool:
    """What goes on portion by portion ends here, and does the rest another time."""
    return left(1.0) <= 0
