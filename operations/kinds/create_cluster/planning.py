"""What is known to be in the way of a new cluster before anything is contacted."""

import ipaddress
from collections.abc import Iterator, Sequence

from django.db.models import Q, QuerySet
from django.utils.translation import gettext, ngettext

from beidou.base import permissions
from beidou.base.models import User
from clusters.models import Cluster, Node
from machines.models import Machine, MachineAddress
from operations.kinds import hosts, scale_up
from operations.kinds.base import Blocker, Remark
from operations.kinds.create_cluster.params import (
    CreateClusterParams,
    nodes_at_most,
    overlapping,
)
from operations.models import MachineStep, Operation

CONTROL_PLANE, COMPUTE = "ControlPlane", "Compute"
NAMED_AT_MOST = 10
CONTROL_PLANES = (1, 3)
"""Two are no safer than one: etcd needs more than half of its members."""


def count_problem(control_planes: int) -> str:
    """Why a cluster of so many control planes is not made; empty when it is."""
    if control_planes in CONTROL_PLANES:
        return ""
    return ngettext(
        "a new cluster has 1 or 3 control planes, not %(count)s: give that many machines the role "
        "ControlPlane",
        "a new cluster has 1 or 3 control planes, not %(count)s: give that many machines the role "
        "ControlPlane",
        control_planes,
    ) % {"count": control_planes}


def blockers(
    cluster: Cluster, machines: Sequence[Machine], params: CreateClusterParams
) -> list[Blocker]:
    """For the start: the cluster was made for this operation a moment ago, and has no other."""
    found = retry_blockers(cluster, machines, params)
    if not cluster.is_unmade or Operation.objects.filter(cluster=cluster).exists():
        reason = gettext("it makes a cluster of its own; begin it with “Create a cluster”")
        found.insert(0, Blocker(None, reason))
    return found


def retry_blockers(
    cluster: Cluster, machines: Sequence[Machine], params: CreateClusterParams
) -> list[Blocker]:
    whole = _whole(cluster, machines, params)
    return [*(Blocker(None, reason) for reason in whole), *_machines(cluster, machines, params)]


def _whole(
    cluster: Cluster, machines: Sequence[Machine], params: CreateClusterParams
) -> Iterator[str]:
    settings = hosts.settings_of(cluster.pk)
    if settings is None or not settings.artifact_source:
        yield gettext("no artifact source is given")
    yield from () if _has_networks(cluster) else _overlaps(cluster, params)
    room = nodes_at_most(params.pods)
    if len(machines) > room:
        yield gettext("pod_network %(network)s has room for %(room)s nodes, not %(count)s") % {
            "network": params.pods,
            "room": room,
            "count": len(machines),
        }


def _has_networks(cluster: Cluster) -> bool:
    """Whether it has a control plane, with which its networks cannot be changed any more: a retry
    is none the better for it that somebody adopts a cluster with the same ones meanwhile."""
    if not cluster.is_unmade:
        return True
    return MachineStep.objects.filter(
        step__operation__cluster=cluster,
        step__operation__kind="CreateCluster",
        step__name="createControlPlane",
        status__in=MachineStep.PASSED,
        machine__role=CONTROL_PLANE,
        machine__machine__cluster=cluster,  # it was not cleaned since
    ).exists()


def _overlaps(cluster: Cluster, params: CreateClusterParams) -> Iterator[str]:
    others = _others(cluster)
    pairs = others.values_list("pod_cidr", "service_cidr")
    known = [text for pair in pairs for text in pair if text]
    # Where no kubeadm tells it, the ranges of the nodes do.
    silent = Node.objects.filter(cluster__in=others.filter(pod_cidr=""))
    known += [text for ranges in silent.values_list("pod_cidrs", flat=True) for text in ranges]
    for name, network in (("pod_network", params.pods), ("service_network", params.services)):
        if other := overlapping(network, known):
            # Not by name: whoever creates a cluster need not see every other.
            yield gettext("%(field)s %(network)s overlaps %(other)s of another cluster") % {
                "field": name,
                "network": network,
                "other": other,
            }


def _others(cluster: Cluster) -> QuerySet[Cluster]:
    return Cluster.objects.exclude(pk=cluster.pk).exclude(phase=Cluster.Phase.DELETED)


def remarks(cluster: Cluster, _machines: Sequence[Machine], user: User) -> list[Remark]:
    """What no look for overlaps can know: clusters that tell their networks to nobody."""
    silent = _others(cluster).filter(Q(pod_cidr="") | Q(service_cidr=""))
    count = silent.count()
    if not count:
        return []
    seen = permissions.visible_to(user, silent).order_by("name")
    names = list(seen.values_list("name", flat=True)[:NAMED_AT_MOST])
    text = ngettext(
        "%(count)s other cluster does not tell all of its networks, so that nobody here knows "
        "whether these overlap them: %(names)s",
        "%(count)s other clusters do not tell all of their networks, so that nobody here knows "
        "whether these overlap them: %(names)s",
        count,
    )
    names += ["…"] if count > len(names) else []
    return [Remark(None, text % {"count": count, "names": ", ".join(names)})]


def _machines(
    cluster: Cluster, machines: Sequence[Machine], params: CreateClusterParams
) -> Iterator[Blocker]:
    settings = hosts.settings_of(cluster.pk)
    names: dict[str, Machine] = {}
    addresses = _addresses(machines)
    for machine in machines:
        name = scale_up.node_name(machine)
        reasons = hosts.why_no_node(machine, settings)
        if machine.hostname and name in names:
            reasons.append(
                gettext("%(machine)s is called %(name)s too; nodes need names of their own")
                % {"machine": names[name].address, "name": name}
            )
        if problem := _address_problem(machine, addresses[machine.pk], params):
            reasons.append(problem)
        yield from (Blocker(machine, reason) for reason in reasons)
        names.setdefault(name, machine)


def _addresses(machines: Sequence[Machine]) -> dict[int, set[str]]:
    """Of each machine the address by which it is managed, and those that were seen on it."""
    found = {machine.pk: {str(machine.address)} for machine in machines}
    rows = MachineAddress.objects.filter(machine__in=machines)
    for key, address in rows.values_list("machine_id", "address"):
        found[key].add(str(address))
    return found


def _address_problem(machine: Machine, addresses: set[str], params: CreateClusterParams) -> str:
    if ipaddress.ip_address(str(machine.address)).version != params.pods.version:
        return gettext("its address is of another family than the pod network")
    for network in (params.pods, params.services):
        for text in sorted(addresses):
            try:
                address = ipaddress.ip_address(text)
            except ValueError:
                continue
            if address in network:
                return gettext("its address %(address)s lies in %(network)s") % {
                    "address": address,
                    "network": network,
                }
    return ""
