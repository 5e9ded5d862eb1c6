"""Tasks that are steps of others: what is handed down to them, and what they ask above."""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from django.db.models import Q
from django.utils.translation import gettext as _

from beidou.base.errors import Conflict
from beidou.base.models import User
from beidou.base.sentences import Sentence
from beidou.base.state import change_status
from operations.flows import approval, graph, nesting
from operations.flows.models import AutoOperationTask, TaskMachine, TaskStep, WorkOrder
from operations.models import Operation
from operations.services import control as operation_control

Status = AutoOperationTask.Status
STOPPED = Sentence("A step beside it has stopped the task.")

# How one is retried is known above (``flows.control``), which knows this module.
_retry: list[Callable[..., Any]] = []


def register_retry(function: Callable[..., Any]) -> None:
    _retry[:] = [function]


def retry(child: AutoOperationTask, *, acting_user: User, reason: str) -> None:
    """For the task above, which is held."""
    _retry[0](child, acting_user=acting_user, reason=reason)


def free_name(stem: str, number: int) -> str:
    stem = stem[:90] if number == 1 else f"{stem[:85]}-{number}"
    name, again = stem, 1
    while AutoOperationTask.objects.filter(name=name).exists():
        again += 1
        name = f"{stem}-{again}"
    return name


def of(task: AutoOperationTask) -> Iterator[AutoOperationTask]:
    """Those below it that have not ended, the nearest first."""
    rows = AutoOperationTask.objects.filter(parent__task=task, status__in=AutoOperationTask.ACTIVE)
    for child in rows.select_related("cluster", "requested_by", "carried_by").order_by("pk"):
        yield child
        yield from of(child)


def above(task: AutoOperationTask) -> Iterator[AutoOperationTask]:
    """Those that it is a part of, the nearest first."""
    return (step.task for step in steps_above(task))


def steps_above(task: AutoOperationTask) -> Iterator[TaskStep]:
    """The steps that it and those above it are, the nearest first."""
    step = task.parent
    while step is not None:
        yield step
        step = step.task.parent


def asked_by(user: User, task: str) -> Q:
    """Rows whose task (``task`` is the way to it) they want done, as ``askers`` says of one."""
    found = Q()
    for _level in range(nesting.DEPTH_MAX + 2):
        for name in ("requested_by", "sent_by", "carried_by"):
            found |= Q(**{f"{task}__{name}": user.pk})
        task = f"{task}__parent__task"
    return found


def is_held(task: AutoOperationTask) -> bool:
    """Whether one above lets nothing begin."""
    return any(each.status != Status.RUNNING for each in above(task)) or is_stopped_above(task)


def has_stopped(task: AutoOperationTask) -> bool:
    """Whether a step of it, or of one above, has failed: nothing further begins in it."""
    return graph.has_stopped(task.steps.all()) or is_stopped_above(task)


def is_stopped_above(task: AutoOperationTask) -> bool:
    """Whether a step beside the one that it is has failed, there or further above."""
    return any(graph.has_stopped(each.steps.all()) for each in above(task))


def is_approved_above(task: AutoOperationTask) -> bool:
    """Whether what was approved on the way to the step above still is what would be done there.

    Rows above are read and not held: whoever moves one holds it before those below.  The task above
    looks for itself, asks again, and wakes this one.
    """
    if any(each.status != TaskStep.Status.RUNNING for each in steps_above(task)):
        return False
    return task.parent is None or is_covered(task.parent)


def is_covered(step: TaskStep, addresses: Collection[str] | None = None) -> bool:
    """Whether all approvals on the way to the step, here and above, are given and hold for what
    would be done with these machines, or else with all that have failed nowhere."""
    if is_asking(step):
        return False
    for each in (step, *steps_above(step.task)):
        asked = _approvals_before(each)
        if not asked:
            continue
        rows = each.task.machines.select_related("machine").order_by("pk")
        if addresses is None:
            rows = rows.filter(state=TaskMachine.State.WAITING)
        else:
            rows = rows.filter(address__in=addresses)
        plan = approval.plan_of(each.task, list(rows))
        orders = WorkOrder.objects.filter(step__in=asked, status=WorkOrder.Status.APPROVED)
        if any(approval.changes(order, plan, each.task) for order in orders):
            return False
    return True


def is_asking(step: TaskStep) -> bool:
    """Whether an approval on the way to it, here or above, is not given (any more)."""
    return any(
        asked.status not in TaskStep.PASSED
        for each in (step, *steps_above(step.task))
        for asked in _approvals_before(each)
    )


def _approvals_before(step: TaskStep) -> list[TaskStep]:
    steps = {each.key: each for each in step.task.steps.order_by("position")}
    return [each for each in graph.before(step, steps) if each.kind == "workOrder"]


def lacks_approval(step: TaskStep) -> bool:
    """Whether an approval below was not given: going on behind the step would go round it."""
    tree = [each for _place, each in nesting.walk(nesting.below(step.params))]
    if not any(each.kind == "workOrder" for each in tree):
        return False
    made = list(step.children.all())
    return not made or any(
        row.status not in TaskStep.PASSED and (row.kind == "workOrder" or lacks_approval(row))
        for child in made
        for row in child.steps.filter(kind__in=["workOrder", nesting.KIND])
    )


def refuse_skip(step: TaskStep) -> None:
    if lacks_approval(step):
        raise Conflict(
            _(
                "An approval below has not been given, and cannot be skipped: retry goes on there, "
                "or skip what failed before it there."
            ),
            code="approval",
        )


def refuse_retry(task: AutoOperationTask) -> None:
    """The machines are held above, and what comes behind is done there."""
    if task.parent is not None:
        raise Conflict(
            _("It is a step of the task %(name)s: retry that one, and it goes on here.")
            % {"name": task.parent.task},
            code="part_of_another",
        )


def refuse_resume(task: AutoOperationTask) -> None:
    paused = next((each for each in above(task) if each.status == Status.PAUSED), None)
    if paused is not None:
        raise Conflict(
            _("It is a step of the task %(name)s, which is paused: resume that one.")
            % {"name": paused},
            code="part_of_another",
        )


def take_back(steps: Iterable[TaskStep], why: str) -> None:
    """What waits in the queue for these steps was approved, and is so no more: it is taken out, and
    done again when it is.  What undoes something asks for no approval."""
    for step in steps:
        if step.compensates:
            continue
        queued = step.parts.filter(operation__status=Operation.Status.WAITING)
        for part in queued.select_related("operation") if step.kind == "operation" else ():
            if part.operation is not None and operation_control.take_back(
                part.operation, reason=why
            ):
                part.is_to_be_retried = True
                part.save(update_fields=["is_to_be_retried"])
        for child in step.children.filter(status__in=AutoOperationTask.ACTIVE).order_by("pk"):
            held = AutoOperationTask.objects.select_for_update(of=("self",)).get(pk=child.pk)
            take_back(held.steps.order_by("position"), why)


def leave(step: TaskStep) -> None:
    """A step beside it has stopped the task: nothing further of it begins, and a retry goes on from
    here."""
    change_status(
        step,
        to=TaskStep.Status.WAITING,
        reason=STOPPED,
        fields={"started_at": None, "due_at": None},
    )


def is_at_work(task: AutoOperationTask) -> bool:
    """Whether anything that it, or one below it, has begun is still going on."""
    tasks = [task, *of(task)]
    parts = Operation.objects.filter(task_part__step__task__in=tasks)
    return parts.filter(status__in=Operation.ACTIVE).exists()


def end_what_is_left(task: AutoOperationTask) -> None:
    """When a task has ended with some below it still going: they begin nothing more, and what waits
    in the queue neither."""
    why = Sentence("The task %(name)s has ended.", name=task.name)
    for child in of(task):
        if child.status == Status.WAITING:
            change_status(child, to=Status.RUNNING)
        if child.status != Status.CANCELING:
            change_status(child, to=Status.CANCELING, reason=why)
        queued = Operation.objects.filter(
            task_part__step__task=child, status=Operation.Status.WAITING
        )
        for operation in queued.order_by("pk"):
            operation_control.take_back(operation, reason=why)
