"""Giving waiting operations their turn, as far as there are slots: see ``order`` and ``limits``.

What has to wait says for what, and since when.
"""

import structlog
from django.db import IntegrityError
from django.utils import timezone

from beidou.base import audit
from beidou.base.errors import Conflict
from beidou.base.sentences import Sentence
from beidou.base.state import change_status
from operations.models import Operation
from operations.services import finish, limits, order
from operations.services.limits import Limits, Slots
from operations.services.order import Waiting

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
            change_status(
                operation,
                to=Operation.Status.RUNNING,
                fields={
                    **slots,
                    "waiting_for": "",
                    "waiting_since": None,
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
    changed: dict[Sentence, list[int]] = {}
    for each in waiting:
        sentence = (
            allowed.hindrance(each)
            if each.is_known
            # As after a downgrade: the version that knows the kind starts it.
            else Sentence("a version of the portal that knows its kind")
        )
        if sentence is not None and sentence != each.waits:
            changed.setdefault(sentence, []).append(each.key)
    for sentence, keys in changed.items():
        for first in range(0, len(keys), ROWS_AT_ONCE):
            Operation.objects.filter(
                pk__in=keys[first : first + ROWS_AT_ONCE], status=Operation.Status.WAITING
            ).update(waiting_for=sentence, waiting_since=timezone.now())
