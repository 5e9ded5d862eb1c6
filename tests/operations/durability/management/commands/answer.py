"""``manage.py answer``: begins operations and tasks and tells what became of them, one question a
line.

A question is a list in JSON: one of ``ANSWERS`` and what it takes.  One process for all, because
Django needs seconds to start.
"""

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from django.core.management.base import BaseCommand
from django.db import OperationalError, connection
from django.db.models import Model

from beidou.base.models import AuditEntry, Notice, User
from clusters.models import Cluster
from machines.models import Machine
from operations.flows import control as task_control
from operations.flows import start as task_start
from operations.flows.models import AutoOperationTask, WorkOrder
from operations.kinds import base as kinds
from operations.models import Operation
from operations.services import start
from tests import factories
from tests.operations.durability import looks

Story = dict[str, Any]


class Command(BaseCommand):
    help = __doc__

    def handle(self, **options: Any) -> None:
        for line in sys.stdin:
            name, *values = json.loads(line)
            connection.close()  # the database may have been started again since
            self.stdout.write(json.dumps(ANSWERS[name](*values)))
            self.stdout.flush()
        connection.close()


def begin_each(point: str, victim: str, chosen: Sequence[str]) -> list[int]:
    """An operation of every kind or of those chosen, each on a cluster of its own; their keys."""
    names = chosen or sorted(kinds.KINDS)
    return [begin(f"{point}--{victim}--{name}", kinds.get(name)) for name in names]


def begin(name: str, kind: kinds.Kind) -> int:
    cluster = factories.make_cluster(name.lower(), uid=name, phase=min(kind.phases))
    operation = start.start_operation(
        kind=kind.name,
        cluster=cluster,
        machines=two_machines(cluster, min(kind.startable_states)),
        acting_user=User.objects.get(username="admin"),
        name=name,
    )
    return operation.pk


def begin_tasks(points: Sequence[str], victim: str) -> list[int]:
    """A task for each of these points, each on a cluster of its own; their keys."""
    return [begin_task(f"{point}--{victim}--Task") for point in points]


def begin_task(name: str) -> int:
    cluster = factories.make_cluster(name.lower(), uid=name)
    task = task_start.start_task(
        cluster=cluster,
        machines=two_machines(cluster, Machine.State.AVAILABLE),
        specs=looks.specs(),
        acting_user=User.objects.get(username="admin"),
        name=name,
    )
    return task.pk


def two_machines(cluster: Cluster, state: str) -> list[Machine]:
    known = Machine.objects.count()
    return [
        factories.make_machine(
            f"10.3.{number // 250}.{number % 250 + 1}", state=state, cluster=cluster
        )
        for number in (known, known + 1)
    ]


def have_ended(keys: Sequence[int]) -> bool:
    try:
        return not Operation.objects.filter(pk__in=keys, finished_at=None).exists()
    except OperationalError:
        return False  # its server starts


def have_tasks_ended(keys: Sequence[int]) -> bool:
    """Says yes to what they ask meanwhile."""
    approver, _ = User.objects.get_or_create(
        username="approver", defaults={"is_superuser": True, "is_staff": True}
    )
    asked = WorkOrder.objects.filter(step__task__in=keys, status=WorkOrder.Status.OPEN)
    for order in asked.select_related("step"):
        task_control.approve(order, acting_user=approver)
    return not AutoOperationTask.objects.filter(pk__in=keys, finished_at=None).exists()


def tell_each(keys: Sequence[int]) -> dict[str, Story]:
    return {row.name: tell(row) for row in Operation.objects.filter(pk__in=keys).order_by("pk")}


def tell(operation: Operation) -> Story:
    """As far as it must not depend on luck."""
    members = operation.machines.select_related("machine").order_by("pk")
    machines = [member.machine for member in members if member.machine is not None]
    return {
        "status": operation.status,
        "slot": operation.slot,
        "steps": list(operation.steps.order_by("position").values_list("name", "status")),
        "machines": [member.state for member in members],
        "held": [member.holds_machine for member in members],
        "moves": [
            list(machine.status_changes.order_by("pk").values_list("old", "new"))
            for machine in machines
        ],
        "states": [machine.state for machine in machines],
        "ends": about(AuditEntry, operation).filter(verb__startswith="operation ").count(),
        "running attempts": sum(
            step.attempts.filter(outcome="running").count() for step in operation.steps.all()
        ),
    }


def tell_tasks(keys: Sequence[int]) -> dict[str, Story]:
    rows = AutoOperationTask.objects.filter(pk__in=keys).order_by("pk")
    return {row.name: tell_task(row) for row in rows}


def tell_task(task: AutoOperationTask) -> Story:
    """All that it did, in its order: what a look has not finished must never have been."""
    return {
        "status": task.status,
        "changes": changes_of(task),
        "waits for": task.waiting_for,
        "steps": [[step.key, changes_of(step)] for step in task.steps.order_by("position")],
        "machines": list(task.machines.order_by("pk").values_list("state", "holds_machine")),
        "orders": [
            changes_of(order) for order in WorkOrder.objects.filter(step__task=task).order_by("pk")
        ],
        "operations": [
            tell(each) for each in Operation.objects.filter(cluster=task.cluster).order_by("pk")
        ],
        "told": list(about(Notice, task).order_by("pk").values_list("kind", flat=True)),
        "audit": list(about(AuditEntry, task).order_by("pk").values_list("verb", flat=True)),
    }


def changes_of(row: Any) -> list[tuple[str, str]]:
    return list(row.status_changes.order_by("pk").values_list("old", "new"))


def about(model: Any, row: Model) -> Any:
    return model.objects.filter(object_type=row._meta.label_lower, object_id=str(row.pk))


ANSWERS: Final[dict[str, Callable[..., Any]]] = {
    "begin": begin_each,
    "ended": have_ended,
    "tell": tell_each,
    "begin tasks": begin_tasks,
    "tasks ended": have_tasks_ended,
    "tell tasks": tell_tasks,
}
