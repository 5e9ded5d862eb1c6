"""Documents get the labels that the grants say, after one was given or taken.

Each note (``StaleLabel``) is claimed, and looked after portion by portion: what is labelled wrongly
is asked of the store each time, so that it can be stopped anywhere and goes on from there.  A note
goes only when nothing wrong was found by a look that began so long after the change that nobody
stores with the old labels any more.
"""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import groupby

import structlog
from django.db.models import Q, QuerySet
from django.utils import timezone

from beidou.base import tasks
from events.drivers.errors import LabelsSealed, StoreAway
from events.models import StaleLabel
from events.services.stores import chosen, granted
from events.services.stores.base import Store

logger = structlog.get_logger(__name__)
HELD_FOR = timedelta(minutes=5)
"""Longer than one portion takes."""
RUN_SECONDS = 120.0
"""Then the worker is for others; the next run goes on."""
HINDERED_EVERY = timedelta(hours=1)
"""What lies in indices that take no writes may do so for months."""
NAMES_AT_ONCE = 500


def go_on() -> bool:
    """For the clock: have a worker look where it is time."""
    is_time = _is_time(chosen.store()).exists()
    if is_time:
        tasks.enqueue("events.tasks.relabel")
    return is_time


def run() -> int:
    """For a worker; gives how many notes are settled."""
    store = chosen.store()
    rows = list(_claim(store))
    settled, end = 0, time.monotonic() + RUN_SECONDS
    for team, uid, part in _parts(rows):
        if time.monotonic() >= end:
            break
        problem = ""
        try:
            settled += _settle(store, team, uid, part, end)
        except StoreAway as error:
            problem = error.message
            logger.warning("events_not_relabelled", cluster_uid=uid, team=team, error=problem)
        _of(part).exclude(problem=problem).update(problem=problem)
    _of(rows).update(held_until=None)
    return settled


def _settle(store: Store, team: int, uid: str, part: list[StaleLabel], end: float) -> int:
    names = [row.namespace for row in part]
    while time.monotonic() < end:
        _of(part).update(held_until=timezone.now() + HELD_FOR)
        began = timezone.now()
        # Read after that moment: who writes with what was read before is waited for.
        labels = granted.of_namespaces(uid, names)
        try:
            if store.relabel(uid, team, names, labels):
                return _note_right(store, part, began)
        except LabelsSealed:
            given = [row for row in part if team in labels.get(row.namespace, ())]
            _note_right(store, given, began)
            for row in part:
                if row not in given:
                    _unchanged(row).update(looked_at=began)
            raise
    return 0


def _note_right(store: Store, part: list[StaleLabel], began: datetime) -> int:
    """Nothing was wrong; of what was changed meanwhile that says nothing."""
    delay = store.label_delay or timedelta(0)
    over = [row for row in part if row.changed_at <= began - delay]
    settled = sum(_unchanged(row).delete()[0] for row in over)
    for row in part:
        if row.changed_at > began - delay:
            _unchanged(row).update(looked_at=began)
    return settled


def _is_time(store: Store) -> QuerySet[StaleLabel]:
    """What nobody looks after now, and was not looked after since the change or may be over."""
    if store.label_delay is None:
        return StaleLabel.objects.none()
    now = timezone.now()
    free = Q(held_until=None) | Q(held_until__lt=now)
    due = Q(looked_at=None) | Q(changed_at__lte=now - store.label_delay)
    due &= Q(problem="") | Q(looked_at=None) | Q(looked_at__lt=now - HINDERED_EVERY)
    return StaleLabel.objects.filter(free & due)


def _claim(store: Store) -> QuerySet[StaleLabel]:
    until = timezone.now() + HELD_FOR
    _is_time(store).update(held_until=until)
    rows = StaleLabel.objects.filter(held_until=until)
    return rows.order_by("team_key", "cluster_uid", "changed_at", "pk")


def _parts(rows: list[StaleLabel]) -> Iterator[tuple[int, str, list[StaleLabel]]]:
    for (team, uid), found in groupby(rows, lambda row: (row.team_key, row.cluster_uid)):
        part = list(found)
        for first in range(0, len(part), NAMES_AT_ONCE):
            yield team, uid, part[first : first + NAMES_AT_ONCE]


def _of(rows: list[StaleLabel]) -> QuerySet[StaleLabel]:
    return StaleLabel.objects.filter(pk__in=[row.pk for row in rows])


def _unchanged(row: StaleLabel) -> QuerySet[StaleLabel]:
    return StaleLabel.objects.filter(pk=row.pk, changed_at=row.changed_at)
