"""Storing what the collector observed: nodes, sums of pods, components, health.

Every function is one short transaction, begins with the fence (``leases.holds``) and writes in
bulk.  Nothing here talks to a cluster.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from beidou.base.sentences import Sentence
from clusters.drivers.answers import ComponentHealth, WorkloadCounts
from clusters.drivers.objects import NodeInfo
from clusters.models import VERSION_LENGTH, Cluster, HealthChange, NamespaceUsage, Node
from clusters.services import leases

ACTOR = "collector"
_NODE_KEYS = ["cluster", "name"]
# cpu_requested, memory_requested and pods_count are not here: they follow from the pods.
_NODE_FIELDS = [
    "uid",
    "resource_version",
    "internal_ip",
    "addresses",
    "roles",
    "labels",
    "annotations",
    "taints",
    "conditions",
    "is_ready",
    "not_ready_reason",
    "unschedulable",
    "cpu_capacity",
    "cpu_allocatable",
    "memory_capacity",
    "memory_allocatable",
    "pods_allocatable",
    "resources",
    "kubelet_version",
    "runtime_version",
    "kernel_version",
    "os_image",
    "architecture",
    "system_uuid",
    "pod_cidrs",
    "created_at",
    "observed_at",
]


class LeaseLost(Exception):
    """Another collector watches the cluster now; nothing was written."""


@dataclass
class Usage:
    """Pods summed up: those that occupy something, and all of them by phase."""

    pods: int = 0
    cpu_requested: int = 0
    cpu_limit: int = 0
    memory_requested: int = 0
    memory_limit: int = 0
    phases: dict[str, int] = field(default_factory=dict)


UsageKey = tuple[str, str]  # node, namespace


def fence(holder: str, cluster_id: int) -> None:
    """Raise ``LeaseLost`` unless ``holder`` watches the cluster until the transaction ends."""
    if not leases.holds(holder, cluster_id):
        raise LeaseLost(f"The lease of cluster {cluster_id} is no longer held by {holder}.")


# --- nodes ----------------------------------------------------------------------------------------


def write_nodes(
    *,
    holder: str,
    cluster_id: int,
    nodes: Iterable[NodeInfo] = (),
    deleted: Iterable[str] = (),
    all_names: Iterable[str] | None = None,
    at: datetime | None = None,
) -> None:
    """Upsert nodes by name, delete others; with ``all_names`` whatever is not named is deleted."""
    at = at or timezone.now()
    rows = [node_row(cluster_id, info, at) for info in nodes]
    with transaction.atomic():
        fence(holder, cluster_id)
        if rows:
            Node.objects.bulk_create(
                rows,
                update_conflicts=True,
                unique_fields=_NODE_KEYS,
                update_fields=_NODE_FIELDS,
                batch_size=500,
            )
        gone = set(deleted)
        if all_names is not None:
            known = Node.objects.filter(cluster_id=cluster_id).values_list("name", flat=True)
            gone |= set(known) - set(all_names)
        _delete_nodes(cluster_id, sorted(gone))


def _delete_nodes(cluster_id: int, names: list[str]) -> None:
    for start in range(0, len(names), 500):
        chunk = names[start : start + 500]
        Node.objects.filter(cluster_id=cluster_id, name__in=chunk).delete()


def node_row(cluster_id: int, info: NodeInfo, at: datetime) -> Node:
    """The row of a node as Kubernetes reports it."""
    return Node(
        cluster_id=cluster_id,
        name=info.name,
        uid=info.uid,
        resource_version=info.resource_version[:32],
        internal_ip=info.address("InternalIP")[:45],
        addresses=[{"type": kind, "address": address} for kind, address in info.addresses],
        roles=list(info.roles),
        labels=dict(info.labels),
        annotations=dict(info.annotations),
        taints=[asdict(taint) for taint in info.taints],
        conditions=[
            {**asdict(item), "changed_at": item.changed_at and item.changed_at.isoformat()}
            for item in info.conditions
        ],
        is_ready=info.is_ready is True,
        not_ready_reason=not_ready_reason(info),
        unschedulable=info.unschedulable,
        cpu_capacity=info.capacity.cpu_millicores,
        cpu_allocatable=info.allocatable.cpu_millicores,
        memory_capacity=info.capacity.memory_bytes,
        memory_allocatable=info.allocatable.memory_bytes,
        pods_allocatable=info.allocatable.pods,
        resources={
            **info.allocatable.extended,
            "ephemeral-storage": info.allocatable.ephemeral_storage_bytes,
        },
        kubelet_version=info.kubelet_version[:40],
        runtime_version=info.container_runtime_version[:80],
        kernel_version=info.kernel_version[:120],
        os_image=info.os_image[:120],
        architecture=info.architecture[:20],
        system_uuid=info.system_uuid[:64].lower(),
        pod_cidrs=list(info.pod_cidrs),
        created_at=info.created_at,
        observed_at=at,
    )


def not_ready_reason(info: NodeInfo) -> str:
    """Why a node is not ready, in Kubernetes' words; empty for a ready one."""
    if info.is_ready is True:
        return ""
    ready = next((item for item in info.conditions if item.type == "Ready"), None)
    if ready is None:
        return Sentence("The node has not reported yet.")
    return f"{ready.reason}: {ready.message}".strip(": ")


# --- sums of pods ---------------------------------------------------------------------------------


def write_usage(
    *,
    holder: str,
    cluster_id: int,
    changed: Mapping[UsageKey, Usage],
    gone: Iterable[UsageKey],
    per_node: Mapping[str, Usage],
    replace: bool = False,
) -> None:
    """Upsert sums per node and namespace, remove others, and set the nodes' own sums.

    ``per_node`` has the nodes whose sums changed.  ``replace``: rows that are not in ``changed``
    are from an earlier collector and go, too.
    """
    with transaction.atomic():
        fence(holder, cluster_id)
        if replace:
            stored = NamespaceUsage.objects.filter(cluster_id=cluster_id)
            gone = set(stored.values_list("node", "namespace")) - changed.keys()
        NamespaceUsage.objects.bulk_create(
            [
                NamespaceUsage(cluster_id=cluster_id, node=node, namespace=name, **asdict(usage))
                for (node, name), usage in changed.items()
            ],
            update_conflicts=True,
            unique_fields=["cluster", "node", "namespace"],
            update_fields=[
                "pods",
                "phases",
                "cpu_requested",
                "cpu_limit",
                "memory_requested",
                "memory_limit",
            ],
            batch_size=500,
        )
        _delete_usage(cluster_id, list(gone))
        _set_node_sums(cluster_id, per_node)


def _delete_usage(cluster_id: int, gone: list[UsageKey]) -> None:
    by_node: dict[str, list[str]] = {}
    for node, namespace in gone:
        by_node.setdefault(node, []).append(namespace)
    for node, namespaces in by_node.items():
        NamespaceUsage.objects.filter(
            cluster_id=cluster_id, node=node, namespace__in=namespaces
        ).delete()


def _set_node_sums(cluster_id: int, per_node: Mapping[str, Usage]) -> None:
    """One prepared UPDATE for all nodes: a CASE over thousands of rows takes seconds to compile."""
    if not per_node:
        return
    table = connection.ops.quote_name(Node._meta.db_table)
    with connection.cursor() as cursor:
        cursor.executemany(
            f"UPDATE {table} SET cpu_requested = %s, memory_requested = %s, pods_count = %s "  # noqa: S608 - the table's name is ours
            "WHERE cluster_id = %s AND name = %s",
            [
                (usage.cpu_requested, usage.memory_requested, usage.pods, cluster_id, name)
                for name, usage in per_node.items()
            ],
        )


# --- the cluster's own figures ----------------------------------------------------------------


def write_figures(*, holder: str, cluster_id: int, figures: Mapping[str, Any]) -> None:
    """Set observed fields of the cluster's row, without touching what people edit."""
    with transaction.atomic():
        fence(holder, cluster_id)
        Cluster.objects.filter(pk=cluster_id).update(**figures)


def component_figures(
    components: Iterable[ComponentHealth],
    workloads: WorkloadCounts | None,
    certificate_expires_at: datetime | None,
    version: str,
) -> dict[str, Any]:
    """The fields that one look at the components gives; what could not be read is left out."""
    figures: dict[str, Any] = {"components": [_component(item) for item in components]}
    if workloads is not None:
        figures["workloads"] = {
            "counts": dict(workloads.counts),
            "unknown": dict(workloads.unknown),
        }
    if certificate_expires_at is not None:
        figures["server_certificate_expires_at"] = certificate_expires_at
    if version:
        figures["version"] = version[:VERSION_LENGTH]
    return figures


def _component(item: ComponentHealth) -> dict[str, Any]:
    return {
        "name": item.name,
        "healthy": item.is_healthy,
        "message": item.message,
        "ready": item.ready,
        "desired": item.desired,
        "checks": [
            {"name": check.name, "ok": check.is_ok, "message": check.message}
            for check in item.checks
        ],
    }


def write_health(
    *, holder: str, cluster_id: int, health: str, reason: str, since: datetime, at: datetime
) -> bool:
    """Store the observed health; a row of ``HealthChange`` when the word changed.

    Gives whether it changed.  ``since`` is when the new state began, ``at`` when it was seen.
    """
    with transaction.atomic():
        fence(holder, cluster_id)
        old = (
            Cluster.objects.select_for_update().values_list("health", flat=True).get(pk=cluster_id)
        )
        values: dict[str, Any] = {"health_reason": reason, "checked_at": at}
        if old != health:
            values |= {"health": health, "health_since": since}
            HealthChange.objects.create(
                subject_id=cluster_id, old=old, new=health, reason=reason, actor=ACTOR, at=at
            )
        Cluster.objects.filter(pk=cluster_id).update(**values)
    return old != health
