"""What is known to be in the way before anything is contacted."""

from collections.abc import Sequence
from typing import Protocol

from django.utils.translation import gettext

from clusters.models import Cluster, Node
from clusters.services import capabilities
from machines.models import Machine
from operations.kinds import hosts
from operations.kinds.base import Blocker
from operations.kinds.draining.plan import CONTROL_PLANE
from operations.kinds.scale_down.params import ScaleDownParams
from operations.models import ClusterSettings


class MayBeApproved(Protocol):
    @property
    def delete_blocked(self) -> bool: ...


def blockers(
    cluster: Cluster, machines: Sequence[Machine], params: ScaleDownParams
) -> list[Blocker]:
    """What is known to be in the way before anything is contacted."""
    found = [*whole_blockers(cluster), *approval_blockers(params)]
    settings = hosts.settings_of(cluster.pk)
    nodes = Node.objects.in_bulk([machine.node_id for machine in machines if machine.node_id])
    for machine in machines:
        if reason := _why_no_worker(machine, nodes.get(machine.node_id or 0), cluster):
            found.append(Blocker(machine, reason))
        found += unreachable(machine, settings, params)
    return found


def approval_blockers(params: MayBeApproved) -> list[Blocker]:
    """Nobody starts with an approval of their own."""
    if not params.delete_blocked:
        return []
    reason = gettext(
        "delete_blocked is approved by somebody else, with a retry, "
        "once it is known which pods a budget blocks"
    )
    return [Blocker(None, reason)]


def retry_blockers(
    cluster: Cluster, machines: Sequence[Machine], params: ScaleDownParams
) -> list[Blocker]:
    """The node may be gone by now, and which pods a budget blocks is known."""
    settings = hosts.settings_of(cluster.pk)
    return [
        *whole_blockers(cluster),
        *(blocker for machine in machines for blocker in unreachable(machine, settings, params)),
    ]


def concerns(machine: Machine) -> bool:
    """All but control planes, which RemoveControlPlane takes out."""
    return machine.node is None or not _is_control_plane(machine.node)


def _is_control_plane(node: Node) -> bool:
    return any(role in CONTROL_PLANE for role in node.roles)


def _why_no_worker(machine: Machine, node: Node | None, cluster: Cluster) -> str:
    if machine.cluster_id != cluster.pk:
        return gettext("it is not in this cluster")
    if node is None:
        return gettext("no node of the cluster is linked to it")
    if _is_control_plane(node):
        return gettext("it is a control plane; RemoveControlPlane takes such out")
    return ""


def unreachable(
    machine: Machine, settings: ClusterSettings | None, params: ScaleDownParams
) -> list[Blocker]:
    if params.force_unreachable:
        return []
    return [Blocker(machine, reason) for reason in hosts.why_unreachable(machine, settings)]


def whole_blockers(cluster: Cluster, capability: str = "scale_down") -> list[Blocker]:
    reasons = []
    if cluster.health == Cluster.Health.UNREACHABLE:
        reasons.append(
            gettext("the cluster is unreachable: %(reason)s") % {"reason": cluster.health_reason}
        )
    for row in cluster.capabilities:
        if row.get("key") == capability and not row.get("ok"):
            reasons.append(
                gettext("our credential does not suffice: %(why)s") % {"why": capabilities.why(row)}
            )
    return [Blocker(None, reason) for reason in reasons]
