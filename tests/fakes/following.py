"""Reading a stream of ``list_and_watch`` step by step, with a deadline."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from clusters.drivers.connection import Connection
from clusters.drivers.objects import NODES, NodeInfo
from clusters.drivers.watch import Event, Listed, Pace, list_and_watch
from tests.fakes.kube_api import Answer, FakeKubeApi, Request

NODES_PATH = "/api/v1/nodes"
DEADLINE = 20
QUICK = Pace(
    answer_seconds=0.5,
    page_seconds=0.5,
    watch_seconds=1,
    grace_seconds=0.2,
    first_delay_seconds=0.01,
    largest_delay_seconds=0.05,
)
PATIENT = Pace(first_delay_seconds=0.01, largest_delay_seconds=0.05)


def script(api: FakeKubeApi, lists: list[Answer], watches: list[Answer]) -> None:
    """Answers of LISTs and of WATCHes, in their order; the last of each stays."""

    def answer(request: Request) -> Answer:
        answers = watches if "watch" in request.query else lists
        return answers.pop(0) if len(answers) > 1 else answers[0]

    api.on("GET", NODES_PATH, answer)


def watches(api: FakeKubeApi) -> list[str]:
    """The positions from which watches were started so far."""
    asked = [item.query for item in api.asked("GET", NODES_PATH)]
    return [query["resourceVersion"] for query in asked if "watch" in query]


class Follower:
    """One stream of a test, read step by step with a deadline."""

    def __init__(self, events: AsyncGenerator[Event[NodeInfo], None]) -> None:
        self._events = events

    async def next(self) -> Event[NodeInfo]:
        return await asyncio.wait_for(anext(self._events), DEADLINE)

    async def until(self, kind: type[Any]) -> Any:
        while not isinstance(found := await self.next(), kind):
            pass
        return found


def follow(
    connection: Connection, scenario: Callable[[Follower], Awaitable[None]], pace: Pace = PATIENT
) -> None:
    async def run() -> None:
        events = list_and_watch(connection, NODES, cluster_name="prod-1", pace=pace)
        async with aclosing(events):
            await scenario(Follower(events))

    asyncio.run(run())


def names(listed: Event[NodeInfo]) -> list[str]:
    assert isinstance(listed, Listed)
    return [item.name for item in listed.items]
