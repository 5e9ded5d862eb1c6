"""What else a collector does for the clusters it holds; apps above this one register it.

The collector leases clusters and watches over the process; whoever joins here gets a task for the
life of the process and one for every cluster while it is held.  A mistake in one is written to the
log and costs nothing else: it is begun again after a pause.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import structlog

from clusters.drivers.connection import Connection
from clusters.drivers.watch import Pace
from clusters.services.leases import Held

logger = structlog.get_logger(__name__)
PAUSE_SECONDS = 5.0

InWriter = Callable[..., Awaitable[Any]]
"""``await in_writer(function, *arguments)`` calls it in the one thread that has the database."""


class Further(Protocol):
    name: str

    async def run(self) -> None:
        """Whatever does not belong to one cluster; ended by being cancelled."""

    async def follow(self, held: Held, connection: Connection, pace: Pace | None) -> None:
        """What is done for one cluster; ended by being cancelled."""

    def cannot_follow(self, held: Held, why: str) -> None:
        """Its credential is none that could be tried, which a sentence explains; ``follow`` comes
        when it is."""


MAKERS: list[Callable[[str, InWriter], Further]] = []


def register(make: Callable[[str, InWriter], Further]) -> None:
    """``make(holder, in_writer)`` is called once in each collector."""
    if make not in MAKERS:
        MAKERS.append(make)


def make_all(holder: str, in_writer: InWriter) -> list[Further]:
    return [make(holder, in_writer) for make in MAKERS]


async def keep(main: Callable[[], Awaitable[None]], *, name: str) -> None:
    """Run ``main``, and again whenever it fails; ``name`` is for the log."""
    while True:
        try:
            await main()
        except Exception:
            logger.exception("further_work_failed", what=name)
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            return
