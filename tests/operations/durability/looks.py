"""Where a one-click task can be interrupted: at each look at it from which something follows.

A look is one transaction (``operations.flows.advance``).  Its point says what it finds and how far
it has come, ``WRITTEN.ScaleUp``; the step is the one that runs when the look begins.
"""

from collections.abc import Callable
from typing import Any

from django.db import transaction

from operations.flows import advance, catalog, graph
from operations.flows.models import TaskPart, TaskStep
from operations.models import Operation
from operations.services import finish
from tests.operations.durability.points import reach

ASKED = "asked"  # nothing of the task has begun

# An operation that only looks, an approval, an operation that changes something, a message.
STEPS: dict[str, dict[str, str]] = {
    "ScaleUpPreCheck": {},
    "ScaleUpWorkprocess": {},
    "ScaleUp": {},
    "Notify": {"text": "All is done."},
}

FOUND = (
    ASKED,  # begins the first step and its operation
    "ScaleUpPreCheck",  # its operation has ended: asks for the approval
    "ScaleUpWorkprocess",  # it was given: begins the next operation
    "ScaleUp",  # its operation has ended: tells, and ends the task
)
LOOKS = (
    *(f"{moment}.{found}" for found in FOUND for moment in ("seen", "written", "committed")),
    # The operation has ended; nobody has told the task.
    "unheard.ScaleUpPreCheck",
    "unheard.ScaleUp",
)


def specs() -> list[graph.Spec]:
    return graph.in_order(catalog.spec(name, params) for name, params in STEPS.items())


def install() -> None:
    for owner, name, watched in (
        (advance.Advance, "go_on", _watched_look),
        (finish, "wake_task", _watched_wake),
    ):
        setattr(owner, name, watched(getattr(owner, name)))


def _watched_look(go_on: Callable[[advance.Advance], None]) -> Callable[[Any], None]:
    def watched(look: advance.Advance) -> None:
        running = [step.key for step in look.steps if step.status == TaskStep.Status.RUNNING]
        found = running[0] if running else ASKED
        task = look.task
        reach(f"seen.{found}", task)
        # Before the words to the queue, which are said after the commit, too.
        transaction.on_commit(lambda: reach(f"committed.{found}", task))
        go_on(look)
        reach(f"written.{found}", task)

    return watched


def _watched_wake(wake_task: Callable[[Operation], None]) -> Callable[[Operation], None]:
    def watched(operation: Operation) -> None:
        part = TaskPart.objects.filter(operation=operation).select_related("step__task").first()
        if part is not None:
            task, key = part.step.task, part.step.key
            transaction.on_commit(lambda: reach(f"unheard.{key}", task))
        wake_task(operation)

    return watched
