"""Into the archive before events are deleted: exactly what a segment holds goes, and nothing else.

A segment is written, read back, and noted in a row; only then its events are removed, each in the
very state that is in the segment.  Whatever ends the process in between, the next run removes what
the rows name and archives what is left.  One run is at it at a time: the row of ``EventArchiving``
says which, and a segment is noted only by that one.
"""

import re
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import IO

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Max, Q
from django.utils import timezone

from beidou.base.errors import TemporaryError
from beidou.base.sentences import Sentence, joined
from clusters.models import Cluster
from events.drivers import segments
from events.drivers.archive import Archive
from events.drivers.errors import ArchiveAway, SegmentLost, StoreAway
from events.models import EventArchiving, EventSegment
from events.services import archived, retention
from events.services.stores import chosen
from events.services.stores.base import (
    WARNING,
    FoundEvent,
    Keeper,
    Limit,
    Limits,
    Query,
    Scope,
    Store,
)

logger = structlog.get_logger(__name__)
Part = EventSegment.Part
AT_ONCE = 1000
WHOLE_AT_ONCE, BYTES_AT_ONCE = 100, 16 << 20
"""Whole objects that are read from the store together: so many, and fewer where those before came
to more bytes.  An API server takes none above 1.5 MiB."""
EVENTS_MAX = 100_000
"""Of one segment; a day with more has several."""
LEASE = timedelta(minutes=15)
"""Longer than anything takes between two looks at the lease."""
RUN_FOR = timedelta(minutes=30)
"""Then the worker is for others; the next run goes on."""
LATE = timedelta(days=2)
"""Behind the last day that is needed; the day before it has just become due."""
ASKED_MAX = 20
"""Clusters; those that wait next have waited for longest."""
_DAY = 24 * 60 * 60
_EPOCH = date(1970, 1, 1)
_UNSAFE = re.compile(r"[^A-Za-z0-9-]")
"""What a cluster says of itself need not be the name of a folder."""


class Overtaken(TemporaryError):
    """Another run is at it."""


def archive_old() -> int:
    """Archive and delete what is past its time; gives how many events went."""
    run = _Run()
    if not run.begin():
        return 0
    problem = ""
    try:
        problem = run.work()
    except (ArchiveAway, StoreAway) as error:
        problem = error.message
    except Overtaken:
        logger.warning("event_archiving_overtaken")
        return run.gone
    if problem:
        logger.warning("event_archiving_stopped", error=problem)
    run.end(problem)
    return run.gone


class _Run:
    def __init__(self) -> None:
        self.gone = 0
        self._lost = ""
        self._holder = uuid.uuid4().hex
        self._ends_at = timezone.now() + RUN_FOR
        self._archive: Archive
        self._store: Store

    # --- one at a time ----------------------------------------------------------------------------

    def begin(self) -> bool:
        EventArchiving.objects.get_or_create(pk=1)
        now = timezone.now()
        free = Q(held_until=None) | Q(held_until__lt=now)
        taken = EventArchiving.objects.filter(free, pk=1).update(
            holder=self._holder, held_until=now + LEASE
        )
        return bool(taken)

    def _hold(self, **values: object) -> None:
        """Still ours, and for some more time; Overtaken otherwise."""
        mine = EventArchiving.objects.filter(pk=1, holder=self._holder)
        if not mine.update(held_until=timezone.now() + LEASE, **values):
            raise Overtaken(Sentence("Another process archives events."))

    def end(self, problem: str) -> None:
        mine = EventArchiving.objects.filter(pk=1, holder=self._holder)
        now = timezone.now()
        since = mine.values_list("problem_since", flat=True).first() or now
        mine.update(
            holder="",
            held_until=None,
            ran_at=now,
            problem=problem,
            problem_since=since if problem else None,
        )

    # --- what is to be done -----------------------------------------------------------------------

    def work(self) -> str:
        """Gives what is wrong with single segments; the rest is done all the same."""
        self._archive = archived.archive()
        self._archive.require(is_new=not EventSegment.objects.exists())
        self._store = chosen.store()
        self._remove_unnoted()
        limits = retention.limits()
        # Before anything is removed: a server without room may refuse that, and let whole days go.
        self._store.forget_empty_days(limits.latest)
        waiting = self._in_turn()
        while waiting and not self._is_over:
            self._hold(reached=waiting[0].name)
            if self._archive_cluster(waiting[0], limits.of(Keeper.of(waiting[0]))):
                del waiting[0]
        self._store.forget_empty_days(limits.latest)
        return joined(filter(None, (self._lost, self._late(waiting, limits))))

    def _in_turn(self) -> list[Cluster]:
        """By name, beginning behind the one at which the last run stopped: none waits for ever."""
        reached = EventArchiving.objects.values_list("reached", flat=True).get(pk=1)
        return sorted(Cluster.objects.all(), key=lambda each: (each.name <= reached, each.name))

    def _archive_cluster(self, cluster: Cluster, limit: Limit) -> bool:
        """False when the time was over before all of it was archived."""
        EventSegment.objects.filter(cluster=None, cluster_uid=cluster.uid).update(cluster=cluster)
        self._finish(cluster)
        self._store.refresh()  # or what was just removed would be archived again
        for day, part in self._past(cluster, limit):
            if self._is_over:
                return False
            if not retention.is_held(cluster, day):
                self._archive_day(cluster, day, part, limit)
        return not self._is_over

    def _late(self, waiting: Sequence[Cluster], limits: Limits) -> str:
        """Of clusters that had to wait: whether something should have gone more than a day ago."""
        late = []
        for cluster in waiting[:ASKED_MAX]:
            limit = limits.of(Keeper.of(cluster))
            for day, part in self._past(cluster, limit):
                due = limit.warnings if part is Part.WARNINGS else limit.normal
                if due - day > LATE and not retention.is_held(cluster, day):
                    late.append(day)
                    break
        if not late:
            return ""
        return Sentence(
            "Archiving does not keep up: there was no time for all clusters, and the oldest events "
            "that are past their time are of %(day)s.",
            day=min(late).isoformat(),
        )

    @property
    def _is_over(self) -> bool:
        """The next run goes on: what is noted and removed until now is consistent."""
        return timezone.now() >= self._ends_at

    def _remove_unnoted(self) -> None:
        """What a run that was killed had written, and did not come to note."""
        name = EventArchiving.objects.values_list("writing", flat=True).get(pk=1)
        if name and not EventSegment.objects.filter(object_name=name).exists():
            self._archive.delete(name)
        self._hold(writing="")

    def _finish(self, cluster: Cluster) -> None:
        """What is in the archive already: of a run that was killed, or brought back for a while."""
        rows = EventSegment.objects.filter(cluster=cluster, removed_at=None).order_by("day", "pk")
        for segment in rows:
            if self._is_over:
                return
            if retention.is_held(cluster, segment.day):
                continue
            self._hold()
            try:
                with self._archive.fetched(segment.object_name, segment.sha256) as file:
                    self._remove(cluster, segment, file)
            except SegmentLost as error:
                # What is left of it in the store goes into a segment of its own.
                logger.error("event_segment_lost", object=segment.object_name, error=error.message)  # noqa: TRY400
                self._lost = error.message
                segment.problem, segment.removed_at = error.message, timezone.now()
                segment.save(update_fields=["problem", "removed_at"])

    def _past(self, cluster: Cluster, limit: Limit) -> Iterator[tuple[date, Part]]:
        """Days of which something is past its time, the oldest first."""
        parts = self._store.parts(
            Query.of(since=_begin(_EPOCH), until=_begin(max(limit))),
            _scope(cluster),
            _begin(_EPOCH),
            _DAY,
        )
        for number, part in sorted(parts.items()):
            day = _EPOCH + timedelta(days=number)
            warnings = part.warnings and day < limit.warnings
            others = part.others and day < limit.normal
            if warnings and others:
                yield day, Part.ALL
            elif warnings or others:
                yield day, Part.WARNINGS if warnings else Part.OTHERS

    # --- a day ------------------------------------------------------------------------------------

    def _archive_day(self, cluster: Cluster, day: date, part: Part, limit: Limit) -> None:
        events = self._events(cluster, day, part, limit)
        is_over = False
        while not (is_over or self._is_over):
            with segments.Draft(settings.DATA_DIR, cluster.uid, cluster.name) as draft:
                for event in events:
                    draft.add(event.record())
                    if draft.events >= EVENTS_MAX:
                        break
                else:
                    is_over = True
                if draft.events:
                    self._remove(cluster, self._note(cluster, day, part, draft), draft.file)

    def _events(
        self, cluster: Cluster, day: date, part: Part, limit: Limit
    ) -> Iterator[FoundEvent]:
        """What goes on behind the last one read need not care for what was removed before it."""
        only = (WARNING,) if part is Part.WARNINGS else ()
        query = Query.of(since=_begin(day), until=_begin(day + timedelta(days=1)), type=only)
        after = None
        at_once = min(AT_ONCE, WHOLE_AT_ONCE)
        while True:
            page = self._store.page(
                query, _scope(cluster), after=after, limit=at_once, with_raw=True
            )
            at_once = _next_portion(page.rows)
            for event in page.rows:
                is_warning = event.type == WARNING
                before = limit.warnings if is_warning else limit.normal
                if event.day < before and not (is_warning and part is Part.OTHERS):
                    yield event
            if page.next is None:
                return
            after = page.next
            self._hold()

    def _note(self, cluster: Cluster, day: date, part: Part, draft: segments.Draft) -> EventSegment:
        sha256, size = draft.close()
        rows = EventSegment.objects.filter(cluster_uid=cluster.uid, day=day, part=part)
        number = 1 + (rows.aggregate(most=Max("number"))["most"] or 0)
        # The checksum in the name: no object is ever written over another.
        name = (
            f"{_UNSAFE.sub('_', cluster.uid)}/{day:%Y/%m/%d}-{part}-{number}-{sha256[:12]}.jsonl.gz"
        )
        self._hold(writing=name)
        self._archive.put(name, draft.file, sha256)
        with transaction.atomic():
            self._hold(writing="")
            return EventSegment.objects.create(
                cluster=cluster,
                cluster_uid=cluster.uid,
                cluster_name=cluster.name,
                day=day,
                part=part,
                number=number,
                object_name=name,
                events=draft.events,
                bytes=size,
                sha256=sha256,
                first_seen=draft.first_seen,
                last_seen=draft.last_seen,
            )

    def _remove(self, cluster: Cluster, segment: EventSegment, file: IO[bytes]) -> None:
        """From the event store; only what is in the very state that the segment holds."""
        keeper = Keeper.of(cluster)
        for records in segments.records(file, AT_ONCE):
            if retention.is_held(cluster, segment.day):
                return  # somebody has just brought it back
            self.gone += self._store.remove(keeper, records)
            self._hold()
        EventSegment.objects.filter(pk=segment.pk).update(removed_at=timezone.now(), problem="")


def _next_portion(rows: Sequence[FoundEvent]) -> int:
    """How many such as these are ``BYTES_AT_ONCE``."""
    most = min(AT_ONCE, WHOLE_AT_ONCE)
    size = sum(len(each.raw) for each in rows)
    return max(1, min(most, BYTES_AT_ONCE * len(rows) // size)) if size else most


def _begin(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _scope(cluster: Cluster) -> Scope:
    return Scope({cluster.pk: cluster})
