"""From one cluster's API to its spool: nothing is lost on the way, and nothing waits in memory for
longer than a moment.

A batch goes into the spool together with the position behind it, so that whatever ends the process
leaves both or neither.  When the spool takes nothing (it is full, or its disk is), reading stops:
the cluster keeps its events for an hour, and the watch goes on where it was.
"""

import asyncio
import enum
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import aclosing, suppress
from datetime import UTC, datetime

import structlog

from beidou.base.sentences import Sentence, joined
from clusters.drivers import errors
from clusters.drivers.connection import Connection
from clusters.drivers.objects import Resource
from clusters.drivers.watch import (
    Added,
    Deleted,
    Disconnected,
    Listed,
    Modified,
    Pace,
    Page,
    Progress,
    list_and_watch,
)
from events.collector.spool import Frame, Spool, SpoolFull
from events.drivers.kube_events import CORE_EVENTS, EVENTS, KubeEvent

Change = (
    Page[KubeEvent]
    | Listed[KubeEvent]
    | Added[KubeEvent]
    | Modified[KubeEvent]
    | Deleted[KubeEvent]
    | Progress
)

logger = structlog.get_logger(__name__)
GATHER_SECONDS = 0.2
POSITION_SECONDS = 10.0
"""How often the position is kept of a cluster in which nothing happens."""
MOST_BYTES = 1024 * 1024
PAGE = 200
"""Objects of a list at a time: one may have a message of 100 KiB."""
RETRY_SECONDS = 2.0
REFUSED_SECONDS = 30.0


class _End(enum.Enum):
    """Why reading under one name has ended."""

    REFUSED = enum.auto()
    REFUSED_LATER = enum.auto()
    DAMAGE = enum.auto()


class Trouble:
    """What is wrong, in a sentence, and since when; empty while nothing is."""

    def __init__(self) -> None:
        self.sentence = ""
        self.since: datetime | None = None

    def is_(self, sentence: str, since: datetime | None = None) -> None:
        self.sentence = sentence
        self.since = self.since or since or datetime.now(UTC)

    def is_over(self) -> None:
        self.sentence, self.since = "", None

    @classmethod
    def of(cls, *troubles: "Trouble") -> "Trouble":
        """Those that there are, as one."""
        told = cls()
        if found := [each for each in troubles if each.sentence]:
            since = min(each.since for each in found if each.since is not None)
            told.is_(joined(each.sentence for each in found), since)
        return told


class Flow:
    """How one cluster's events flow, in this process; its row in the database shows it."""

    def __init__(self) -> None:
        self.reading, self.spooling, self.storing = Trouble(), Trouble(), Trouble()
        self.contact_at: datetime | None = None
        self.last_event_at: datetime | None = None
        self.heard = 0
        self.stored = 0
        self.refused = 0

    def trouble(self, alarm: Trouble) -> Trouble:
        """What is to be told.  What is farther down holds up all before it; that the spool takes no
        more, or soon will not (``alarm``), is told beside it: then events are in danger."""
        held_up = self.storing if self.storing.sentence else self.reading
        return Trouble.of(held_up, self.spooling if self.spooling.sentence else alarm)


class Stream:
    """Reads one cluster; ``run`` ends only by being cancelled."""

    def __init__(
        self,
        connection: Connection,
        spool: Spool,
        flow: Flow,
        *,
        cluster_name: str,
        position: str,
        disk: Executor,
        arrived: Callable[[], None],
        pace: Pace | None = None,
    ) -> None:
        self.connection = connection
        self.spool = spool
        self.flow = flow
        self.cluster_name = cluster_name
        self._disk = disk
        self._arrived = arrived
        self._pace = pace
        self._reached = position
        self._is_mending = False
        """Whether the list that is being read brings back what the spool has lost."""
        self._has_mended = False
        # What was gathered and is not in the spool yet.
        self._events: list[KubeEvent] = []
        self._bytes = 0
        self._position = ""
        self._something = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read())
            tasks.create_task(self._spool())

    # --- reading ----------------------------------------------------------------------------------

    async def _read(self) -> None:
        """The same events have two names, and a credential may be good for one of them only."""
        resource, in_vain = EVENTS, 0
        while True:
            if self.spool.must_list:
                self._reached, self._is_mending = "", True
            end = await self._read_as(resource)
            if end is _End.DAMAGE:
                continue
            resource = CORE_EVENTS if resource is EVENTS else EVENTS
            in_vain = in_vain + 1 if end is _End.REFUSED else 0
            if in_vain > 1:
                await asyncio.sleep(REFUSED_SECONDS)

    async def _read_as(self, resource: Resource[KubeEvent]) -> "_End":
        """Read until the cluster refuses the events under this name, or must be listed anew."""
        end = _End.REFUSED
        stream = list_and_watch(
            self.connection,
            resource,
            cluster_name=self.cluster_name,
            pace=self._pace,
            position=self._reached,
            by_page=PAGE,
        )
        async with aclosing(stream):
            async for change in stream:
                if isinstance(change, Disconnected):
                    self.flow.reading.is_(change.error.message, change.since)
                    if isinstance(change.error, errors.Forbidden | errors.NotFound):
                        return end
                    continue
                end = _End.REFUSED_LATER
                self.flow.reading.is_over()
                self.flow.contact_at = datetime.now(UTC)
                await self._gather(change)
                if self.spool.must_list and not self._is_mending:
                    break
        return _End.DAMAGE

    async def _gather(self, change: Change) -> None:
        match change:
            case Page(items):
                self._add(items)
            case Listed(_, position):
                self._reached = self._position = position
                self._has_mended, self._is_mending = self._is_mending, False
                self._something.set()
            case Progress(position):
                self._reached = self._position = position
            case Deleted(item):  # the cluster forgets it; nothing has happened
                self._reached = self._position = item.resource_version
            case Added(item) | Modified(item):
                self._add([item])
                self._reached = self._position = item.resource_version
        await self._room.wait()

    def _add(self, events: list[KubeEvent]) -> None:
        if events:
            self._events += events
            self._bytes += sum(len(event.raw) for event in events)
            self.flow.heard += len(events)
            self._something.set()
            if self._bytes > MOST_BYTES:
                self._room.clear()

    # --- spooling ---------------------------------------------------------------------------------

    async def _spool(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(POSITION_SECONDS):
                    await self._something.wait()
                    await asyncio.sleep(GATHER_SECONDS)
            if self._events or self._position:
                mends, self._has_mended = self._has_mended, False
                await self._keep(self._take(), mends=mends)

    def _take(self) -> Frame:
        frame = Frame(position=self._position, received_at=time.time(), events=self._events)
        self._events, self._bytes, self._position = [], 0, ""
        self._something.clear()
        self._room.set()
        return frame

    async def _keep(self, frame: Frame, *, mends: bool) -> None:
        """``mends``: with this frame all that the cluster has is in the spool again."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                await loop.run_in_executor(self._disk, self.spool.append, frame)
                if mends:
                    await loop.run_in_executor(self._disk, self.spool.listed)
            except SpoolFull as error:
                self.flow.spooling.is_(error.message)
            except OSError as error:
                logger.warning("spool_not_written", cluster=self.cluster_name, error=str(error))
                self.flow.spooling.is_(
                    Sentence(
                        "Events cannot be kept on the collector's disk (%(why)s), so that no more "
                        "is read from the cluster.",
                        why=error.strerror or str(error),
                    )
                )
            else:
                self.flow.spooling.is_over()
                self._arrived()
                return
            await asyncio.sleep(RETRY_SECONDS)
