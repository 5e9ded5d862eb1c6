"""``manage.py tell_each KEY…``: what became of operations, as far as it must not depend on luck."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from beidou.base.models import AuditEntry
from operations.models import Operation


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("keys", nargs="+", type=int)

    def handle(self, *, keys: list[int], **options: Any) -> None:
        rows = Operation.objects.filter(pk__in=keys).order_by("pk")
        self.stdout.write(json.dumps({row.name: tell(row) for row in rows}))


def tell(operation: Operation) -> dict[str, Any]:
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
