"""What one-click tasks tell people who do not look at their page."""

from collections.abc import Sequence
from typing import Any, Final

from beidou.base import notices
from beidou.base.notices import News, Severity
from beidou.base.sentences import Sentence
from operations.flows.models import AutoOperationTask, TaskStep, WorkOrder

ASKS: Final = "task.asks"
SUCCEEDED: Final = "task.succeeded"
PARTIAL: Final = "task.partial"
FAILED: Final = "task.failed"
SAYS: Final = "task.says"

NAMED_AT_MOST: Final = 5
Status = AutoOperationTask.Status
_ENDS: Final = {
    Status.SUCCEEDED: (SUCCEEDED, Severity.INFO),
    Status.PARTIAL: (PARTIAL, Severity.WARNING),
    Status.FAILED: (FAILED, Severity.CRITICAL),
}


def tell_asked(order: WorkOrder) -> None:
    """Somebody has to decide, and it is not who asked."""
    task = order.step.task
    title = Sentence(
        "Task %(name)s, asked for by %(who)s, waits for an approval.",
        name=task.name,
        who=task.acting_name,
    )
    _tell(task, ASKS, Severity.WARNING, title, task.reason)


def tell_question(step: TaskStep) -> None:
    """What it waits for is with the operation, which somebody has to answer."""
    task = step.task
    title = (
        Sentence("Task %(name)s waits for an approval of its operation.", name=task.name)
        if step.progress["asks"]["is_approval"]
        else Sentence("Task %(name)s waits for an answer.", name=task.name)
    )
    _tell(task, ASKS, Severity.WARNING, title, step.message)


def unanswered(names: Sequence[str]) -> str:
    """Of machines that the task went on without, because an answer to what they ask was missing."""
    if not names:
        return ""
    return Sentence(
        "Waiting for an answer (%(count)s): %(names)s.",
        count=len(names),
        names=", ".join(names[:NAMED_AT_MOST]),
    )


def tell_end(task: AutoOperationTask) -> None:
    """How it ended; of a canceled one nobody need be told, because somebody canceled it."""
    if task.status not in _ENDS:
        return
    kind, severity = _ENDS[Status(task.status)]
    title = {
        SUCCEEDED: Sentence("Task %(name)s has succeeded.", name=task.name),
        PARTIAL: Sentence("Task %(name)s has failed in part.", name=task.name),
        FAILED: Sentence("Task %(name)s has failed.", name=task.name),
    }[kind]
    _tell(task, kind, severity, title, task.message)


def tell_step(step: TaskStep, params: Any, key: str) -> None:
    """What a step of the task was told to tell."""
    task = step.task
    notices.publish(
        News(
            kind=SAYS,
            severity=Severity(params.severity),
            title=Sentence("Task %(name)s: %(text)s", name=task.name, text=params.text),
            cluster_id=task.cluster_id,
            about=task,
            key=key,
            receiver=params.receiver,
            is_followed=params.must_arrive,
        )
    )


def _tell(task: AutoOperationTask, kind: str, severity: str, title: Sentence, details: str) -> None:
    notices.publish(
        News(
            kind=kind,
            severity=severity,
            title=title,
            details=details,
            cluster_id=task.cluster_id,
            about=task,
        )
    )
