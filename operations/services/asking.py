"""What an operation that ended badly asks: blocking points that answers with a retry would lift.

A check that failed names such answers (``kinds.base.check``).  An operation asks when that is all
that is wrong with each machine that failed: what else has to be mended is a failure.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from beidou.base.sentences import neutral
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
    failed = _failed(operation)
    choices = _choices(operation, failed)
    if not failed or len(choices) < len(failed):
        return None
    found = [each for key in failed for each in choices[key]]
    return Question(
        answers=frozenset().union(*found),
        is_approval=any(each <= KINDS[operation.kind].approvals for each in found),
        message=next(iter(failed.values())),
    )


def unanswered(operation: Operation) -> dict[int, frozenset[str]]:
    """Of each of its machines that ask, whatever became of the others: answers of which some are
    needed."""
    found = _choices(operation, _failed(operation))
    return {key: frozenset().union(*choices) for key, choices in found.items()}


def seen_of(operation: Operation) -> str:
    """A digest of what whoever approves has to have seen: how it ended, what was answered, and what
    the checks say that failed.  Empty where nothing of it is for somebody else to approve."""
    kind = KINDS.get(operation.kind)
    if kind is None or not kind.approvals or operation.status not in Operation.ENDED_BADLY:
        return ""
    cells = MachineStep.objects.filter(
        step__operation=operation, status=MachineStep.Status.FAILED
    ).order_by("step__position", "machine")
    found = [list(row) for row in cells.values_list("step__name", "machine", "checks")]
    shown = {"params": operation.params, "answers": operation.answers, "failed": neutral(found)}
    text = json.dumps(shown, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def chosen(operation: Operation) -> dict[str, Any]:
    """What a retry may choose otherwise, as it is now; approvals are for one retry alone."""
    kind = KINDS.get(operation.kind)
    if kind is None or operation.status not in Operation.ENDED_BADLY:
        return {}
    now = {**operation.params, **operation.answers}
    return {name: now[name] for name in sorted(kind.answers - kind.approvals) if name in now}


def _failed(operation: Operation) -> dict[int, str]:
    badly = (Operation.Status.FAILED, Operation.Status.PARTIAL)
    if operation.status not in badly:
        return {}
    failed = operation.machines.filter(state=OperationMachine.State.FAILED, left_out=False)
    return dict(failed.order_by("pk").values_list("pk", "message"))


def _choices(operation: Operation, failed: Collection[int]) -> dict[int, list[frozenset[str]]]:
    """Of those with which nothing else is wrong: per blocking point what would lift it."""
    kind = KINDS.get(operation.kind)
    if kind is None or not kind.answers:
        return {}
    cells = MachineStep.objects.filter(machine__in=failed, status=MachineStep.Status.FAILED)
    checks = dict(cells.values_list("machine_id", "checks"))
    found: dict[int, list[frozenset[str]]] = {}
    for key in failed:
        bad = [each for each in checks.get(key, []) if _blocks(each)]
        helping = [frozenset(each.get("answers", ())) & kind.answers for each in bad]
        if helping and all(helping):
            found[key] = helping
    return found


def _blocks(check: Mapping[str, Any]) -> bool:
    return not check.get("ok") and check.get("severity") != "warning"
