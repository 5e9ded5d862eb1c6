"""The figures of the home page and of ``/api/v1/overview/``: what is there, how well it is, what
goes on.

Everything comes from the database and through ``visible_to``: nobody sees a sum over what they may
not see.  The number of queries does not depend on the size of the fleet.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import (
    Case,
    Count,
    IntegerField,
    OuterRef,
    Q,
    Subquery,
    Sum,
    Value,
    When,
)
from django.db.models.functions import Coalesce
from django.utils import timezone

from beidou.base.display import share
from beidou.base.permissions import visible_to
from beidou.overview.attention import Need, needs
from beidou.overview.links import listing
from beidou.overview.running import Running, running
from clusters.models import Cluster, Node
from machines.models import Machine
from operations.models import Operation

CLUSTERS_SHOWN = 12


@dataclass(frozen=True)
class Counted:
    """A number, what it counts, and the list behind it."""

    key: str
    label: str
    count: int
    url: str


@dataclass(frozen=True)
class Filling:
    """Requested of allocatable, summed over clusters; ``unit`` is one of ``usage_bar``'s."""

    key: str
    requested: int
    allocatable: int
    unit: str

    @property
    def percent(self) -> int | None:
        return share(self.requested, self.allocatable)


@dataclass(frozen=True)
class Overview:
    at: datetime
    needs: list[Need]
    clusters: list[Counted]
    clusters_total: Counted
    nodes: list[Counted]
    nodes_total: Counted
    stale_nodes: int
    filling: list[Filling]
    running: list[Running]
    rows: list[Cluster]
    machines: list[Counted]
    machines_total: Counted
    today: list[Counted]
    active: list[Counted] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not (self.clusters_total.count or self.machines_total.count)

    @property
    def rows_left(self) -> int:
        return self.clusters_total.count - len(self.rows)


def collect(user: Any) -> Overview:
    """All figures as ``user`` may see them, now."""
    healths = _clusters_by_health(user)
    nodes = _nodes(user)
    machines = _machines_by_state(user)
    today, active = _operations(user)
    return Overview(
        at=timezone.now(),
        needs=needs(user),
        clusters=[
            Counted(
                key,
                str(label),
                healths.get(key, {}).get("count", 0),
                listing("clusters.Cluster", health__exact=key),
            )
            for key, label in Cluster.Health.choices
        ],
        clusters_total=Counted(
            "all", "", sum(row["count"] for row in healths.values()), listing("clusters.Cluster")
        ),
        nodes=[
            Counted("ready", "", nodes["ready"], listing("clusters.Node", is_ready__exact=1)),
            Counted(
                "not_ready", "", nodes["not_ready"], listing("clusters.Node", is_ready__exact=0)
            ),
            Counted(
                "cordoned", "", nodes["cordoned"], listing("clusters.Node", unschedulable__exact=1)
            ),
        ],
        nodes_total=Counted("all", "", nodes["total"], listing("clusters.Node")),
        stale_nodes=healths.get(Cluster.Health.UNREACHABLE, {}).get("last_seen_nodes", 0),
        filling=_filling(list(healths.values())),
        running=running(user),
        rows=_cluster_rows(user),
        machines=machines,
        machines_total=Counted(
            "all", "", sum(each.count for each in machines), listing("machines.Machine")
        ),
        today=today,
        active=active,
    )


def _clusters_by_health(user: Any) -> dict[str, dict[str, Any]]:
    rows = (
        visible_to(user, Cluster.objects.all())
        .order_by()
        .values("health")
        .annotate(
            count=Count("pk"),
            last_seen_nodes=Sum("nodes_total"),
            **{name: Sum(name) for pair in _FILLINGS for name in pair[1:3]},
        )
    )
    return {row["health"]: dict(row) for row in rows}


_FILLINGS = (
    ("cpu", "cpu_requested", "cpu_allocatable", "cpu"),
    ("memory", "memory_requested", "memory_allocatable", "bytes"),
    ("pods", "pods_count", "pods_allocatable", ""),
)


def _filling(healths: list[dict[str, Any]]) -> list[Filling]:
    return [
        Filling(
            key,
            sum(row[requested] for row in healths),
            sum(row[allocatable] for row in healths),
            unit,
        )
        for key, requested, allocatable, unit in _FILLINGS
    ]


def _nodes(user: Any) -> dict[str, int]:
    return visible_to(user, Node.objects.all()).aggregate(
        total=Count("pk"),
        ready=Count("pk", filter=Q(is_ready=True)),
        not_ready=Count("pk", filter=Q(is_ready=False)),
        cordoned=Count("pk", filter=Q(unschedulable=True)),
    )


def _cluster_rows(user: Any) -> list[Cluster]:
    """The clusters of the table: the ones that are not well first."""
    worst_first = Case(
        When(health=Cluster.Health.UNREACHABLE, then=0),
        When(health=Cluster.Health.DEGRADED, then=1),
        When(health=Cluster.Health.UNKNOWN, then=2),
        default=3,
        output_field=IntegerField(),
    )
    active = (
        Operation.objects.filter(cluster=OuterRef("pk"), status__in=Operation.ACTIVE)
        .order_by()
        .values("cluster")
        .annotate(count=Count("pk"))
        .values("count")
    )
    rows = (
        visible_to(user, Cluster.objects.all())
        .annotate(active_operations=Coalesce(Subquery(active), Value(0)))
        .order_by(worst_first, "name")
    )
    return list(rows[:CLUSTERS_SHOWN])


def _machines_by_state(user: Any) -> list[Counted]:
    rows = (
        visible_to(user, Machine.objects.all())
        .order_by()
        .values_list("state")
        .annotate(count=Count("pk"))
    )
    counts = dict(rows)
    return [
        Counted(key, str(label), counts.get(key, 0), listing("machines.Machine", state__exact=key))
        for key, label in Machine.State.choices
    ]


def _operations(user: Any) -> tuple[list[Counted], list[Counted]]:
    """What ended today, and what goes on, each by status."""
    status = Operation.Status
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    groups: dict[str, tuple[list[str], bool]] = {
        "done": ([status.SUCCEEDED], True),
        "failed": ([status.FAILED, status.PARTIAL], True),
        "canceled": ([status.CANCELED], True),
        "running": ([status.RUNNING, status.PAUSED, status.CANCELING], False),
        "waiting": ([status.WAITING], False),
    }
    counts = visible_to(
        user,
        Operation.objects.filter(Q(finished_at__gte=midnight) | Q(status__in=Operation.ACTIVE)),
    ).aggregate(
        **{key: Count("pk", filter=Q(status__in=words)) for key, (words, _) in groups.items()}
    )
    found: tuple[list[Counted], list[Counted]] = ([], [])
    for key, (words, has_ended) in groups.items():
        lookups = {"status__in": ",".join(words)}
        if has_ended:
            lookups["finished_at__gte"] = midnight.isoformat()
        link = listing("operations.Operation", **lookups)
        found[0 if has_ended else 1].append(Counted(key, "", counts[key], link))
    return found
