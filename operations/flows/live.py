"""A task as its page and its stream see it: one plain snapshot, and what changed since.

Times are milliseconds since the epoch.  Who may decide is the same for everybody who watches; the
page adds whether its own reader may.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.contrib.auth import get_user_model
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import ngettext

from beidou.base.permissions import APPROVE
from clusters.models import ClusterGroupObjectPermission
from operations.flows import approval, base, catalog, children, graph, nesting, saying, undoing
from operations.flows.models import AutoOperationTask, TaskMachine, TaskPart, TaskStep, WorkOrder
from operations.kinds import base as operation_kinds
from operations.models import Operation, OperationMachine
from operations.outside.models import SiteSystem
from operations.services.live import milliseconds, url_for_all

Row = dict[str, Any]
States = dict[tuple[int | None, str], str]
APPROVERS_SHOWN = 10

_ACTIONS: dict[str, tuple[str, ...]] = {
    AutoOperationTask.Status.WAITING: ("cancel",),
    AutoOperationTask.Status.RUNNING: ("pause", "cancel"),
    AutoOperationTask.Status.PAUSED: ("resume", "cancel"),
    AutoOperationTask.Status.CANCELING: (),
    AutoOperationTask.Status.CANCELED: ("retry", "skip"),
    AutoOperationTask.Status.PARTIAL: ("retry", "skip"),
    AutoOperationTask.Status.FAILED: ("retry", "skip"),
    AutoOperationTask.Status.SUCCEEDED: (),
}


class Place(NamedTuple):
    """Where a machine stands: a state, and the key of the step that this is about."""

    state: str
    step: str
    is_through: bool


@dataclass(frozen=True)
class Snapshot:
    task: Row
    steps: dict[int, Row]
    machines: dict[int, Row]

    @property
    def status(self) -> str:
        return str(self.task["status"])

    @property
    def is_final(self) -> bool:
        return self.status not in AutoOperationTask.ACTIVE

    def as_dict(self) -> Row:
        return {
            "now": milliseconds(timezone.now()),
            "task": self.task,
            "steps": list(self.steps.values()),
            "machines": list(self.machines.values()),
        }


def actions_of(status: str, *, is_asking: bool) -> tuple[str, ...]:
    """What can be done to a task in this status, by whoever has the right; a retry also where it
    waits for an answer."""
    actions = _ACTIONS.get(status, ())
    if is_asking and status == AutoOperationTask.Status.RUNNING:
        return (*actions, "retry")
    return actions


def snapshot(task_id: int) -> Snapshot | None:
    """Seven cheap queries (nine where steps are tasks, two more for each task above one that asks),
    however many machines and steps; None when the task is gone."""
    task = AutoOperationTask.objects.select_related("cluster").filter(pk=task_id).first()
    if task is None:
        return None
    steps = list(task.steps.order_by("position"))
    members = list(task.machines.select_related("machine").order_by("pk"))
    batches = list(
        TaskPart.objects.filter(step__in=[step.pk for step in steps])
        .select_related("operation")
        .order_by("step", "number")
    )
    states = _states(batches)
    asking = _asking(steps)
    by_key = {step.pk: step for step in steps}
    for batch in batches:
        batch.step = by_key[batch.step_id]
    parts = _parts(batches, states, asking)
    below = _below(steps)
    for child in below:
        parts.setdefault(child.parent_id or 0, []).append(_child(child))
    places = _places(steps, members, batches, states, below, asking)
    if not task.is_active:
        places = _ended(steps, members, places)
    machines = {
        member.pk: _machine(member, places[member.pk], task.cluster_id) for member in members
    }
    orders: dict[int, list[Row]] = {}
    asked = WorkOrder.objects.filter(step__task=task).select_related("site_request")
    for order in asked.order_by("step__position", "number"):
        orders.setdefault(order.step_id, []).append(_order(order, task))
    columns = graph.levels(steps)
    decisive = _decisive(steps)
    above = _goes_on_in(task) if any(step.kind == "workOrder" for step in steps) else ""
    approvers = _approvers(task, steps)
    return Snapshot(
        task=_task(task, machines.values(), is_asking=bool(asking)),
        steps={
            step.pk: {
                **_step(
                    step,
                    columns[step.key],
                    parts.get(step.pk, []),
                    orders.get(step.pk, []),
                    approvers,
                ),
                "is_decisive": step.key in decisive or bool(above),
                "goes_on_in": "" if step.key in decisive else above,
            }
            for step in steps
        },
        machines=machines,
    )


def difference(old: Snapshot, new: Snapshot) -> Row:
    """Only the rows that are not as they were; empty when nothing changed."""
    changed: Row = {}
    if new.task != old.task:
        changed["task"] = new.task
    for name in ("steps", "machines"):
        before: dict[int, Row] = getattr(old, name)
        after: dict[int, Row] = getattr(new, name)
        if rows := [row for key, row in after.items() if before.get(key) != row]:
            changed[name] = rows
    if changed:
        changed["now"] = milliseconds(timezone.now())
    return changed


def _task(task: AutoOperationTask, machines: Iterable[Row], *, is_asking: bool) -> Row:
    rows = list(machines)
    return {
        "id": task.pk,
        "name": task.name,
        "status": task.status,
        "message": task.message,
        "waiting_for": task.waiting_for,
        "created_at": milliseconds(task.created_at),
        "started_at": milliseconds(task.started_at),
        "finished_at": milliseconds(task.finished_at),
        "total": len(rows),
        "succeeded": sum(row["is_through"] for row in rows),
        "failed": sum(row["state"] == TaskMachine.State.FAILED for row in rows),
        "count": _count(sum(row["is_through"] for row in rows), len(rows)),
        "actions": list(actions_of(task.status, is_asking=is_asking)),
        "is_asking": is_asking,
    }


def _count(done: int, total: int) -> str:
    return ngettext("%(done)s of %(total)s machine", "%(done)s of %(total)s machines", total) % {
        "done": done,
        "total": total,
    }


def _machine(member: TaskMachine, place: Place, cluster_id: int) -> Row:
    return {
        "id": member.pk,
        "address": member.address,
        "hostname": member.hostname,
        "group": member.get_group_display() if member.group else "",
        "state": place.state,
        "step": place.step,
        "is_through": place.is_through,
        "message": member.message,
        "url": url_for_all(member.machine, cluster_id),
    }


def _step(
    step: TaskStep, column: int, parts: list[Row], orders: list[Row], approvers: list[str]
) -> Row:
    kind = base.KINDS.get(step.kind)
    done = sum(part["succeeded"] for part in parts)
    return {
        "id": step.pk,
        "key": step.key,
        "name": step.name,
        "title": catalog.title_of(step),
        "kind": step.kind,
        "kind_title": str(kind.title) if kind else step.kind,
        "status": step.status,
        "message": step.message,
        "needs": [*step.needs, *step.compensates],
        "is_compensation": bool(step.compensates),
        "on_failure": step.on_failure,
        "column": column,
        "due_at": milliseconds(step.due_at),
        "started_at": milliseconds(step.started_at),
        "finished_at": milliseconds(step.finished_at),
        "may_be_skipped": bool(kind and kind.may_be_skipped),
        "total": sum(part["total"] for part in parts),
        "succeeded": done,
        "parts": parts,
        "orders": orders,
        "is_ticket": bool(step.params.get("ticket")),
        "approvers": approvers
        if step.kind == "workOrder" and not step.params.get("ticket")
        else [],
    }


def _below(steps: Iterable[TaskStep]) -> list[AutoOperationTask]:
    """The tasks that are steps of it; asked for only where there can be any."""
    keys = [step.pk for step in steps if step.kind == nesting.KIND]
    if not keys:
        return []
    rows = AutoOperationTask.objects.filter(parent__in=keys).order_by("pk")
    return list(rows.select_related("parent").prefetch_related("machines"))


def _machines_of(child: AutoOperationTask) -> list[TaskMachine]:
    """Without those that begin anew in another."""
    gone = undoing.has_left(child.parent, child.pk) if child.parent is not None else set()
    return [member for member in child.machines.all() if member.address not in gone]


def _child(child: AutoOperationTask) -> Row:
    states = Counter(member.state for member in _machines_of(child))
    return {
        "number": 0,
        "total": sum(states.values()),
        "succeeded": states.get(TaskMachine.State.SUCCEEDED, 0),
        "failed": states.get(TaskMachine.State.FAILED, 0),
        "operation": None,
        "task": child.pk,
        "name": child.name,
        "kind": "",
        "status": child.status,
        "takes_answers": False,
        "asks": False,
        "message": child.message or child.waiting_for,
        "url": reverse("admin:operations_autooperationtask_change", args=[child.pk]),
    }


def _states(parts: Iterable[TaskPart]) -> dict[int, States]:
    """operation -> the state of each of its machines, by the machine's key and its address."""
    keys = [part.operation_id for part in parts if part.operation_id]
    rows = OperationMachine.objects.filter(operation__in=keys).order_by()
    found: dict[int, States] = {}
    for key, machine, address, state in rows.values_list(
        "operation", "machine", "address", "state"
    ):
        found.setdefault(key, {})[machine, address] = state
    return found


def _places(
    steps: Iterable[TaskStep],
    members: Iterable[TaskMachine],
    parts: Iterable[TaskPart],
    states: Mapping[int, States],
    below: Iterable[AutoOperationTask] = (),
    asking: Collection[int] = (),
) -> dict[int, Place]:
    """machine -> where it stands: what the last operation that it came to says of it.

    It is through when it has succeeded in every step that is to be done on it; approvals and waits
    behind that change nothing of it.
    """
    by_key = {member.pk: member for member in members}
    todo = {
        step.pk: step.key
        for step in steps
        if _works_on_machines(step)
        and not step.compensates
        and step.status != TaskStep.Status.SKIPPED
    }
    groups = Counter(step.params.get("group", "") for step in steps if step.pk in todo)
    last: dict[int, tuple[str, str]] = {}
    passed: Counter[int] = Counter()
    for part in parts:
        if part.step_id not in todo:
            continue
        # A machine that was deleted, or has another address since, is found by what is left.
        pairs = states.get(part.operation_id or 0, {}).items()
        now: dict[int | str, str] = {name: state for pair, state in pairs for name in pair if name}
        for key in part.machines:
            if (member := by_key.get(key)) is None:
                continue
            state = now.get(member.machine_id or 0) or now.get(member.address)
            if state is None:
                continue
            is_through = state == OperationMachine.State.SUCCEEDED
            goes_on = part.is_to_be_retried or part.operation_id in asking
            if goes_on and not is_through:
                state = OperationMachine.State.WAITING
            last[key] = (state, todo[part.step_id])
            passed[key] += is_through
    for child in below:
        key_of = {each.address: each.pk for each in by_key.values()}
        for each in _machines_of(child):
            if child.parent_id in todo and (key := key_of.get(each.address)) is not None:
                last[key] = (each.state, todo[child.parent_id])
                passed[key] += each.state == TaskMachine.State.SUCCEEDED
    return {
        member.pk: _place(
            member,
            *last.get(member.pk, (member.state, "")),
            0 < groups[""] + (groups[member.group] if member.group else 0) == passed[member.pk],
        )
        for member in by_key.values()
    }


def _place(member: TaskMachine, state: str, step: str, is_through: bool) -> Place:
    if member.state == TaskMachine.State.FAILED:
        return Place(member.state, member.failed_in, False)
    if member.state == TaskMachine.State.SUCCEEDED:
        return Place(member.state, step, True)
    return Place(state, step, is_through)


def _ended(
    steps: Iterable[TaskStep], members: Iterable[TaskMachine], places: Mapping[int, Place]
) -> dict[int, Place]:
    """As above after the end: what is not through never came to the first step left undone, however
    well it did in the one before."""
    undone = [
        step
        for step in steps
        if _works_on_machines(step)
        and not step.compensates
        and step.status in (*TaskStep.UNDONE, TaskStep.Status.WAITING)
    ]
    found = dict(places)
    for member in members:
        place = places[member.pk]
        if place.is_through or place.state != OperationMachine.State.SUCCEEDED:
            continue
        its = (each for each in undone if each.params.get("group", "") in ("", member.group))
        if (first := next(its, None)) is not None:
            found[member.pk] = Place(TaskMachine.State.WAITING, first.key, False)
    return found


def _decisive(steps: list[TaskStep]) -> set[str]:
    """Keys of the steps behind which something is still to be done to machines."""
    open_ones = {
        step.key
        for step in steps
        if _works_on_machines(step)
        and not step.compensates
        and step.status in (TaskStep.Status.WAITING, TaskStep.Status.RUNNING)
    }
    return {step.key for step in steps if graph.after({step.key}, steps) & open_ones}


def _goes_on_in(task: AutoOperationTask) -> str:
    """The name of the nearest task above in which something is still to be done to machines behind
    this one; empty where there is none."""
    for step in children.steps_above(task):
        if step.key in _decisive(list(step.task.steps.order_by("position"))):
            return step.task.name
    return ""


def _works_on_machines(step: TaskStep) -> bool:
    kind = base.KINDS.get(step.kind)
    return kind is not None and kind.works_on_machines


def _asking(steps: Iterable[TaskStep]) -> set[int]:
    """The operations whose questions their steps wait for: they have not failed for good."""
    return {
        asked["operation"]
        for step in steps
        if step.status == TaskStep.Status.RUNNING and (asked := step.progress.get("asks"))
    }


def _parts(
    parts: Iterable[TaskPart], states: Mapping[int, States], asking: Collection[int]
) -> dict[int, list[Row]]:
    """step -> its batches with how far their operations are."""
    found: dict[int, list[Row]] = {}
    for part in parts:
        row = _part(part, states)
        if part.operation_id in asking:  # what it asks is the step's message
            row |= {"status": Operation.Status.WAITING.value, "failed": 0, "asks": True}
        found.setdefault(part.step_id, []).append(row)
    return found


def _part(part: TaskPart, states: Mapping[int, States]) -> Row:
    operation = part.operation
    gone = undoing.has_left(part.step, part.operation_id)
    its = states.get(part.operation_id or 0, {}).items()
    now = Counter(state for (_key, address), state in its if address not in gone)
    return {
        "number": part.number,
        "total": len(part.machines),
        "succeeded": now.get(OperationMachine.State.SUCCEEDED, 0),
        "failed": now.get(OperationMachine.State.FAILED, 0),
        "operation": operation.pk if operation else None,
        "name": operation.name if operation else "",
        "kind": _kind_title(operation) if operation else "",
        "status": operation.status if operation else "waiting",
        "takes_answers": _takes_answers(operation),
        "asks": False,
        "message": (operation.message or operation.waiting_for) if operation else "",
        "url": reverse("admin:operations_operation_change", args=[operation.pk])
        if operation
        else "",
    }


def _takes_answers(operation: Operation | None) -> bool:
    """Whether it ended in a way that a choice at its own retry may mend."""
    if operation is None or operation.status not in Operation.ENDED_BADLY:
        return False
    kind = operation_kinds.KINDS.get(operation.kind)
    return kind is not None and bool(kind.answers)


def _kind_title(operation: Operation) -> str:
    kind = operation_kinds.KINDS.get(operation.kind)
    return str(kind.title) if kind else operation.kind


def _order(order: WorkOrder, task: AutoOperationTask) -> Row:
    machines = sorted(order.plan.get("machines", {}))
    return {
        "id": order.pk,
        "number": order.number,
        "status": order.status,
        "digest": order.digest,
        "changes": list(order.changes),
        "machines": machines,
        "count": ngettext("%(count)s machine", "%(count)s machines", len(machines))
        % {"count": len(machines)},
        "words": saying.in_words(order.plan, task) if order.status in WorkOrder.VALID else [],
        "playbooks": order.plan.get("playbooks", ""),
        "asked_at": milliseconds(order.asked_at),
        "due_at": milliseconds(order.due_at),
        "decided_by": order.decided_by_name,
        "decided_at": milliseconds(order.decided_at),
        "reason": order.reason,
        "decided_at_host": _host(order),
    }


def _host(order: WorkOrder) -> str:
    """Of the ticket system that decides; empty where people do."""
    request = getattr(order, "site_request", None)
    if request is None:
        return ""
    return request.host or SiteSystem.Purpose.TICKETS.value


def _approvers(task: AutoOperationTask, steps: Iterable[TaskStep]) -> list[str]:
    """Some of those who may approve on the cluster; never whoever asked or answered."""
    if not task.is_active or not any(step.kind == "workOrder" for step in steps):
        return []
    grants = ClusterGroupObjectPermission.objects.filter(
        content_object=task.cluster_id, permission__codename=f"{APPROVE}_cluster"
    )
    may = Q(groups__in=grants.values("group")) | Q(is_superuser=True)
    people = get_user_model()._default_manager.filter(may, is_active=True)
    left = people.exclude(pk__in={*task.askers, *approval.answerers(task)})
    names = left.order_by("username").values_list("username", flat=True).distinct()
    return list(names[:APPROVERS_SHOWN])
