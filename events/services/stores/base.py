"""What every event store can do: keep, find and forget.  Which one is used is a setting.

A store knows clusters, times and namespaces that teams were granted, and nothing of people: whoever
asks has been given what may be looked at (``Scope``).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from django.utils import timezone
from django.utils.translation import gettext as _

from beidou.base.errors import InvalidInput
from clusters.models import Cluster
from events.drivers.kube_events import MOST_AHEAD, Record

FIELDS = ("namespace", "kind", "name", "reason", "type", "component", "node")
DEFAULT_SPAN = timedelta(hours=24)
BUCKETS = 60
WARNING = "Warning"
_CURSOR = re.compile(r"(\d{1,20})-(\d{1,20})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is searched; several values of one field mean any of them."""

    since: datetime
    until: datetime
    text: str = ""
    clusters: tuple[int, ...] = ()
    namespace: tuple[str, ...] = ()
    kind: tuple[str, ...] = ()
    name: tuple[str, ...] = ()
    reason: tuple[str, ...] = ()
    type: tuple[str, ...] = ()
    component: tuple[str, ...] = ()
    node: tuple[str, ...] = ()
    in_full: bool = False
    """Only in clusters of which everything is seen."""
    during: bool = False
    """Also what was seen again after ``until``, if it began before: it went on then."""

    @classmethod
    def of(
        cls, *, since: datetime | None = None, until: datetime | None = None, **values: Any
    ) -> "Query":
        """With the last 24 hours where no times are given; InvalidInput when they cross."""
        # A program whose clock is ahead of ours has written the newest.
        until = until or timezone.now() + MOST_AHEAD
        since = since or until - DEFAULT_SPAN
        if since >= until:
            raise InvalidInput(
                _("The time range ends before it begins."),
                fields={"since": _("This must be before the end.")},
            )
        return cls(since=since, until=until, **values)

    def without(self, field: str) -> "Query":
        """The query as if nothing were chosen in this field: for counts of what else there is."""
        nothing: Any = ()
        return replace(self, **{field: nothing})


@dataclass(frozen=True)
class Scope:
    """The clusters, by key, in which is searched.  ``is_all`` says that these are all there are, so
    that a store need not compare.

    Of the ``limited`` clusters only the namespaces are searched that one of the ``teams`` (keys)
    was granted.  Which these are is the store's to find for each event: they may be thousands.
    """

    clusters: Mapping[int, Cluster]
    is_all: bool = False
    limited: Mapping[int, Cluster] = field(default_factory=dict)
    teams: tuple[int, ...] = ()

    @cached_property
    def known(self) -> Mapping[int, Cluster]:
        """Of which events may be found, all of them or some."""
        return {**self.clusters, **self.limited}


@dataclass(frozen=True, kw_only=True)
class FoundEvent:
    """An event as a store gives it back; ``raw`` only where it was asked for."""

    key: str
    """By which this store finds it again."""
    tie: int
    """Orders those that were last seen in the same moment."""
    cluster: Cluster
    uid: str
    version: int
    day: date
    first_seen: datetime
    last_seen: datetime
    count: int
    type: str
    reason: str
    namespace: str
    kind: str
    name: str
    object_uid: str
    node: str
    component: str
    message: str
    raw: bytes = b""
    trouble: str = ""
    """Why the whole object cannot be had."""

    @property
    def pk(self) -> str:
        return self.key

    @property
    def cluster_id(self) -> int:
        return self.cluster.pk

    def record(self) -> Record:
        """As another store takes it."""
        return Record(**{name: getattr(self, name) for name in Record.__struct_fields__})

    def __str__(self) -> str:
        return f"{self.reason} {self.kind} {self.name}".strip()


@dataclass(frozen=True)
class Cursor:
    """The place behind a row."""

    last_seen: datetime
    tie: int

    def __str__(self) -> str:
        return f"{(self.last_seen - _EPOCH) // _MICROSECOND}-{self.tie}"

    @property
    def nanoseconds(self) -> int:
        """Since 1970."""
        return (self.last_seen - _EPOCH) // _MICROSECOND * 1000

    @classmethod
    def parse(cls, value: str) -> "Cursor":
        found = _CURSOR.fullmatch(value)
        try:
            if found is None:
                raise ValueError
            return cls(_EPOCH + int(found[1]) * _MICROSECOND, int(found[2]))
        except (ValueError, OverflowError):
            sentence = _("This is no place in a list of events.")
            raise InvalidInput(sentence, fields={"cursor": sentence}) from None


@dataclass(frozen=True)
class Page:
    """Some rows, and where the next ones begin; None behind the last."""

    rows: Sequence[FoundEvent]
    next: Cursor | None


@dataclass(frozen=True)
class Part:
    """How many events were last seen in one part of a time range."""

    warnings: int
    others: int


class Span(NamedTuple):
    """``since`` belongs to it, ``until`` does not."""

    since: datetime
    until: datetime


class SeenReason(NamedTuple):
    """That a reason occurs in a cluster (its key), and when the first of these events began."""

    cluster: int
    reason: str
    first_seen: datetime


class Keeper(NamedTuple):
    """The cluster whose events are kept."""

    pk: int
    uid: str
    name: str

    @classmethod
    def of(cls, cluster: Cluster) -> "Keeper":
        return cls(cluster.pk, cluster.uid, cluster.name)


Labels = Mapping[str, Sequence[int]]
"""Of a cluster, by namespace, the teams (keys) that were granted it."""
NO_LABELS: Labels = MappingProxyType({})


class Limit(NamedTuple):
    """What was not seen since these days is past its time."""

    normal: date
    warnings: date


class Held(NamedTuple):
    """Events of a cluster, last seen on ``since`` or later and before ``until``, that stay although
    they are past their time."""

    cluster: Keeper
    since: date
    until: date


class Group(NamedTuple):
    """What leaves together: warnings or all else, of one cluster, or of all ``but`` some."""

    before: date
    is_warnings: bool
    cluster: Keeper | None
    but: tuple[Keeper, ...] = ()


@dataclass(frozen=True)
class Limits:
    """How long all events are kept: as usual, or as a cluster's ``own`` limit says."""

    usual: Limit
    own: Mapping[Keeper, Limit] = field(default_factory=dict)
    held: tuple[Held, ...] = ()

    @property
    def latest(self) -> date:
        """What began on this day or later is needed in any case."""
        return max(max(limit) for limit in (self.usual, *self.own.values()))

    def of(self, cluster: Keeper) -> Limit:
        return self.own.get(cluster, self.usual)

    def groups(self) -> Iterator[Group]:
        """Together they are everything that is past its time, but for what is held."""
        others = tuple(self.own)
        for cluster, limit in ((None, self.usual), *self.own.items()):
            but = others if cluster is None else ()
            yield Group(limit.normal, False, cluster, but)
            yield Group(limit.warnings, True, cluster, but)


class Store(Protocol):
    """``StoreAway`` where the store cannot now; then nothing need be kept of what was given."""

    portions_at_once: int
    """How many calls of ``write`` may be under way in one process."""
    is_in_database: bool
    """Where the portal's database is the store, one thread writes to it."""
    label_delay: timedelta | None
    """Events may be stored for so long with labels that were read before.  None where nothing is
    labelled, because the grants themselves are looked at."""

    def write(
        self, keeper: Keeper, records: Sequence[Record], labels: Labels = NO_LABELS
    ) -> list[tuple[Record, str]]:
        """Keep the records of one cluster; again or in another order, it comes to the same.  Gives
        those that are refused for good, and why."""

    def relabel(
        self, cluster_uid: str, team: int, namespaces: Sequence[str], labels: Labels
    ) -> bool:
        """Put right some of what is labelled wrongly about this team in these namespaces; True
        when there was nothing.  ``labels`` are those of these namespaces.  ``LabelsSealed`` where
        nothing else is wrong than what cannot be put right."""

    def page(
        self, query: Query, scope: Scope, *, after: Cursor | None, limit: int, with_raw: bool
    ) -> Page:
        """The newest, or those behind ``after``."""

    def one(self, key: str, scope: Scope) -> FoundEvent | None:
        """With its whole object."""

    def counts(self, query: Query, scope: Scope, field: str, most: int) -> list[tuple[Any, int]]:
        """The commonest values of one of ``FIELDS``, or keys for ``cluster``; "" is no value."""

    def parts(self, query: Query, scope: Scope, begin: datetime, seconds: int) -> dict[int, Part]:
        """Counts by the number of the part, each ``seconds`` long, the first from ``begin``."""

    def tallies(
        self, queries: Mapping[str, Query], scope: Scope, spans: Sequence[Span]
    ) -> dict[str, list[int]]:
        """How many of the events that each query finds went on in each span: they began before its
        end, and were seen in it or later.  One question, however many queries and spans."""

    def firsts(self, scope: Scope, spans: Sequence[Span]) -> list[datetime | None]:
        """The first moment of each span in which an event was last seen; None in one without.
        One question, too."""

    def reasons(self, query: Query, scope: Scope, most: int) -> list[SeenReason]:
        """Each reason of each cluster once; at most so many."""

    def forget(self, limits: Limits) -> int:
        """Delete what is past its time, whole days at once where nothing in them is needed, for as
        long as there is patience; gives how many rows, or whole days, went."""

    def remove(self, keeper: Keeper, records: Sequence[Record]) -> int:
        """Delete these states of events, and none that is another by now; gives how many went."""

    def refresh(self) -> None:
        """Whatever was written or removed until now is seen by those who ask from here on."""

    def forget_empty_days(self, before: date) -> None:
        """Give back what days before this one take although no event is left in them."""

    def forget_clusters(self) -> int:
        """Delete the events of clusters that are not adopted any more."""
