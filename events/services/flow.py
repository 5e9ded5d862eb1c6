"""How the events of clusters flow, in a word each: for the list of streams and above a search."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import TextChoices
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from beidou.base.permissions import visible_to
from clusters.models import Cluster
from events.models import EventStream

LAG_TOLD_SECONDS = 5.0
"""What waits for less is on its way."""
NAMED_AT_MOST = 5
_SHOWN = ("problem", "problem_since", "updated_at", "contact_at", "waiting", "lag_seconds")


class State(TextChoices):
    NEVER = "never", _("Never heard of")
    PROBLEM = "problem", _("Problem")
    SILENT = "silent", _("No collector")
    WAITING = "waiting", _("Waiting")
    FLOWING = "flowing", _("Flowing")


def state_of(stream: EventStream | None, now: datetime | None = None) -> State:
    if stream is None or stream.updated_at is None:
        return State.NEVER
    if stream.problem:
        return State.PROBLEM
    if stream.is_silent(now or timezone.now()):
        return State.SILENT
    if stream.contact_at is None:
        return State.NEVER
    return State.WAITING if is_late(stream) else State.FLOWING


def is_late(stream: EventStream) -> bool:
    return bool(stream.waiting) and stream.lag_seconds >= LAG_TOLD_SECONDS


@dataclass(frozen=True)
class Flow:
    """Of the clusters of a search: what keeps their events from being found."""

    clusters: int
    problems: list[EventStream]
    silent: list[EventStream]
    never: list[Cluster]
    waiting: int
    lag_seconds: float

    @property
    def is_well(self) -> bool:
        return not (self.problems or self.silent or self.never or self.waiting)


def look(user: Any, clusters: tuple[int, ...] = ()) -> Flow:
    """``clusters`` are keys; without them all that ``user`` may see.  One query."""
    rows = visible_to(user, Cluster.objects.exclude(phase__in=Cluster.UNWATCHED))
    if clusters:
        rows = rows.filter(pk__in=clusters)
    shown = [f"event_stream__{field}" for field in _SHOWN]
    rows = rows.select_related("event_stream").only("name", "insecure_tls", *shown)
    now = timezone.now()
    found = [(each, getattr(each, "event_stream", None)) for each in rows.order_by("name")]
    states = [(cluster, stream, state_of(stream, now)) for cluster, stream in found]
    late = [stream for _c, stream in found if stream is not None and is_late(stream)]
    return Flow(
        clusters=len(found),
        problems=[stream for _c, stream, state in states if stream and state is State.PROBLEM],
        silent=[stream for _c, stream, state in states if stream and state is State.SILENT],
        never=[cluster for cluster, _s, state in states if state is State.NEVER],
        waiting=sum(stream.waiting for stream in late),
        lag_seconds=max((stream.lag_seconds for stream in late), default=0.0),
    )
