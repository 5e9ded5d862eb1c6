"""Back from the archive: days of a cluster, for a while.

Writing to the store is an upsert, so that it may be done again and a newer state stays.  The row
that asks for it holds the days: retention leaves them alone until its date.
"""

from collections.abc import Iterator
from datetime import date, timedelta

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from beidou.base import audit, context, permissions, tasks
from beidou.base.errors import InvalidInput
from beidou.base.models import User
from events.drivers import segments
from events.drivers.errors import ArchiveAway, SegmentLost, StoreAway
from events.drivers.kube_events import Record
from events.models import EventRestore, EventSegment
from events.services import archived, storing
from events.services.stores import chosen
from events.services.stores.base import Keeper, Store

AT_ONCE = 1000
DAYS, DAYS_MAX = 7, 365
"""For how long what was brought back stays, if nobody says otherwise; and at most."""
LOST_AFTER = timedelta(minutes=30)


def ask(row: EventRestore, *, acting_user: User, reason: str = "") -> None:
    """Have a worker bring the days of a new row back."""
    permissions.require(acting_user, row.cluster, permissions.CHANGE)
    with audit.entries_last():
        begin(row, reason=reason)
        tasks.enqueue_on_commit("events.tasks.restore", row.pk)


def begin(row: EventRestore, *, reason: str = "") -> None:
    """Store the row; from then on its days are held."""
    if problems := find_problems(row):
        name, sentence = next(iter(problems.items()))
        raise InvalidInput(f"{name}: {sentence}", code="invalid_restore", fields=problems)
    row.asked_by = context.current().actor_name[:150]
    with audit.entries_last():
        row.save(force_insert=True)
        audit.record("restore events", row, after=audit.snapshot(row), reason=reason)


def find_problems(row: EventRestore) -> dict[str, str]:
    """Field -> sentence for what cannot be asked."""
    today = timezone.now().date()
    if settings.EVENT_ARCHIVE is None:
        return {"cluster": _("There is no archive of events: BEIDOU_EVENT_ARCHIVE_URL is not set.")}
    if row.until < row.since:
        return {"until": _("The last day is before the first.")}
    if not today < row.kept_until <= today + timedelta(days=DAYS_MAX):
        return {
            "kept_until": _("This must be after today, and within %(count)d days.")
            % {"count": DAYS_MAX}
        }
    if not _segments(row).exists():
        return {"since": _("The archive holds nothing of this cluster and these days.")}
    return {}


def usual_end() -> date:
    return timezone.now().date() + timedelta(days=DAYS)


def let_go(row: EventRestore, *, acting_user: User) -> None:
    """Its events leave the store with the next run."""
    permissions.require(acting_user, row.cluster, permissions.CHANGE)
    with audit.entries_last():
        audit.record("delete", row, before=audit.snapshot(row))
        row.delete()


def go_on() -> None:
    """Ask again for what a worker that was killed did not finish."""
    lost = EventRestore.objects.filter(finished_at=None, touched_at__lt=timezone.now() - LOST_AFTER)
    for key in lost.values_list("pk", flat=True):
        tasks.enqueue("events.tasks.restore", key)


def run(key: int) -> None:
    """For a worker: all of it, with what hinders it in the row."""
    row = EventRestore.objects.select_related("cluster").filter(pk=key, finished_at=None).first()
    if row is None:
        return  # done by another, or let go
    for _segment in restore(row):
        pass


def restore(row: EventRestore) -> Iterator[EventSegment]:
    """Segment by segment: one was brought back, or has a problem that says why it was not, and
    costs no other.  How it ended is in the row."""
    row.events = row.refused = 0
    row.problem = ""
    try:
        archive = archived.archive()
        # An empty folder where nothing is mounted is no archive whose segments are lost.
        archive.require(is_new=False)
        store = chosen.store()
        for segment in _segments(row).order_by("day", "part", "number"):
            # Before anything is written: it leaves again even if this process is killed.
            EventSegment.objects.filter(pk=segment.pk).update(removed_at=None)
            segment.problem = ""
            try:
                with archive.fetched(segment.object_name, segment.sha256) as file:
                    for records in segments.records(file, AT_ONCE):
                        _write(store, row, records)
            except SegmentLost as error:
                row.problem = segment.problem = error.message
            EventSegment.objects.filter(pk=segment.pk).update(problem=segment.problem)
            if not _save(row):
                return  # somebody let it go
            yield segment
    except (ArchiveAway, StoreAway) as error:
        row.problem = error.message
    row.finished_at = timezone.now()
    _save(row)


def _write(store: Store, row: EventRestore, records: list[Record]) -> None:
    keeper = Keeper.of(row.cluster)
    refused = storing.put(store, keeper, records, storing.labels_of(store, keeper))
    row.events += len(records) - refused
    row.refused += refused


def _save(row: EventRestore) -> int:
    """Not ``save``, which would bring a row back that was deleted meanwhile."""
    return EventRestore.objects.filter(pk=row.pk).update(
        events=row.events,
        refused=row.refused,
        problem=row.problem,
        finished_at=row.finished_at,
        touched_at=timezone.now(),
    )


def _segments(row: EventRestore) -> QuerySet[EventSegment]:
    days = {"day__gte": row.since, "day__lte": row.until}
    return EventSegment.objects.filter(cluster_uid=row.cluster.uid, **days)
