"""What the collector does for events: per cluster a stream into a spool, per spool a shipper into
the event store, and every few seconds a report.

A spool is shipped whoever holds its cluster: what a collector has heard it stores, even when it has
lost the lease meanwhile, because storing twice changes nothing.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError

from beidou.base.errors import BeidouError
from beidou.base.sentences import Sentence
from clusters.collector.further import InWriter
from clusters.drivers.connection import Connection
from clusters.drivers.watch import Pace
from clusters.services.leases import Held
from events.collector.spool import Room, Spool, Standing
from events.collector.spools import Home
from events.collector.stream import Flow, Stream, Trouble
from events.services import storing, streams
from events.services.stores import chosen
from events.services.stores.base import Keeper, Labels, Store
from events.services.streams import Report

T = TypeVar("T")
logger = structlog.get_logger(__name__)
EVENTS_AT_ONCE = 1000
REPORT_SECONDS = 3.0
SWEEP_SECONDS = 60.0
ALARM_PERCENT, CALM_PERCENT = 80, 70
"""The alarm is over when the spools are well below where it begins: it must not flicker."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 30.0


@dataclass
class Shipment:
    """One spool and who ships it."""

    spool: Spool
    flow: Flow = field(default_factory=Flow)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None


@dataclass
class Reported:
    """What the last report of a held cluster said."""

    position_at: float
    heard: int = 0
    stored: int = 0
    refused: int = 0
    per_minute: float = 0.0
    at: float = field(default_factory=time.monotonic)

    def was(self, report: Report) -> None:
        self.position_at = report.position_at
        self.heard += report.heard
        self.stored += report.stored
        self.refused += report.refused
        self.per_minute = report.per_minute
        self.at = time.monotonic()


class EventCollector:
    """See ``clusters.collector.further``.  All that may wait for the disk is done in one thread: a
    disk that hangs holds up events, and nothing else."""

    name = "events"

    def __init__(self, holder: str, in_writer: InWriter) -> None:
        self.holder = holder
        self._in_writer = in_writer
        self._room = Room(settings.EVENT_SPOOL_MIB << 20)
        self._alarm = Trouble()
        self._root = Path(settings.DATA_DIR) / "spool"
        self._disk: ThreadPoolExecutor
        self._home: Home
        self._open = asyncio.Event()
        self._opening = asyncio.Lock()
        self._store: Store
        # Of all that is to be stored, only a few portions are with the store at a time.
        self._storing: asyncio.Semaphore
        self._senders: ThreadPoolExecutor
        self._shipments: dict[str, Shipment] = {}
        self._held: dict[str, tuple[Held, Reported]] = {}
        self._unusable: dict[int, Trouble] = {}
        """Of clusters, by key, that cannot even be tried."""

    async def _on_disk(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, function, *args)

    # --- for the process --------------------------------------------------------------------------

    async def run(self) -> None:
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._store = await self._in_writer(chosen.store)
        self._storing = asyncio.Semaphore(self._store.portions_at_once)
        self._senders = ThreadPoolExecutor(
            self._store.portions_at_once, thread_name_prefix="event-store"
        )
        try:
            self._home = await self._on_disk(Home.take, self._root)
            try:
                await self._serve()
            finally:
                await self._end()
        finally:
            self._senders.shutdown(wait=False)
            self._disk.shutdown(wait=False)

    async def _serve(self) -> None:
        for uid in await self._on_disk(self._home.names):
            with logged("spool_not_opened", cluster_uid=uid):
                await self._ship(uid)
        self._open.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._report_again_and_again())
            tasks.create_task(self._sweep_again_and_again())

    async def _end(self) -> None:
        self._open.clear()
        shipments, self._shipments, self._held = self._shipments, {}, {}
        tasks = [each.task for each in shipments.values() if each.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for each in shipments.values():
            self._disk.submit(each.spool.close)
        self._disk.submit(self._home.close)

    # --- for a cluster ----------------------------------------------------------------------------

    async def follow(self, held: Held, connection: Connection, pace: Pace | None) -> None:
        await self._open.wait()
        shipment = await self._ship(held.uid)
        spool = shipment.spool
        position, reached_at = await self._in_writer(streams.position_of, held.cluster_id)
        if position and spool.reached.reached_at > reached_at:
            position = spool.reached.position
        # What a spool of before has reached says nothing of a cluster that is read from its list.
        since, flow = reached_at if position else time.time(), shipment.flow
        mine = (held, Reported(since, flow.heard, flow.stored, flow.refused))
        self._held[held.uid] = mine
        self._unusable.pop(held.cluster_id, None)
        try:
            await Stream(
                connection,
                spool,
                shipment.flow,
                cluster_name=held.name,
                position=position,
                disk=self._disk,
                arrived=shipment.arrived.set,
                pace=pace,
            ).run()
        finally:
            # The next follower of this cluster may have begun, and a frame be on its way to disk.
            if self._held.get(held.uid) is mine:
                del self._held[held.uid]
            shipment.arrived.set()

    def cannot_follow(self, held: Held, why: str) -> None:
        self._unusable.setdefault(held.cluster_id, Trouble()).is_(why)

    # --- shipping ---------------------------------------------------------------------------------

    async def _ship(self, uid: str) -> Shipment:
        """The shipment of this cluster, begun when there is none yet."""
        async with self._opening:
            if uid not in self._shipments:
                spool = await self._on_disk(self._home.open, uid, self._room)
                shipment = self._shipments[uid] = Shipment(spool)
                shipment.task = asyncio.create_task(self._ship_again_and_again(uid, shipment))
            return self._shipments[uid]

    async def _ship_again_and_again(self, uid: str, shipment: Shipment) -> None:
        while True:
            shipment.arrived.clear()
            await self._ship_all(uid, shipment)
            await shipment.arrived.wait()

    async def _ship_all(self, uid: str, shipment: Shipment) -> None:
        """Store what waits, however long the store, or the disk, needs to be able to."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                is_more = await self._ship_some(uid, shipment)
            except Exception as error:  # noqa: BLE001 - it is told, and tried until it can be done
                shipment.flow.storing.is_(_why(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            else:
                pause = FIRST_PAUSE_SECONDS
                shipment.flow.storing.is_over()
                if not is_more:
                    return

    async def _ship_some(self, uid: str, shipment: Shipment) -> bool:
        """Store one portion; False when nothing waits."""
        spool, flow = shipment.spool, shipment.flow
        async with self._storing:
            portion = await self._on_disk(spool.read, EVENTS_AT_ONCE)
            if not portion.bytes:
                return False
            events = [(frame.received_at, frame.events) for frame in portion.frames]
            kept = await self._keep(uid, events)
        flow.stored += portion.events - kept.refused
        flow.refused += kept.refused
        flow.last_event_at = max(filter(None, (kept.last, flow.last_event_at)), default=None)
        await self._on_disk(spool.acknowledge, portion)
        return True

    async def _keep(self, uid: str, portions: storing.Portions) -> storing.Kept:
        """A store that hangs holds up its own threads, and not the one that has the database."""
        if self._store.is_in_database:
            kept: storing.Kept = await self._in_writer(
                storing.keep_in_database, self._store, uid, portions
            )
            return kept
        addressed: tuple[Keeper, Labels] | None = await self._in_writer(
            storing.addressed, self._store, uid
        )
        if addressed is None:
            return storing.Kept()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._senders, storing.keep, self._store, *addressed, portions
        )

    # --- what others left -------------------------------------------------------------------------

    async def _sweep_again_and_again(self) -> None:
        while True:
            with logged("spools_not_swept"):
                await self._forget_gone_clusters()
                await self._ship_what_is_left()
            await asyncio.sleep(SWEEP_SECONDS)

    async def _forget_gone_clusters(self) -> None:
        idle = [uid for uid in self._shipments if uid not in self._held]
        for uid in await self._in_writer(storing.unknown_of, idle):
            shipment = self._shipments.get(uid)
            if shipment is None or uid in self._held:
                continue
            del self._shipments[uid]
            if shipment.task is not None:
                shipment.task.cancel()
            await self._on_disk(shipment.spool.remove)

    async def _ship_what_is_left(self) -> None:
        """Of collectors of this host that were killed and did not come back."""
        while (home := await self._on_disk(Home.take_left, self._root)) is not None:
            try:
                for uid in await self._on_disk(home.names):
                    await self._ship_left(uid, await self._on_disk(home.open, uid, self._room))
            finally:
                self._disk.submit(home.close)

    async def _ship_left(self, uid: str, spool: Spool) -> None:
        try:
            await self._ship_all(uid, Shipment(spool))
            if spool.must_list:
                if uid in self._shipments:
                    await self._on_disk(self._shipments[uid].spool.lose)
                else:  # whoever holds the cluster lists it when it begins the next time
                    await self._in_writer(streams.forget_position, uid)
            await self._on_disk(spool.remove)
        finally:
            self._disk.submit(spool.close)

    # --- reporting --------------------------------------------------------------------------------

    async def _report_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            with logged("room_not_looked_at"):
                await self._look_at_room()
            with logged("streams_not_reported"):
                await self._report_all()

    async def _look_at_room(self) -> None:
        """Tell people, too, before anything is in danger, once for each time."""
        percent, is_new = self._room.percent, not self._alarm.sentence
        if percent >= ALARM_PERCENT:
            self._alarm.is_(_nearly_full(percent))
            if is_new and self._alarm.since is not None:
                await self._in_writer(
                    streams.tell_of_spool, self.holder, self._alarm.sentence, self._alarm.since
                )
        elif percent < CALM_PERCENT:
            self._alarm.is_over()

    async def _report_all(self) -> None:
        told: dict[int, tuple[Reported, Report]] = {}
        for uid, (held, last) in list(self._held.items()):
            with logged("stream_not_reported", cluster=held.name):
                shipment = self._shipments[uid]
                standing = await self._on_disk(shipment.spool.standing)
                told[held.cluster_id] = last, self._report(held, shipment.flow, standing, last)
        reports = [report for _, report in told.values()]
        for cluster_id in await self._in_writer(streams.write, self.holder, reports):
            last, report = told[cluster_id]
            last.was(report)
        for cluster_id, trouble in list(self._unusable.items()):
            values = (self.holder, cluster_id, trouble.sentence, trouble.since)
            if not await self._in_writer(streams.write_problem, *values):
                self._unusable.pop(cluster_id, None)

    def _report(self, held: Held, flow: Flow, standing: Standing, last: Reported) -> Report:
        seconds = max(time.monotonic() - last.at, 0.1)
        heard = flow.heard - last.heard
        change = heard / seconds * 60 - last.per_minute
        place, oldest = standing.acknowledged, standing.oldest_at
        trouble = flow.trouble(self._alarm)
        return Report(
            cluster_id=held.cluster_id,
            position=place.position if place.reached_at > last.position_at else "",
            position_at=max(place.reached_at, last.position_at),
            contact_at=flow.contact_at,
            last_event_at=flow.last_event_at,
            problem=trouble.sentence,
            problem_since=trouble.since,
            heard=heard,
            stored=flow.stored - last.stored,
            refused=flow.refused - last.refused,
            waiting=standing.events,
            waiting_bytes=standing.bytes,
            spool_percent=self._room.percent,
            lag_seconds=0.0 if oldest is None else max(0.0, time.time() - oldest),
            per_minute=round(last.per_minute + change * min(1.0, seconds / 60), 2),
        )


@contextmanager
def logged(what: str, **values: str) -> Iterator[None]:
    """A mistake in one thing is written down and costs no other."""
    try:
        yield
    except Exception:
        logger.exception(what, **values)


def _nearly_full(percent: int) -> str:
    return Sentence(
        "The spool of events is %(percent)s %% full: the event store does not keep up.",
        percent=percent,
    )


def _why(error: Exception) -> str:
    if isinstance(error, BeidouError):
        return error.message
    if isinstance(error, OSError):
        return Sentence(
            "The collector's disk gives nothing (%(why)s).", why=error.strerror or str(error)
        )
    if isinstance(error, DatabaseError | InterfaceError):
        return Sentence(
            "The database does not take events (%(why)s).", why=str(error).partition("\n")[0]
        )
    logger.error("events_not_stored", exc_info=error)
    return Sentence(
        "Events cannot be stored because of an error of the portal; the log of its collector "
        "describes it."
    )
