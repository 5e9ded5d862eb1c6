"""``manage.py answer``: begins operations and tells what became of them, one question a line.

A question is a list in JSON.  ``["begin", POINT, VICTIM, [KIND…]]`` begins an operation of every
kind or of those named, each on a cluster of its own, and answers with their keys.  ``["tell",
[KEY…]]`` answers what became of them.  One process for all, because Django needs seconds to
start.
"""

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from django.core.management.base import BaseCommand
from django.db import connection

from beidou.base.models import AuditEntry, User
from machines.models import Machine
from operations.kinds import base as kinds
from operations.models import Operation
from operations.services import start
from tests import factories


class Command(BaseCommand):
    help = __doc__

    def handle(self, **options: Any) -> None:
        answers: dict[str, Callable[..., Any]] = {"begin": begin_each, "tell": tell_each}
        for line in sys.stdin:
            name, *values = json.loads(line)
            connection.close()  # the database may have been started again since
            self.stdout.write(json.dumps(answers[name](*values)))
            self.stdout.flush()
        connection.close()


def begin_each(point: str, victim: str, chosen: Sequence[str]) -> list[int]:
    names = chosen or sorted(kinds.KINDS)
    return [begin(f"{point}--{victim}--{name}", kinds.get(name)) for name in names]


def begin(name: str, kind: kinds.Kind) -> int:
    cluster = factories.make_cluster(name.lower(), uid=name, phase=min(kind.phases))
    known = Machine.objects.count()
    machines = [
        factories.make_machine(
            f"10.3.{number // 250}.{number % 250 + 1}",
            state=min(kind.startable_states),
            cluster=cluster,
        )
        for number in (known, known + 1)
    ]
    operation = start.start_operation(
        kind=kind.name,
        cluster=cluster,
        machines=machines,
        acting_user=User.objects.get(username="admin"),
        name=name,
    )
    return operation.pk


def tell_each(keys: Sequence[int]) -> dict[str, dict[str, Any]]:
    return {row.name: tell(row) for row in Operation.objects.filter(pk__in=keys).order_by("pk")}


def tell(operation: Operation) -> dict[str, Any]:
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
        "ends": AuditEntry.objects.filter(
            object_type=operation._meta.label_lower,
            object_id=str(operation.pk),
            verb__startswith="operation ",
        ).count(),
        "running attempts": sum(
            step.attempts.filter(outcome="running").count() for step in operation.steps.all()
        ),
    }
