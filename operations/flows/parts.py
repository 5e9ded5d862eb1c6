"""Operations that are parts of tasks, steered on their own pages: no way round an approval.

What was approved on the way to the step (``flows.approval``) has to cover what would be done.  An
answer is part of that: where it changes what was approved, the task asks again and does the retry
itself, once it may.
"""

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _

from beidou.base.errors import Conflict, InvalidInput
from beidou.base.models import User
from beidou.base.sentences import Sentence
from operations.flows import advance, approval, children, results, undoing
from operations.flows.models import AutoOperationTask, TaskMachine, TaskPart, TaskStep
from operations.kinds import base as operation_kinds
from operations.models import Operation, OperationMachine
from operations.services import control as operation_control

GOES_ON = frozenset({AutoOperationTask.Status.RUNNING, AutoOperationTask.Status.PAUSED})


def hold(operation: Operation) -> None:
    """The task first, as everybody does who moves it."""
    part = _part(operation)
    if part is not None:
        AutoOperationTask.objects.select_for_update(of=("self",)).get(pk=part.step.task_id)


def _part(operation: Operation) -> TaskPart | None:
    """None also of what undoes something, and of the HealthCheck of a gate: they ask for no
    approval."""
    rows = TaskPart.objects.filter(operation=operation, step__kind="operation")
    part = rows.select_related("step__task__parent__task").first()
    return None if part is None or part.step.compensates else part


def _is_paused(operation: Operation) -> bool:
    """Whatever it is for: a gate and what undoes something wait as well."""
    rows = TaskPart.objects.filter(operation=operation)
    return rows.filter(step__task__status=AutoOperationTask.Status.PAUSED).exists()


def refuse_resume(operation: Operation) -> None:
    """Where an approval was withdrawn.  Whatever else has changed is for ``may_begin``, of what has
    to wait in the queue."""
    part = _part(operation)
    if part is not None and children.is_asking(part.step):
        raise _conflict(part)


def refuse_skip(operation: Operation) -> None:
    _refuse_undone(operation)
    part = _part(operation)
    if part is None:
        return
    _refuse_stopped(part)
    if not _is_covered(part):
        raise _conflict(part)


def _refuse_stopped(part: TaskPart) -> None:
    task = part.step.task
    if task.is_active and children.has_stopped(task):
        raise Conflict(
            _(
                "A step of the task %(name)s has failed: nothing further begins there. Retry the "
                "task once it has ended."
            )
            % _of(part),
            code="stopped",
        )


def _refuse_undone(operation: Operation) -> None:
    """Machines of which nothing counts any more that it has done with them."""
    part = TaskPart.objects.filter(operation=operation).select_related("step__task").first()
    if part is None:
        return
    gone = undoing.has_left(part.step, operation.pk)
    if not part.step.compensates:
        undone = undoing.touched(part.step.task)
        gone |= {result.address for each, result in results.not_through(part) if each.pk in undone}
    rows = operation.machines.exclude(state=OperationMachine.State.SUCCEEDED)
    if names := sorted(rows.filter(address__in=gone).values_list("address", flat=True)):
        raise Conflict(
            _(
                "What was done with these machines was undone: %(names)s. The task %(task)s begins "
                "anew with them when it is retried."
            )
            % {"names": ", ".join(names), "task": part.step.task},
            code="undone",
        )


def may_begin(operation: Operation) -> bool:
    """What has waited for days is compared with what was approved, too; where it is not that any
    more it is taken out of the queue, and the task does it once that is approved."""
    if _is_paused(operation):
        return False  # meanwhile; the queue says so, and it stays there
    part = _part(operation)
    if part is None or children.is_covered(part.step):
        return True
    hold(operation)
    children.take_back([part.step], Sentence("Waits for an approval of what has changed."))
    advance.wake(part.step.task_id)
    return False


def takes_over(operation: Operation, answers: Mapping[str, Any], user: User) -> bool:
    """Whether its task does the retry, as soon as what it would do with ``answers`` is approved;
    ``Conflict`` where the task will not come to it by itself."""
    _refuse_undone(operation)
    part = _part(operation)
    if part is None:
        return False
    operation_control.check_answers(operation, answers, user)
    step = part.step
    _refuse_stopped(part)
    before = step.progress
    _keep(step, operation, answers, user)
    goes_on = step.task.status in GOES_ON and step.status == TaskStep.Status.RUNNING
    if _is_covered(part):
        _save(step, before)
        if goes_on:
            _let_on(part)
        return False
    if goes_on:
        _let_on(part)
        part.is_to_be_retried = True
        part.save(update_fields=["is_to_be_retried"])
        said = Sentence(
            "The task %(name)s does it again, once that is approved there.", **_of(part)
        )
        advance.wake(step.task_id)
    elif answers and step.task.status in AutoOperationTask.ENDED_BADLY and _is_left(step):
        said = Sentence(
            "Kept for a retry of the task %(name)s, which asks for approval.", **_of(part)
        )
    else:
        raise _conflict(part)
    _refuse_approvals(operation, answers)
    operation.message = said
    operation.save(update_fields=["message"])
    return True


def _let_on(part: TaskPart) -> None:
    """Those that had failed here take part again, so that the task asks about them, too."""
    rows = part.step.task.machines.filter(pk__in=part.machines, failed_in=part.step.key)
    rows.update(state=TaskMachine.State.WAITING, failed_in="", message="")


def _of(part: TaskPart) -> dict[str, str]:
    return {"name": part.step.task.name}


def _is_left(step: TaskStep) -> bool:
    """Whether a retry of the task comes to it."""
    return step.status in (*TaskStep.UNDONE, TaskStep.Status.WAITING)


def _is_covered(part: TaskPart) -> bool:
    rows = part.step.task.machines.filter(pk__in=part.machines)
    return children.is_covered(part.step, set(rows.values_list("address", flat=True)))


def _keep(step: TaskStep, operation: Operation, answers: Mapping[str, Any], user: User) -> None:
    """For the retry by the task (``kinds.operation``); what it asked is answered."""
    progress = {name: value for name, value in step.progress.items() if name != "asks"}
    if answers:
        progress = approval.with_answers(progress, {str(operation.pk): dict(answers)}, user)
    _save(step, progress)


def _save(step: TaskStep, progress: dict[str, Any]) -> None:
    step.progress = progress
    step.save(update_fields=["progress"])


def _refuse_approvals(operation: Operation, answers: Mapping[str, Any]) -> None:
    """They hold for a retry at once, by whoever says so."""
    approvals = operation_kinds.get(operation.kind).approvals
    if names := sorted(name for name in approvals if answers.get(name)):
        sentence = _("Leave it out now, and say it once the rest is approved.")
        raise InvalidInput(
            _("The task has to ask for an approval first; until then %(names)s cannot be said.")
            % {"names": ", ".join(names)},
            code="approval",
            fields={f"answers.{name}": sentence for name in names},
        )


def _conflict(part: TaskPart) -> Conflict:
    return Conflict(
        _(
            "It is part of the task %(name)s, which lacks an approval of this: it goes on there "
            "once that is given. If the task has ended, retry the task."
        )
        % _of(part),
        code="approval",
    )


operation_control.register_above(
    operation_control.Above(
        hold=hold,
        takes_over=takes_over,
        refuse_skip=refuse_skip,
        refuse_resume=refuse_resume,
        may_begin=may_begin,
    )
)
