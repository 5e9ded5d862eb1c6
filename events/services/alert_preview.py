"""What an alert rule would have told in the last seven days, whether it is stored or not.

Counted are steps of a quarter of the window: by reading the events, where they are few, else by
histograms of the largest groups.  What is cut short (too many groups, too little time) says so.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.utils import timezone

from events.models import AlertRule
from events.services import alert_rules, figures
from events.services.figures import Clock
from events.services.search import Query

SPAN: Final = timedelta(days=7)
READ_MAX: Final = 20_000
"""Events: so many are read rather than asked about, of every group."""
GROUPS_MAX: Final = 20
SHOWN_MAX: Final = 200
SECONDS: Final = 10.0
PARTS: Final = 4
"""Steps in a window."""


@dataclass(frozen=True)
class Firing:
    """``ended`` None: it would fire now.  ``told_at`` None: quiet hours kept it from being told."""

    cluster: int | None
    value: str
    search: str
    began: datetime
    ended: datetime | None
    peak: int
    told_at: datetime | None


@dataclass(frozen=True)
class Preview:
    """Newest first.  ``groups_left_out``: smaller groups were not looked at; ``is_late``: nor what
    is listed after those that could be counted in time; ``shown_max``: more would have fired."""

    since: datetime
    until: datetime
    firings: tuple[Firing, ...]
    found: int
    groups_left_out: bool
    is_late: bool

    @property
    def told(self) -> int:
        return sum(each.told_at is not None for each in self.firings)

    @property
    def is_cut(self) -> bool:
        return self.found > len(self.firings)


def preview(rule: AlertRule, user: Any, now: datetime | None = None) -> Preview:
    """As ``user`` may see it."""
    until = (now or timezone.now()).replace(microsecond=0)
    query = alert_rules.query_of(user, rule, since=until - SPAN, until=until)
    counted = _read(rule, user, query)
    if counted is None:
        counted = _asked(rule, user, query)
    found = [
        firing
        for (cluster, value), steps in counted.steps.items()
        for firing in _firings(rule, query, cluster, value, steps)
    ]
    found.sort(key=lambda each: each.began, reverse=True)
    return Preview(
        since=query.since,
        until=until,
        firings=tuple(found[:SHOWN_MAX]),
        found=len(found),
        groups_left_out=counted.groups_left_out,
        is_late=counted.is_late,
    )


@dataclass
class _Counted:
    steps: dict[tuple[int | None, str], dict[int, int]]
    groups_left_out: bool = False
    is_late: bool = False


def _read(rule: AlertRule, user: Any, query: Query) -> _Counted | None:
    """By the events themselves; None where there are too many to be read."""
    if figures.total(user, query) > READ_MAX:
        return None
    width = rule.window / PARTS
    return _Counted(figures.steps_of_groups(user, query, rule.group_by, width, most=READ_MAX))


def _asked(rule: AlertRule, user: Any, query: Query) -> _Counted:
    """By histograms of the largest groups."""
    clock = Clock(SECONDS)
    groups = figures.groups(
        user,
        query,
        rule.group_by,
        least=rule.threshold,
        most=GROUPS_MAX,
        clock=Clock(SECONDS / 2),
    )
    counted = _Counted({}, groups.is_part, groups.is_late)
    for group in groups.found:
        found = figures.steps(
            user,
            figures.of_group(query, rule.group_by, group),
            rule.window / PARTS,
            clock=clock,
        )
        counted.steps[group.cluster, group.value] = found.steps
        if found.is_late:
            counted.is_late = True
            break
    return counted


def _firings(
    rule: AlertRule, query: Query, cluster: int | None, value: str, steps: dict[int, int]
) -> Iterator[Firing]:
    width = rule.window / PARTS
    search = alert_rules.search_of(rule, cluster=cluster, value=value)
    for first, last, peak in _runs(steps, rule.threshold):
        began = query.since + (first + 1) * width
        ended = query.since + (last + 2) * width
        over = ended if ended <= query.until else None
        told = alert_rules.told_at(rule, began, over)
        yield Firing(cluster, value, search, began, over, peak, told)


def _runs(steps: dict[int, int], least: int) -> Iterator[tuple[int, int, int]]:
    """(first step, last step, peak) in which the window that ends there holds enough; what begins
    anew within a window goes on."""
    run: tuple[int, int, int] | None = None
    ends = sorted({number + ahead for number in steps for ahead in range(PARTS)})
    for end in ends:
        total = sum(steps.get(end - back, 0) for back in range(PARTS))
        if total < least:
            continue
        if run is not None and end - run[1] <= PARTS:
            run = (run[0], end, max(run[2], total))
            continue
        if run is not None:
            yield run
        run = (end, end, total)
    if run is not None:
        yield run
