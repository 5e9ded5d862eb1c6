"""The rows of a new task: whoever asks for one has looked at the plan before."""

from collections.abc import Iterable, Sequence
from typing import Any

from operations.flows import graph
from operations.flows.models import AutoOperationTask, TaskMachine, TaskStep


def write(
    *,
    machines: Iterable[TaskMachine],
    specs: Sequence[graph.Spec],
    actor: str,
    reason: str = "",
    **values: Any,
) -> AutoOperationTask:
    """The task with its machines (not saved yet) and steps; ``values`` are its own fields."""
    task = AutoOperationTask.objects.create(reason=reason[:500], **values)
    task.status_changes.create(old="", new=task.status, actor=actor, reason=reason[:500])
    members = list(machines)
    for member in members:
        member.task = task
    TaskMachine.objects.bulk_create(members)
    TaskStep.objects.bulk_create(
        TaskStep(
            task=task,
            position=position,
            key=spec.key,
            name=spec.name,
            kind=spec.kind,
            params=dict(spec.params),
            needs=list(spec.needs),
            on_failure=spec.on_failure,
            compensates=list(spec.compensates),
        )
        for position, spec in enumerate(specs, start=1)
    )
    return task
