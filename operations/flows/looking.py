"""What a gate has to see outside, looked at by a task of the queue and not in a transaction.

What was seen is written into the step under the task's lock, and only while the step is still the
one that asked: a look that comes too late, or twice, changes nothing.
"""

import operator
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.utils import timezone

from beidou.base.errors import BeidouError, PermanentError
from beidou.base.sentences import Sentence
from operations.flows import advance, base
from operations.flows.kinds.gate import GateParams
from operations.flows.models import AutoOperationTask, TaskStep
from operations.outside import prometheus, systems
from operations.outside.models import SiteSystem
from operations.outside.prometheus import Sample

COMPARISONS: Final[dict[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


def look_outside(step_id: int) -> None:
    """Ask Prometheus once for a running gate."""
    step = TaskStep.objects.filter(pk=step_id, kind="gate", status=TaskStep.Status.RUNNING).first()
    if step is None or not step.progress.get("asked"):
        return
    params: GateParams = base.parse_params(base.get("gate"), step.params)
    if params.condition != "prometheus":
        return
    holds, is_final, said = False, False, ""
    try:
        holds, said = _judge(_ask(step, params), params)
    except BeidouError as error:
        said, is_final = error.message, isinstance(error, PermanentError)
    _write(step, params, holds=holds, is_final=is_final, said=said)


def _ask(step: TaskStep, params: GateParams) -> Sequence[Sample]:
    system = systems.require(step.task.cluster, SiteSystem.Purpose.PROMETHEUS)
    return prometheus.ask(url=system.url, token=system.secret, query=params.query)


def _judge(samples: Sequence[Sample], params: GateParams) -> tuple[bool, Sentence]:
    """Whether it holds, and what was seen; of no data nothing can be said, so it does not hold."""
    if not samples:
        return False, Sentence("Prometheus has no data for the query.")
    compare = COMPARISONS[params.comparison]
    good = [each for each in samples if compare(each.value, params.value)]
    holds = bool(good) if params.match == "any" else len(good) == len(samples)
    shown = next((each for each in samples if (each in good) == holds), samples[0])
    return holds, Sentence(
        "%(good)s of %(total)s values are %(comparison)s %(wanted)s, for example %(value)s.",
        good=len(good),
        total=len(samples),
        comparison=params.comparison,
        wanted=f"{params.value:g}",
        value=f"{shown.value:g}",
    )


def _write(step: TaskStep, params: GateParams, *, holds: bool, is_final: bool, said: str) -> None:
    now = timezone.now()
    with transaction.atomic():
        AutoOperationTask.objects.select_for_update(of=("self",)).get(pk=step.task_id)
        held = TaskStep.objects.get(pk=step.pk)
        if (held.status, held.started_at) != (TaskStep.Status.RUNNING, step.started_at):
            return
        if held.progress.get("asked") != step.progress["asked"]:
            return
        good = held.progress["good"] + 1 if holds else 0
        held.progress = {**held.progress, "good": good, "failed": is_final, "asked": ""}
        held.message = said
        until = datetime.fromisoformat(held.progress["until"])
        held.due_at = min(until, now + timedelta(seconds=params.seconds))
        held.save(update_fields=["progress", "message", "due_at"])
        if good >= params.times or is_final:
            advance.wake(held.task_id)
