"""What the machines are meanwhile and afterwards."""

from collections.abc import Sequence

from beidou.base.sentences import Sentence
from machines.models import Machine
from operations.kinds import lifecycle
from operations.kinds.base import StepRun
from operations.kinds.lifecycle import Move
from operations.kinds.scale_down.settling import TAKES_OUT, why_given_up
from operations.models import Operation, OperationMachine

State = Machine.State


def move(run: StepRun, targets: Sequence[OperationMachine], to: str) -> None:
    """To *Draining* or *Leaving*, by the states between; also said again by a retry.

    A machine that a person has moved elsewhere meanwhile fails, and the others go on.
    """
    reason = Sentence("%(operation)s: %(step)s", operation=run.operation.name, step=run.step_name)
    chosen = {target.machine.pk: target for target in targets if target.machine is not None}
    faulty = Machine.objects.filter(pk__in=chosen, state=State.FAULTY)
    _move_all(run, chosen, list(faulty.values_list("pk", flat=True)), State.CORDONED, reason)
    if to == State.LEAVING:
        nodes = Machine.objects.filter(pk__in=chosen, state__in=[State.IN_SERVICE, State.CORDONED])
        _move_all(run, chosen, list(nodes.values_list("pk", flat=True)), State.DRAINING, reason)
    _move_all(run, chosen, list(chosen), to, reason)


def _move_all(
    run: StepRun, chosen: dict[int, OperationMachine], keys: list[int], to: str, reason: str
) -> None:
    moves = [
        Move(machine, to, reason=reason)
        for key in keys
        if (machine := chosen[key].machine) is not None
    ]
    for key, why in lifecycle.move_all(moves, operation=run.operation).items():
        run.fail(chosen.pop(key), why.message)


def stays(operation: Operation, machine: Machine) -> None:
    """For kinds that begin with Faulty machines too: each is what it is until it is drained."""


def reserve(operation: Operation, machine: Machine) -> Move | None:
    """The machine stays what it is until it is drained; one that failed half way is a node
    again."""
    if machine.state != State.FAULTY:
        return None
    reason = Sentence("%(operation)s goes on", operation=operation.name)
    return Move(machine, State.CORDONED, reason=reason)


def release(member: OperationMachine, reached: str | None) -> Move | None:
    """Free, still a node, or faulty half way."""
    machine, name = member.machine, member.operation.name
    if machine is None:
        return None
    if member.state == OperationMachine.State.SUCCEEDED:
        return _release_gone(machine, member)
    if machine.state == State.DRAINING:
        return Move(
            machine, State.CORDONED,
            reason=Sentence(
                "%(operation)s left it cordoned: %(message)s",
                operation=name, message=member.message,
            ),
        )  # fmt: skip
    if machine.state == State.LEAVING or reached in (*TAKES_OUT, "postCheck"):
        return Move(
            machine, State.FAULTY,
            reason=Sentence(
                "%(operation)s got as far as %(step)s: %(message)s",
                operation=name, step=reached or "", message=member.message,
            ),
        )  # fmt: skip
    return None


def _release_gone(machine: Machine, member: OperationMachine) -> Move:
    name = member.operation.name
    if machine.state != State.LEAVING:  # scaleDown and postCheck were skipped
        reason = Sentence("%(operation)s ended, but did not see it leave", operation=name)
        return Move(machine, State.FAULTY, reason=reason)
    if lifecycle.RESIDUE in machine.labels and (unreached := why_given_up(member)):
        return Move(
            machine, State.FAULTY, fields={"node": None},
            reason=Sentence(
                "%(operation)s deleted its node without reaching it (%(why)s); "
                "what it was as a node is still on it: clean it up when it is back",
                operation=name, why=unreached,
            ),
        )  # fmt: skip
    return Move(
        machine, State.AVAILABLE, fields={"cluster": None, "node": None},
        reason=Sentence("%(operation)s took it out of the cluster", operation=name),
    )  # fmt: skip
