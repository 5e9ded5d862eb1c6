"""A control plane that stays, on whose host etcd is asked and kubeadm run.

It is no machine of the operation: its lines are those of the whole step, and that it fails is no
machine's failure.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from django.utils.translation import gettext

from beidou.base.errors import BeidouError, PermanentError
from beidou.base.sentences import Sentence
from clusters.models import Cluster, Node
from clusters.services import listing
from machines.models import Machine
from operations.kinds import hosts, playbook
from operations.kinds.base import Blocker, StepRun
from operations.kinds.playbook import PlaybookResults
from operations.models import OperationMachine

ROLE = "control-plane"
_NO_KEY = 0  # what an operation's output calls no machine at all


def machines_of(cluster: Cluster, *, but: Collection[int] = ()) -> list[Machine]:
    """Machines that are control planes of the cluster, those that were Ready last first; ``but``
    are keys of machines that leave or join."""
    nodes = listing.with_role(Node.objects.filter(cluster=cluster), ROLE)
    found = Machine.objects.filter(
        cluster=cluster,
        node__in=nodes.values("pk"),
        state__in=(Machine.State.IN_SERVICE, Machine.State.CORDONED),
    ).exclude(pk__in=but)
    return sorted(
        found.select_related("credential", "node").order_by("pk"),
        key=lambda machine: not (machine.node and machine.node.is_ready),
    )


def blockers(cluster: Cluster, *, but: Collection[int]) -> list[Blocker]:
    """One when there is none that could be signed in to, as far as is known here."""
    settings = hosts.settings_of(cluster.pk)
    usable = [
        each for each in machines_of(cluster, but=but) if not hosts.why_unreachable(each, settings)
    ]
    if usable:
        return []
    reason = gettext(
        "no other control plane of it is a registered machine that can be signed in to; etcd is "
        "asked there"
    )
    return [Blocker(None, reason)]


def run_there(
    run: StepRun, name: str, own: Mapping[str, Any], *, variables: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Run a playbook on the first control plane that can be reached; what its last task answered.

    ``PermanentError`` with the last one's reason when it worked on none.
    """
    leaving = [target.machine.pk for target in run.operation.machines.all() if target.machine]
    why: str = Sentence("there is no other control plane among the machines")
    for machine in machines_of(run.cluster, but=leaving):
        run.stop_if_asked()
        member = _beside(run, machine)
        try:
            hosts.ansible_host(member, hosts.settings_of(run.cluster.pk), {})
        except BeidouError as error:
            why = error.message
            continue
        run.say(Sentence("On control plane %(machine)s:", machine=str(member)))
        results = playbook.run_playbook(
            run, name, variables=variables, per_machine={member.pk: own}, members=[member]
        )
        if member.pk not in results.failed:
            return _last(results, member)
        why = Sentence("%(machine)s: %(why)s", machine=str(member), why=results.failed[member.pk])
    raise PermanentError(
        Sentence("No control plane that stays could be asked: %(why)s", why=why), code="no_keeper"
    )


def _beside(run: StepRun, machine: Machine) -> OperationMachine:
    return OperationMachine(
        pk=_NO_KEY,
        operation=run.operation,
        machine=machine,
        address=machine.address,
        hostname=machine.hostname,
    )


def _last(results: PlaybookResults, member: OperationMachine) -> Mapping[str, Any]:
    answers: Sequence[Mapping[str, Any]] = list(results.tasks.get(member.pk, {}).values())
    return answers[-1] if answers else {}
