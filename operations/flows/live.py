"""A task as its page and its stream see it: one plain snapshot, and what changed since.

Times are milliseconds since the epoch.  Who may decide is the same for everybody who watches; the
page adds whether its own reader may.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Count, Q
from django.urls import reverse
from django.utils import timezone

from beidou.base.permissions import APPROVE
from clusters.models import ClusterGroupObjectPermission
from operations.flows import base, catalog, graph
from operations.flows.models import AutoOperationTask, TaskMachine, TaskPart, TaskStep, WorkOrder
from operations.kinds import base as operation_kinds
from operations.models import Operation, OperationMachine
from operations.services.live import milliseconds

Row = dict[str, Any]
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


def actions_of(status: str) -> tuple[str, ...]:
    """What can be done to a task in this status, by whoever has the right."""
    return _ACTIONS.get(status, ())


def snapshot(task_id: int) -> Snapshot | None:
    """Seven cheap queries, however many machines and steps; None when the task is gone."""
    task = AutoOperationTask.objects.select_related("cluster").filter(pk=task_id).first()
    if task is None:
        return None
    steps = list(task.steps.order_by("position"))
    machines = {member.pk: _machine(member) for member in task.machines.order_by("pk")}
    parts = _parts(steps)
    orders: dict[int, list[Row]] = {}
    for order in WorkOrder.objects.filter(step__task=task).order_by("step__position", "number"):
        orders.setdefault(order.step_id, []).append(_order(order))
    columns = graph.levels(steps)
    approvers = _approvers(task, steps)
    return Snapshot(
        task=_task(task, machines.values()),
        steps={
            step.pk: _step(
                step, columns[step.key], parts.get(step.pk, []), orders.get(step.pk, []), approvers
            )
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


def _task(task: AutoOperationTask, machines: Iterable[Row]) -> Row:
    states = [row["state"] for row in machines]
    return {
        "id": task.pk,
        "name": task.name,
        "status": task.status,
        "message": task.message,
        "waiting_for": task.waiting_for,
        "created_at": milliseconds(task.created_at),
        "started_at": milliseconds(task.started_at),
        "finished_at": milliseconds(task.finished_at),
        "total": len(states),
        "succeeded": states.count(TaskMachine.State.SUCCEEDED),
        "failed": states.count(TaskMachine.State.FAILED),
        "actions": list(actions_of(task.status)),
    }


def _machine(member: TaskMachine) -> Row:
    return {
        "id": member.pk,
        "address": member.address,
        "hostname": member.hostname,
        "state": member.state,
        "failed_in": member.failed_in,
        "message": member.message,
        "url": reverse("admin:machines_machine_change", args=[member.machine_id])
        if member.machine_id
        else "",
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
        "approvers": approvers if step.kind == "workOrder" else [],
    }


def _parts(steps: Iterable[TaskStep]) -> dict[int, list[Row]]:
    """step -> its batches with how far their operations are."""
    rows = list(
        TaskPart.objects.filter(step__in=[step.pk for step in steps])
        .select_related("operation")
        .order_by("step", "number")
    )
    keys = [part.operation_id for part in rows if part.operation_id]
    counts: dict[int, dict[str, int]] = {}
    states = OperationMachine.objects.filter(operation__in=keys).order_by()
    for key, state, number in states.values_list("operation", "state").annotate(Count("pk")):
        counts.setdefault(key, {})[state] = number
    found: dict[int, list[Row]] = {}
    for part in rows:
        found.setdefault(part.step_id, []).append(_part(part, counts))
    return found


def _part(part: TaskPart, counts: Mapping[int, Mapping[str, int]]) -> Row:
    operation = part.operation
    now = counts.get(part.operation_id or 0, {})
    return {
        "number": part.number,
        "total": len(part.machines),
        "succeeded": now.get(OperationMachine.State.SUCCEEDED, 0),
        "failed": now.get(OperationMachine.State.FAILED, 0),
        "operation": operation.pk if operation else None,
        "name": operation.name if operation else "",
        "kind": _kind_title(operation) if operation else "",
        "status": operation.status if operation else "waiting",
        "message": (operation.message or operation.waiting_for) if operation else "",
        "url": reverse("admin:operations_operation_change", args=[operation.pk])
        if operation
        else "",
    }


def _kind_title(operation: Operation) -> str:
    kind = operation_kinds.KINDS.get(operation.kind)
    return str(kind.title) if kind else operation.kind


def _order(order: WorkOrder) -> Row:
    return {
        "id": order.pk,
        "number": order.number,
        "status": order.status,
        "digest": order.digest,
        "changes": list(order.changes),
        "machines": sorted(order.plan.get("machines", {})),
        "playbooks": order.plan.get("playbooks", ""),
        "asked_at": milliseconds(order.asked_at),
        "due_at": milliseconds(order.due_at),
        "decided_by": order.decided_by_name,
        "decided_at": milliseconds(order.decided_at),
        "reason": order.reason,
    }


def _approvers(task: AutoOperationTask, steps: Iterable[TaskStep]) -> list[str]:
    """Some of those who may approve on the cluster; never whoever asked."""
    if not task.is_active or not any(step.kind == "workOrder" for step in steps):
        return []
    grants = ClusterGroupObjectPermission.objects.filter(
        content_object=task.cluster_id, permission__codename=f"{APPROVE}_cluster"
    )
    may = Q(groups__in=grants.values("group")) | Q(is_superuser=True)
    people = get_user_model()._default_manager.filter(may, is_active=True)
    left = people.exclude(pk__in=[task.requested_by_id or 0, task.carried_by_id or 0])
    names = left.order_by("username").values_list("username", flat=True).distinct()
    return list(names[:APPROVERS_SHOWN])
