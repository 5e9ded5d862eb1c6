"""What becomes of the machines of a cluster that is un-adopted.

They stay: they are ours, whatever runs on them.  They are nodes of a cluster still, but nobody here
sees it any more, so those that were at work go to maintenance until a person has looked.
"""

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from beidou.base import audit
from beidou.base.sentences import Sentence, joined
from clusters.models import Cluster
from machines.models import Machine
from machines.services import lifecycle

State = Machine.State


def consequences(cluster: Cluster) -> list[str]:
    """For the page that asks for a confirmation."""
    total = cluster.machines.count()
    if not total:
        return [_("No machine is linked to it.")]
    moved = cluster.machines.filter(state__in=Machine.IN_CLUSTER).count()
    kept = total - moved
    sentences = [
        ngettext(
            "%(count)d machine is unlinked from the cluster and stays as a machine.",
            "%(count)d machines are unlinked from the cluster and stay as machines.",
            total,
        )
        % {"count": total}
    ]
    if moved:
        sentences.append(
            ngettext(
                "%(count)d of them goes to %(state)s. It still runs as a node there; make it "
                "available only when it has left that cluster.",
                "%(count)d of them go to %(state)s. They still run as nodes there; make them "
                "available only when they have left that cluster.",
                moved,
            )
            % {"count": moved, "state": State.MAINTENANCE.label}
        )
    if kept:
        sentences.append(
            ngettext(
                "%(count)d of them keeps its state.", "%(count)d of them keep their state.", kept
            )
            % {"count": kept}
        )
    return sentences


def unlink(cluster: Cluster, reason: str) -> None:
    """Inside the transaction that removes ``cluster``; a row and an entry for every machine."""
    said = Sentence("cluster %(name)s un-adopted", name=cluster.name)
    why = joined([said, reason] if reason else [said], ": ")
    names = dict(cluster.nodes.values_list("pk", "name"))
    machines = Machine.objects.select_for_update(of=("self",)).filter(cluster=cluster)
    for machine in machines.order_by("pk"):
        before = {"cluster": cluster.name, "node": names.get(machine.node_id or 0, "")}
        free = {"cluster": None, "node": None}
        if machine.state in Machine.IN_CLUSTER:
            lifecycle.transition(machine=machine, to=State.MAINTENANCE, reason=why, **free)
        else:
            Machine.objects.filter(pk=machine.pk).update(**free)
        audit.record("unlink node", machine, before=before, after=free, reason=why)
