"""``manage.py answer``: begins operations and tells what became of them, one question a line.

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

from beidou.base.models import AuditEntry, User
from clusters.models import Cluster
from machines.models import Machine
from operations.kinds import base as kinds
from operations.models import Operation
from operations.services import start
from tests import factories

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


def about(model: Any, row: Model) -> Any:
    return model.objects.filter(object_type=row._meta.label_lower, object_id=str(row.pk))


ANSWERS: Final[dict[str, Callable[..., Any]]] = {
    "begin": begin_each,
    "ended": have_ended,
    "tell": tell_each,
}
