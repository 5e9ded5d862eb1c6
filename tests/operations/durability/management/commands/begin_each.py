"""``manage.py begin_each POINT VICTIM [KIND…]``: an operation of every kind or of those named.

Each has a cluster of its own.  Prints the operations' keys.
"""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from beidou.base.models import User
from machines.models import Machine
from operations.kinds import base as kinds
from operations.services import start
from tests import factories
from tests.operations.durability.points import POINTS


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("point", choices=POINTS)
        parser.add_argument("victim")
        parser.add_argument("kinds", nargs="*")

    def handle(self, **options: Any) -> None:
        point, victim = options["point"], options["victim"]
        chosen = options["kinds"] or sorted(kinds.KINDS)
        keys = [begin(f"{point}--{victim}--{name}", kinds.get(name)) for name in chosen]
        self.stdout.write(json.dumps(keys))


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
