"""leaveEtcd: the member leaves before its host is reset: no reset has to be trusted with it.

From then on the API server of that host does not answer, and the way back is a join.
"""

from collections.abc import Iterator

from beidou.base.errors import ExternalError
from beidou.base.sentences import Sentence
from clusters.services.connections import client_for
from machines.models import Machine
from operations.kinds.base import AGAIN_FROM, StepRun
from operations.kinds.control_planes import alone, etcd
from operations.kinds.scale_down.emptiness import require_empty
from operations.kinds.scale_down.machines import move
from operations.kinds.scale_down.settling import node_name
from operations.models import OperationMachine

STEP = "leaveEtcd"


def leave(run: StepRun) -> None:
    alone.require(run)
    with client_for(run.cluster, timeout=15) as client:
        require_empty(run, client, run.targets)  # no reset yet, but the way back is a join
    move(run, run.targets, Machine.State.LEAVING)
    for target in list(run.targets):
        run.stop_if_asked()
        run.note(target, Sentence("leaving etcd"))
        try:
            etcd.remove(run, leaving=node_name(target), address=target.address)
        except ExternalError as error:
            run.fail(target, error.message)


def require_left(run: StepRun) -> None:
    """Before the reset, which would take a member away without counting the majority of the others.
    That it has left may be long ago, or not have been asked for."""
    for target, name, found in _looked_for(run):
        if found.found:
            run.fail(
                target,
                Sentence(
                    "%(node)s is a member of etcd. Nothing was reset. → Retry: it leaves etcd "
                    "first; without the step leaveEtcd start a new operation with it.",
                    node=name,
                ),
                evidence={AGAIN_FROM: STEP},
            )


def confirm(run: StepRun, _result: None) -> None:
    for target, name, found in _looked_for(run):
        if found.found:
            run.fail(target, Sentence("%(node)s is still a member of etcd.", node=name))
            continue
        members = sorted(each.name for each in found.members)
        run.succeed(
            target,
            message=Sentence("etcd goes on with %(members)s", members=", ".join(members)),
            evidence={"node": name, "members": members, "not_healthy": found.sick},
        )


def _looked_for(run: StepRun) -> Iterator[tuple[OperationMachine, str, etcd.Members]]:
    """Each machine, the name of its node, and what etcd says of its members; where it says nothing
    the machine has failed."""
    for target in list(run.targets):
        run.stop_if_asked()
        name = node_name(target)
        try:
            found = etcd.look(run, leaving=name, address=target.address)
        except ExternalError as error:
            run.fail(target, error.message)
        else:
            yield target, name, found
