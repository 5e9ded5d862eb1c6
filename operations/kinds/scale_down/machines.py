"""What the machines are meanwhile and afterwards."""

from collections.abc import Sequence

from beidou.base.sentences import Sentence
from machines.models import Machine
from operations.kinds import lifecycle
from operations.kinds.base import StepRun
from operations.kinds.scale_down.settling import evidence_of
from operations.models import Operation, OperationMachine

State = Machine.State


def move(run: StepRun, targets: Sequence[OperationMachine], to: str) -> None:
    """To *Draining* or *Leaving*, by the states between; also said again by a retry."""
    for target in targets:
        machine = target.machine
        if machine is None:
            continue
        machine.refresh_from_db(fields=["state"])
        reason = Sentence(
            "%(operation)s: %(step)s", operation=run.operation.name, step=run.step_name
        )
        if to == State.LEAVING and machine.state in (State.IN_SERVICE, State.CORDONED):
            lifecycle.move(machine, State.DRAINING, operation=run.operation, reason=reason)
        lifecycle.move(machine, to, operation=run.operation, reason=reason)


def reserve(operation: Operation, machine: Machine) -> None:
    """The machine stays what it is until it is drained; one that failed half way is a node
    again."""
    if machine.state == State.FAULTY:
        lifecycle.move(
            machine,
            State.CORDONED,
            operation=operation,
            reason=Sentence("%(operation)s goes on", operation=operation.name),
        )


def release(member: OperationMachine, reached: str | None) -> None:
    """Free, still a node, or faulty half way."""
    machine, operation = member.machine, member.operation
    if machine is None:
        return
    machine.refresh_from_db(fields=["state"])
    if member.state == OperationMachine.State.SUCCEEDED:
        _release_gone(machine, member)
    elif machine.state == State.DRAINING:
        lifecycle.move(
            machine, State.CORDONED, operation=operation,
            reason=Sentence(
                "%(operation)s left it cordoned: %(message)s",
                operation=operation.name, message=member.message,
            ),
        )  # fmt: skip
    elif machine.state == State.LEAVING or reached in ("scaleDown", "postCheck"):
        lifecycle.move(
            machine, State.FAULTY, operation=operation,
            reason=Sentence(
                "%(operation)s got as far as %(step)s: %(message)s",
                operation=operation.name, step=reached or "", message=member.message,
            ),
        )  # fmt: skip


def _release_gone(machine: Machine, member: OperationMachine) -> None:
    operation = member.operation
    unreached = evidence_of(member, "scaleDown").get("unreached")
    if unreached:
        lifecycle.move(
            machine, State.FAULTY, operation=operation, node=None,
            reason=Sentence(
                "%(operation)s deleted its node without reaching it (%(why)s); "
                "what it was as a node is still on it: clean it up when it is back",
                operation=operation.name, why=unreached,
            ),
        )  # fmt: skip
        lifecycle.remember_residue(machine, operation=operation)
        return
    if machine.state != State.LEAVING:  # scaleDown and postCheck were skipped
        lifecycle.move(
            machine, State.FAULTY, operation=operation,
            reason=Sentence(
                "%(operation)s ended, but did not see it leave", operation=operation.name
            ),
        )  # fmt: skip
        return
    lifecycle.move(
        machine, State.AVAILABLE, operation=operation,
        reason=Sentence("%(operation)s took it out of the cluster", operation=operation.name),
        cluster=None, node=None,
    )  # fmt: skip
    lifecycle.forget_residue(machine)
