"""The embedded event store: a table with a full-text index, on SQLite and on PostgreSQL.

Both speak the same ``INSERT … ON CONFLICT``; what differs is how the text index and the days are
made: FTS5 and rows on SQLite, a ``tsvector`` and one partition per day on PostgreSQL.  Knows no
model, as all drivers: the columns are those of ``events.models.Event``.
"""

import zlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import DataError, IntegrityError, connection, transaction

from events.drivers.days import prepare_days
from events.drivers.kube_events import Record, orders_by_time

TABLE = "events_event"
COLUMNS = (
    "cluster_id",
    "uid",
    "day",
    "version",
    "first_seen",
    "last_seen",
    "count",
    "type",
    "reason",
    "namespace",
    "kind",
    "name",
    "object_uid",
    "node",
    "component",
    "message",
    "raw",
)
KEY = ("cluster_id", "uid", "day")

_MARKS = ", ".join(["%s"] * len(COLUMNS))
_CHANGES = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name not in KEY)
_UPSERT = (
    f"INSERT INTO {TABLE} ({', '.join(COLUMNS)}) VALUES ({_MARKS})"  # noqa: S608 - only our names
    f" ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET {_CHANGES}"
    f" WHERE excluded.version > {TABLE}.version"
    # A cluster that was restored from a backup counts from lower numbers again, which the times
    # tell where they can (the last value).  The same state changes nothing: times ahead of us are
    # cut at when it was read, and a list reads it again.
    f" OR (excluded.version <> {TABLE}.version AND excluded.last_seen > {TABLE}.last_seen AND %s)"
    f" OR (excluded.version = 0 AND excluded.last_seen >= {TABLE}.last_seen)"
)
_REFUSALS = (DataError, IntegrityError)


def write(cluster_id: int, records: Sequence[Record]) -> list[tuple[Record, str]]:
    """Keep the records, each in its newest state; gives those that the database refuses, and why.

    One that is refused must hold up no other, so the rest is tried in halves.
    """
    if not records:
        return []
    prepare_days({record.day for record in records})
    return _write([_row(cluster_id, record) for record in records], records)


_REMOVE = (
    f"DELETE FROM {TABLE} WHERE cluster_id = %s AND uid = %s AND day = %s"  # noqa: S608 - our names
    # Within CASE, so that no index by time is taken for the better way: thousands were last seen in
    # the same moment.
    " AND CASE WHEN last_seen = %s THEN version END = %s"
)


def remove(cluster_id: int, records: Sequence[Record]) -> int:
    """Delete these states, and none that is another by now; gives how many went."""
    if not records:
        return 0
    rows = [
        (cluster_id, each.uid, each.day, _time(each.last_seen), each.version) for each in records
    ]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.executemany(_REMOVE, rows)
        return int(cursor.rowcount)


Row = tuple[Any, ...]


def _write(rows: Sequence[Row], records: Sequence[Record]) -> list[tuple[Record, str]]:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.executemany(_UPSERT, rows)
    except _REFUSALS as error:
        if len(rows) == 1:
            return [(records[0], str(error).splitlines()[0])]
        half = len(rows) // 2
        return _write(rows[:half], records[:half]) + _write(rows[half:], records[half:])
    return []


def _row(cluster_id: int, record: Record) -> Row:
    return (
        cluster_id,
        record.uid,
        record.day,
        record.version,
        _time(record.first_seen),
        _time(record.last_seen),
        record.count,
        record.type,
        record.reason,
        record.namespace,
        record.kind,
        record.name,
        record.object_uid,
        record.node,
        record.component,
        record.message,
        zlib.compress(record.raw, 1),
        orders_by_time(record),
    )


def _time(value: datetime) -> Any:
    return connection.ops.adapt_datetimefield_value(value)
