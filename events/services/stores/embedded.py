"""The embedded store: events in the portal's own database, found by its full-text index."""

import zlib
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import BigIntegerField, BooleanField, Count, F, Func, Q, QuerySet
from django.db.models.expressions import RawSQL
from django.utils import timezone

from beidou.base.numbers import as_key
from beidou.base.sentences import Sentence
from clusters.models import Cluster
from events.drivers import database, days, text
from events.drivers.kube_events import Record
from events.models import Event
from events.services.stores.base import (
    FIELDS,
    WARNING,
    Cursor,
    FoundEvent,
    Keeper,
    Page,
    Part,
    Query,
    Scope,
)

OBJECT_MAX_BYTES = 8 * 1024 * 1024
"""Several times what an API server takes; a few KiB may stand for gigabytes."""
_SHOWN = tuple(name for name in Record.__struct_fields__ if name != "raw")


class EmbeddedStore:
    """See ``Store``."""

    portions_at_once = 1
    is_in_database = True

    def write(self, keeper: Keeper, records: Sequence[Record]) -> list[tuple[Record, str]]:
        return database.write(keeper.pk, records)

    def page(
        self, query: Query, scope: Scope, *, after: Cursor | None, limit: int, with_raw: bool
    ) -> Page:
        rows = _matching(query, scope)
        if after is not None:
            # Both conditions: the first is what an index can be entered by.
            rows = rows.filter(last_seen__lte=after.last_seen).exclude(
                last_seen=after.last_seen, id__gte=after.tie
            )
        names = ("id", "cluster_id", *_SHOWN, *(["raw"] if with_raw else []))
        found = list(rows.order_by("-last_seen", "-id").values(*names)[: limit + 1])
        behind = None
        if len(found) > limit:
            found = found[:limit]
            behind = Cursor(found[-1]["last_seen"], found[-1]["id"])
        return Page(
            [_found(row, scope) for row in found if row["cluster_id"] in scope.clusters], behind
        )

    def one(self, key: str, scope: Scope) -> FoundEvent | None:
        pk = as_key(key)
        if pk is None:
            return None
        rows = Event.objects.filter(pk=pk, cluster__in=scope.clusters)
        row = rows.values("id", "cluster_id", "raw", *_SHOWN).first()
        return None if row is None else _found(row, scope)

    def counts(self, query: Query, scope: Scope, field: str, most: int) -> list[tuple[Any, int]]:
        rows = _matching(query, scope).order_by()
        if field != "cluster":
            rows = rows.exclude(**{field: ""})
        counted = rows.values_list(field).annotate(number=Count("id")).order_by("-number", field)
        return [(value, number) for value, number in counted[:most]]

    def parts(self, query: Query, scope: Scope, begin: datetime, seconds: int) -> dict[int, Part]:
        part = (_Epoch(F("last_seen")) - int(begin.timestamp())) / seconds
        counted = (
            _matching(query, scope)
            .order_by()
            .annotate(part=part)
            .values_list("part")
            .annotate(all=Count("id"), warnings=Count("id", filter=Q(type=WARNING)))
        )
        return {
            int(number): Part(warnings, total - warnings) for number, total, warnings in counted
        }

    def forget(self, normal: date, warnings: date) -> int:
        today = timezone.now().date()
        days.prepare_days({today, today + timedelta(days=1)})
        gone = days.drop_before(min(normal, warnings))
        gone += days.delete_unseen_since(normal, "type <> 'Warning'")
        return gone + days.delete_unseen_since(warnings, "type = 'Warning'")

    def forget_clusters(self) -> int:
        return days.delete_where(
            f"NOT EXISTS (SELECT 1 FROM {Cluster._meta.db_table} c"  # noqa: S608 - only our names
            f" WHERE c.id = {days.TABLE}.cluster_id)",
            [],
        )


def _found(row: dict[str, Any], scope: Scope) -> FoundEvent:
    key, cluster = row.pop("id"), scope.clusters[row.pop("cluster_id")]
    if "raw" in row:
        row["raw"], row["trouble"] = _unpacked(row["raw"])
    return FoundEvent(key=str(key), tie=key, cluster=cluster, **row)


def _unpacked(packed: bytes) -> tuple[bytes, str]:
    """The object, or why it cannot be had."""
    unpacking = zlib.decompressobj()
    try:
        content = unpacking.decompress(bytes(packed), OBJECT_MAX_BYTES)
    except zlib.error as error:
        return b"", Sentence(
            "The whole object is damaged in the event store (%(why)s).", why=str(error)
        )
    if unpacking.unconsumed_tail:
        most = str(OBJECT_MAX_BYTES >> 20)
        return b"", Sentence(
            "The whole object is larger than %(most)s MiB, and is not shown.", most=most
        )
    return content, ""


def _matching(query: Query, scope: Scope) -> QuerySet[Event]:
    rows = Event.objects.filter(last_seen__gte=query.since, last_seen__lt=query.until)
    if not scope.is_all:
        rows = rows.filter(cluster__in=list(scope.clusters))
    for field in FIELDS:
        values = getattr(query, field)
        if values:
            rows = rows.filter(**{f"{field}__in": values})
    return _with_text(rows, query.text)


def _with_text(rows: QuerySet[Event], searched: str) -> QuerySet[Event]:
    terms = text.parse(searched)
    if not terms:
        return rows
    if connection.vendor == "postgresql":
        return rows.filter(
            RawSQL(  # noqa: S611 - the search is a parameter
                "events_event.text @@ to_tsquery('simple', %s)",
                [text.for_postgresql(terms)],
                output_field=BooleanField(),
            )
        )
    wanted, unwanted = text.for_sqlite(terms)
    if wanted:
        rows = rows.filter(id__in=_matched(wanted))
    if unwanted:
        rows = rows.exclude(id__in=_matched(unwanted))
    return rows


def _matched(expression: str) -> RawSQL:
    return RawSQL(  # noqa: S611 - the search is a parameter
        "SELECT rowid FROM events_text WHERE events_text MATCH %s", [expression]
    )


class _Epoch(Func):
    """Whole seconds since 1970."""

    output_field = BigIntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        return self.as_sql(
            compiler,
            connection,
            template="CAST(strftime('%%%%s', %(expressions)s) AS INTEGER)",
            **extra,
        )

    def as_postgresql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        template = "CAST(floor(extract(epoch FROM %(expressions)s)) AS bigint)"
        return self.as_sql(compiler, connection, template=template, **extra)
