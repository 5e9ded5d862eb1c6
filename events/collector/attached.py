"""What the collector does for events: per cluster a stream into a spool, per spool a shipper into
the event store, and every few seconds a report.

A spool is shipped whoever holds its cluster: what a collector has heard it stores, even when it has
lost the lease meanwhile, because storing twice changes nothing.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from django.conf import settings
from django.db import DatabaseError

from beidou.base.errors import BeidouError
from beidou.base.sentences import Sentence
from clusters.collector.further import InWriter, keep
from clusters.drivers.connection import Connection
from clusters.drivers.watch import Pace
from clusters.services.leases import Held
from events.collector.spool import Room, Spool
from events.collector.spools import Home
from events.collector.stream import Flow, Stream
from events.services import storing, streams
from events.services.streams import Report

logger = structlog.get_logger(__name__)
EVENTS_AT_ONCE = 1000
REPORT_SECONDS = 3.0
SWEEP_SECONDS = 60.0
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
    per_minute: float = 0.0
    at: float = field(default_factory=time.monotonic)

    def was(self, report: Report) -> None:
        self.position_at = report.position_at
        self.heard += report.heard
        self.stored += report.stored
        self.per_minute = report.per_minute
        self.at = time.monotonic()


class EventCollector:
    """See ``clusters.collector.further``."""

    name = "events"

    def __init__(self, holder: str, in_writer: InWriter) -> None:
        self.holder = holder
        self._in_writer = in_writer
        self._room = Room(settings.EVENT_SPOOL_MIB << 20)
        # One thread: what it does is short, and a disk that hangs must not take them all.
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._root = Path(settings.DATA_DIR) / "spool"
        self._home: Home
        self._open = asyncio.Event()
        self._shipments: dict[str, Shipment] = {}
        self._held: dict[str, tuple[Held, Reported]] = {}

    # --- for the process --------------------------------------------------------------------------

    async def run(self) -> None:
        home = self._home = Home.take(self._root)
        try:
            for uid in home.names():
                self._ship(uid)
            self._open.set()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._report_again_and_again())
                tasks.create_task(self._sweep_again_and_again())
        finally:
            await self._end()

    async def _end(self) -> None:
        self._open.clear()
        tasks = [each.task for each in self._shipments.values() if each.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for each in self._shipments.values():
            each.spool.close()
        self._shipments = {}
        self._disk.shutdown(wait=False, cancel_futures=True)
        self._home.close()

    # --- for a cluster ----------------------------------------------------------------------------

    async def follow(self, held: Held, connection: Connection, pace: Pace | None) -> None:
        await self._open.wait()
        shipment = self._ship(held.uid)
        position, reached_at = await self._in_writer(streams.position_of, held.cluster_id)
        if shipment.spool.reached.reached_at > reached_at:
            position = shipment.spool.reached.position
        self._held[held.uid] = (
            held,
            Reported(reached_at, shipment.flow.heard, shipment.flow.stored),
        )
        try:
            await Stream(
                connection,
                shipment.spool,
                shipment.flow,
                cluster_name=held.name,
                position=position,
                disk=self._disk,
                arrived=shipment.arrived.set,
                pace=pace,
            ).run()
        finally:
            self._held.pop(held.uid, None)

    # --- shipping ---------------------------------------------------------------------------------

    def _ship(self, uid: str) -> Shipment:
        """The shipment of this cluster, begun when there is none yet."""
        if uid not in self._shipments:
            shipment = Shipment(self._home.open(uid, self._room))
            shipment.arrived.set()
            shipment.task = asyncio.create_task(
                keep(lambda: self._ship_again_and_again(uid, shipment), name=f"shipping of {uid}")
            )
            self._shipments[uid] = shipment
        return self._shipments[uid]

    async def _ship_again_and_again(self, uid: str, shipment: Shipment) -> None:
        while True:
            await shipment.arrived.wait()
            shipment.arrived.clear()
            await self._ship_all(uid, shipment)

    async def _ship_all(self, uid: str, shipment: Shipment) -> None:
        """Store what waits, however long the store needs to be able to."""
        loop = asyncio.get_running_loop()
        spool, flow, pause = shipment.spool, shipment.flow, FIRST_PAUSE_SECONDS
        while True:
            portion = await loop.run_in_executor(self._disk, spool.read, EVENTS_AT_ONCE)
            if not portion.bytes:
                return
            events = [(frame.received_at, frame.events) for frame in portion.frames]
            try:
                last = await self._in_writer(storing.store, uid, events)
            except (BeidouError, DatabaseError) as error:
                flow.storing.is_(_why(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                continue
            pause = FIRST_PAUSE_SECONDS
            flow.storing.is_over()
            flow.stored += portion.events
            flow.last_event_at = max(filter(None, (last, flow.last_event_at)), default=None)
            await loop.run_in_executor(self._disk, spool.acknowledge, portion)

    # --- what others left -------------------------------------------------------------------------

    async def _sweep_again_and_again(self) -> None:
        while True:
            try:
                await self._forget_gone_clusters()
                await self._ship_what_is_left()
            except (DatabaseError, OSError):
                logger.exception("spools_not_swept")
            await asyncio.sleep(SWEEP_SECONDS)

    async def _forget_gone_clusters(self) -> None:
        idle = [uid for uid in self._shipments if uid not in self._held]
        for uid in await self._in_writer(storing.unknown_of, idle):
            if uid not in self._held:
                shipment = self._shipments.pop(uid)
                if shipment.task is not None:
                    shipment.task.cancel()
                shipment.spool.remove()

    async def _ship_what_is_left(self) -> None:
        """Of collectors of this host that were killed and did not come back."""
        while (home := Home.take_left(self._root)) is not None:
            try:
                for uid in home.names():
                    left = Shipment(home.open(uid, self._room))
                    try:
                        await self._ship_all(uid, left)
                    except BaseException:
                        left.spool.close()
                        raise
                    left.spool.remove()
            finally:
                home.close()

    # --- reporting --------------------------------------------------------------------------------

    async def _report_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            told = [
                (last, self._report(uid, held, last)) for uid, (held, last) in self._held.items()
            ]
            try:
                await self._in_writer(streams.write, self.holder, [report for _, report in told])
            except DatabaseError:
                logger.exception("streams_not_reported")
                continue
            for last, report in told:
                last.was(report)

    def _report(self, uid: str, held: Held, last: Reported) -> Report:
        shipment = self._shipments[uid]
        flow, spool = shipment.flow, shipment.spool
        seconds = max(time.monotonic() - last.at, 0.1)
        heard = flow.heard - last.heard
        change = heard / seconds * 60 - last.per_minute
        oldest = spool.oldest_at()
        place = spool.acknowledged
        trouble = flow.trouble
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
            waiting=spool.events_waiting,
            waiting_bytes=spool.bytes_waiting,
            lag_seconds=0.0 if oldest is None else max(0.0, time.time() - oldest),
            per_minute=round(last.per_minute + change * min(1.0, seconds / 60), 2),
        )


def _why(error: BeidouError | DatabaseError) -> str:
    if isinstance(error, BeidouError):
        return error.message
    return Sentence(
        "The database does not take events (%(why)s).", why=str(error).partition("\n")[0]
    )
