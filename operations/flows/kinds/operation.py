"""A step that is an operation, or one per batch of machines; they are begun one after the other.

While a step beside it works on one of the machines, it waits: that is no fault of the machine.

Where what would fail the step is nothing but a question (``services.asking``) the step waits: once
the operation is answered, with a retry of its own, it goes on.

The operation is begun in the transaction that moves the step, so there is one, whatever happens to
the worker.  What can be said of a machine before it begins (it is held, it is in another state)
fails that machine alone.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal

from django.utils.translation import gettext_lazy as _
from pydantic import BaseModel, ConfigDict, Field

from beidou.base.errors import BeidouError, InvalidInput
from beidou.base.models import User
from beidou.base.sentences import Sentence
from clusters.models import Cluster
from machines.models import Machine
from operations.flows import acting, advance, approval, children, news, results, undoing
from operations.flows.base import Flow, StepKind, register
from operations.flows.models import AutoOperationTask, TaskMachine, TaskPart, TaskStep
from operations.kinds.base import KINDS
from operations.models import Operation, OperationMachine
from operations.outside import systems
from operations.outside.models import SiteSystem
from operations.services import asking, control, start

Status = TaskStep.Status


class OperationParams(BaseModel):
    """``kind`` of operation; ``steps`` narrows its steps; ``params`` are the kind's own.

    ``everywhere``: it is done on the other machines of the cluster too, whose failure is told but
    stops nothing.  ``group``: done with these machines of a replacement alone.  ``all_or_nothing``:
    one machine that fails fails the step.
    """

    model_config = ConfigDict(extra="forbid")

    kind: str = Field(max_length=40)
    steps: list[str] | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    forks: int = Field(default=10, ge=1, le=200)
    everywhere: bool = False
    group: Literal["", "new", "old"] = ""
    all_or_nothing: bool = False


def check(cluster: Cluster, params: OperationParams) -> None:
    """What the site has to have is known before any machine is touched."""
    asks = params.kind == "Network" and params.params.get("driver") == "webhook"
    if asks and systems.find(cluster.pk, SiteSystem.Purpose.NETWORK) is None:
        raise InvalidInput(systems.missing(cluster, SiteSystem.Purpose.NETWORK), code="no_system")


def begin(flow: Flow, step: TaskStep, params: OperationParams) -> None:
    """Make the batches of those machines that are in none yet, and retry what has ended badly."""
    _add_batches(flow, step, params)
    if not step.parts.exists():
        # A compensation without failed machines has nothing to undo.
        status = Status.SUCCEEDED if step.compensates else Status.FAILED
        flow.finish(step, status, results.NONE_LEFT)


def _add_batches(flow: Flow, step: TaskStep, params: OperationParams) -> None:
    parts = list(step.parts.select_related("operation").order_by("number"))
    known = {key for part in parts for key in results.kept(part)}
    chosen = undoing.add(flow, step) if step.compensates else flow.machines(params.group)
    new = [member.pk for member in chosen if member.pk not in known]
    size = _batch_size(flow, params) or max(len(new), 1)
    number = parts[-1].number if parts else 0
    for offset in range(0, len(new), size):
        number += 1
        TaskPart.objects.create(step=step, number=number, machines=new[offset : offset + size])


def _batch_size(flow: Flow, params: OperationParams) -> int:
    """0 for all at once: what only looks judges what will be done with all of them together."""
    kind = KINDS.get(params.kind)
    if kind is not None and params.steps and set(params.steps) <= kind.looks:
        return 0
    return flow.task.batch_size


def look(flow: Flow, step: TaskStep, params: OperationParams) -> None:
    """Go on with the first batch that has not ended; after the last one the step ends."""
    if step.compensates:
        _add_batches(flow, step, params)  # of machines that have failed since it began
    previous: Operation | None = None
    for part in step.parts.select_related("operation").order_by("number"):
        operation = part.operation
        if operation is not None and operation.is_active:
            _settle_question(step, operation)
            return
        if operation is not None and not _has_to_be_retried(part, operation):
            if _waits_for_an_answer(flow, step, part, operation):
                return
            if step.compensates:
                undoing.take(step, part)
            else:
                results.take(flow, step, part, operation)
            previous = operation
            continue
        if not flow.may_begin:
            return
        if _has_failed_too_much(flow, step):
            return
        if flow.has_stopped and not step.compensates:
            _set_held(step, None)
            children.leave(step)
            return
        if not _pause_is_over(flow, step, previous):
            return
        if _waits_for_a_neighbour(step, part, params):
            return
        if not step.compensates and not flow.is_approved(step):
            return
        if operation is not None:
            _retry(flow, step, part, operation)
            return
        if _begin_part(flow, step, part, params):
            return
        if step.status != Status.RUNNING:
            return
    if step.compensates:
        undoing.end(flow, step)
    else:
        results.end(flow, step)


def _waits_for_a_neighbour(step: TaskStep, part: TaskPart, params: OperationParams) -> bool:
    """Whether an operation of a step beside it, here, above or below, holds a machine of the
    batch."""
    holder = _neighbour(step, part) if _holds(part, params) else None
    _set_held(step, holder)
    return holder is not None


def _holds(part: TaskPart, params: OperationParams) -> bool:
    kind = KINDS.get(params.kind)
    if kind is None:
        return False
    if part.operation is not None:
        return kind.holds_machines(part.operation.params)
    return kind.holds and kind.mutating


def _neighbour(step: TaskStep, part: TaskPart) -> Operation | None:
    """A machine is in one task at a time, with those below it: whoever else works on it for a task
    that goes on does so for this one."""
    machines = TaskMachine.objects.filter(pk__in=part.machines)
    if not step.compensates:
        machines = machines.filter(state=TaskMachine.State.WAITING)
    held = OperationMachine.objects.filter(
        machine__in=machines.values("machine"),
        holds_machine=True,
        operation__task_part__step__task__status__in=AutoOperationTask.ACTIVE,
    )
    member = held.select_related("operation").order_by("operation", "pk").first()
    return member.operation if member is not None else None


def _set_held(step: TaskStep, holder: Operation | None) -> None:
    if step.progress.get("held") == (holder.pk if holder else None):
        return
    step.progress = {name: value for name, value in step.progress.items() if name != "held"}
    step.message = ""
    if holder is not None:
        step.progress["held"] = holder.pk
        step.message = Sentence(
            "Waits for %(operation)s, which works on its machines.", operation=holder.name
        )
    step.save(update_fields=["message", "progress"])


def _waits_for_an_answer(flow: Flow, step: TaskStep, part: TaskPart, operation: Operation) -> bool:
    """Machines within the tolerated share drop out with their question, as others that fail do."""
    question = asking.question(operation) if _would_stop(flow, step, part, operation) else None
    if question is None:
        _settle_question(step, operation)
        return False
    said = Sentence(
        "%(operation)s asks: %(question)s", operation=operation.name, question=question.message
    )
    asked = {"operation": operation.pk, "is_approval": question.is_approval}
    if step.message != said or step.progress.get("asks") != asked:
        step.message = said
        step.progress = {**step.progress, "asks": asked}
        step.save(update_fields=["message", "progress"])
        news.tell_question(step)
    return True


def _would_stop(flow: Flow, step: TaskStep, part: TaskPart, operation: Operation) -> bool:
    """Whether the step fails, and stops the task, once these results are taken."""
    if flow.has_stopped or operation.status not in Operation.ENDED_BADLY or step.compensates:
        return False
    if step.on_failure == TaskStep.OnFailure.CONTINUE:
        return False
    through = set(
        operation.machines.filter(state=OperationMachine.State.SUCCEEDED).values_list(
            "address", flat=True
        )
    )
    is_new = any(
        member.state == TaskMachine.State.WAITING and member.address not in through
        for member in results.members(part)
    )
    failed, total = results.count_failed(step)
    return is_new and (failed == total or failed * 100 > results.tolerated(flow, step) * total)


def _settle_question(step: TaskStep, operation: Operation) -> None:
    """It was answered, or is none any more."""
    asked = step.progress.get("asks")
    if asked is None or asked["operation"] != operation.pk:
        return
    step.message = ""
    step.progress = {name: value for name, value in step.progress.items() if name != "asks"}
    step.save(update_fields=["message", "progress"])


def _begin_part(flow: Flow, step: TaskStep, part: TaskPart, params: OperationParams) -> bool:
    """Whether an operation has begun; otherwise what keeps it is with the machines or the step."""
    members = [
        member
        for member in results.members(part)
        if step.compensates or member.state == TaskMachine.State.WAITING
    ]
    here = []
    for member in members:
        if member.machine is None:
            flow.fail_machine(member, step, Sentence("It was deleted meanwhile."))
        else:
            here.append(member)
    task = flow.task
    if (user := acting.person(task)) is None:
        flow.finish(step, Status.FAILED, acting.gone(task))
        return False
    machines = [member.machine for member in here if member.machine is not None]
    if not machines:
        return False
    common: dict[str, Any] = {
        "kind": params.kind,
        "cluster": task.cluster,
        "params": params.params,
        "roles": {m.machine_id: m.role for m in here if m.role and m.machine_id},
        "acting_user": user,
    }
    try:
        if params.everywhere:
            machines += _others(task, params.kind, user, machines)
        plan = start.plan_operation(machines=machines, **common)
        start.refuse_blockers(plan.kind, plan.cluster, plan.whole_blockers)
        blocked = {each.machine.pk: each.reason for each in plan.blockers if each.machine}
        for member in here:
            if member.machine_id in blocked:
                flow.fail_machine(member, step, blocked[member.machine_id])
        if params.everywhere:
            _keep_left_out(step, [each for each in machines if each.pk in blocked], here)
        if not {machine.pk for machine in plan.ready} & {each.machine_id for each in here}:
            return False
        operation = start.start_operation(
            machines=plan.ready,
            name=_name(step, part),
            reason=task.reason,
            max_failed_percent=100 if params.everywhere else task.max_failed_percent,
            forks=params.forks,
            steps=params.steps,
            priority=acting.priority(task.priority, task.cluster, user),
            sent_by=task.sent_by,
            **common,
        )
    except BeidouError as error:
        sentence = Sentence("It could not begin: %(why)s", why=error.message)
        flow.finish(step, Status.FAILED, sentence)
        return False
    part.operation = operation
    part.save(update_fields=["operation"])
    return True


def _others(
    task: AutoOperationTask, kind: str, user: User, machines: Sequence[Machine]
) -> list[Machine]:
    """The machines of the cluster that are nodes, beside these."""
    rows = start.machines_of(kind, task.cluster, user=user)
    return [each for each in rows if each not in machines]


def _keep_left_out(
    step: TaskStep, blocked: Sequence[Machine], members: Sequence[TaskMachine]
) -> None:
    """Those beside the task's own with which it could not begin; they are named at the end."""
    own = {each.machine_id for each in members}
    names = [each.address for each in blocked if each.pk not in own]
    step.progress = {**step.progress, "left_out": names}
    step.save(update_fields=["progress"])


def _name(step: TaskStep, part: TaskPart) -> str:
    """Tells where it belongs; empty, so that it gets one of its own, where that is taken."""
    count = f"-{part.number}" if part.number > 1 else ""
    name = f"{step.task.name}-{step.key.lower()}{count}"
    if len(name) > 100 or Operation.objects.filter(name=name).exists():
        return ""
    return name


def _has_to_be_retried(part: TaskPart, operation: Operation) -> bool:
    """Somebody may have retried it on its own page meanwhile."""
    return part.is_to_be_retried and operation.status in Operation.ENDED_BADLY


def _retry(flow: Flow, step: TaskStep, part: TaskPart, operation: Operation) -> None:
    part.is_to_be_retried = False
    part.save(update_fields=["is_to_be_retried"])
    answers = _take_answers(step, operation)
    machines = _to_retry(step, part, operation)
    if not machines:
        advance.wake(flow.task.pk)
        return
    if answers:
        # An answer is for those that asked; what others find is theirs to ask.
        machines = machines & asking.unanswered(operation).keys() or machines
    why: str = acting.gone(flow.task)
    if (user := acting.person(flow.task)) is not None:
        try:
            control.retry(
                operation,
                acting_user=user,
                machines=sorted(machines),
                reason=flow.task.reason,
                answers=answers,
                is_approved=True,
            )
        except BeidouError as error:
            why = error.message
        else:
            return
    results.take(flow, step, part, operation)
    sentence = Sentence(
        "%(operation)s cannot be done again: %(why)s", operation=operation.name, why=why
    )
    flow.finish(step, Status.FAILED, sentence)


def _to_retry(step: TaskStep, part: TaskPart, operation: Operation) -> set[int]:
    """Its machines that are not through, but for those that have failed elsewhere meanwhile: what
    was approved is not about them any more."""
    rows = operation.machines.exclude(state=OperationMachine.State.SUCCEEDED)
    rows = rows.exclude(address__in=undoing.has_left(step, operation.pk))
    found = set(rows.values_list("pk", flat=True))
    if step.compensates:
        return found
    failed = TaskMachine.State.FAILED
    undone = results.not_through(part)
    return found - {result.pk for member, result in undone if member.state == failed}


def _take_answers(step: TaskStep, operation: Operation) -> dict[str, Any]:
    """What was given with the task's retry for this operation; it is for this once."""
    answers: dict[str, Any] = step.progress.get("answers", {}).get(str(operation.pk), {})
    if answers:
        step.progress = approval.without_answers(step.progress, str(operation.pk))
        step.save(update_fields=["progress"])
    return answers


def _pause_is_over(flow: Flow, step: TaskStep, previous: Operation | None) -> bool:
    pause = timedelta(seconds=flow.task.batch_pause)
    if not pause or previous is None or previous.finished_at is None:
        return True
    due = previous.finished_at + pause
    if step.due_at != due:
        step.due_at = due
        step.save(update_fields=["due_at"])
    return flow.now >= due


def _has_failed_too_much(flow: Flow, step: TaskStep) -> bool:
    failed, total = results.count_failed(step)
    if not failed or step.compensates or failed * 100 <= results.tolerated(flow, step) * total:
        return False
    results.end(flow, step)
    return True


def cancel(flow: Flow, step: TaskStep, params: OperationParams) -> None:
    """The running operation was told by ``flows.control``; here is waited for its end."""
    parts = step.parts.select_related("operation")
    if any(part.operation is not None and part.operation.is_active for part in parts):
        return
    for part in parts:
        if part.operation is not None:
            results.take(flow, step, part, part.operation)
    flow.finish(step, Status.CANCELED, Sentence("Canceled."))


OPERATION = register(
    StepKind(
        name="operation",
        title=_("Operation"),
        params=OperationParams,
        begin=begin,
        look=look,
        cancel=cancel,
        check=check,
        works_on_machines=True,
    )
)
