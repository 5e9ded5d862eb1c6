"""The embedded store: events in the portal's own database, found by its full-text index."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import (
    BigIntegerField,
    BooleanField,
    Count,
    Exists,
    F,
    Func,
    Min,
    OuterRef,
    Q,
    QuerySet,
)
from django.db.models.expressions import RawSQL
from django.utils import timezone

from beidou.base.numbers import as_key
from beidou.base.sentences import Sentence
from clusters.models import Cluster
from events.drivers import database, days, reading, text
from events.drivers.kube_events import Record
from events.models import Event, NamespaceGrant
from events.services.stores.base import (
    FIELDS,
    NO_LABELS,
    WARNING,
    Cursor,
    FoundEvent,
    Group,
    Held,
    Keeper,
    Labels,
    Limits,
    Page,
    Part,
    Query,
    Scope,
    SeenReason,
    Span,
)

OBJECT_MAX_BYTES = 8 * 1024 * 1024
"""Several times what an API server takes; a few KiB may stand for gigabytes."""
_SHOWN = tuple(name for name in Record.__struct_fields__ if name != "raw")


class EmbeddedStore:
    """See ``Store``."""

    portions_at_once = 1
    is_in_database = True
    label_delay: timedelta | None = None

    def write(
        self, keeper: Keeper, records: Sequence[Record], labels: Labels = NO_LABELS
    ) -> list[tuple[Record, str]]:
        return database.write(keeper.pk, records)

    def relabel(
        self, cluster_uid: str, team: int, namespaces: Sequence[str], labels: Labels
    ) -> bool:
        return True

    @reading.in_time()
    def page(
        self, query: Query, scope: Scope, *, after: Cursor | None, limit: int, with_raw: bool
    ) -> Page:
        several = query.reason if len(query.reason) > 1 else ()
        rows = _matching(query.without("reason") if several else query, scope, in_order=True)
        if several:
            # By the index of reasons all of them would be read and sorted for the newest few.
            rows = rows.alias(said=_Unindexed(F("reason"))).filter(said__in=several)
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
            [_found(row, scope) for row in found if row["cluster_id"] in scope.known], behind
        )

    @reading.in_time()
    def one(self, key: str, scope: Scope) -> FoundEvent | None:
        pk = as_key(key)
        if pk is None:
            return None
        rows = _within(Event.objects.filter(pk=pk), replace(scope, is_all=False))
        row = rows.values("id", "cluster_id", "raw", *_SHOWN).first()
        return None if row is None else _found(row, scope)

    @reading.in_time()
    def counts(self, query: Query, scope: Scope, field: str, most: int) -> list[tuple[Any, int]]:
        rows = _counted(query, scope)
        if field != "cluster":
            rows = rows.exclude(**{field: ""})
        counted = rows.values_list(field).annotate(number=Count("*")).order_by("-number", field)
        return [(value, number) for value, number in counted[:most]]

    @reading.in_time()
    def parts(self, query: Query, scope: Scope, begin: datetime, seconds: int) -> dict[int, Part]:
        counted = (
            _counted(query, scope)
            .annotate(moment=_Moment(F("last_seen"), cut=_cut_of(int(begin.timestamp()), seconds)))
            .values_list("moment")
            .annotate(all=Count("*"), warnings=Count("type", filter=Q(type=WARNING)))
        )
        first = int(begin.timestamp())
        found: dict[int, Part] = {}
        for moment, total, warnings in counted:
            number = (int(moment) - first) // seconds
            part = found.get(number, Part(0, 0))
            found[number] = Part(part.warnings + warnings, part.others + total - warnings)
        return found

    @reading.in_time()
    def tallies(
        self, queries: Mapping[str, Query], scope: Scope, spans: Sequence[Span]
    ) -> dict[str, list[int]]:
        return {name: _tally(query, scope, spans) for name, query in queries.items()}

    @reading.in_time()
    def firsts(self, scope: Scope, spans: Sequence[Span]) -> list[datetime | None]:
        found = []
        for span in spans:
            rows = _matching(Query(since=span.since, until=span.until), scope)
            moments = rows.order_by("last_seen").values_list("last_seen", flat=True)
            found.append(next(iter(moments[:1]), None))
        return found

    @reading.in_time()
    def reasons(self, query: Query, scope: Scope, most: int) -> list[SeenReason]:
        rows = _matching(query, scope).order_by().exclude(reason="")
        counted = rows.values_list("cluster", "reason").annotate(first=Min("first_seen"))
        return [SeenReason(*row) for row in counted.order_by("cluster", "reason")[:most]]

    def forget(self, limits: Limits) -> int:
        _prepare()
        conditions = [_past(group, limits.held) for group in limits.groups()]
        gone = days.drop_over(limits.latest, _any(conditions))
        return gone + sum(days.delete_where(*condition) for condition in conditions)

    def remove(self, keeper: Keeper, records: Sequence[Record]) -> int:
        return database.remove(keeper.pk, records)

    def refresh(self) -> None:
        """It is so at once."""

    def forget_empty_days(self, before: date) -> None:
        _prepare()
        days.drop_over(before, NOTHING)

    def forget_clusters(self) -> int:
        return days.delete_where(
            f"NOT EXISTS (SELECT 1 FROM {Cluster._meta.db_table} c"  # noqa: S608 - only our names
            f" WHERE c.id = {days.TABLE}.cluster_id)",
            [],
        )


Condition = tuple[str, list[Any]]
"""SQL, and what is put into it."""
NOTHING: Condition = ("1 = 0", [])


def _past(group: Group, held: Sequence[Held]) -> Condition:
    """What of a group is past its time."""
    day = group.before.isoformat()
    sql = f"type {'=' if group.is_warnings else '<>'} '{WARNING}' AND day < %s AND last_seen < %s"
    values: list[Any] = [day, day]
    if group.cluster is not None:
        sql += " AND cluster_id = %s"
        values.append(group.cluster.pk)
    elif group.but:
        sql += f" AND cluster_id NOT IN ({', '.join(['%s'] * len(group.but))})"
        values += [cluster.pk for cluster in group.but]
    for cluster, since, until in held:
        if group.cluster in (None, cluster):
            sql += " AND NOT (cluster_id = %s AND last_seen >= %s AND last_seen < %s)"
            values += [cluster.pk, since.isoformat(), until.isoformat()]
    return sql, values


def _any(conditions: Sequence[Condition]) -> Condition:
    return (
        " OR ".join(f"({sql})" for sql, _values in conditions),
        [value for _sql, values in conditions for value in values],
    )


def _prepare() -> None:
    """The days to come have their partitions before anybody writes."""
    today = timezone.now().date()
    days.prepare_days({today, today + timedelta(days=1)})


def _found(row: dict[str, Any], scope: Scope) -> FoundEvent:
    key, cluster = row.pop("id"), scope.known[row.pop("cluster_id")]
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


def _counted(query: Query, scope: Scope) -> QuerySet[Event]:
    """By cluster even where all are meant: so they are counted from an index, without the rows."""
    return _matching(query, replace(scope, is_all=False)).order_by()


def _matching(query: Query, scope: Scope, *, in_order: bool = False) -> QuerySet[Event]:
    """``in_order``: for the newest few, which are found by walking back from the newest of all."""
    ends_by = "first_seen" if query.during else "last_seen"
    rows = Event.objects.filter(last_seen__gte=query.since, **{f"{ends_by}__lt": query.until})
    rows = _within(rows, scope, in_order=in_order)
    for field in FIELDS:
        values = getattr(query, field)
        if values:
            rows = rows.filter(**{f"{field}__in": values})
    return _with_text(rows, query.text)


def _within(rows: QuerySet[Event], scope: Scope, *, in_order: bool = False) -> QuerySet[Event]:
    """What may be found.  Each event of a limited cluster is looked up in the index of grants, so
    that the question is the same however many there are."""
    if scope.is_all:
        return rows
    if not scope.limited:
        return rows.filter(cluster__in=list(scope.clusters))
    if in_order and len(scope.known) > 1:
        # By the index of clusters all events of all of them would be looked up and sorted.
        of = _Unindexed(F("cluster_id"), output_field=BigIntegerField())
        rows = rows.alias(of=of).filter(of__in=list(scope.known))
    else:
        rows = rows.filter(cluster__in=list(scope.known))
    granted = NamespaceGrant.objects.filter(
        team__in=scope.teams, cluster=OuterRef("cluster"), namespace=OuterRef("namespace")
    )
    return rows.filter(Q(cluster__in=list(scope.clusters)) | Q(Exists(granted)))


def _tally(query: Query, scope: Scope, spans: Sequence[Span]) -> list[int]:
    limit = Q()
    if query.reason and not scope.is_all and not scope.limited:
        # So that SQLite takes the index of reasons, which has all that is asked, and not that of
        # the cluster, by which every event of it would be read.
        limit, scope = Q(cluster__in=list(scope.clusters)), Scope({}, is_all=True)
    counted = {
        str(number): Count(
            "id", filter=limit & Q(last_seen__gte=span.since, first_seen__lt=span.until)
        )
        for number, span in enumerate(spans)
    }
    sums = _matching(query, scope).order_by().aggregate(**counted)
    return [sums[number] for number in counted]


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


class _Unindexed(Func):
    """The column, so that SQLite looks for it in no index; PostgreSQL knows better by itself."""

    template = "%(expressions)s"

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        return self.as_sql(compiler, connection, template="+%(expressions)s", **extra)


@dataclass(frozen=True)
class _Cut:
    """Of a moment as text, so many characters, and what is missing then; by its name in SQL."""

    seconds: int
    characters: int
    missing: str
    unit: str


_CUTS = (
    _Cut(3600, 13, ":00:00", "hour"),
    _Cut(60, 16, ":00", "minute"),
    _Cut(1, 19, "", "second"),
)


def _cut_of(begin: int, seconds: int) -> _Cut:
    """The coarsest whose pieces lie within one part each."""
    return next(cut for cut in _CUTS if begin % cut.seconds == 0 and seconds % cut.seconds == 0)


class _Moment(Func):
    """Seconds since 1970 to which a moment is cut.

    SQLite is quick at cutting text, and slow at reading a date from it: it reads one for each group
    here, and not for each row.
    """

    output_field = BigIntegerField()

    def __init__(self, *expressions: Any, cut: _Cut) -> None:
        super().__init__(*expressions)
        self._cut = cut

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        template = f"substr(%(expressions)s, 1, {self._cut.characters})"
        return self.as_sql(compiler, connection, template=template, **extra)

    def as_postgresql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        template = (
            f"CAST(extract(epoch FROM date_trunc('{self._cut.unit}', %(expressions)s, 'UTC'))"
            " AS bigint)"
        )
        return self.as_sql(compiler, connection, template=template, **extra)

    def convert_value(self, value: Any, expression: Any, connection: Any) -> int:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value + self._cut.missing)
            return int(moment.replace(tzinfo=UTC).timestamp())
        return int(value)
