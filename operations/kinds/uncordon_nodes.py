"""UncordonNodes: open nodes that were left cordoned, and prove that they take pods."""

from collections.abc import Sequence

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from pydantic import BaseModel, ConfigDict

from beidou.base.errors import ExternalError
from beidou.base.sentences import Sentence
from clusters.models import Cluster
from clusters.services.connections import client_for
from machines.models import Machine
from machines.services import host_keys
from operations.kinds import joining, lifecycle
from operations.kinds.base import Blocker, Kind, StepKind, StepRun, register
from operations.models import OperationMachine

State = Machine.State


class UncordonNodesParams(BaseModel):
    model_config = ConfigDict(extra="forbid")


def blockers(
    cluster: Cluster, machines: Sequence[Machine], params: UncordonNodesParams
) -> list[Blocker]:
    found = []
    if cluster.health == Cluster.Health.UNREACHABLE:
        reason = gettext("the cluster is unreachable: %(reason)s")
        found.append(Blocker(None, reason % {"reason": cluster.health_reason}))
    for machine in machines:
        if machine.cluster_id != cluster.pk:
            found.append(Blocker(machine, gettext("it is not in this cluster")))
        elif why := host_keys.blocked_reason(machine):
            found.append(Blocker(machine, why))
    return found


def uncordon(run: StepRun) -> None:
    """Only a node that reports the machine's address: another one may have its name."""
    with client_for(run.cluster, timeout=15) as client:
        for target in list(run.targets):
            run.stop_if_asked()
            try:
                node = client.get_node(joining.linked_node_name(target))
                linked = target.machine is not None and target.machine.node is not None
                if not linked and target.address not in [text for _kind, text in node.addresses]:
                    sentence = Sentence("Node %(node)s has other addresses.", node=node.name)
                    run.fail(target, sentence)
                    continue
                client.set_unschedulable(node.name, False)
            except ExternalError as error:
                run.fail(target, error.message)


def confirm_uncordon(run: StepRun, _result: None) -> None:
    with client_for(run.cluster, timeout=15) as client:
        joining.confirm_open(run, client, joining.linked_node_name)


def release(member: OperationMachine, reached: str | None) -> lifecycle.Move | None:
    if member.machine is None or member.state != OperationMachine.State.SUCCEEDED:
        return None
    return lifecycle.Move(
        member.machine,
        State.IN_SERVICE,
        reason=Sentence("%(operation)s succeeded", operation=member.operation.name),
    )


UNCORDON_NODES = register(
    Kind(
        name="UncordonNodes",
        title=_("Uncordon nodes"),
        description=_("Open cordoned nodes for pods."),
        icon="lock_open",
        params=UncordonNodesParams,
        # In service too: somebody may have opened one by hand, and that is no failure.
        startable_states=frozenset({State.CORDONED, State.IN_SERVICE}),
        blockers=blockers,
        release=release,
        steps=(
            StepKind(
                name="uncordon",
                title=_("Open for pods"),
                act=uncordon,
                confirm=confirm_uncordon,
                timeout_seconds=300,
                seconds_per_round=60,
            ),
        ),
    )
)
