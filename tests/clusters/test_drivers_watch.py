"""Following a cluster in the ordinary course, and after its memory ended."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace

import pytest

from clusters.drivers.objects import PODS
from clusters.drivers.watch import (
    Added,
    Deleted,
    Listed,
    Modified,
    Progress,
    list_and_watch,
)
from tests.fakes.following import (
    NODES_PATH,
    Follower,
    follow,
    names,
    script,
    watches,
)
from tests.fakes.kube_api import (
    Answer,
    FakeKubeApi,
    Stream,
    bookmark,
    event,
    list_reply,
    node,
    pod,
    status_reply,
)


@pytest.fixture
def api() -> Iterator[FakeKubeApi]:
    with FakeKubeApi() as server:
        yield server


# --- the ordinary course --------------------------------------------------------------------------


def test_the_state_comes_first_then_every_change(api: FakeKubeApi):
    stream = Stream(
        event("ADDED", node("n2", version="101")),
        event("MODIFIED", node("n1", version="102", unschedulable=True)),
        event("DELETED", node("n2", version="103")),
        bookmark("110"),
    )
    script(api, [list_reply([node("n1")])], [stream])

    async def scenario(follower: Follower) -> None:
        assert names(await follower.next()) == ["n1"]
        assert await follower.next() == Progress("100")
        added, modified, deleted = [await follower.next() for _ in range(3)]
        assert isinstance(added, Added)
        assert added.item.name == "n2"
        assert isinstance(modified, Modified)
        assert modified.item.unschedulable
        assert isinstance(deleted, Deleted)
        assert await follower.next() == Progress("110")

    follow(api.connection(), scenario)
    asked = api.asked("GET", NODES_PATH)[1]
    assert asked.query == {
        "watch": "true",
        "resourceVersion": "100",
        "allowWatchBookmarks": "true",
        "timeoutSeconds": "20",
    }
    assert asked.headers["Authorization"] == "Bearer test-token"


def test_all_pages_are_one_list(api: FakeKubeApi):
    pages: list[Answer] = [
        list_reply([node("n1")], continue_="abc"),
        list_reply([node("n2")], continue_="def"),
        list_reply([node("n3")], version="300"),
    ]
    script(api, pages, [Stream()])

    async def scenario(follower: Follower) -> None:
        listed = await follower.next()
        assert names(listed) == ["n1", "n2", "n3"]
        assert await follower.next() == Progress("300")

    follow(api.connection(), scenario)
    lists = [item.query for item in api.asked("GET", NODES_PATH)][:3]
    assert [query.get("continue") for query in lists] == [None, "abc", "def"]
    assert {query["limit"] for query in lists} == {"500"}


def test_a_watch_that_ends_is_continued_from_the_bookmark(api: FakeKubeApi):
    first = Stream(event("ADDED", node("n2", version="150")), bookmark("200")).close()
    script(api, [list_reply([])], [first, Stream()])

    async def scenario(follower: Follower) -> None:
        await follower.until(Added)
        assert await follower.next() == Progress("200")
        assert await follower.next() == Progress("200")

    follow(api.connection(), scenario)
    assert watches(api) == ["100", "200"]


def test_pods_are_followed_with_the_same_code(api: FakeKubeApi):
    api.on("GET", "/api/v1/pods", list_reply([pod("a"), pod("b", phase="Succeeded")]))

    async def run() -> None:
        async with aclosing(list_and_watch(api.connection(), PODS, cluster_name="x")) as events:
            listed = await anext(events)
            assert isinstance(listed, Listed)
            assert [item.is_finished for item in listed.items] == [False, True]

    asyncio.run(run())


def test_the_client_certificate_is_shown(api: FakeKubeApi):
    script(api, [list_reply([])], [Stream()])

    async def scenario(follower: Follower) -> None:
        await follower.next()

    follow(api.connection(token=None), scenario)
    assert api.requests[0].client == "admin"


def test_the_server_may_be_called_by_another_name(api: FakeKubeApi):
    script(api, [list_reply([])], [Stream()])

    async def scenario(follower: Follower) -> None:
        assert names(await follower.next()) == []

    connection = api.connection(tls_server_name="kubernetes")
    follow(replace(connection, server=f"https://localhost:{api.port}"), scenario)


# --- positions that are too old -------------------------------------------------------------------


@pytest.mark.parametrize(
    "too_old",
    [
        status_reply(410, "too old resource version"),
        Stream(event("ERROR", {"kind": "Status", "code": 410, "message": "too old"})),
    ],
    ids=["as a status", "as an event"],
)
def test_a_position_that_is_too_old_leads_to_a_new_list(api: FakeKubeApi, too_old: Answer):
    lists: list[Answer] = [list_reply([node("n1")]), list_reply([node("n2")], version="500")]
    script(api, lists, [too_old, Stream()])

    async def scenario(follower: Follower) -> None:
        assert names(await follower.next()) == ["n1"]
        assert names(await follower.until(Listed)) == ["n2"]
        assert await follower.next() == Progress("500")

    follow(api.connection(), scenario)
    assert watches(api) == ["100", "500"]


def test_a_list_that_takes_too_long_begins_anew(api: FakeKubeApi):
    lists: list[Answer] = [
        list_reply([node("n1")], continue_="abc"),
        status_reply(410, "the continue parameter is too old"),
        list_reply([node("n2")]),
    ]
    script(api, lists, [Stream()])

    async def scenario(follower: Follower) -> None:
        assert names(await follower.next()) == ["n2"]

    follow(api.connection(), scenario)
