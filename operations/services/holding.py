"""What machines become when an operation takes them and lets them go.

The kind says it for each, and it is written for all at once."""

from collections.abc import Sequence

import structlog
from django.db import transaction

from beidou.base.errors import Conflict
from machines.models import Machine
from operations.kinds import lifecycle
from operations.kinds.base import Kind
from operations.kinds.lifecycle import Move
from operations.models import MachineStep, Operation, OperationMachine

logger = structlog.get_logger(__name__)

_ON_THEIR_WAY = frozenset(
    {
        Machine.State.RESERVED,
        Machine.State.JOINING,
        Machine.State.DRAINING,
        Machine.State.LEAVING,
    }
)


def reserve(operation: Operation, kind: Kind, machines: Sequence[Machine]) -> None:
    """``Conflict`` when one of them cannot be taken."""
    if _only_looks(operation, kind):
        return
    moves = [move for machine in machines if (move := kind.reserve(operation, machine))]
    for refused in lifecycle.move_all(moves, operation=operation).values():
        raise refused


def release(operation: Operation, kind: Kind) -> None:
    """Let the held machines go; a person may have moved one elsewhere meanwhile, which is noted."""
    if _only_looks(operation, kind):
        operation.machines.filter(holds_machine=True).update(holds_machine=False)
        return
    reached = _reached_steps(operation)
    refused: dict[int, Conflict] = {}
    try:
        with transaction.atomic():
            moves = {
                member.pk: kind.release(member, reached.get(member.pk))
                for member in _held(operation)
            }
    except Conflict:
        # A kind that wrote itself was refused for one of them: each for itself, then.
        moves = {}
        for member in _held(operation):
            try:
                with transaction.atomic():
                    moves[member.pk] = kind.release(member, reached.get(member.pk))
            except Conflict as conflict:
                refused[member.pk] = conflict
    by_machine = {move.machine.pk: (key, move) for key, move in moves.items() if move}
    wanted = [move for _key, move in by_machine.values()]
    for machine, why in lifecycle.move_all(wanted, operation=operation).items():
        refused[by_machine[machine][0]] = why
    for key, why in refused.items():
        logger.warning("machine_not_released", member=key, reason=why.message)
        OperationMachine.objects.filter(pk=key).update(message=why.message)
    operation.machines.filter(holds_machine=True).update(holds_machine=False)


def abandon(operation: Operation, reason: str) -> None:
    """Let the held machines go without asking the kind, which made a mistake.

    Those that are on their way are Faulty then: nobody knows how far they got, and they must not
    seem to be worked on.
    """
    moves = [
        Move(member.machine, Machine.State.FAULTY, reason)
        for member in _held(operation)
        if member.machine is not None and member.machine.state in _ON_THEIR_WAY
    ]
    lifecycle.move_all(moves, operation=operation)
    held = operation.machines.filter(holds_machine=True)
    held.update(holds_machine=False, message=reason)


def _only_looks(operation: Operation, kind: Kind) -> bool:
    """Whether none of its steps does anything to a machine."""
    if not kind.looks:
        return False
    steps = set(operation.steps.values_list("name", flat=True))
    return bool(steps) and steps <= kind.looks


def _held(operation: Operation) -> list[OperationMachine]:
    """Read anew each time, as the database has them."""
    rows = operation.machines.filter(holds_machine=True)
    return list(rows.select_related("machine", "operation__cluster"))


def _reached_steps(operation: Operation) -> dict[int, str]:
    """Of each machine the name of the last step in which something was begun with it."""
    begun = MachineStep.objects.filter(
        step__operation=operation, machine__holds_machine=True, started_at__isnull=False
    )
    return dict(begun.order_by("step__position").values_list("machine_id", "step__name"))
