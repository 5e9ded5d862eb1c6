"""Feeding one cluster's state: two streams for nodes and pods, and a look at the components.

The streams never raise for what a cluster does; the look is skipped while the cluster is away, so
that a hung one costs a thread ten seconds once and not for ever.
"""

import asyncio
import random
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from beidou.base.errors import ExternalError, PermanentError
from beidou.base.sentences import Sentence
from clusters.collector.state import ClusterState
from clusters.drivers.answers import ComponentHealth, WorkloadCounts
from clusters.drivers.connection import Connection
from clusters.drivers.kubernetes import KubernetesClient
from clusters.drivers.objects import NODES, PODS
from clusters.drivers.watch import Disconnected, Pace, list_and_watch
from clusters.services import inventory

logger = structlog.get_logger(__name__)
LOOK_TIMEOUT_SECONDS = 10.0
TOLERATED_FAILURES = 1


@dataclass(frozen=True)
class Rhythm:
    """How often a collector does what, in seconds."""

    look: float = 40.0
    beat: float = 2.0
    flush: float = 1.0
    pace: Pace | None = None


class Follower:
    """All that watches one cluster; ``run`` ends only by being cancelled."""

    def __init__(
        self,
        connection: Connection,
        state: ClusterState,
        *,
        cluster_name: str,
        rhythm: Rhythm,
        threads: Executor,
    ) -> None:
        self.connection = connection
        self.state = state
        self.cluster_name = cluster_name
        self.rhythm = rhythm
        self._threads = threads
        self._here = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_nodes())
            tasks.create_task(self._follow_pods())
            tasks.create_task(self._look_again_and_again())

    async def _follow_nodes(self) -> None:
        stream = list_and_watch(
            self.connection, NODES, cluster_name=self.cluster_name, pace=self.rhythm.pace
        )
        async with aclosing(stream):
            async for event in stream:
                self.state.on_nodes(event, datetime.now(UTC))
                if isinstance(event, Disconnected):
                    self._here.clear()
                else:
                    self._here.set()

    async def _follow_pods(self) -> None:
        stream = list_and_watch(
            self.connection, PODS, cluster_name=self.cluster_name, pace=self.rhythm.pace
        )
        async with aclosing(stream):
            async for event in stream:
                self.state.on_pods(event, datetime.now(UTC))

    async def _look_again_and_again(self) -> None:
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            await self._here.wait()
            try:
                look = await loop.run_in_executor(
                    self._threads, look_at, self.connection, self.cluster_name
                )
                self.state.on_components(look.components, look.figures())
            except Exception as error:  # noqa: BLE001 - the streams of nodes and pods must go on
                failures += 1
                trouble = self._logged(error)
                if failures > TOLERATED_FAILURES:
                    self.state.component_trouble = trouble
            else:
                failures = 0
            await asyncio.sleep(self.rhythm.look * random.uniform(0.8, 1.2))  # noqa: S311

    def _logged(self, error: Exception) -> str:
        """The sentence for people; a mistake of ours goes into the log with its traceback."""
        if isinstance(error, ExternalError):
            logger.info("components_not_read", cluster=self.cluster_name, error=error.message)
            return error.message
        logger.error("components_look_failed", cluster=self.cluster_name, exc_info=error)
        return Sentence(
            "The components could not be looked at because of an error of the portal; the log of "
            "its collector describes it."
        )


@dataclass(frozen=True)
class Look:
    """What one look at the components found."""

    components: list[ComponentHealth]
    workloads: WorkloadCounts
    certificate_expires_at: datetime | None
    version: str

    def figures(self) -> dict[str, Any]:
        return inventory.component_figures(
            self.components, self.workloads, self.certificate_expires_at, self.version
        )


def look_at(connection: Connection, cluster_name: str) -> Look:
    """Read the components, counts, version and certificate; blocking, ends at the first silence."""
    with KubernetesClient(
        connection, cluster_name=cluster_name, timeout=LOOK_TIMEOUT_SECONDS
    ) as client:
        version = _version(client)
        return Look(
            components=client.component_health(),
            workloads=client.workload_counts(),
            certificate_expires_at=client.server_certificate_expiry(),
            version=version,
        )


def _version(client: KubernetesClient) -> str:
    try:
        return client.version().git_version
    except PermanentError:
        return ""  # some providers close /version to everybody; the last known one stays
