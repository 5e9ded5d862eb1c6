"""What is known to be in the way before anything is contacted."""

from collections.abc import Sequence

from django.utils.translation import gettext, ngettext

from clusters.models import Cluster
from machines.models import Machine
from operations.kinds import hosts
from operations.kinds.base import Blocker
from operations.kinds.delete_cluster.params import DeleteClusterParams
from operations.models import ClusterSettings, Operation

NAMED_AT_MOST = 5


def blockers(
    cluster: Cluster, machines: Sequence[Machine], params: DeleteClusterParams
) -> list[Blocker]:
    found = retry_blockers(cluster, machines, params)
    if params.approved:
        reason = gettext(
            "it is approved by somebody else, with a retry, once it is known what would be lost"
        )
        found.insert(0, Blocker(None, reason))
    if params.confirm != cluster.name:
        reason = gettext("type the cluster's name, %(name)s, to confirm") % {"name": cluster.name}
        found.insert(0, Blocker(None, reason))
    if missing := _not_chosen(cluster, machines):
        found.insert(0, Blocker(None, missing))
    return found


def retry_blockers(
    cluster: Cluster, machines: Sequence[Machine], params: DeleteClusterParams
) -> list[Blocker]:
    settings = hosts.settings_of(cluster.pk)
    found = []
    active = Operation.objects.filter(cluster=cluster, status__in=Operation.ACTIVE)
    if names := list(active.order_by("pk").values_list("name", flat=True)[:NAMED_AT_MOST]):
        reason = gettext("operations are active on it: %(names)s; let them end, or cancel them")
        found.append(Blocker(None, reason % {"names": ", ".join(names)}))
    for machine in machines:
        found += _of_machine(cluster, machine, settings, params)
    return found


def _of_machine(
    cluster: Cluster,
    machine: Machine,
    settings: ClusterSettings | None,
    params: DeleteClusterParams,
) -> list[Blocker]:
    if machine.cluster_id != cluster.pk:
        return [Blocker(machine, gettext("it is not in this cluster"))]
    if names_of(machine) & params.given_up:
        return []
    return [Blocker(machine, reason) for reason in hosts.why_unreachable(machine, settings)]


def _not_chosen(cluster: Cluster, machines: Sequence[Machine]) -> str:
    """A cluster is deleted as a whole: which of its machines are missing, and why they may be."""
    others = Machine.objects.filter(cluster=cluster).exclude(pk__in=[each.pk for each in machines])
    count = others.count()
    if not count:
        return ""
    named = [f"{each} ({each.get_state_display()})" for each in others[:NAMED_AT_MOST]]
    return ngettext(
        "%(count)s machine of the cluster does not take part: %(names)s",
        "%(count)s machines of the cluster do not take part: %(names)s",
        count,
    ) % {"count": count, "names": ", ".join(named)}


def names_of(machine: Machine) -> frozenset[str]:
    """All by which it can be given up."""
    node = machine.node.name if machine.node else ""
    return frozenset(
        name.lower() for name in (str(machine.address), machine.hostname, node) if name
    )
