"""What an operation that ended badly asks: blocking points that answers with a retry would lift.

A check that failed names such answers (``kinds.base.check``).  An operation asks when that is all
that is wrong with each machine that failed: what else has to be mended is a failure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from operations.kinds.base import KINDS
from operations.models import MachineStep, Operation, OperationMachine


@dataclass(frozen=True)
class Question:
    """``answers``: those of which some are needed; ``is_approval``: only somebody else's helps."""

    answers: frozenset[str]
    is_approval: bool
    message: str


def question(operation: Operation) -> Question | None:
    """None when it has not ended badly, or because of something else too."""
    kind = KINDS.get(operation.kind)
    badly = (Operation.Status.FAILED, Operation.Status.PARTIAL)
    if kind is None or not kind.answers or operation.status not in badly:
        return None
    failed = operation.machines.filter(state=OperationMachine.State.FAILED, left_out=False)
    said = dict(failed.order_by("pk").values_list("pk", "message"))
    cells = MachineStep.objects.filter(machine__in=said, status=MachineStep.Status.FAILED)
    checks = dict(cells.values_list("machine_id", "checks"))
    choices: list[frozenset[str]] = []
    for key in said:
        bad = [each for each in checks.get(key, []) if _blocks(each)]
        helping = [frozenset(each.get("answers", ())) & kind.answers for each in bad]
        if not helping or not all(helping):
            return None
        choices += helping
    if not choices:
        return None
    return Question(
        answers=frozenset().union(*choices),
        is_approval=any(each <= kind.approvals for each in choices),
        message=next(iter(said.values())),
    )


def _blocks(check: Mapping[str, Any]) -> bool:
    return not check.get("ok") and check.get("severity") != "warning"
