"""How long events are kept: warnings longer than the rest, nothing of clusters that are gone.

A cluster may have days of its own.  With an archive nothing is deleted here but of clusters that
are gone: see ``archiving``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet, Value
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from beidou.base import audit, notices, permissions, tasks
from beidou.base.errors import InvalidInput
from beidou.base.models import User
from beidou.base.notices import News, Severity
from beidou.base.permissions import visible_to
from beidou.base.sentences import Sentence
from clusters.models import Cluster
from events.drivers import patience
from events.drivers.errors import StoreAway
from events.models import EventForgetting, EventRestore, EventRetention, EventStream
from events.services.stores import chosen
from events.services.stores.base import Held, Keeper, Limit, Limits

RUN_FOR = timedelta(minutes=30)
"""Then the worker is for others."""
BEHIND_TOLD_AFTER = timedelta(hours=24)
"""A run that does not come through is made up for by the next ones, or so one hopes."""
BEHIND: Final = "event.retention"
LEASE_MORE = timedelta(minutes=5)
"""No single portion takes longer."""
FIELDS = ("days", "warning_days")
_CLUSTER = ("cluster_id", "cluster__uid", "cluster__name")


# --- what is past its time ------------------------------------------------------------------------


def forget_old() -> int:
    """Delete what is past its time, for ``RUN_FOR`` at most: the next run goes on.  Gives how many
    rows, or whole days of them, went."""
    if settings.EVENT_ARCHIVE is not None:  # it takes turns with other work, and has its own lease
        tasks.enqueue("events.tasks.archive_old")
    if not _begin():
        return 0
    is_through = False
    try:
        with patience.of(RUN_FOR.total_seconds()):
            gone = _forget()
            is_through = not patience.is_over()
            return gone
    finally:
        _end(is_through=is_through)


def behind_since() -> datetime | None:
    """Since when more is past its time than is deleted, once that has lasted for long."""
    since = EventForgetting.objects.values_list("behind_since", flat=True).first()
    is_long = since is not None and since <= timezone.now() - BEHIND_TOLD_AFTER
    return since if is_long else None


def _end(*, is_through: bool) -> None:
    now = timezone.now()
    since = None if is_through else Coalesce("behind_since", Value(now))
    EventForgetting.objects.update(held_until=None, behind_since=since)
    lasts = behind_since()
    if lasts is not None:
        notices.publish(
            News(
                kind=BEHIND,
                severity=Severity.WARNING,
                title=Sentence("Events are not deleted as fast as they become too old."),
                details=Sentence(
                    "For a day no run has come to the end of what is past its time, and the event "
                    "store grows. Give it more power, keep events for as many days as warnings, so "
                    "that whole days go at once, or look in the worker's log for why it fails."
                ),
                key=f"{BEHIND}:{lasts:%Y-%m-%dT%H:%M:%S}",
            )
        )


def _begin() -> bool:
    """One run at a time: the next may come while this one lasts, or waited behind it."""
    EventForgetting.objects.get_or_create(pk=1)
    now = timezone.now()
    free = Q(held_until=None) | Q(held_until__lt=now)
    return bool(EventForgetting.objects.filter(free).update(held_until=now + RUN_FOR + LEASE_MORE))


def _forget() -> int:
    """Whole days first: a server without room lets them go when it deletes nothing else.  One part
    that fails keeps no other from being tried."""
    parts: list[Callable[[], int]] = [forget_clusters]
    if settings.EVENT_ARCHIVE is None:
        parts.insert(0, lambda: chosen.store().forget(limits()))
    gone = 0
    failed: StoreAway | None = None
    for part in parts:
        if patience.is_over():
            break
        try:
            gone += part()
        except StoreAway as error:
            failed = failed or error
    if failed is not None:
        raise failed
    return gone


def limits() -> Limits:
    """As of today."""
    today = timezone.now().date()
    own = EventRetention.objects.order_by("pk").values_list(*_CLUSTER, *FIELDS)
    return Limits(
        usual=_limit(today, None, None),
        own={
            Keeper(*cluster): _limit(today, days, warning_days)
            for *cluster, days, warning_days in own
        },
        held=tuple(
            Held(Keeper(*cluster), since, until + timedelta(days=1))
            for *cluster, since, until in _restored().values_list(*_CLUSTER, "since", "until")
        ),
    )


def is_held(cluster: Cluster, day: date) -> bool:
    """Whether it was brought back and is to stay for now."""
    return _restored().filter(cluster=cluster, since__lte=day, until__gte=day).exists()


def _restored() -> QuerySet[EventRestore]:
    return EventRestore.objects.filter(kept_until__gt=timezone.now().date()).order_by("pk")


def _limit(today: date, days: int | None, warning_days: int | None) -> Limit:
    kept = Kept.of(days, warning_days)
    return Limit(today - timedelta(days=kept.days), today - timedelta(days=kept.warning_days))


def forget_clusters() -> int:
    """Delete the events of clusters that were un-adopted."""
    return chosen.store().forget_clusters()


def forget_soon(_key: int) -> None:
    """A cluster was un-adopted: the next hour need not be waited for."""
    tasks.enqueue_on_commit("events.tasks.forget_clusters")


def what_goes_with_cluster(cluster: Cluster) -> list[str]:
    """For the page that asks before a cluster is un-adopted."""
    stored = EventStream.objects.filter(cluster=cluster).values_list("stored", flat=True).first()
    if not stored:
        return []
    found = [
        ngettext(
            "What is kept of its events (%(count)s was stored) is removed, too.",
            "What is kept of its events (%(count)s were stored) is removed, too.",
            stored,
        )
        % {"count": stored}
    ]
    if settings.EVENT_ARCHIVE is not None:
        found.append(
            _("Only events that are in the archive already stay there; no others are put into it.")
        )
    return found


# --- how long that is -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Kept:
    """For how many days."""

    days: int
    warning_days: int

    @classmethod
    def of(cls, days: int | None, warning_days: int | None) -> "Kept":
        return cls(days or settings.EVENT_DAYS, warning_days or settings.EVENT_WARNING_DAYS)


def kept(user: Any, clusters: tuple[int, ...] = ()) -> tuple[Kept, list[tuple[str, Kept]]]:
    """As usual, and by name those of ``clusters`` (all, without any) where it is otherwise; of one
    cluster alone its own is the usual."""
    rows = visible_to(user, EventRetention.objects.all())
    if clusters:
        rows = rows.filter(cluster__in=clusters)
    usual = Kept.of(None, None)
    found = [
        (name, own)
        for name, *days in rows.order_by("cluster__name").values_list("cluster__name", *FIELDS)
        if (own := Kept.of(*days)) != usual
    ]
    if len(clusters) == 1 and found:
        return found[0][1], []
    return usual, found


def retention_of(cluster: Cluster) -> EventRetention:
    """An unsaved row where it is as the portal says."""
    return EventRetention.objects.filter(cluster=cluster).first() or EventRetention(cluster=cluster)


def save(
    *, cluster: Cluster, values: dict[str, int | None], acting_user: User, reason: str = ""
) -> EventRetention:
    """Set any of ``FIELDS``; what is past its time then goes with the next run of the clock."""
    permissions.require(acting_user, cluster, permissions.CHANGE)
    with audit.entries_last():
        row, _is_new = EventRetention.objects.select_for_update().get_or_create(cluster=cluster)
        before = audit.snapshot(row)
        for name, value in values.items():
            setattr(row, name, value)
        _check(row)
        old, new = audit.difference(before, audit.snapshot(row))
        if new:
            row.save()
            audit.record("change", row, before=old, after=new, reason=reason)
    return row


def _check(row: EventRetention) -> None:
    try:
        row.clean_fields()
    except ValidationError as error:
        fields = {name: sentences[0] for name, sentences in error.message_dict.items()}
        name, sentence = next(iter(fields.items()))
        raise InvalidInput(f"{name}: {sentence}", code="invalid_retention", fields=fields) from None


def remove(row: EventRetention, *, acting_user: User) -> None:
    """Back to what the portal says."""
    permissions.require(acting_user, row.cluster, permissions.CHANGE)
    with audit.entries_last():
        audit.record("delete", row, before=audit.snapshot(row))
        row.delete()
