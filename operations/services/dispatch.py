"""Giving waiting operations their turn, as far as windows and slots allow: see ``order``,
``limits`` and ``calendars``.  Whatever begins, begins here: started, retried, or going on after a
skip.

What has to wait says for what, and since when.
"""

import structlog
from django.conf import settings
from django.db import IntegrityError
from django.db.models import Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from beidou.base import audit
from beidou.base.errors import Conflict
from beidou.base.sentences import Sentence
from beidou.base.state import change_status
from operations.models import Operation
from operations.services import acting, control, finish, limits, news, order
from operations.services.limits import Limits, Slots
from operations.services.order import Waiting
from operations.services.times import Hold

logger = structlog.get_logger(__name__)

TRIES = 5  # for a slot that another dispatcher was faster with
ROWS_AT_ONCE = 500


def dispatch() -> int:
    """Start every waiting operation that may start; returns how many.

    Costs four cheap queries while nothing can start, however many wait.  One that cannot be started
    keeps no other from starting, and takes no slot from it.
    """
    waiting, in_use = limits.read()
    if not waiting:
        return 0
    known = [each for each in waiting if each.is_known]
    allowed = limits.of(known, in_use)
    begun: set[int] = set()

    def begin(each: Waiting) -> bool:
        if not _begin(each, allowed):
            return False
        begun.add(each.key)
        return True

    able = [each for each in known if allowed.hindrance(each) is None]
    if able:
        turns = order.turns_of({each.team for each in able})
        order.go_through(able, turns=turns, now=timezone.now(), begin=begin)
    _say_what_they_wait_for([each for each in waiting if each.key not in begun], allowed)
    return len(begun)


def fill() -> int:
    """``dispatch``, unless everything is full and everybody has been told: what the queue asks for
    at each start and each end.  A look at thousands would be made many times a second, for nothing.
    """
    places = Operation.objects.filter(place__isnull=False).count()
    if places >= settings.OPERATIONS_AT_ONCE:
        waiting = Operation.objects.filter(status=Operation.Status.WAITING)
        if not waiting.filter(waiting_for="").exists():
            return 0
    return dispatch()


def _begin(each: Waiting, allowed: Limits) -> bool:
    """Whether it runs now; not when what is free is less than it seemed."""
    for _try in range(TRIES):
        if allowed.hindrance(each) is not None:
            return False
        slots = allowed.free_slots(each)
        try:
            if not _start(each.key, slots):
                return False
        except IntegrityError:
            _waiting, allowed.in_use = limits.read()
            continue
        except Exception:
            logger.exception("operation_not_started", operation=each.key)
            return False
        allowed.take(each, slots)
        return True
    return False


def _start(key: int, slots: Slots) -> bool:
    """False when it waits no more; ``IntegrityError`` when a slot is taken."""
    operation = Operation.objects.select_related("cluster").get(pk=key)
    now = timezone.now()
    try:
        with audit.entries_last():
            if not control.may_begin(operation):
                return False
            if why := acting.why_not_begin(operation):
                finish.end(operation, Operation.Status.CANCELED, why)
                news.tell_not_begun(operation, why)
                return False
            if operation.started_at is not None:
                control.renew_what_goes_on(operation, Sentence("Too old by now."))
            change_status(
                operation,
                to=Operation.Status.RUNNING,
                fields={
                    **slots,
                    "waiting_for": "",
                    "waiting_since": None,
                    "waiting_until": None,
                    "message": "",
                    "began_at": now,
                    "started_at": operation.started_at or now,
                    "finished_at": None,
                },
            )
            finish.go_on(operation)
    except Conflict:
        return False  # another dispatcher was faster, or somebody canceled it
    return True


def _say_what_they_wait_for(waiting: list[Waiting], allowed: Limits) -> None:
    """Written only where it is another thing than before."""
    # As after a downgrade: the version that knows the kind starts it.
    unknown = Hold(
        Sentence("a version of the portal that knows its kind"), opens_at=None, is_calendar=False
    )
    changed: dict[Hold, list[int]] = {}
    column = Operation._meta.get_field("waiting_for")
    stored: dict[Hold, str] = {}
    for each in waiting:
        hold = allowed.hindrance(each) if each.is_known else unknown
        if hold is None:
            continue
        if hold not in stored:
            stored[hold] = column.get_prep_value(hold.sentence)
        if stored[hold] != each.waits or _is_news(hold, each):
            changed.setdefault(hold, []).append(each.key)
    now = timezone.now()
    for hold, keys in changed.items():
        # The time until a window opens makes nothing older; what was ready remains so since then.
        ready_at = None if hold.is_calendar else Coalesce("ready_at", Value(now))
        for first in range(0, len(keys), ROWS_AT_ONCE):
            Operation.objects.filter(
                pk__in=keys[first : first + ROWS_AT_ONCE], status=Operation.Status.WAITING
            ).update(
                waiting_for=hold.sentence,
                waiting_since=now,
                waiting_until=hold.opens_at,
                ready_at=ready_at,
            )


def _is_news(hold: Hold, each: Waiting) -> bool:
    """Beside the sentence."""
    is_held = each.ready_at is None
    return hold.opens_at != each.waits_until or hold.is_calendar != is_held
