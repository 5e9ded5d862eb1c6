"""Sending messages: claimed by compare-and-set, tried again with growing pauses, never forgotten.

A message is sent at least once: whoever claims it holds it for ``LEASE``, and what a killed process
held is claimed again afterwards.  Each claim counts as a try, so that ``tried_at`` tells exactly
how many messages went to a receiver within the last minute; a repetition comes a minute later at
the earliest.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from django.db import transaction
from django.db.models import Exists, Min, OuterRef, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from beidou.base import audit, permissions
from beidou.base.errors import BeidouError, Conflict, PermanentError, TemporaryError
from beidou.base.sentences import Sentence
from notifications.models import Delivery, Receiver
from notifications.services import channels, content, routing
from notifications.services.matching import may_hear, sight_of

logger = structlog.get_logger(__name__)

TRIES: Final = 8
LEASE: Final = timedelta(minutes=5)  # far beyond what any driver takes
FIRST_PAUSE, LONGEST_PAUSE = 60.0, 3600.0
_SECRETS: Final = ("receiver__secret", "receiver__service_url")


@dataclass(frozen=True)
class Job:
    """A claimed message and what sends it; ``number`` of the try is what fences it."""

    delivery_id: int
    receiver_id: int
    number: int
    send: channels.Send


# --- claiming -------------------------------------------------------------------------------------


def claim_due(*, busy: Iterable[int] = (), most: int, now: datetime | None = None) -> list[Job]:
    """One message each for at most ``most`` receivers that are not ``busy``, the oldest first."""
    now = now or timezone.now()
    jobs = []
    for receiver, delivery in _due(busy, now)[:most]:
        job = _claim(receiver, delivery, now)
        if job is not None:
            jobs.append(job)
    return jobs


def _due(busy: Iterable[int], now: datetime) -> list[tuple[int, int]]:
    """A receiver that fails is tried with what has failed, not with what came after it."""
    same = Delivery.objects.filter(receiver=OuterRef("receiver"), status=Delivery.Status.FAILED)
    rows = (
        Delivery.objects.filter(
            Q(status=Delivery.Status.FAILED) | Q(status=Delivery.Status.WAITING) & ~Exists(same),
            next_try_at__lte=now,
            receiver__enabled=True,
        )
        .exclude(receiver__in=list(busy))
        .order_by()
        .values_list("receiver")
        .annotate(oldest=Min("pk"))
        .order_by("oldest")
    )
    found = list(rows)
    tried = routing.tried_lately([receiver for receiver, _oldest in found], now)
    return [pair for pair in found if tried.get(pair[0], 0) < routing.PER_MINUTE]


def _claim(receiver_id: int, delivery_id: int, now: datetime) -> Job | None:
    with transaction.atomic():
        # The count and the claim are one: two processes must not both send the fifth.
        list(Receiver.objects.select_for_update(no_key=True).filter(pk=receiver_id).only("pk"))
        if routing.tried_lately([receiver_id], now).get(receiver_id, 0) >= routing.PER_MINUTE:
            return None
        delivery = (
            Delivery.objects.filter(pk=delivery_id, status__in=Delivery.DUE)
            .select_related("receiver")
            .defer(*_SECRETS)
            .first()
        )
        if delivery is None or not _hold(delivery, now):
            return None
    try:
        return Job(delivery.pk, receiver_id, delivery.tries, _prepared(delivery))
    except BeidouError as caught:
        error: Exception = caught
    except Exception as caught:  # what is wrong with one message keeps no other waiting
        logger.exception("message_not_written", delivery=delivery.pk)
        error = caught
    settle(delivery_id=delivery.pk, number=delivery.tries, error=error, now=now)
    return None


def _hold(delivery: Delivery, now: datetime) -> bool:
    held = Delivery.objects.filter(
        pk=delivery.pk, tries=delivery.tries, status__in=Delivery.DUE
    ).update(
        status=Delivery.Status.SENDING,
        tries=delivery.tries + 1,
        tried_at=now,
        lease_until=now + LEASE,
    )
    delivery.tries += 1
    return bool(held)


def _prepared(delivery: Delivery) -> channels.Send:
    """What sends it: written now, of what the receiver's team may see now."""
    receiver = delivery.receiver
    sight = sight_of([receiver.team_id])

    def may_be_told(cluster: int | None, team: int | None) -> bool:
        return may_hear(receiver.team_id, sight, cluster_id=cluster, team_id=team)

    left = content.only(delivery.content, may_be_told)
    if left != delivery.content:
        # The log is read by the same team: what it may not be told must not stand there either.
        Delivery.objects.filter(pk=delivery.pk).update(content=left, count=content.count(left))
        if left["counts"]:
            # Of a notice that is not in it any more nobody is told by it.
            rows = delivery.followed.values_list("pk", "cluster_id", "team_id")
            delivery.followed.remove(*(key for key, *whose in rows if not may_be_told(*whose)))
    if not left["counts"]:
        raise PermanentError(
            Sentence("The team may no longer see what this told of."), code="nothing_left"
        )
    message = content.write(left, key=str(delivery.key), language=receiver.language)
    return channels.sender_for(receiver, message)


# --- settling -------------------------------------------------------------------------------------


def settle(
    *, delivery_id: int, number: int, error: Exception | None, now: datetime | None = None
) -> None:
    """Write how try ``number`` ended; nothing when the message was claimed again meanwhile."""
    now = now or timezone.now()
    mine = Delivery.objects.filter(pk=delivery_id, tries=number, status=Delivery.Status.SENDING)
    if error is None:
        mine.update(status=Delivery.Status.SENT, sent_at=now, lease_until=None, last_error="")
        return
    is_refused = isinstance(error, BeidouError) and not isinstance(error, TemporaryError)
    is_final = is_refused or number >= TRIES
    mine.update(
        status=Delivery.Status.GIVEN_UP if is_final else Delivery.Status.FAILED,
        last_error=_sentence_of(error),
        lease_until=None,
        next_try_at=now + timedelta(seconds=_pause(number, error)),
    )


def _sentence_of(error: Exception) -> str:
    if isinstance(error, BeidouError):
        return error.message
    return Sentence("An error of the portal: %(name)s.", name=type(error).__name__)


def _pause(number: int, error: Exception) -> float:
    """Seconds to the next try: doubled each time, and spread, so that many do not come at once."""
    wait = min(FIRST_PAUSE * float(2 ** (number - 1)), LONGEST_PAUSE)
    if isinstance(error, TemporaryError):
        wait = max(wait, error.retry_after)
    return wait * random.uniform(1.0, 1.25)  # noqa: S311  no secret depends on it


def sweep(now: datetime | None = None) -> int:
    """Make due again what a process held that is gone; returns how many."""
    now = now or timezone.now()
    lost = Delivery.objects.filter(status=Delivery.Status.SENDING, lease_until__lt=now)
    why = Sentence("The process that was sending it was lost.")
    given_up = lost.filter(tries__gte=TRIES).update(
        status=Delivery.Status.GIVEN_UP, lease_until=None, last_error=why
    )
    again = lost.update(
        status=Delivery.Status.FAILED, lease_until=None, last_error=why, next_try_at=now
    )
    return given_up + again


# --- what people ask for --------------------------------------------------------------------------


def hurry(receiver: Receiver) -> None:
    """What failed is tried with the receiver as it is now, and not after its long pause."""
    failed = Delivery.objects.filter(receiver=receiver, status=Delivery.Status.FAILED)
    for delivery in failed.defer("content"):
        _hurry(delivery)


def _hurry(delivery: Delivery) -> bool:
    """False when it does not wait for its next try any more."""
    return bool(_as_seen(delivery).update(next_try_at=_soonest(delivery)))


def _as_seen(delivery: Delivery) -> QuerySet[Delivery]:
    """The message, unless somebody has sent it again, or it was tried, since it was read."""
    seen = {name: getattr(delivery, name) for name in ("status", "tries", "tried_at")}
    return Delivery.objects.filter(pk=delivery.pk, **seen)


def _soonest(delivery: Delivery) -> datetime:
    """Each try of a message stands in ``tried_at`` until the next: if that came within the minute,
    the earlier one would not be counted any more."""
    now = timezone.now()
    return now if delivery.tried_at is None else max(now, delivery.tried_at + routing.WINDOW)


def send_again(*, delivery: Delivery, acting_user: Any) -> None:
    """Try an ended message anew, with the same key, or a failed one without its long pause.

    It is about the message as ``delivery`` has it: of several who press at once, one has it sent
    again, and nobody what the messenger has just sent.
    """
    permissions.require(acting_user, delivery, permissions.CHANGE)
    if delivery.status in (Delivery.Status.WAITING, Delivery.Status.SENDING):
        raise Conflict(_("This message has not ended: it is sent anyway."), code="wrong_state")
    with transaction.atomic():
        if delivery.status == Delivery.Status.FAILED:
            is_mine = _hurry(delivery)
        else:
            is_mine = bool(
                _as_seen(delivery).update(
                    status=Delivery.Status.WAITING,
                    tries=1,  # no first try: nothing new may join what was perhaps received
                    next_try_at=_soonest(delivery),
                    sent_at=None,
                    last_error="",
                )
            )
        if not is_mine:
            raise Conflict(
                _("Somebody has sent this message again, or it was sent, in the same moment."),
                code="changed_meanwhile",
            )
        audit.record("send again", delivery, name=str(delivery.receiver))
    delivery.refresh_from_db()


def send_test(*, receiver: Receiver, acting_user: Any) -> Delivery:
    """Send a message now and keep the result; talks to the outside: never in a transaction."""
    permissions.require(acting_user, receiver, permissions.CHANGE)
    now = timezone.now()
    with transaction.atomic():
        list(Receiver.objects.select_for_update(no_key=True).filter(pk=receiver.pk).only("pk"))
        if routing.tried_lately([receiver.pk], now).get(receiver.pk, 0) >= routing.PER_MINUTE:
            raise Conflict(
                _("This receiver was sent enough within the last minute; wait a moment."),
                code="too_many_messages",
            )
        delivery = Delivery.objects.create(
            receiver=receiver,
            status=Delivery.Status.SENDING,
            severity="info",
            content=_test_content(receiver, now),
            is_test=True,
            tries=TRIES,  # it is not tried again by itself
            tried_at=now,
            lease_until=now + LEASE,
        )
    error: Exception | None = None
    try:
        message = content.write(delivery.content, key=str(delivery.key), language=receiver.language)
        channels.sender_for(receiver, message)()
    except BeidouError as caught:
        error = caught
    except Exception as caught:  # whoever pressed the button is told, and may look into the log
        logger.exception("test_message_failed", receiver=receiver.pk)
        error = caught
    settle(delivery_id=delivery.pk, number=TRIES, error=error)
    delivery.refresh_from_db()
    receiver.tested_at = now
    receiver.test_result = delivery.last_error or Sentence("sent")
    with transaction.atomic():
        Receiver.objects.filter(pk=receiver.pk).update(
            tested_at=receiver.tested_at, test_result=receiver.test_result
        )
        audit.record(
            "send test message",
            receiver,
            after={"result": receiver.test_result},
            outcome="failed" if error else "done",
        )
    if error is None:
        hurry(receiver)
    return delivery


def _test_content(receiver: Receiver, now: datetime) -> content.Content:
    line = {
        "id": 0,
        "at": now.isoformat(),
        "kind": "test",
        "severity": "info",
        "title": Sentence("Test message for %(receiver)s.", receiver=receiver.name),
        "details": Sentence("Somebody pressed the button; nothing has happened."),
        "cluster": None,
        "team": receiver.team_id,
        "type": receiver._meta.label_lower,
        "object": str(receiver.pk),
    }
    return {"counts": [["test", "info", None, receiver.team_id, 1]], "lines": [line]}
