"""The nodes of a cluster as the collector knows them, so that an operation need not list them: what
it costs must not grow with the cluster.  Where the collector is behind, the cluster is listed.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Protocol

from django.utils import timezone

from clusters.drivers.kubernetes import KubernetesClient
from clusters.models import Cluster, Node

FRESH = timedelta(seconds=60)
_FIELDS = ("name", "addresses", "system_uuid", "roles", "is_ready", "unschedulable")


class KnownNode(Protocol):
    """What a row of the inventory and an object of the cluster have in common."""

    @property
    def name(self) -> str: ...
    @property
    def addresses(self) -> Iterable[Sequence[str]]: ...
    @property
    def system_uuid(self) -> str: ...
    @property
    def roles(self) -> Sequence[str]: ...
    @property
    def is_ready(self) -> bool | None: ...
    @property
    def unschedulable(self) -> bool: ...


def is_fresh(cluster: Cluster) -> bool:
    """Whether the collector confirmed its nodes in the last minute; of a row as it is now."""
    seen = cluster.observed_at
    return seen is not None and seen >= timezone.now() - FRESH


def of_inventory(cluster: Cluster) -> list[KnownNode] | None:
    """None where it was not confirmed in the last minute."""
    row = Cluster.objects.only("health", "observed_at").filter(pk=cluster.pk).first()
    if row is None or row.health == Cluster.Health.UNREACHABLE or not is_fresh(row):
        return None
    return list(Node.objects.filter(cluster=cluster).only(*_FIELDS).order_by())


def of_cluster(cluster: Cluster, client: KubernetesClient) -> Sequence[KnownNode]:
    known = of_inventory(cluster)
    return client.list_nodes() if known is None else known
