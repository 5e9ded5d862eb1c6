"""The collector process: leases clusters, follows them, writes what changed.

Three loops share one event loop: ``_supervise`` renews leases and starts or stops followers,
``_flush`` writes one batch per cluster in turn, and every follower lives on its own.  All database
work happens in one thread; a cluster with much to write gets the next turn only after the others.
"""

import asyncio
import os
import socket
import uuid
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import structlog
from django.db import close_old_connections

from beidou.base.errors import BeidouError
from clusters.collector import further
from clusters.collector.follow import Follower, Rhythm
from clusters.collector.state import Batch, ClusterState
from clusters.drivers.connection import Connection
from clusters.models import Cluster
from clusters.services import inventory, leases
from clusters.services.connections import connection_for
from clusters.services.leases import Held

logger = structlog.get_logger(__name__)
LOOKING_THREADS = 16
STOP_SECONDS = 5.0

T = TypeVar("T")


def new_holder() -> str:
    """A name for this process that no other ever has."""
    return f"{socket.gethostname()[:60]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


class DatabaseThread(ThreadPoolExecutor):
    """One thread for all database work; its connection is looked after as for a request."""

    def __init__(self) -> None:
        super().__init__(max_workers=1, thread_name_prefix="writer")

    def submit(self, function: Callable[..., T], /, *args: object, **kwargs: object) -> "Future[T]":
        return super().submit(_with_database, partial(function, *args, **kwargs))


def _with_database(function: Callable[[], T]) -> T:
    close_old_connections()
    try:
        return function()
    finally:
        close_old_connections()


class Watched:
    """One cluster this process holds."""

    def __init__(self, held: Held, state: ClusterState, task: "asyncio.Task[None]") -> None:
        self.held = held
        self.state = state
        self.task = task


class CollectorProcess:
    """``run`` watches until ``stop`` is set; ``writer`` is the one thread with the database."""

    def __init__(
        self,
        *,
        holder: str | None = None,
        rhythm: Rhythm | None = None,
        writer: Executor | None = None,
    ) -> None:
        self.holder = holder or new_holder()
        self.rhythm = rhythm or Rhythm()
        self.stop = asyncio.Event()
        self._writer = writer or DatabaseThread()
        self._lookers = ThreadPoolExecutor(LOOKING_THREADS, thread_name_prefix="look")
        self._watched: dict[int, Watched] = {}
        self._further = further.make_all(self.holder, self._in_writer)

    async def run(self) -> None:
        """Watch until ``stop``; then write what is left and give the clusters back."""
        logger.info("collector_started", holder=self.holder)
        loops = [asyncio.create_task(self._supervise()), asyncio.create_task(self._flush())]
        others = [
            asyncio.create_task(further.keep(each.run, name=each.name)) for each in self._further
        ]
        try:
            await self.stop.wait()
        finally:
            await _cancel(loops)
            for cluster_id in list(self._watched):
                await self._drop(cluster_id)
            await _cancel(others)  # what follows a cluster needs them
            await self._end()
            logger.info("collector_stopped", holder=self.holder)

    async def _end(self) -> None:
        await self._in_writer(leases.release, self.holder)
        self._lookers.shutdown(wait=False, cancel_futures=True)
        self._writer.shutdown(wait=True)

    async def _in_writer(self, function: Callable[..., T], *args: object) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writer, partial(function, *args))

    # --- which clusters ---------------------------------------------------------------------------

    async def _supervise(self) -> None:
        while True:
            try:
                self._apply(await self._in_writer(leases.beat, self.holder))
            except Exception:  # noqa: BLE001 - the boundary of the process: go on at the next beat
                logger.exception("collector_beat_failed")
            await asyncio.sleep(self.rhythm.beat)

    def _apply(self, held: list[Held]) -> None:
        """Follow what is held, in its present form; drop what is not."""
        wanted = {item.cluster_id: item for item in held}
        for cluster_id, watched in list(self._watched.items()):
            if wanted.get(cluster_id) != watched.held or watched.task.done():
                self._watched.pop(cluster_id)
                _end_task(watched)
        for cluster_id, item in wanted.items():
            if cluster_id not in self._watched:
                state = ClusterState()
                task = asyncio.create_task(self._follow(item, state))
                self._watched[cluster_id] = Watched(item, state, task)

    async def _follow(self, held: Held, state: ClusterState) -> None:
        while True:
            try:
                connection = await self._in_writer(_load_connection, held.cluster_id)
                break
            except BeidouError as error:
                # Until it is replaced, or becomes valid: the clocks of two hosts differ.
                state.on_unusable(error)
                for each in self._further:
                    each.cannot_follow(held, error.message)
                await asyncio.sleep(self.rhythm.look)
        state.on_usable()
        if connection is None:
            return  # removed a moment ago; the next beat does not hold it any more
        follower = Follower(
            connection,
            state,
            cluster_name=held.name,
            rhythm=self.rhythm,
            threads=self._lookers,
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(follower.run())
            for each in self._further:
                follow = partial(each.follow, held, connection, self.rhythm.pace)
                tasks.create_task(further.keep(follow, name=f"{each.name} of {held.name}"))

    async def _drop(self, cluster_id: int) -> None:
        watched = self._watched.pop(cluster_id)
        watched.task.cancel()
        await asyncio.wait([watched.task], timeout=STOP_SECONDS)
        _end_task(watched)
        batch = watched.state.take(datetime.now(UTC))
        if batch is not None:
            await self._write(cluster_id, watched.state, batch)

    # --- writing ----------------------------------------------------------------------------------

    async def _flush(self) -> None:
        while True:
            more = False
            for cluster_id, watched in list(self._watched.items()):
                batch = watched.state.take(datetime.now(UTC))
                if batch is not None:
                    written = await self._write(cluster_id, watched.state, batch)
                    more |= written and watched.state.has_more
            if not more:
                await asyncio.sleep(self.rhythm.flush)

    async def _write(self, cluster_id: int, state: ClusterState, batch: Batch) -> bool:
        try:
            rest = await self._in_writer(store, self.holder, cluster_id, batch)
        except inventory.LeaseLost:
            logger.info("lease_lost", cluster_id=cluster_id)
            state.give_back(batch)  # it may come back at the next beat
        except Exception:  # noqa: BLE001 - one cluster's trouble must not end the others' writing
            logger.exception("inventory_not_written", cluster_id=cluster_id)
            state.give_back(batch)
        else:
            if rest is None:
                return True
            state.give_back(rest)
        return False


async def _cancel(tasks: list["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _end_task(watched: Watched) -> None:
    """Cancel a follower; one that died by itself is a mistake of ours and goes into the log."""
    task = watched.task
    if not task.done():
        task.cancel()
    elif not task.cancelled() and task.exception() is not None:
        logger.error("follower_died", cluster=watched.held.name, exc_info=task.exception())


def _load_connection(cluster_id: int) -> Connection | None:
    cluster = Cluster.objects.filter(pk=cluster_id).first()
    return None if cluster is None else connection_for(cluster)


def store(holder: str, cluster_id: int, batch: Batch) -> Batch | None:
    """Write one batch; gives the parts that could not be written, None when all were.

    Every part is tried by itself: a node that the database does not take must not freeze the
    cluster's health.  LeaseLost when the cluster is another collector's now.
    """
    mine = {"holder": holder, "cluster_id": cluster_id}
    rest = Batch(at=batch.at)
    if batch.has_nodes and not _is_written(
        inventory.write_nodes,
        **mine,
        nodes=batch.nodes,
        deleted=batch.deleted,
        all_names=batch.all_names,
        at=batch.at,
    ):
        rest.nodes, rest.deleted, rest.all_names = batch.nodes, batch.deleted, batch.all_names
    if batch.usage is not None and not _is_written(
        inventory.write_usage,
        **mine,
        changed=batch.usage.changed,
        gone=batch.usage.gone,
        per_node=batch.usage.per_node,
        replace=batch.usage.replace,
    ):
        rest.usage = batch.usage
    if batch.figures and not _is_written(inventory.write_figures, **mine, figures=batch.figures):
        rest.figures = batch.figures
    if batch.verdict is not None and not _is_written(
        inventory.write_health,
        **mine,
        health=batch.verdict.health,
        reason=batch.verdict.reason,
        since=batch.verdict.since,
        at=batch.at,
    ):
        rest.verdict = batch.verdict
    return None if rest.is_empty else rest


def _is_written(write: Callable[..., object], **values: Any) -> bool:
    try:
        write(**values)
    except inventory.LeaseLost:
        raise
    except Exception:  # noqa: BLE001 - one part's trouble must not keep the others from being written
        logger.exception(
            "inventory_not_written", cluster_id=values["cluster_id"], by=write.__name__
        )
        return False
    return True
