"""What is known to be in the way before anything is contacted."""

from collections.abc import Iterable, Iterator, Sequence

from django.utils.translation import gettext

from beidou.base.errors import BeidouError
from beidou.base.models import User
from beidou.base.sentences import Sentence
from clusters.models import Cluster, Node
from machines.models import Machine
from operations.kinds import hosts, versions
from operations.kinds.base import Blocker, Remark
from operations.kinds.control_planes import alone
from operations.kinds.draining.budgets import listed
from operations.kinds.draining.plan import CONTROL_PLANE
from operations.kinds.scale_down import planning as scale_down
from operations.kinds.upgrade_cluster.params import UpgradeClusterParams


def blockers(
    cluster: Cluster, machines: Sequence[Machine], params: UpgradeClusterParams
) -> list[Blocker]:
    """Every node takes part, so what keeps one machine out keeps the whole from beginning."""
    settings = hosts.settings_of(cluster.pk)
    found = [*alone.blockers(cluster), *alone.blockers_by_joining(cluster), *_away(cluster)]
    found += scale_down.approval_blockers(params)
    found += [Blocker(None, reason) for reason in _whole(cluster, machines, params)]
    for machine in machines:
        reasons = hosts.why_unreachable(machine, settings)
        if machine.cluster_id != cluster.pk:
            reasons = [gettext("it is not in this cluster")]
        elif machine.node_id is None:
            reasons = [gettext("no node of the cluster is linked to it")]
        found += [Blocker(machine, reason) for reason in reasons]
        if reasons:
            text = gettext("every node takes part, and %(machine)s cannot: %(reason)s")
            values = {"machine": machine, "reason": reasons[0]}
            found.append(Blocker(None, text % values))
    return found


def remarks(_cluster: Cluster, _machines: Sequence[Machine], _user: User) -> list[Remark]:
    """What it keeps others from, for days perhaps where a window is awaited."""
    text = gettext(
        "Until it has ended no node is brought in (ScaleUp), not even while it waits in the queue."
    )
    return [Remark(None, text)]


def retry_blockers(
    cluster: Cluster, machines: Sequence[Machine], params: UpgradeClusterParams
) -> list[Blocker]:
    """Half of the cluster may be upgraded by now; the steps look at each node."""
    settings = hosts.settings_of(cluster.pk)
    return [
        *alone.blockers(cluster),
        *alone.blockers_by_joining(cluster),
        *_away(cluster),
        *(
            Blocker(machine, reason)
            for machine in machines
            for reason in hosts.why_unreachable(machine, settings)
        ),
    ]


def _whole(
    cluster: Cluster, machines: Sequence[Machine], params: UpgradeClusterParams
) -> Iterator[str]:
    settings = hosts.settings_of(cluster.pk)
    if settings is None or not settings.artifact_source:
        yield gettext("no artifact source is given")
    nodes = Node.objects.filter(cluster=cluster)
    if problem := _version_problem(
        cluster, nodes.values_list("kubelet_version", flat=True), params
    ):
        yield problem
    missing = list(nodes.exclude(machine__in=machines).select_related("machine"))
    unknown = [node.name for node in missing if not hasattr(node, "machine")]
    left_out = [node.name for node in missing if hasattr(node, "machine")]
    if unknown:
        yield gettext(
            "these nodes are no machines of the portal, so they could not be upgraded: %(nodes)s; "
            "register them first, on the cluster's page under Machines"
        ) % {"nodes": listed(unknown)}
    if left_out:
        yield gettext("every node takes part; choose the machines of these too: %(nodes)s") % {
            "nodes": listed(left_out)
        }
    roles = nodes.filter(machine__in=machines).values_list("roles", flat=True)
    if not any(role in CONTROL_PLANE for each in roles for role in each):
        yield gettext("none of the machines is known as a control plane of the cluster")


def _away(cluster: Cluster) -> list[Blocker]:
    return scale_down.whole_blockers(cluster, "upgrade")


def _version_problem(
    cluster: Cluster, kubelets: Iterable[str], params: UpgradeClusterParams
) -> str:
    """By what the collector knows; the preCheck asks the cluster itself."""
    try:
        problem = why_not_to(params.kubernetes_version, cluster.version)
        current = versions.parse(cluster.version)
    except BeidouError:
        return ""
    target = versions.parse(params.kubernetes_version)
    if not problem and current == target and set(kubelets) <= {params.kubernetes_version}:
        return gettext("every node has %(version)s already") % {
            "version": params.kubernetes_version
        }
    return problem


def why_not_to(target: str, server: str) -> str:
    """Why an API server of ``server`` is not upgraded to ``target``; empty when it may be."""
    wanted, found = versions.parse(target), versions.parse(server)
    if wanted < found:
        return Sentence(
            "it runs %(found)s, and versions do not go back to %(wanted)s",
            found=server,
            wanted=target,
        )
    if wanted[0] != found[0] or wanted[1] > found[1] + 1:
        return Sentence(
            "it runs %(found)s: one minor version at a time, so the next is 1.%(next)s",
            found=server,
            next=found[1] + 1,
        )
    return ""
