"""Finding events: newest first, page by page, with counts and a histogram, in whichever store.

Time is always bounded, a page goes on behind the last row of the one before (never by counting
rows), and who asks sees the clusters that he may see, and of others the namespaces that one of his
teams was granted.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from typing import Any

from django.db.models import BooleanField, Exists, ExpressionWrapper, OuterRef
from django.utils import timezone

from beidou.base.permissions import VIEW, access_of, allowed, namespaces_of
from clusters.models import Cluster
from events.drivers.errors import StoreAway
from events.drivers.kube_events import MOST_AHEAD
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
    "scope_of",
    "sees",
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
    return page_in(_scope(user, query), query, after=after, limit=limit)


def every(user: Any, query: Query, *, most: int) -> Iterator[FoundEvent]:
    """The newest events, up to ``most``, in short queries: no transaction stays open meanwhile."""
    scope = _scope(user, query)
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
    """As ``page``, for whoever sees what is in ``scope``."""
    if not scope.known:
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
    scope = _scope(user, query)
    return chosen.store().counts(query, scope, field, most) if scope.known else []


def histogram(user: Any, query: Query) -> list[Bucket]:
    """How many events were last seen in each of about ``BUCKETS`` equal parts of the range, or
    fewer; the first and the last may be cut by it."""
    # What clocks that are ahead have written may add some parts, and makes none wider.
    end = query.until - MOST_AHEAD if query.until > timezone.now() else query.until
    span = (end if end > query.since else query.until) - query.since
    wanted = math.ceil(span.total_seconds() / BUCKETS)
    seconds = next((width for width in WIDTHS if width >= wanted), wanted)
    # From a round moment: good to read, and quick to count.
    begin = datetime.fromtimestamp(int(query.since.timestamp()) // seconds * seconds, UTC)
    found = _parts(user, query, begin, seconds)
    last = math.ceil((query.until - begin) / timedelta(seconds=seconds)) - 1
    for later in [each for each in found if each > last]:  # it went on after the range
        parts = found.get(last, _NOTHING), found.pop(later)
        found[last] = Part(sum(each.warnings for each in parts), sum(each.others for each in parts))
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
    scope = _scope(user, query)
    return chosen.store().parts(query, scope, begin, seconds) if scope.known else {}


def tallies(
    user: Any, queries: Mapping[str, Query], clusters: tuple[int, ...], spans: Sequence[Span]
) -> dict[str, list[int]]:
    """How many of the events of each query went on in each span: for what is counted before now,
    an event that was repeated since then counts, too."""
    scope = scope_of(user, clusters)
    if not scope.known:
        return {name: [0] * len(spans) for name in queries}
    return chosen.store().tallies(queries, scope, spans)


def firsts(user: Any, clusters: tuple[int, ...], spans: Sequence[Span]) -> list[datetime | None]:
    """From when on there are events in each span; None in one without."""
    scope = scope_of(user, clusters)
    return chosen.store().firsts(scope, spans) if scope.known else [None] * len(spans)


def sees(user: Any, event: Any) -> bool:
    """Whether ``user`` may see an event with this ``cluster_id`` and ``namespace``."""
    scope = scope_of(user)
    if event.cluster_id in scope.clusters:
        return True
    granted = namespaces_of(user).filter(cluster=event.cluster_id, namespace=event.namespace)
    return event.cluster_id in scope.limited and granted.exists()


def _scope(user: Any, query: Query) -> Scope:
    scope = scope_of(user, query.clusters)
    return replace(scope, limited={}, teams=()) if query.in_full else scope


def scope_of(user: Any, keys: tuple[int, ...] = ()) -> Scope:
    """What ``user`` may see, or that of the clusters of ``keys`` alone.

    Asked once for each user object: a page asks for each of its figures, and each request loads its
    user anew, so that nothing is remembered beyond it.
    """
    scope: Scope | None = user.__dict__.get("_scope_of_events")
    if scope is None:
        scope = user.__dict__["_scope_of_events"] = _sight(user)
    if not keys:
        return scope
    clusters, limited = (
        {key: among[key] for key in keys if key in among}
        for among in (scope.clusters, scope.limited)
    )
    return Scope(clusters, limited=limited, teams=scope.teams if limited else ())


def _sight(user: Any) -> Scope:
    """One query, and another for whoever is limited to namespaces anywhere; neither looks at more
    than one grant of a team on a cluster."""
    in_full = allowed(user, access_of(Cluster), VIEW)
    if in_full is None:
        return Scope({})
    rows = Cluster.objects.only("name", "uid", "insecure_tls").order_by()
    if not in_full:
        return Scope({row.pk: row for row in rows}, is_all=True)
    in_part = Exists(namespaces_of(user).filter(cluster=OuterRef("pk")))
    rows = rows.filter(in_full | in_part).annotate(
        is_seen=ExpressionWrapper(in_full, output_field=BooleanField())
    )
    found = {row.pk: row for row in rows}
    limited = {key: row for key, row in found.items() if not row.is_seen}
    if not limited:
        return Scope(found)
    granted = namespaces_of(user).filter(team=OuterRef("pk"))
    teams = user.groups.filter(Exists(granted)).order_by("pk").values_list("pk", flat=True)
    return Scope(
        {key: row for key, row in found.items() if row.is_seen}, limited=limited, teams=tuple(teams)
    )
