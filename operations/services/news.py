"""What operations tell people who do not look at their page."""

from typing import Final

from beidou.base import notices
from beidou.base.notices import News, Severity
from beidou.base.sentences import Sentence
from operations.models import Operation, Step

SUCCEEDED: Final = "operation.succeeded"
PARTIAL: Final = "operation.partial"
FAILED: Final = "operation.failed"
WORKER_LOST: Final = "operation.worker_lost"
NEEDS_PERSON: Final = "operation.needs_person"

_ENDS: Final = {
    Operation.Status.SUCCEEDED: (SUCCEEDED, Severity.INFO),
    Operation.Status.PARTIAL: (PARTIAL, Severity.WARNING),
    Operation.Status.FAILED: (FAILED, Severity.CRITICAL),
}


def tell_end(operation: Operation) -> None:
    """How it ended; of a canceled one nobody need be told, because somebody canceled it."""
    if operation.status not in _ENDS:
        return
    kind, severity = _ENDS[Operation.Status(operation.status)]
    name = operation.name
    title = {
        SUCCEEDED: Sentence("Operation %(name)s has succeeded.", name=name),
        PARTIAL: Sentence("Operation %(name)s has failed in part.", name=name),
        FAILED: Sentence("Operation %(name)s has failed.", name=name),
    }[kind]
    _tell(operation, kind, severity, title, operation.message)


def tell_lost_worker(step: Step) -> None:
    """The step is done again by itself."""
    title = Sentence(
        "The worker of step %(step)s of operation %(name)s was lost; the step is done again.",
        step=step.name,
        name=step.operation.name,
    )
    _tell(step.operation, WORKER_LOST, Severity.WARNING, title)


def tell_given_up(step: Step, message: str) -> None:
    """The step is not done again unless a person says so."""
    title = Sentence(
        "Step %(step)s of operation %(name)s waits for a person.",
        step=step.name,
        name=step.operation.name,
    )
    _tell(step.operation, NEEDS_PERSON, Severity.CRITICAL, title, message)


def tell_not_begun(operation: Operation, message: str) -> None:
    """It was canceled, and by nobody."""
    title = Sentence("Operation %(name)s waits for a person.", name=operation.name)
    _tell(operation, NEEDS_PERSON, Severity.CRITICAL, title, message)


def _tell(
    operation: Operation, kind: str, severity: str, title: Sentence, details: str = ""
) -> None:
    notices.publish(
        News(
            kind=kind,
            severity=severity,
            title=title,
            details=details,
            cluster_id=operation.cluster_id,
            about=operation,
        )
    )
