"""The bridge to django-q2: enqueue on commit, and the table of schedules.

The queue is a hint, never the truth (design: a broker may lose or repeat a task): what is enqueued
is a dotted name and ids, and the function called claims its row by compare-and-set.
"""

from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django_q.models import Schedule
from django_q.tasks import async_task


def enqueue_on_commit(function: str, *args: int | str, group: str = "") -> None:
    """Queue ``function(*args)`` when the surrounding transaction commits."""
    transaction.on_commit(lambda: async_task(function, *args, group=group or None))


@dataclass(frozen=True)
class Periodic:
    """One entry of the clock: every ``minutes``, ``function`` runs, because of ``why``."""

    name: str
    function: str
    minutes: int
    why: str


SCHEDULES: list[Periodic] = []


def register(*entries: Periodic) -> None:
    """Apps add their schedules from ``AppConfig.ready``."""
    known = {entry.name for entry in SCHEDULES}
    SCHEDULES.extend(entry for entry in entries if entry.name not in known)


def apply_schedules(**kwargs: Any) -> None:
    """Make the database's schedule equal to the table; called after migrations."""
    for entry in SCHEDULES:
        Schedule.objects.update_or_create(
            name=entry.name,
            defaults={
                "func": entry.function,
                "schedule_type": Schedule.MINUTES,
                "minutes": entry.minutes,
                "repeats": -1,
            },
        )
    Schedule.objects.exclude(name__in=[entry.name for entry in SCHEDULES]).delete()
