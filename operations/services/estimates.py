"""How long things take, from how long they took: medians of earlier attempts, never a guess.

Only attempts that did their work count.  The unit is seconds per attempt of a step; attempts with a
similar number of machines (half to double) are preferred.  Of a step that goes in waves it is
their sum.
"""

from collections.abc import Iterable, Mapping
from statistics import quantiles
from typing import Any

from django.db.models import QuerySet

from operations.kinds import base as kinds
from operations.models import Attempt, Step

_SAMPLE = 30
_WAVES = 500  # attempts to add up
# Beyond its usual time by this much a step is late: a few seconds say nothing about a short one.
LATE_SECONDS = 10
LATE_SHARE = 0.25


def is_late(usual: float, spent: float) -> bool:
    """Whether a step takes so long that what is left can no longer be told from earlier runs."""
    return spent - usual > max(LATE_SECONDS, LATE_SHARE * usual)


def _like(kind: str, params: Mapping[str, Any] | None) -> dict[str, Any]:
    """The condition for operations that take as long as one with these parameters."""
    known = kinds.KINDS.get(kind)
    names = known.alike if known is not None and params is not None else ()
    return {f"operation__params__{name}": (params or {}).get(name) for name in names}


def _seconds(kind: str, step: str, machines: int, like: Mapping[str, Any]) -> list[float]:
    done = Attempt.objects.filter(
        **{f"step__{name}": value for name, value in like.items()},
        step__operation__kind=kind,
        step__name=step,
        outcome=Attempt.Outcome.DONE,
        finished_at__isnull=False,
    ).order_by("-pk")
    if kinds.goes_in_waves(kind, step):
        return _of_waves(done, machines)
    similar = done.filter(machines__gte=machines / 2, machines__lte=machines * 2)
    rows = list(similar.values_list("started_at", "finished_at")[:_SAMPLE])
    if not rows:
        rows = list(done.values_list("started_at", "finished_at")[:_SAMPLE])
    return [(end - begin).total_seconds() for begin, end in rows if end is not None]


def of_earlier_waves(step: Step) -> float:
    """Seconds that the waves of a step have taken so far; 0 for one that is done at once."""
    if not kinds.goes_in_waves(step.operation.kind, step.name):
        return 0.0
    done = step.attempts.filter(outcome=Attempt.Outcome.DONE, finished_at__isnull=False)
    rows = done.values_list("started_at", "finished_at")
    return sum((end - begin).total_seconds() for begin, end in rows if end is not None)


def _of_waves(done: QuerySet[Attempt], machines: int) -> list[float]:
    """Of a step that is many attempts: their sum, as if it had been so many machines."""
    seconds: dict[int, float] = {}
    taken: dict[int, int] = {}
    rows = done.values_list("step_id", "started_at", "finished_at", "machines")
    for key, begin, end, count in rows[:_WAVES]:
        if end is not None:
            seconds[key] = seconds.get(key, 0.0) + (end - begin).total_seconds()
            taken[key] = taken.get(key, 0) + count
    return [seconds[key] * machines / max(taken[key], 1) for key in list(seconds)[:_SAMPLE]]


def _spread(seconds: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    if len(seconds) == 1:
        return seconds[0], seconds[0], seconds[0]
    low, middle, high = quantiles(seconds, n=4, method="inclusive")
    return low, middle, high


def steps_of(
    kind: str, names: Iterable[str], machines: int, params: Mapping[str, Any] | None = None
) -> dict[str, float]:
    """Median seconds of each step that has run before, with such ``params`` where these decide."""
    like = _like(kind, params)
    found = {name: _seconds(kind, name, machines, like) for name in names}
    return {name: _spread(seconds)[1] for name, seconds in found.items() if seconds}


def duration_of(
    kind: str, machines: int, params: Mapping[str, Any] | None = None
) -> tuple[tuple[float, float] | None, int]:
    """(low, high) seconds of a whole operation and on how many runs that rests; None without
    any."""
    like = _like(kind, params)
    names = (
        Step.objects.filter(operation__kind=kind, **like)
        .order_by()
        .values_list("name", flat=True)
        .distinct()
    )
    low = high = 0.0
    runs = 0
    for name in names:
        seconds = _seconds(kind, name, max(machines, 1), like)
        if not seconds:
            return None, 0
        quarter, _median, three_quarters = _spread(seconds)
        low, high, runs = low + quarter, high + three_quarters, max(runs, len(seconds))
    return ((low, high), runs) if runs else (None, 0)
