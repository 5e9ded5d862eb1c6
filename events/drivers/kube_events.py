"""Kubernetes events as the API gives them, and what is kept of one.

``KubeEvent`` is what travels: the object as it came and the two things by which it is known.
``Record`` is what is stored and searched.  The same event has other names for the same things in
``events.k8s.io/v1`` and in the older ``v1``; both are read here, by the names that are there.
Nothing heavy may be imported: the collector lives on this module.
"""

from datetime import UTC, date, datetime, timedelta

import msgspec

from beidou.base.storable import storable
from clusters.drivers.objects import RawMetadata, Resource

TEXT_BYTES = 16 * 1024
"""Of a message that is searched and listed; the whole object keeps all of it."""
NAME_CHARACTERS = 253
WORD_CHARACTERS = 128
NORMAL = "Normal"


class KubeEvent(msgspec.Struct, frozen=True):
    """An event on its way to the store, as it came."""

    uid: str
    resource_version: str
    raw: bytes

    @property
    def name(self) -> str:
        return self.uid


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    uid: str = ""
    resource_version: str = ""


class _Known(msgspec.Struct, frozen=True):
    metadata: _Metadata


_KNOWN = msgspec.json.Decoder(_Known)


def kube_event(raw: msgspec.Raw) -> KubeEvent:
    """By its identity alone: an event that is not understood any further is kept all the same."""
    known = _KNOWN.decode(raw).metadata
    if not known.uid:
        raise ValueError("it has no uid")
    return KubeEvent(known.uid, known.resource_version, bytes(raw))


EVENTS: Resource[KubeEvent] = Resource(
    "/apis/events.k8s.io/v1/events", msgspec.Raw, kube_event, title="events"
)
CORE_EVENTS: Resource[KubeEvent] = Resource(
    "/api/v1/events", msgspec.Raw, kube_event, title="events"
)


class _Reference(msgspec.Struct, frozen=True, rename="camel"):
    kind: str | None = None
    namespace: str | None = None
    name: str | None = None
    uid: str | None = None
    field_path: str | None = None


class _Source(msgspec.Struct, frozen=True):
    component: str | None = None
    host: str | None = None


class _Series(msgspec.Struct, frozen=True, rename="camel"):
    count: int | None = None
    last_observed_time: str | None = None


class _Event(msgspec.Struct, frozen=True, rename="camel"):
    """Both versions at once; times as text, because programs write odd ones."""

    metadata: RawMetadata
    regarding: _Reference | None = None
    involved_object: _Reference | None = None
    reason: str | None = None
    type: str | None = None
    action: str | None = None
    note: str | None = None
    message: str | None = None
    event_time: str | None = None
    series: _Series | None = None
    count: int | None = None
    deprecated_count: int | None = None
    first_timestamp: str | None = None
    deprecated_first_timestamp: str | None = None
    last_timestamp: str | None = None
    deprecated_last_timestamp: str | None = None
    source: _Source | None = None
    deprecated_source: _Source | None = None
    reporting_component: str | None = None
    reporting_controller: str | None = None
    reporting_instance: str | None = None


_EVENTS = msgspec.json.Decoder(_Event)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One event as it is stored; ``version`` orders the states of one, ``day`` is when it began."""

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
    raw: bytes


def record(event: KubeEvent, received: datetime) -> Record:
    """What is stored of an event; of one that cannot be understood, at least the object itself."""
    try:
        return _record(event, received)
    except UNREADABLE:
        pass
    mended = KubeEvent(
        event.uid, event.resource_version, event.raw.decode(errors="replace").encode()
    )
    try:
        return _record(mended, received)
    except UNREADABLE as error:
        return _unreadable(mended, received, str(error))


UNREADABLE = (ValueError, TypeError, OverflowError, RecursionError)
"""Programs write odd things through the API; no event may hold up those that follow."""


def _record(event: KubeEvent, received: datetime) -> Record:
    raw = _EVENTS.decode(event.raw)
    regarding = raw.regarding or raw.involved_object or _Reference()
    source = raw.deprecated_source or raw.source or _Source()
    times = _times(raw)
    created = _aware(raw.metadata.creation_timestamp) or (times[0] if times else received)
    latest = received + MOST_AHEAD
    first = min([*times, created, latest])
    last = min(max([*times, created]), latest)
    series = raw.series.count if raw.series and raw.series.count else 0
    return Record(
        uid=_name(event.uid, WORD_CHARACTERS),
        version=_version(event.resource_version),
        day=created.date(),
        first_seen=first,
        last_seen=last,
        count=min(max(raw.deprecated_count or raw.count or 0, series, 1), 2**31 - 1),
        type=_name(raw.type or NORMAL, 32),
        reason=_name(raw.reason or "", WORD_CHARACTERS),
        namespace=_name(regarding.namespace or "", NAME_CHARACTERS),
        kind=_name(regarding.kind or "", WORD_CHARACTERS),
        name=_name(regarding.name or "", NAME_CHARACTERS),
        object_uid=_name(regarding.uid or "", WORD_CHARACTERS),
        node=_name(_node(regarding, source, raw), NAME_CHARACTERS),
        component=_name(
            raw.reporting_controller or raw.reporting_component or source.component or "",
            NAME_CHARACTERS,
        ),
        message=_cut(raw.note or raw.message or "", TEXT_BYTES),
        raw=event.raw,
    )


def _times(raw: _Event) -> list[datetime]:
    found = (
        _time(raw.deprecated_first_timestamp or raw.first_timestamp),
        _time(raw.event_time),
        _time(raw.deprecated_last_timestamp or raw.last_timestamp),
        _time(raw.series.last_observed_time if raw.series else None),
    )
    return [parsed for parsed in found if parsed is not None]


def orders_by_time(record: Record) -> bool:
    """Whether ``last_seen`` tells which of two states of an event is the newer one: not where it
    says when the state was read, or is of a clock that is ahead, and is cut by when it was read."""
    if record.last_seen > datetime.now(UTC) + _USUAL_SKEW:
        return False
    try:
        raw = _EVENTS.decode(record.raw)
        created = _aware(raw.metadata.creation_timestamp)
    except UNREADABLE:
        return False
    return record.last_seen == max([*_times(raw), *([created] if created else [])], default=None)


_USUAL_SKEW = timedelta(seconds=30)
MOST_AHEAD = timedelta(minutes=5)
"""A program whose clock is wrong may not put its events on top for a year: what is further ahead
of us counts as now.  The object itself keeps what the program said."""


def _node(regarding: _Reference, source: _Source, raw: _Event) -> str:
    if regarding.kind == "Node":
        return regarding.name or ""
    if source.host:
        return source.host
    reporter = raw.reporting_controller or raw.reporting_component or source.component
    return (raw.reporting_instance or "") if reporter == "kubelet" else ""


def _unreadable(event: KubeEvent, received: datetime, why: str) -> Record:
    return Record(
        uid=_name(event.uid, WORD_CHARACTERS),
        version=_version(event.resource_version),
        # The same whenever it is read: it is a part of the identity.
        day=_EPOCH.date(),
        first_seen=received,
        last_seen=received,
        count=1,
        type=NORMAL,
        reason="",
        namespace="",
        kind="",
        name="",
        object_uid="",
        node="",
        component="",
        message=_cut(f"(unreadable: {why})", TEXT_BYTES),
        raw=event.raw,
    )


def _time(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        found = msgspec.convert(text, datetime)
    except ValueError:
        return None
    return _aware(found)


def _aware(found: datetime | None) -> datetime | None:
    """In UTC; None for Go's "no time", which is the year 1."""
    if found is None or found.year < EARLIEST_YEAR:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)


EARLIEST_YEAR = 1971
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _version(text: str) -> int:
    """Every cluster on etcd counts; what does not count is overwritten by whatever comes later."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0  # noqa: PLR2004


def _cut(text: str, most: int) -> str:
    text = storable(text)
    return text if len(text) <= most else text[: most - 1] + "…"


def _name(text: str, most: int) -> str:
    """At most so many bytes: names are indexed, and an index has no room for thousands of them."""
    text = _cut(text, most)
    if text.isascii():
        return text
    return text.encode()[:most].decode(errors="ignore")
