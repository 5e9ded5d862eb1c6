"""What an alert rule would have told in the last seven days, whether it is stored or not.

Counted are the steps of a quarter of the window, where enough events are at all.  What is cut short
(too many groups, too little time) says so.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from django.utils import timezone

from events.models import AlertRule
from events.services import alert_rules, figures
from events.services.figures import Clock, Group
from events.services.search import Query

SPAN: Final = timedelta(days=7)
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
    clock = Clock(SECONDS)
    groups = figures.groups(
        user, query, rule.group_by, least=rule.threshold, most=GROUPS_MAX, seconds=SECONDS
    )
    found: list[Firing] = []
    is_late = False
    for group in groups.found:
        if clock.is_over:
            is_late = True
            break
        firings, is_late = _firings(rule, user, query, group, clock)
        found += firings
    found.sort(key=lambda each: each.began, reverse=True)
    return Preview(
        since=query.since,
        until=until,
        firings=tuple(found[:SHOWN_MAX]),
        found=len(found),
        groups_left_out=groups.is_part,
        is_late=is_late,
    )


def _firings(
    rule: AlertRule, user: Any, query: Query, group: Group, clock: Clock
) -> tuple[list[Firing], bool]:
    width = rule.window / PARTS
    narrow = _narrowed(query, rule.group_by, group)
    counted = figures.steps(user, narrow, width, least=rule.threshold, window=PARTS, clock=clock)
    search = alert_rules.search_of(rule, cluster=group.cluster, value=group.value)
    found = []
    for first, last, peak in _runs(counted.steps, rule.threshold):
        began = query.since + (first + 1) * width
        ended = query.since + (last + 2) * width
        over = ended if ended <= query.until else None
        told = alert_rules.told_at(rule, began, over)
        found.append(Firing(group.cluster, group.value, search, began, over, peak, told))
    return found, counted.is_late


def _narrowed(query: Query, by: str, group: Group) -> Query:
    if group.cluster is not None:
        query = replace(query, clusters=(group.cluster,))
    return figures.narrowed(query, by, group.value) if group.value else query


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
