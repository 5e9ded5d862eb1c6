"""What is known to be in the way before anything is contacted."""

from collections.abc import Sequence

from django.utils.translation import gettext

from clusters.models import Cluster, Node
from clusters.services import listing
from machines.models import Machine
from operations.kinds import hosts
from operations.kinds.base import Blocker
from operations.kinds.control_planes import alone, keeper
from operations.kinds.draining.plan import CONTROL_PLANE
from operations.kinds.remove_control_plane.params import RemoveControlPlaneParams
from operations.kinds.scale_down import planning as scale_down


def blockers(
    cluster: Cluster, machines: Sequence[Machine], params: RemoveControlPlaneParams
) -> list[Blocker]:
    found = _of_the_cluster(cluster)
    if not any(machine.node and _is_last(machine.node) for machine in machines):
        found += _of_keepers(cluster, machines)  # of the last one that is no news
    if len(machines) > 1:
        reason = gettext("control planes are taken out one at a time, each by an operation")
        found.insert(0, Blocker(None, reason))
    found += scale_down.approval_blockers(params)
    settings = hosts.settings_of(cluster.pk)
    for machine in machines:
        if reason := _why_not(machine, cluster):
            found.append(Blocker(machine, reason))
        found += scale_down.unreachable(machine, settings, params)
    return found


def retry_blockers(
    cluster: Cluster, machines: Sequence[Machine], params: RemoveControlPlaneParams
) -> list[Blocker]:
    """The node may be gone by now."""
    settings = hosts.settings_of(cluster.pk)
    return [
        *_of_the_cluster(cluster),
        *_of_keepers(cluster, machines),
        *(
            blocker
            for machine in machines
            for blocker in scale_down.unreachable(machine, settings, params)
        ),
    ]


def _of_the_cluster(cluster: Cluster) -> list[Blocker]:
    return [*alone.blockers(cluster), *scale_down.whole_blockers(cluster)]


def _of_keepers(cluster: Cluster, machines: Sequence[Machine]) -> list[Blocker]:
    return keeper.blockers(cluster, but={machine.pk for machine in machines})


def _why_not(machine: Machine, cluster: Cluster) -> str:
    if machine.cluster_id != cluster.pk:
        return gettext("it is not in this cluster")
    node = machine.node
    if node is None:
        # A control plane that joined half way may have a member of etcd and no node.
        is_half = machine.state == Machine.State.FAULTY
        return "" if is_half else gettext("no node of the cluster is linked to it")
    if not any(role in CONTROL_PLANE for role in node.roles):
        return gettext("it is a worker; ScaleDown takes such out")
    if _is_last(node):
        return gettext("it is the last control plane; DeleteCluster takes a whole cluster down")
    return ""


def _is_last(node: Node) -> bool:
    others = Node.objects.filter(cluster=node.cluster_id).exclude(pk=node.pk)
    is_one = any(role in CONTROL_PLANE for role in node.roles)
    return is_one and not any(listing.with_role(others, role).exists() for role in CONTROL_PLANE)
