"""Finding events in the embedded store: newest first, page by page, with counts and a histogram.

Time is always bounded, a page goes on behind the last row of the one before (never by counting
rows), and who asks sees the clusters that he may see.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import BigIntegerField, BooleanField, Count, F, Func, Q, QuerySet
from django.db.models.expressions import RawSQL
from django.utils import timezone
from django.utils.translation import gettext as _

from beidou.base.errors import InvalidInput
from beidou.base.permissions import visible_to
from events.drivers import text
from events.drivers.kube_events import MOST_AHEAD
from events.models import Event

FIELDS = ("namespace", "kind", "name", "reason", "type", "component", "node")
DEFAULT_SPAN = timedelta(hours=24)
MOST_AT_ONCE = 2000
BUCKETS = 60
WARNING = "Warning"
_CURSOR = re.compile(r"(\d{1,20})-(\d{1,20})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is searched; several values of one field mean any of them."""

    since: datetime
    until: datetime
    text: str = ""
    clusters: tuple[int, ...] = ()
    namespace: tuple[str, ...] = ()
    kind: tuple[str, ...] = ()
    name: tuple[str, ...] = ()
    reason: tuple[str, ...] = ()
    type: tuple[str, ...] = ()
    component: tuple[str, ...] = ()
    node: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, *, since: datetime | None = None, until: datetime | None = None, **values: Any
    ) -> "Query":
        """With the last 24 hours where no times are given; InvalidInput when they cross."""
        # A program whose clock is ahead of ours has written the newest.
        until = until or timezone.now() + MOST_AHEAD
        since = since or until - DEFAULT_SPAN
        if since >= until:
            raise InvalidInput(
                _("The time range ends before it begins."),
                fields={"since": _("This must be before the end.")},
            )
        return cls(since=since, until=until, **values)

    def without(self, field: str) -> "Query":
        """The query as if nothing were chosen in this field: for counts of what else there is."""
        nothing: Any = ()
        return replace(self, **{field: nothing})


@dataclass(frozen=True)
class Cursor:
    """The place behind a row."""

    last_seen: datetime
    pk: int

    def __str__(self) -> str:
        return f"{(self.last_seen - _EPOCH) // timedelta(microseconds=1)}-{self.pk}"

    @classmethod
    def parse(cls, value: str) -> "Cursor":
        found = _CURSOR.fullmatch(value)
        try:
            if found is None:
                raise ValueError
            return cls(_EPOCH + timedelta(microseconds=int(found[1])), int(found[2]))
        except (ValueError, OverflowError):
            sentence = _("This is no place in a list of events.")
            raise InvalidInput(sentence, fields={"cursor": sentence}) from None


@dataclass(frozen=True)
class Page:
    """Some rows, and where the next ones begin; None behind the last."""

    rows: Sequence[Event]
    next: Cursor | None


@dataclass(frozen=True)
class Bucket:
    """A part of the time range, and how many events were last seen in it."""

    since: datetime
    until: datetime
    warnings: int
    others: int


def page(user: Any, query: Query, *, after: Cursor | None = None, limit: int = 100) -> Page:
    """The newest events, or those behind ``after``; at most ``MOST_AT_ONCE``."""
    limit = min(max(limit, 1), MOST_AT_ONCE)
    rows = matching(user, query).select_related("cluster").defer("raw")
    if after is not None:
        # Both conditions: the first is what an index can be entered by.
        rows = rows.filter(last_seen__lte=after.last_seen).exclude(
            last_seen=after.last_seen, id__gte=after.pk
        )
    found = list(rows.order_by("-last_seen", "-id")[: limit + 1])
    if len(found) <= limit:
        return Page(found, None)
    last = found[limit - 1]
    return Page(found[:limit], Cursor(last.last_seen, last.pk))


def every(user: Any, query: Query, *, most: int) -> Iterator[Event]:
    """The newest events, up to ``most``, in short queries: no transaction stays open meanwhile."""
    after: Cursor | None = None
    while most > 0:
        found = page(user, query, after=after, limit=min(most, MOST_AT_ONCE))
        yield from found.rows
        if found.next is None:
            return
        after = found.next
        most -= len(found.rows)


def counts(user: Any, query: Query, field: str, *, most: int = 10) -> list[tuple[Any, int]]:
    """The commonest values of a field among the matching events, with how many events have them.

    ``field`` is one of ``FIELDS`` or ``cluster``; a choice made in it does not limit its counts.
    That an event has none (no node, no namespace) is no value.
    """
    chosen = "clusters" if field == "cluster" else field
    rows = matching(user, query.without(chosen)).order_by()
    if field != "cluster":
        rows = rows.exclude(**{field: ""})
    counted = rows.values_list(field).annotate(number=Count("id")).order_by("-number", field)
    return [(value, number) for value, number in counted[:most]]


def histogram(user: Any, query: Query) -> list[Bucket]:
    """How many events were last seen in each of at most ``BUCKETS`` equal parts of the range."""
    begin = query.since.replace(microsecond=0)
    width = math.ceil((query.until - begin).total_seconds() / BUCKETS)
    rows = matching(user, query).order_by()
    part = (_Epoch(F("last_seen")) - int(begin.timestamp())) / width
    counted = (
        rows.annotate(part=part)
        .values_list("part")
        .annotate(all=Count("id"), warnings=Count("id", filter=Q(type=WARNING)))
    )
    found = {int(number): (total, warnings) for number, total, warnings in counted}
    buckets = []
    number = 0
    while begin < query.until:
        end = min(begin + timedelta(seconds=width), query.until)
        total, warnings = found.get(number, (0, 0))
        buckets.append(Bucket(begin, end, warnings, total - warnings))
        begin, number = end, number + 1
    return buckets


def matching(user: Any, query: Query) -> QuerySet[Event]:
    """The events that ``user`` may see and that the query means."""
    rows = visible_to(user, Event.objects.all())
    rows = rows.filter(last_seen__gte=query.since, last_seen__lt=query.until)
    if query.clusters:
        rows = rows.filter(cluster__in=query.clusters)
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
