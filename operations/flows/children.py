"""Tasks that are steps of others: what is handed down to them, and what they ask above."""

from collections.abc import Callable, Iterator
from typing import Any

from django.db.models import Q
from django.utils.translation import gettext as _

from beidou.base.errors import Conflict
from beidou.base.models import User
from beidou.base.sentences import Sentence
from beidou.base.state import change_status
from operations.flows import approval, graph, nesting
from operations.flows.models import AutoOperationTask, TaskMachine, TaskStep, WorkOrder

Status = AutoOperationTask.Status

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
    step = task.parent
    while step is not None:
        yield step.task
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
    return any(each.status != Status.RUNNING for each in above(task))


def is_approved_above(task: AutoOperationTask) -> bool:
    """Whether what was approved on the way to the step above still is what would be done there.

    Rows above are read and not held: whoever moves one holds it before those below.  The task above
    looks for itself, asks again, and wakes this one.
    """
    step = task.parent
    if step is None:
        return True
    if step.status != TaskStep.Status.RUNNING:
        return False
    whole = step.task
    steps = {each.key: each for each in whole.steps.order_by("position")}
    asked = [each for each in graph.before(step, steps) if each.kind == "workOrder"]
    if asked:
        rows = whole.machines.filter(state=TaskMachine.State.WAITING).select_related("machine")
        plan = approval.plan_of(whole, list(rows.order_by("pk")))
        orders = WorkOrder.objects.filter(step__in=asked, status=WorkOrder.Status.APPROVED)
        passed = [each for each in asked if each.status in TaskStep.PASSED]
        if len(passed) < len(asked):
            return False
        if any(approval.changes(order, plan, whole) for order in orders):
            return False
    return is_approved_above(whole)


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


def end_what_is_left(task: AutoOperationTask) -> None:
    """When a task has ended with some below it still going: they begin nothing more."""
    for child in of(task):
        if child.status == Status.WAITING:
            change_status(child, to=Status.RUNNING)
        if child.status != Status.CANCELING:
            why = Sentence("The task %(name)s has ended.", name=task.name)
            change_status(child, to=Status.CANCELING, reason=why)
