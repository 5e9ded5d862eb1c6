"""Which reasons a cluster is known to give, so that one it never gave before is noticed.

The clock looks at what was stored since the last time, in short times and with one question to the
store each, so that also a store of billions answers; the first time it begins some days ago.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Count, Min
from django.utils import timezone

from beidou.base.permissions import visible_to
from clusters.models import Cluster
from events.models import KnownReason, ReasonsLearned
from events.services.search import Query
from events.services.stores import chosen
from events.services.stores.base import Scope, SeenReason

logger = structlog.get_logger(__name__)
LEARNED_BACK = timedelta(days=14)
STEP = timedelta(hours=6)
STEPS_AT_ONCE = 60
LATE = timedelta(hours=2)
"""What waits in a spool is stored later than it was seen."""
MOST = 20_000
"""Of one answer; where it is cut the clusters are asked in halves."""
MOST_OF_CLUSTER = 1_000
"""Reasons are words of a program; a cluster that makes up new ones fills no table."""
SHOWN = 50


@dataclass(frozen=True)
class New:
    """Reasons never seen before ``since`` on the ``told`` clusters; of the ``untold`` ones nothing
    is known from before that time, so that nothing can be said.  The newest are in ``rows``, of
    ``count``; of the ``full`` clusters no further reason is noticed."""

    rows: list[KnownReason]
    count: int
    told: int
    untold: int
    full: int


def learn(now: datetime | None = None) -> int:
    """Note what was not known; gives how many that was."""
    now = now or timezone.now()
    mark = ReasonsLearned.objects.filter(pk=1).values_list("until", flat=True).first()
    since = max(mark or now - LEARNED_BACK, now - LEARNED_BACK)
    learned = 0
    for _step in range(STEPS_AT_ONCE):
        until = min(since + STEP, now)
        if since >= until:
            break
        learned += _learn(since - LATE if mark else since, until)
        ReasonsLearned.objects.update_or_create(pk=1, defaults={"until": until})
        mark = since = until
    return learned


def _learn(since: datetime, until: datetime) -> int:
    clusters = Cluster.objects.only("name", "uid").in_bulk()
    if not clusters:
        return 0
    query = Query.of(since=since, until=until)
    seen = _seen(query, Scope(clusters, is_all=True))
    with transaction.atomic():
        known: dict[int, set[str]] = {}
        for cluster, reason in KnownReason.objects.values_list("cluster", "reason"):
            known.setdefault(cluster, set()).add(reason)
        rows = [_row(each, since, until) for each in seen if _is_new(each, clusters, known)]
        KnownReason.objects.bulk_create(rows, ignore_conflicts=True)
    return len(rows)


def _seen(query: Query, scope: Scope) -> list[SeenReason]:
    """Whole but for a single cluster that gives more than are kept of it anyway."""
    seen = chosen.store().reasons(query, scope, MOST)
    if len(seen) < MOST or len(scope.clusters) == 1:
        return seen
    clusters = sorted(scope.clusters.items())
    middle = len(clusters) // 2
    halves = (dict(clusters[:middle]), dict(clusters[middle:]))
    return [each for half in halves for each in _seen(query, Scope(half))]


def _is_new(seen: SeenReason, clusters: dict[int, Cluster], known: dict[int, set[str]]) -> bool:
    """Events of clusters that were un-adopted stay for a while."""
    of_cluster = known.setdefault(seen.cluster, set())
    if seen.cluster not in clusters or seen.reason in of_cluster:
        return False
    if len(of_cluster) >= MOST_OF_CLUSTER:
        logger.warning("reason_not_noted", cluster_id=seen.cluster, reason=seen.reason)
        return False
    of_cluster.add(seen.reason)
    return True


def _row(seen: SeenReason, since: datetime, until: datetime) -> KnownReason:
    """What began before the time that was looked at says nothing of when the cluster was known."""
    first_seen = min(max(seen.first_seen, since), until)
    return KnownReason(cluster_id=seen.cluster, reason=seen.reason, first_seen=first_seen)


def new(user: Any, *, since: datetime, clusters: tuple[int, ...] = ()) -> New:
    """Three queries to the portal's own database."""
    rows = visible_to(user, KnownReason.objects.all())
    if clusters:
        rows = rows.filter(cluster__in=clusters)
    begun = rows.values("cluster").annotate(begin=Min("first_seen"), known=Count("pk")).order_by()
    full = sum(row["known"] >= MOST_OF_CLUSTER for row in begun)
    told = [row["cluster"] for row in begun if row["begin"] < since]
    newest = rows.filter(cluster__in=told, first_seen__gte=since).select_related("cluster")
    found = list(newest.order_by("-first_seen", "reason", "cluster")[:SHOWN])
    count = newest.count() if len(found) == SHOWN else len(found)
    return New(found, count, told=len(told), untold=len(begun) - len(told), full=full)
