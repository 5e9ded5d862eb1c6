"""Operations as the engine leaves them, with steps and cells."""

import itertools
from datetime import timedelta
from typing import Any

from django.utils import timezone

from clusters.models import Cluster
from machines.models import Machine
from operations.models import Attempt, Operation, Step
from tests import factories

STEPS = ("preCheck", "scaleUp", "postCheck", "uncordon")
_numbers = itertools.count(1)


def make_operation(cluster: Cluster, *, status: str, machines: int = 2, **values: Any) -> Operation:
    """One in its second step when it runs, asked for ten minutes ago."""
    now = timezone.now()
    has_ended = status in ("succeeded", "failed", "partial", "canceled")
    operation = Operation.objects.create(
        **{
            "name": f"scaleup-{cluster.name}-{next(_numbers)}",
            "kind": "ScaleUp",
            "cluster": cluster,
            "status": status,
            "created_at": now - timedelta(minutes=10),
            "started_at": None if status == "waiting" else now - timedelta(minutes=9),
            "finished_at": now - timedelta(minutes=1) if has_ended else None,
            **values,
        }
    )
    targets = [
        operation.machines.create(machine=machine, address=machine.address)
        for machine in (
            factories.make_machine(cluster=cluster, state=Machine.State.JOINING)
            for _ in range(machines)
        )
    ]
    for position, name in enumerate(STEPS):
        word = _word(status, position)
        step = operation.steps.create(
            position=position,
            name=name,
            status=word,
            started_at=None if word == "waiting" else now - timedelta(seconds=60),
        )
        for target in targets:
            step.cells.create(machine=target, status=word)
    return operation


def _word(status: str, position: int) -> str:
    if status in ("waiting", "succeeded"):
        return status
    if position == 0:
        return "succeeded"
    return "waiting" if position > 1 else {"partial": "failed"}.get(status, status)


def make_attempt(step: Step, *, seconds: float, machines: int) -> Attempt:
    """An earlier run of such a step that took ``seconds``."""
    began = timezone.now() - timedelta(hours=1)
    return step.attempts.create(
        number=step.attempts.count() + 1,
        holder="test",
        machines=machines,
        outcome=Attempt.Outcome.DONE,
        started_at=began,
        finished_at=began + timedelta(seconds=seconds),
    )
