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
    found = _whole(cluster, machines)
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
        *_whole(cluster, machines),
        *(
            blocker
            for machine in machines
            for blocker in scale_down.unreachable(machine, settings, params)
        ),
    ]


def _whole(cluster: Cluster, machines: Sequence[Machine]) -> list[Blocker]:
    leaving = {machine.pk for machine in machines}
    return [
        *alone.blockers(cluster),
        *scale_down.whole_blockers(cluster),
        *keeper.blockers(cluster, but=leaving),
    ]


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
    others = Node.objects.filter(cluster=cluster).exclude(pk=node.pk)
    if not any(listing.with_role(others, role).exists() for role in CONTROL_PLANE):
        return gettext("it is the last control plane; DeleteCluster takes a whole cluster down")
    return ""
