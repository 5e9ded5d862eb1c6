"""What a person may do to a task (cancel, pause, resume, retry, skip), and decide of a work order.

Each is refused with a sentence when the state does not allow it, and leaves status changes and an
audit entry.  What follows from it is done by ``advance``, which is woken.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from beidou.base import audit, permissions
from beidou.base.errors import Conflict, Forbidden, InvalidInput
from beidou.base.models import User
from beidou.base.sentences import Sentence, joined
from beidou.base.state import change_status
from beidou.base.tasks import CLOCK, enqueue_on_commit
from operations.flows import advance, answering, approval, base, catalog, children, graph, undoing
from operations.flows.models import AutoOperationTask, TaskMachine, TaskStep, WorkOrder
from operations.models import Operation
from operations.outside.models import SiteRequest
from operations.services import control as operation_control

Status = AutoOperationTask.Status
StepStatus = TaskStep.Status


def require_right(task: AutoOperationTask, user: User) -> None:
    """Raise ``Forbidden`` unless ``user`` may steer it; all that steers asks it itself."""
    permissions.require(user, task, permissions.OPERATE)


def _locked(task: AutoOperationTask, user: User) -> AutoOperationTask:
    require_right(task, user)
    return _held(task.pk)


def _held(key: int) -> AutoOperationTask:
    return (
        AutoOperationTask.objects.select_for_update(of=("self",))
        .select_related("cluster", "requested_by", "carried_by", "parent__task")
        .get(pk=key)
    )


def cancel(task: AutoOperationTask, *, acting_user: User, reason: str = "") -> AutoOperationTask:
    """End it as soon as possible, and the operations and tasks that it has begun, whatever right
    their kinds need by themselves: an end in parts would be none."""
    with audit.entries_last():
        task = _locked(task, acting_user)
        _cancel(task, acting_user, reason)
        for child in children.of(task):
            held = _held(child.pk)
            if held.status != Status.CANCELING and held.is_active:
                _cancel(held, acting_user, reason)
        audit.record("cancel", task, reason=reason)
        advance.wake(task.pk)
    return task


def _cancel(task: AutoOperationTask, user: User, reason: str) -> None:
    if task.status == Status.WAITING:
        change_status(task, to=Status.RUNNING)
    change_status(task, to=Status.CANCELING, reason=reason)
    running = Operation.objects.filter(
        task_part__step__task=task,
        status__in=[
            Operation.Status.WAITING,
            Operation.Status.RUNNING,
            Operation.Status.PAUSED,
        ],
    )
    for operation in running.select_related("cluster").order_by("pk"):
        operation_control.cancel_with_task(operation, acting_user=user, reason=reason)
    advance.wake(task.pk)


def pause(task: AutoOperationTask, *, acting_user: User, reason: str = "") -> AutoOperationTask:
    """Begin no further step and no further batch, here and below; what runs is finished first."""
    with audit.entries_last():
        task = _locked(task, acting_user)
        change_status(task, to=Status.PAUSED, reason=reason)
        for child in children.of(task):
            held = _held(child.pk)
            if held.status == Status.RUNNING:
                change_status(held, to=Status.PAUSED, reason=reason)
        audit.record("pause", task, reason=reason)
        _look_at_the_queue()
    return task


def resume(task: AutoOperationTask, *, acting_user: User, reason: str = "") -> AutoOperationTask:
    with audit.entries_last():
        task = _locked(task, acting_user)
        if task.status != Status.PAUSED:
            raise Conflict(
                _("%(name)s is %(status)s, not paused.")
                % {"name": task, "status": task.get_status_display()},
                code="wrong_state",
            )
        children.refuse_resume(task)
        change_status(task, to=Status.RUNNING, reason=reason)
        for child in children.of(task):
            held = _held(child.pk)
            if held.status == Status.PAUSED:
                change_status(held, to=Status.RUNNING, reason=reason)
            advance.wake(held.pk)
        audit.record("resume", task, reason=reason)
        advance.wake(task.pk)
        _look_at_the_queue()
    return task


def _look_at_the_queue() -> None:
    """Operations that wait there do not begin while their task is paused, and say so."""
    enqueue_on_commit("operations.tasks.dispatch", queue=CLOCK)


def retry(
    task: AutoOperationTask,
    *,
    acting_user: User,
    reason: str = "",
    answers: Mapping[str, Any] | None = None,
    step: str = "",
    seen: str | None = None,
) -> AutoOperationTask:
    """Go on from what failed or was canceled, with the rights of whoever says so.

    Operations that ended badly are retried, each machine from the step where it stands; the steps
    behind are done for those machines too.  Tasks that are steps are retried, not begun anew.

    One that waits for an answer goes on, too: its operation is retried, and nothing else changes.
    ``answers`` are handed to the operations of ``step``, which may be left out where those of a
    single step take some; ``seen`` is that of the operation that asks.
    """
    with audit.entries_last():
        task = _locked(task, acting_user)
        if asking := answering.asking(task):
            named = answering.named(asking, step)
            answering.answer(task, named, acting_user, reason, answers or {}, seen)
            return task
        children.refuse_retry(task)
        return _retry(
            task, acting_user=acting_user, reason=reason, answers=answers or {}, step=step
        )


def _retry(
    task: AutoOperationTask,
    *,
    acting_user: User,
    reason: str,
    answers: Mapping[str, Any] = MappingProxyType({}),
    step: str = "",
) -> AutoOperationTask:
    with audit.entries_last():
        task = _locked(task, acting_user)
        _refuse_unless_ended_badly(task)
        steps = list(task.steps.order_by("position"))
        failed_in = task.failed_in
        undone = set()
        for each in steps:
            if each.status in TaskStep.UNDONE:
                _wait_again(each, reason)
            elif not graph.is_half_done(each, failed_in):
                continue
            undone.add(each.key)
            _mark_for_retry(each)
        anew, again = undoing.begin_anew(task, steps, undone)
        for each in steps:
            if each.key in again and each.status in (StepStatus.SUCCEEDED, StepStatus.PARTIAL):
                _wait_again(each, reason)
        undone |= again
        after: dict[str, Any] = {"steps": sorted(undone)}
        if anew:
            after["anew"] = anew
        if answers:
            waiting = [each for each in steps if each.status == StepStatus.WAITING]
            answering.keep(waiting, step, answers, acting_user)
            after["answers"] = dict(answers)
        _open_behind(steps, undone, reason)
        _begin_again(task, acting_user, reason, undone)
        audit.record("retry", task, reason=reason, after=after)
        advance.wake(task.pk)
    return task


children.register_retry(_retry)


def _mark_for_retry(step: TaskStep) -> None:
    bad = step.parts.filter(operation__status__in=Operation.ENDED_BADLY)
    bad.update(is_to_be_retried=True)


def _open_behind(steps: list[TaskStep], keys: set[str], reason: str) -> None:
    """All behind these is done for the machines that come to it now, too: what works on them, and
    what lets them on or accepts them.  An approval that still covers all is kept
    (``kinds.work_order``).  What had to be undone may have to be again."""
    behind = graph.after(keys, steps)
    for step in steps:
        if step.key not in behind or step.status == StepStatus.WAITING:
            continue
        is_done = step.status in (StepStatus.SUCCEEDED, StepStatus.PARTIAL)
        is_unneeded = step.status == StepStatus.SKIPPED and bool(step.compensates)
        if is_done or is_unneeded:
            _wait_again(step, reason)


def skip(
    task: AutoOperationTask, *, acting_user: User, step: str, reason: str
) -> AutoOperationTask:
    """Take a failed step, or a wait that goes on, as passed because a person says so."""
    if not reason.strip():
        raise InvalidInput(
            _("Skipping a step needs a reason."), code="reason_missing",
            fields={"reason": _("Say why this may be skipped.")},
        )  # fmt: skip
    with audit.entries_last():
        for each in reversed([*children.above(task)]):
            _held(each.pk)  # before those below, as everybody does
        task = _locked(task, acting_user)
        row = task.steps.filter(key=step).first()
        if row is None:
            sentence = _("There is no step “%(key)s”.") % {"key": step}
            raise InvalidInput(sentence, code="unknown_step", fields={"step": sentence})
        kind = base.get(row.kind)
        undone = undoing.left_out(task, row.key)
        if not kind.may_be_skipped:
            raise Conflict(
                _("An approval cannot be skipped; somebody who may approve decides."),
                code="approval",
            )
        is_wait = row.status == StepStatus.RUNNING and not kind.works_on_machines
        if not is_wait and row.status not in TaskStep.UNDONE:
            raise Conflict(
                _("Step %(step)s has not failed; it is %(status)s.")
                % {"step": catalog.title_of(row), "status": row.get_status_display()},
                code="wrong_state",
            )
        if not is_wait:
            _refuse_unless_ended_badly(task)
            children.refuse_skip(row)
            undoing.refuse_skip(task, row.key)
        said: str = Sentence(
            "Skipped by %(user)s: %(reason)s", user=acting_user.get_username(), reason=reason
        )
        if undone:
            names = ", ".join(undone[: undoing.NAMED_AT_MOST])
            out = Sentence("Left out, because they were undone: %(names)s.", names=names)
            said = joined([said, out], " ")
        change_status(
            row,
            to=StepStatus.SKIPPED,
            reason=said,
            fields={"message": said, "finished_at": timezone.now(), "due_at": None},
        )
        if not is_wait:
            _open_behind(list(task.steps.order_by("position")), {row.key}, reason)
            if task.parent is None:
                _begin_again(task, acting_user, reason, {row.key})
            else:
                _let_on(task, {row.key})
                retry(_topmost(task), acting_user=acting_user, reason=reason)
        audit.record(f"skip {row.key}", task, reason=reason)
        advance.wake(task.pk)
    return task


def _refuse_unless_ended_badly(task: AutoOperationTask) -> None:
    if task.status not in AutoOperationTask.ENDED_BADLY:
        raise Conflict(
            _("%(name)s is %(status)s; only one that failed or was canceled can be done again.")
            % {"name": task, "status": task.get_status_display()},
            code="wrong_state",
        )


def _wait_again(step: TaskStep, reason: str) -> None:
    change_status(
        step,
        to=StepStatus.WAITING,
        reason=reason or Sentence("Done again."),
        fields={"message": "", "finished_at": None, "due_at": None},
    )


def _let_on(task: AutoOperationTask, keys: set[str]) -> None:
    """The machines that had failed in these steps and were not undone, and those that were
    through."""
    failed = task.machines.filter(failed_in__in=keys).exclude(pk__in=undoing.touched(task))
    failed.update(state=TaskMachine.State.WAITING, failed_in="", message="")
    task.machines.filter(state=TaskMachine.State.SUCCEEDED).update(state=TaskMachine.State.WAITING)


def _topmost(task: AutoOperationTask) -> AutoOperationTask:
    """The task above all, which goes on in those below."""
    return _held([*children.above(task)][-1].pk)


def _begin_again(task: AutoOperationTask, user: User, reason: str, keys: set[str]) -> None:
    """Hold the machines again (the task above all does), and let those go on that had failed in
    these steps."""
    _let_on(task, keys)
    try:
        with transaction.atomic():
            if task.parent_id is None:
                task.machines.filter(machine__isnull=False).update(holds_machine=True)
    except IntegrityError as error:
        raise Conflict(
            _("Another task has begun with one of these machines meanwhile."),
            code="machine_is_held",
        ) from error
    # A step behind one that was canceled was never begun, and is not stopped by itself.
    for step in task.steps.filter(status=StepStatus.CANCELED, started_at=None):
        _wait_again(step, reason)
    change_status(
        task,
        to=Status.WAITING,
        reason=reason,
        fields={
            "message": "",
            "carried_by": user,
            "carried_by_name": user.get_username(),
        },
    )


# --- decisions -------------------------------------------------------------------------------


def why_not_decide(task: AutoOperationTask, user: User) -> str:
    """Why ``user`` may not decide about the task's work orders; empty when they may."""
    if not permissions.may(user, task, permissions.APPROVE):
        return _("Your roles do not include approving on this cluster.")
    if user.pk in task.askers:
        return _("You asked for this task; somebody else has to approve it.")
    if user.pk in approval.answerers(task):
        return _("You gave an answer that this is about; somebody else has to approve it.")
    return ""


def approve(
    order: WorkOrder, *, acting_user: User, reason: str = "", digest: str = ""
) -> WorkOrder:
    """Say yes to exactly what the order holds; ``digest`` is what the person has seen of it."""

    def check(found: WorkOrder) -> None:
        if digest and digest != found.digest:
            raise Conflict(
                _("What is asked has changed since you looked. Look at it once more."),
                code="changed_meanwhile",
            )

    return _decide(order, WorkOrder.Status.APPROVED, "approve", acting_user, reason, check)


def reject(order: WorkOrder, *, acting_user: User, reason: str) -> WorkOrder:
    _require_reason(reason)
    return _decide(order, WorkOrder.Status.REJECTED, "reject", acting_user, reason)


def withdraw(order: WorkOrder, *, acting_user: User, reason: str) -> WorkOrder:
    """Take an approval back: it asks again, and what has not begun yet waits for the answer."""
    _require_reason(reason)
    with audit.entries_last():
        found = _order(order, acting_user)
        task = found.step.task
        if not task.is_active:
            raise Conflict(
                _("%(name)s is %(status)s; nothing is left to withdraw from.")
                % {"name": task, "status": task.get_status_display()},
                code="wrong_state",
            )
        change_status(found, to=WorkOrder.Status.WITHDRAWN, reason=reason)
        said = Sentence(
            "The approval was withdrawn by %(who)s: %(reason)s",
            who=acting_user.get_username(),
            reason=reason,
        )
        step = found.step
        # Running: nobody has looked at the task since it was approved.
        if step.status in (StepStatus.SUCCEEDED, StepStatus.RUNNING):
            change_status(step, to=StepStatus.WAITING, reason=said, fields={"message": said})
        steps = list(task.steps.order_by("position"))
        behind = graph.after({step.key}, steps)
        children.take_back((each for each in steps if each.key in behind), said)
        audit.record("withdraw approval", task, reason=reason, after=_about(found))
        advance.wake(task.pk)
    return found


def _require_reason(reason: str) -> None:
    if not reason.strip():
        sentence = _("Say why.")
        raise InvalidInput(
            _("This decision needs a reason."), code="reason_missing", fields={"reason": sentence}
        )


def _order(order: WorkOrder, user: User) -> WorkOrder:
    """The order, with its task held; refused to whoever may not decide."""
    task = _held(order.step.task_id)
    permissions.require(user, task, permissions.APPROVE)
    if why := why_not_decide(task, user):
        raise Forbidden(why, code="own_task")
    found = WorkOrder.objects.select_related("step").get(pk=order.pk)
    found.step.task = task
    return found


def _decide(
    order: WorkOrder,
    to: WorkOrder.Status,
    verb: str,
    user: User,
    reason: str,
    check: Callable[[WorkOrder], None] = lambda _order: None,
) -> WorkOrder:
    with audit.entries_last():
        found = _order(order, user)
        if SiteRequest.objects.filter(order=found).exists():
            raise Conflict(
                _("The ticket system decides this one; look for the ticket there."), code="ticket"
            )
        check(found)
        now = timezone.now()
        if found.due_at is not None and found.due_at <= now:
            raise Conflict(_("The time limit of this decision is over."), code="too_late")
        change_status(
            found,
            to=to,
            reason=reason[:500],
            fields={
                "decided_by": user,
                "decided_by_name": user.get_username(),
                "decided_at": now,
                "reason": reason[:500],
            },
        )
        if verb == "approve":
            audit.record("approve", found.step.task, reason=reason, after=_about(found))
        else:
            audit.record("reject", found.step.task, reason=reason, after=_about(found))
        advance.wake(found.step.task_id)
    return found


def _about(order: WorkOrder) -> dict[str, object]:
    return {
        "step": order.step.key,
        "plan": order.digest,
        "machines": sorted(order.plan.get("machines", {})),
    }
