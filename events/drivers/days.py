"""The days of the embedded store: partitions on PostgreSQL, so that a day goes at once; rows on
SQLite, where they go in portions.
"""

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from functools import partial
from typing import Any

import structlog
from django.db import connection, transaction
from django.db.utils import IntegrityError, OperationalError
from django.utils import timezone

from events.drivers import patience

logger = structlog.get_logger(__name__)
TABLE = "events_event"
DELETED_AT_ONCE = 5000
# What lies outside goes into a partition of its own: clocks of clusters may say any year.
DAYS_BACK, DAYS_AHEAD = 400, 2
_LOCK = 0x6265_6964  # for the makers of partitions alone
_made: set[date] = set()


def prepare_days(days: Iterable[date]) -> None:
    """Make the partitions of these days where they lack; nothing to do on SQLite."""
    if connection.vendor != "postgresql":
        return
    today = timezone.now().date()
    first, last = today - timedelta(days=DAYS_BACK), today + timedelta(days=DAYS_AHEAD)
    for day in sorted({day for day in days if first <= day <= last} - _made):
        _make(day)
        transaction.on_commit(partial(_made.add, day))


def _make(day: date) -> None:
    end = day + timedelta(days=1)
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '2s'")
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            cursor.execute(
                f"CREATE TABLE IF NOT EXISTS {partition(day)} PARTITION OF {TABLE}"
                f" FOR VALUES FROM ('{day.isoformat()}') TO ('{end.isoformat()}')"
            )
    except (IntegrityError, OperationalError) as error:
        # Rows of this day came when it lay outside, or somebody reads for long: the partition for
        # all else takes them, too, and they are found there as well.
        logger.warning("day_without_partition", day=day.isoformat(), error=str(error))


def partition(day: date) -> str:
    return f"{TABLE}_{day:%Y%m%d}"


def drop_over(before: date, past: tuple[str, list[Any]]) -> int:
    """Remove the days before this one of which every row fulfils the condition (SQL and values);
    gives how many went.  On SQLite none does: rows go one by one there."""
    if connection.vendor != "postgresql":
        return 0
    dropped = 0
    for name in _partitions():
        # Looked at without a lock first: most days are needed by somebody.
        if name < partition(before) and not _is_needed(name, past):
            dropped += _drop_if_over(name, past)
    _made.clear()
    return dropped


def _is_needed(name: str, past: tuple[str, list[Any]]) -> bool:
    condition, values = past
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT EXISTS (SELECT 1 FROM {name} WHERE NOT ({condition}))",  # noqa: S608 - ours
            values,
        )
        return bool(cursor.fetchone() == (True,))


def _drop_if_over(name: str, past: tuple[str, list[Any]]) -> bool:
    """Nothing that began on this day is needed: the whole partition goes."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            # Otherwise all writers would wait behind one reader.
            cursor.execute("SET LOCAL lock_timeout = '2s'")
            cursor.execute(f"LOCK TABLE {TABLE}, {name} IN ACCESS EXCLUSIVE MODE")
            if _is_needed(name, past):
                return False
            cursor.execute(f"DROP TABLE {name}")
            return True
    except OperationalError as error:
        logger.warning("day_not_dropped", partition=name, error=str(error))
        return False  # its rows go one by one


def _partitions() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = %s::regclass AND c.relname ~ '_[0-9]{8}$'",
            [TABLE],
        )
        return sorted(name for (name,) in cursor.fetchall())


def delete_where(condition: str, values: Sequence[Any]) -> int:
    """Delete the rows of a condition in portions, each a transaction of its own, for as long as
    there is patience."""
    deleted = 0
    while not patience.is_over():
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                f"DELETE FROM {TABLE} WHERE id IN"  # noqa: S608 - the condition is ours
                f" (SELECT id FROM {TABLE} WHERE {condition} LIMIT {DELETED_AT_ONCE})",
                values,
            )
            count = int(cursor.rowcount)
        deleted += count
        if count < DELETED_AT_ONCE:
            break
    return deleted
