"""Answers that come with the retry of a task, for operations that ask now or once it is their turn.

What is wrong with one is said before anything is begun again.
"""

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _

from beidou.base import audit
from beidou.base.errors import InvalidInput
from beidou.base.models import User
from operations.flows import advance, approval, children
from operations.flows.models import AutoOperationTask, TaskPart, TaskStep
from operations.kinds import base as operation_kinds
from operations.models import Operation
from operations.services import control as operation_control


def asking(task: AutoOperationTask) -> list[TaskStep]:
    """The steps that wait for the answer to what their operations ask."""
    if task.status != AutoOperationTask.Status.RUNNING or children.has_stopped(task):
        return []
    running = task.steps.filter(status=TaskStep.Status.RUNNING).order_by("position")
    return [step for step in running if "asks" in step.progress]


def answer(
    task: AutoOperationTask,
    steps: list[TaskStep],
    user: User,
    reason: str,
    answers: Mapping[str, Any],
    seen: str | None = None,
) -> None:
    """Retry the operations that ask; the task goes on with its own rights."""
    if answers:
        _refuse_several(steps)
    for step in steps:
        operation = Operation.objects.get(pk=step.progress["asks"]["operation"])
        operation_control.retry(
            operation, acting_user=user, reason=reason, answers=answers, seen=seen
        )
    after: dict[str, Any] = {"steps": [step.key for step in steps]}
    audit.record(
        "retry", task, reason=reason, after=after | ({"answers": answers} if answers else {})
    )
    advance.wake(task.pk)


def named(steps: list[TaskStep], key: str) -> list[TaskStep]:
    """All of them, or the one that is named."""
    found = [step for step in steps if key in ("", step.key)]
    if not found and not key:
        sentence = _("No operation that is done again takes answers.")
        raise InvalidInput(sentence, code="no_answers", fields={"answers": sentence})
    if not found:
        sentence = _("There is no step “%(key)s” that could take answers.") % {"key": key}
        raise InvalidInput(sentence, code="unknown_step", fields={"step": sentence})
    return found


def _refuse_several(steps: list[TaskStep]) -> None:
    if len(steps) > 1:
        sentence = _("Name the step that the answers are for: %(keys)s.") % {
            "keys": ", ".join(step.key for step in steps)
        }
        raise InvalidInput(sentence, code="step_missing", fields={"step": sentence})


def _refuse_approvals(operation: Operation, answers: Mapping[str, Any]) -> None:
    """Of what will be found by the time of the retry nobody has seen anything."""
    approvals = operation_kinds.get(operation.kind).approvals
    if any(answers.get(name) for name in approvals):
        sentence = _(
            "What somebody has to approve is approved on the page of %(name)s, where it is seen."
        ) % {"name": operation}
        raise InvalidInput(sentence, code="approved_elsewhere", fields={"answers": sentence})


def keep(steps: list[TaskStep], key: str, answers: Mapping[str, Any], user: User) -> None:
    """For the operations that are done again, once it is their turn; what is wrong with them is
    said now."""
    parts: dict[str, list[Operation]] = {}
    for part in TaskPart.objects.filter(step__in=steps, is_to_be_retried=True).select_related(
        "step", "operation"
    ):
        kind = operation_kinds.KINDS.get(part.operation.kind) if part.operation else None
        if part.operation is not None and kind is not None and kind.answers:
            parts.setdefault(part.step.key, []).append(part.operation)
    taking = named([step for step in steps if step.key in parts], key)
    _refuse_several(taking)
    for step in taking:
        for operation in parts[step.key]:
            operation_control.check_answers(operation, answers, user)
            _refuse_approvals(operation, answers)
        kept = {str(operation.pk): dict(answers) for operation in parts[step.key]}
        rest = approval.without_answers(step.progress)
        step.progress = approval.with_answers(rest, kept, user)
        step.save(update_fields=["progress"])
