"""Operations that run now: how far they are, and how long such ones took before.

All figures of all running operations come from four queries, however many run.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

from django.db.models import Count, Max, Prefetch
from django.utils import timezone

from beidou.base.permissions import visible_to
from beidou.overview.links import page
from operations.kinds.base import KINDS
from operations.models import Attempt, MachineStep, Operation, Step
from operations.services import estimates

SHOWN = 6
SAMPLE = 400  # attempts looked back upon, of all kinds together

Durations = dict[tuple[str, str], list[tuple[int, float]]]


@dataclass(frozen=True)
class Running:
    """One running operation.

    ``settled`` of ``all_parts`` cells (machine × step) are done with; ``here`` of ``machines`` are
    in the present step.  ``remaining_seconds`` is None when no earlier run tells, and 0 when
    this one takes longer than they did.
    """

    operation: Operation
    title: str
    url: str
    steps: list[Step]
    step: Step | None
    settled: int
    all_parts: int
    here: int
    machines: int
    remaining_seconds: float | None

    @property
    def is_overdue(self) -> bool:
        """It takes longer than such operations took; nothing can be said of how long still."""
        return self.remaining_seconds is not None and self.remaining_seconds <= 0

    @property
    def is_going_on(self) -> bool:
        """A paused or canceling one has no remaining time."""
        return self.operation.status == Operation.Status.RUNNING

    @property
    def remaining_minutes(self) -> int:
        """Rounded up: a promise had better be too long."""
        return int(-(-max(self.remaining_seconds or 0, 1) // 60))


def running(user: Any) -> list[Running]:
    """The newest running, paused and canceling operations."""
    active = Operation.ACTIVE - {Operation.Status.WAITING}
    operations = list(
        visible_to(user, Operation.objects.filter(status__in=active))
        .select_related("cluster")
        .prefetch_related(
            Prefetch("steps", Step.objects.annotate(begun=Max("attempts__started_at")))
        )
        .order_by("-pk")[:SHOWN]
    )
    parts = _parts(operations)
    durations = _durations({operation.kind for operation in operations})
    now = timezone.now()
    return [_describe(operation, parts, durations, now) for operation in operations]


def _describe(
    operation: Operation,
    parts: dict[int, dict[str, int]],
    durations: Durations,
    now: datetime,
) -> Running:
    steps = sorted(operation.steps.all(), key=lambda step: step.position)
    step = next((step for step in steps if step.status == Step.Status.RUNNING), None)
    here = parts[step.pk] if step else {}
    kind = KINDS.get(operation.kind)
    return Running(
        operation=operation,
        title=str(kind.title) if kind else operation.kind,
        url=page(operation),
        steps=steps,
        step=step,
        settled=sum(_settled(parts[each.pk]) for each in steps),
        all_parts=sum(sum(parts[each.pk].values()) for each in steps),
        here=_settled(here),
        machines=sum(here.values()),
        remaining_seconds=_remaining(operation.kind, steps, parts, durations, now),
    )


def _parts(operations: Iterable[Operation]) -> dict[int, dict[str, int]]:
    """Per step, how many cells are in which status."""
    found: dict[int, dict[str, int]] = defaultdict(dict)
    rows = (
        MachineStep.objects.filter(step__operation__in=[operation.pk for operation in operations])
        .order_by()
        .values_list("step", "status")
        .annotate(count=Count("pk"))
    )
    for step, status, count in rows:
        found[step][status] = count
    return found


def _settled(counts: dict[str, int]) -> int:
    open_ones = (MachineStep.Status.WAITING, MachineStep.Status.RUNNING)
    return sum(count for status, count in counts.items() if status not in open_ones)


def _durations(kinds: set[str]) -> Durations:
    """(machines, seconds) of earlier attempts that did their work, per kind and step."""
    found: Durations = defaultdict(list)
    rows = (
        Attempt.objects.filter(
            step__operation__kind__in=kinds,
            outcome=Attempt.Outcome.DONE,
            finished_at__isnull=False,
        )
        .order_by("-pk")
        .values_list("step__operation__kind", "step__name", "machines", "started_at", "finished_at")
    )
    for kind, step, machines, began, ended in rows[:SAMPLE]:
        if ended is not None:
            found[kind, step].append((machines, (ended - began).total_seconds()))
    return found


def _usual(samples: list[tuple[int, float]], machines: int) -> float | None:
    """The median; of runs with half to double the machines where there are any."""
    alike = [seconds for count, seconds in samples if machines / 2 <= count <= machines * 2]
    seconds = alike or [seconds for _, seconds in samples]
    return median(seconds) if seconds else None


def _remaining(
    kind: str,
    steps: list[Step],
    parts: dict[int, dict[str, int]],
    durations: Durations,
    now: datetime,
) -> float | None:
    total = 0.0
    for step in steps:
        if step.status not in (Step.Status.WAITING, Step.Status.RUNNING):
            continue
        usual = _usual(durations.get((kind, step.name), []), sum(parts[step.pk].values()))
        if usual is None:
            return None
        # Of the newest attempt: the step's own time goes over the pause before a retry too.
        begun = getattr(step, "begun", None) or step.started_at
        if step.status == Step.Status.RUNNING and begun:
            spent = (now - begun).total_seconds()
            if estimates.is_late(usual, spent):
                return 0.0
            usual = max(0.0, usual - spent)
        total += usual
    return total
