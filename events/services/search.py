"""Finding events: newest first, page by page, with counts and a histogram, in whichever store.

Time is always bounded, a page goes on behind the last row of the one before (never by counting
rows), and who asks sees the clusters that he may see.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from typing import Any

from django.db.models import Q

from beidou.base.permissions import VIEW, access_of, allowed, visible_to
from clusters.models import Cluster
from events.drivers.errors import StoreAway
from events.services.stores import chosen
from events.services.stores.base import (
    BUCKETS,
    DEFAULT_SPAN,
    FIELDS,
    WARNING,
    Cursor,
    FoundEvent,
    Page,
    Part,
    Query,
    Scope,
    Span,
)

__all__ = [
    "BUCKETS",
    "DEFAULT_SPAN",
    "FIELDS",
    "MOST_AT_ONCE",
    "WARNING",
    "Bucket",
    "Cursor",
    "FoundEvent",
    "Page",
    "Query",
    "Scope",
    "Span",
    "StoreAway",
    "begun",
    "counts",
    "every",
    "firsts",
    "histogram",
    "one",
    "page",
    "page_in",
    "parts",
    "tallies",
]
MOST_AT_ONCE = 2000
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
WIDTHS = (
    1, 2, 5, 10, 15, 30, _MINUTE, 2 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 20 * _MINUTE,
    30 * _MINUTE, _HOUR, 2 * _HOUR, 3 * _HOUR, 6 * _HOUR, 12 * _HOUR, _DAY, 2 * _DAY, 7 * _DAY,
    30 * _DAY,
)  # fmt: skip
"""Seconds that a bucket of a histogram may have; longer ones only where years are asked for."""
_NOTHING = Part(0, 0)


@dataclass(frozen=True)
class Bucket:
    """A part of the time range, and how many events were last seen in it."""

    since: datetime
    until: datetime
    warnings: int
    others: int


def page(user: Any, query: Query, *, after: Cursor | None = None, limit: int = 100) -> Page:
    """The newest events, or those behind ``after``; at most ``MOST_AT_ONCE``."""
    return page_in(scope_of(user, query.clusters), query, after=after, limit=limit)


def every(user: Any, query: Query, *, most: int) -> Iterator[FoundEvent]:
    """The newest events, up to ``most``, in short queries: no transaction stays open meanwhile."""
    scope = scope_of(user, query.clusters)
    after: Cursor | None = None
    while most > 0:
        found = page_in(scope, query, after=after, limit=min(most, MOST_AT_ONCE))
        yield from found.rows
        if found.next is None:
            return
        after = found.next
        most -= len(found.rows)


def begun(rows: Iterator[FoundEvent]) -> Iterator[FoundEvent]:
    """With the first one read, so that a store that is away is known before anything is sent."""
    return chain(list(islice(rows, 1)), rows)


def page_in(scope: Scope, query: Query, *, after: Cursor | None = None, limit: int) -> Page:
    """As ``page``, for whoever sees the clusters of ``scope``."""
    if not scope.clusters:
        return Page([], None)
    limit = min(max(limit, 1), MOST_AT_ONCE)
    return chosen.store().page(query, scope, after=after, limit=limit, with_raw=False)


def one(user: Any, key: str) -> FoundEvent | None:
    """An event with its whole object; None where there is none that ``user`` may see."""
    return chosen.store().one(key, scope_of(user))


def counts(user: Any, query: Query, field: str, *, most: int = 10) -> list[tuple[Any, int]]:
    """The commonest values of a field among the matching events, with how many events have them.

    ``field`` is one of ``FIELDS`` or ``cluster``, of which the keys are counted; a choice made in
    it does not limit its counts.  That an event has none (no node, no namespace) is no value.
    """
    query = query.without("clusters" if field == "cluster" else field)
    scope = scope_of(user, query.clusters)
    return chosen.store().counts(query, scope, field, most) if scope.clusters else []


def histogram(user: Any, query: Query) -> list[Bucket]:
    """How many events were last seen in each of about ``BUCKETS`` equal parts of the range, or
    fewer; the first and the last may be cut by it."""
    wanted = math.ceil((query.until - query.since).total_seconds() / BUCKETS)
    seconds = next((width for width in WIDTHS if width >= wanted), wanted)
    # From a round moment: good to read, and quick to count.
    begin = datetime.fromtimestamp(int(query.since.timestamp()) // seconds * seconds, UTC)
    found = _parts(user, query, begin, seconds)
    buckets = []
    number = 0
    while begin < query.until:
        end = min(begin + timedelta(seconds=seconds), query.until)
        part = found.get(number, _NOTHING)
        since = max(begin, query.since)
        buckets.append(Bucket(since, end, part.warnings, part.others))
        begin, number = end, number + 1
    return buckets


def parts(user: Any, query: Query, seconds: int) -> dict[int, Part]:
    """How many events were last seen in each part of so many seconds since ``query.since``, by its
    number; empty ones are left out."""
    return _parts(user, query, query.since.replace(microsecond=0), seconds)


def _parts(user: Any, query: Query, begin: datetime, seconds: int) -> dict[int, Part]:
    scope = scope_of(user, query.clusters)
    return chosen.store().parts(query, scope, begin, seconds) if scope.clusters else {}


def tallies(
    user: Any, queries: Mapping[str, Query], clusters: tuple[int, ...], spans: Sequence[Span]
) -> dict[str, list[int]]:
    """How many of the events of each query went on in each span: for what is counted before now,
    an event that was repeated since then counts, too."""
    scope = scope_of(user, clusters)
    if not scope.clusters:
        return {name: [0] * len(spans) for name in queries}
    return chosen.store().tallies(queries, scope, spans)


def firsts(user: Any, clusters: tuple[int, ...], spans: Sequence[Span]) -> list[datetime | None]:
    """From when on there are events in each span; None in one without."""
    scope = scope_of(user, clusters)
    return chosen.store().firsts(scope, spans) if scope.clusters else [None] * len(spans)


def scope_of(user: Any, keys: tuple[int, ...] = ()) -> Scope:
    """The clusters that ``user`` may see, or those of ``keys`` among them.

    One query for each user object: a page asks for each of its figures, and each request loads its
    user anew, so that nothing is remembered beyond it.
    """
    visible = user.__dict__.get("_clusters_of_events")
    if visible is None:
        rows = visible_to(user, Cluster.objects.only("name", "uid", "insecure_tls"))
        visible = user.__dict__["_clusters_of_events"] = {row.pk: row for row in rows.order_by()}
    if keys:
        return Scope({key: visible[key] for key in keys if key in visible})
    sees_all = allowed(user, access_of(Cluster), VIEW) == Q()
    return Scope(visible, is_all=sees_all)
