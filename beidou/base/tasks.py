"""The bridge to django-q2: enqueue on commit, and the table of schedules.

The queue is a hint, never the truth (design: a broker may lose or repeat a task): what is enqueued
is a dotted name and ids, and the function called claims its row by compare-and-set.

There are three queues.  WORK is for what takes its time: steps and visits; each worker does one at
a time, perhaps for hours.  CLOCK is for what must not wait for them: the schedules, and dispatch.
OUTSIDE is for short questions to systems outside, which wait for neither, and keep neither waiting.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django_q.brokers import get_broker
from django_q.models import Schedule
from django_q.tasks import async_task

WORK: Final[str] = settings.Q_CLUSTER["name"]
CLOCK: Final[str] = f"{WORK}-clock"
OUTSIDE: Final[str] = f"{WORK}-outside"
QUEUES: Final = (WORK, CLOCK, OUTSIDE)


def enqueue(function: str, *args: int | str, group: str = "", queue: str = WORK) -> None:
    """Queue ``function(*args)`` at once."""
    async_task(function, *args, group=group or None, cluster=queue)


def enqueue_on_commit(function: str, *args: int | str, group: str = "", queue: str = WORK) -> None:
    """Queue ``function(*args)`` when the surrounding transaction commits."""
    transaction.on_commit(lambda: enqueue(function, *args, group=group, queue=queue))


def is_empty(queue: str) -> bool:
    """Nothing waits in it: what was queued has begun, or was lost."""
    return not get_broker(queue).queue_size()


@dataclass(frozen=True)
class Periodic:
    """Every ``minutes``, ``function`` runs, because of ``why``.

    The clock does it, one after the other; what may hang or last names another ``queue``.
    """

    name: str
    function: str
    minutes: int
    why: str
    queue: str = CLOCK


SCHEDULES: list[Periodic] = []


def register(*entries: Periodic) -> None:
    """Apps add their schedules from ``AppConfig.ready``."""
    known = {entry.name for entry in SCHEDULES}
    SCHEDULES.extend(entry for entry in entries if entry.name not in known)


# What the clock looks at each second: for what is due by then, in a query that costs nothing.
LOOKS: dict[str, Callable[[], object]] = {}

# Whether workers do something that may last for hours: what waits for them waits rightly then.
BUSY: dict[str, Callable[[], bool]] = {}


def _to(queue: str) -> str:
    """The field ``cluster`` of a schedule would say who looks after it: that stays django-q2."""
    return repr({"q_options": {"cluster": queue}})


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
                "kwargs": _to(entry.queue),
            },
        )
    Schedule.objects.exclude(name__in=[entry.name for entry in SCHEDULES]).delete()
