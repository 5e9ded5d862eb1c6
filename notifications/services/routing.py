"""From the outbox to messages: each notice is handed on once, and a storm becomes a few messages.

At most ``PER_MINUTE`` messages go to one receiver within any minute (``sending`` holds to it).
While there is room each notice is a message of its own; what comes beyond joins a message that
still waits.  What somebody waits for is grouped in the same way, apart from all other news.  While
a receiver fails, all that comes waits for it to work again in one message of either group.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import Count, Exists, OuterRef
from django.utils import timezone

from beidou.base.models import Notice
from notifications.models import Delivery, Receiver
from notifications.services import content
from notifications.services.matching import Rules, told_by

PER_MINUTE: Final = 5
WINDOW: Final = timedelta(minutes=1)
AT_ONCE: Final = 5000
_KEYS_AT_ONCE: Final = 1000


def route(now: datetime | None = None) -> int:
    """Hand on what waits in the outbox, at most ``AT_ONCE``; returns how many notices."""
    if not Notice.objects.filter(routed_at=None).exists():
        return 0  # asked every second: no lock for nothing
    now = now or timezone.now()
    with transaction.atomic():
        # Whoever routes holds the receivers: what waits for one is not changed by two at a time.
        receivers = Receiver.objects.select_for_update(no_key=True).order_by("pk").only("pk")
        keys = [receiver.pk for receiver in receivers]
        # The flag, and no "after the last one": keys are committed out of order.
        notices = list(
            Notice.objects.select_for_update(skip_locked=True)
            .filter(routed_at=None)
            .order_by("pk")[:AT_ONCE]
        )
        _hand_on(keys, notices, now)
        for first in range(0, len(notices), _KEYS_AT_ONCE):
            chunk = [notice.pk for notice in notices[first : first + _KEYS_AT_ONCE]]
            Notice.objects.filter(pk__in=chunk).update(routed_at=now)
    return len(notices)


def tried_lately(receivers: Iterable[int], now: datetime) -> dict[int, int]:
    """Receiver -> messages tried within the last minute."""
    rows = Delivery.objects.filter(receiver__in=list(receivers), tried_at__gt=now - WINDOW)
    return dict(rows.order_by().values_list("receiver").annotate(Count("pk")))


def failing_among(receivers: Iterable[int]) -> set[int]:
    """Those to whom a message could not be sent and will be tried again."""
    rows = Delivery.objects.filter(receiver__in=list(receivers), status=Delivery.Status.FAILED)
    return set(rows.order_by().values_list("receiver", flat=True).distinct())


def _hand_on(receivers: list[int], notices: list[Notice], now: datetime) -> None:
    told = told_by(Rules(), notices)
    if not told:
        return
    tried = tried_lately(told, now)
    waiting = _waiting(told)
    failing = failing_among(told)
    new: list[Delivery] = []
    joined: list[Delivery] = []
    carried: list[tuple[Delivery, Notice]] = []
    for receiver, every in told.items():
        if receiver not in receivers:
            continue  # deleted meanwhile
        # Two groups: what somebody waits for is not lost among thousands of others.
        for is_followed in (True, False):
            found = [notice for notice in every if notice.is_followed == is_followed]
            if not found:
                continue
            present = waiting[receiver, is_followed]
            room = PER_MINUTE - tried.get(receiver, 0) - len(present)
            room = 0 if receiver in failing else room
            if len(found) <= room:
                own = [_message(receiver, content.of_notices([notice]), now) for notice in found]
                new += own
                carried += zip(own, found, strict=True)
                continue
            if present:
                _join(present[-1], content.of_notices(found))
                joined.append(present[-1])
            else:
                present = [_message(receiver, content.of_notices(found), now)]
                new += present
            carried += [(present[-1], notice) for notice in found]
    Delivery.objects.bulk_create(new, batch_size=200)
    if joined:
        Delivery.objects.bulk_update(joined, ["content", "count", "severity"], batch_size=50)
    links = Delivery.followed.through
    links._default_manager.bulk_create(
        [
            links(delivery_id=delivery.pk, notice_id=notice.pk)
            for delivery, notice in carried
            if notice.is_followed
        ],
        batch_size=_KEYS_AT_ONCE,
    )


def _waiting(receivers: Iterable[int]) -> dict[tuple[int, bool], list[Delivery]]:
    """(receiver, whether somebody waits for what it tells) -> messages that others may join."""
    followed = Delivery.followed.through._default_manager.filter(delivery=OuterRef("pk"))
    rows = Delivery.objects.filter(
        receiver__in=list(receivers), status=Delivery.Status.WAITING, tries=0
    )
    found: dict[tuple[int, bool], list[Delivery]] = defaultdict(list)
    for delivery in rows.annotate(is_followed=Exists(followed)).order_by("pk"):
        found[delivery.receiver_id, delivery.is_followed].append(delivery)
    return found


def _message(receiver: int, about: content.Content, now: datetime) -> Delivery:
    return Delivery(
        receiver_id=receiver,
        content=about,
        count=content.count(about),
        severity=content.severity(about),
        created_at=now,
        next_try_at=now,
    )


def _join(delivery: Delivery, about: content.Content) -> None:
    delivery.content = content.merged(delivery.content, about)
    delivery.count = content.count(delivery.content)
    delivery.severity = content.severity(delivery.content)
