"""Following a server that cuts, hangs, lies and goes away."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import aclosing
from datetime import UTC, datetime

import pytest

from beidou.base.errors import ExternalError
from clusters.drivers import errors
from clusters.drivers.connection import Connection
from clusters.drivers.objects import NODES, NodeInfo
from clusters.drivers.watch import (
    Added,
    Disconnected,
    Event,
    Listed,
    Pace,
    Progress,
    list_and_watch,
)
from tests.fakes.following import (
    DEADLINE,
    PATIENT,
    QUICK,
    Follower,
    follow,
    names,
    script,
    watches,
)
from tests.fakes.kube_api import (
    Answer,
    Cut,
    FakeKubeApi,
    Hang,
    Reply,
    Stream,
    Trickle,
    authority,
    event,
    list_reply,
    node,
    status_reply,
)


@pytest.fixture
def api() -> Iterator[FakeKubeApi]:
    with FakeKubeApi() as server:
        yield server


# --- breaks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rest", ["", '{"type": "ADDED", "object": {"meta'])
def test_a_single_break_is_mended_without_a_word(api: FakeKubeApi, rest: str):
    first = Stream(event("ADDED", node("n2", version="150")))
    script(api, [list_reply([])], [first, Stream(event("ADDED", node("n3", version="151")))])

    async def scenario(follower: Follower) -> None:
        await follower.until(Added)
        first.send(rest).cut()
        assert await follower.next() == Progress("150")
        assert isinstance(await follower.next(), Added)

    follow(api.connection(), scenario)
    assert watches(api) == ["100", "150"]


def test_an_end_in_the_middle_of_an_event_is_a_break(api: FakeKubeApi):
    first = Stream('{"type": "ADDED", "obj').close()
    script(api, [list_reply([])], [first, Stream(event("ADDED", node("n3", version="151")))])

    async def scenario(follower: Follower) -> None:
        assert (await follower.until(Added)).item.name == "n3"

    follow(api.connection(), scenario)
    assert watches(api) == ["100", "100"]


def test_a_broken_line_is_read_again_from_the_last_position(api: FakeKubeApi):
    first = Stream(event("ADDED", node("n2", version="150")), "{{{\n")
    script(api, [list_reply([])], [first, Stream()])

    async def scenario(follower: Follower) -> None:
        await follower.until(Added)
        assert await follower.next() == Progress("150")

    follow(api.connection(), scenario)
    assert watches(api) == ["100", "150"]


def test_an_event_may_come_in_any_pieces(api: FakeKubeApi):
    stream = Stream()
    script(api, [list_reply([])], [stream])
    text = f"{event('ADDED', node('n2'))}".replace("'", '"') + "\n"
    large = {**node("n3"), "padding": "x" * 300_000}
    for start in range(0, len(text), 7):
        stream.send(text[start : start + 7])
    stream.send(event("ADDED", large))

    async def scenario(follower: Follower) -> None:
        assert (await follower.until(Added)).item.name == "n2"
        assert (await follower.until(Added)).item.name == "n3"

    follow(api.connection(), scenario)


def test_an_object_that_cannot_be_read_does_not_stop_the_stream(
    api: FakeKubeApi, caplog: pytest.LogCaptureFixture
):
    bad = node("bad")
    bad["status"]["capacity"]["cpu"] = "many"
    unknown = event("SURPRISE", {"metadata": {}})
    script(
        api,
        [list_reply([])],
        [Stream(event("ADDED", bad), unknown, event("ADDED", node("good")))],
    )

    async def scenario(follower: Follower) -> None:
        assert (await follower.until(Added)).item.name == "good"

    follow(api.connection(), scenario)
    assert "'many' is not a Kubernetes quantity" in caplog.text
    assert "skipped a watch event 'SURPRISE'" in caplog.text


# --- away -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (Hang(), errors.Unreachable, "did not answer within 0.5 s"),
        (Trickle(body="x" * 5000), errors.Unreachable, "did not answer within 0.5 s"),
        (Cut(), errors.Unreachable, "failed after"),
        (Reply(body="<html>"), errors.BadAnswer, "the answer is broken"),
        (status_reply(401, "Unauthorized"), errors.Unauthorized, "HTTP 401"),
        (status_reply(403, "no nodes for you"), errors.Forbidden, "no nodes for you"),
        (status_reply(500, "token test-token"), errors.ServerTrouble, "token ***"),
        (Reply(status=302, headers={"Location": "/x"}), ExternalError, "HTTP 302"),
    ],
)
def test_what_keeps_the_list_from_coming_is_reported_and_then_over(
    api: FakeKubeApi, answer: Answer, kind: type[Exception], words: str
):
    if isinstance(answer, Reply) and answer.status >= 500:
        answer = Reply(answer.body, answer.status, {"Retry-After": "0"})
    script(api, [answer, answer, list_reply([node("n1")])], [Stream()])
    before = datetime.now(UTC)

    async def scenario(follower: Follower) -> None:
        first, second = await follower.next(), await follower.next()
        assert isinstance(first, Disconnected)
        assert isinstance(second, Disconnected)
        assert isinstance(first.error, kind)
        assert first.error.message.startswith("Cluster prod-1: could not list the nodes: ")
        assert words in first.error.message
        assert first.since == second.since
        assert before <= first.since <= datetime.now(UTC)
        assert names(await follower.next()) == ["n1"]

    follow(api.connection(), scenario, QUICK)


def test_a_stream_that_hangs_open_is_reported_with_the_last_contact(api: FakeKubeApi):
    script(api, [list_reply([node("n1")])], [Stream(), Hang()])
    contact: list[datetime] = []

    async def scenario(follower: Follower) -> None:
        await follower.until(Progress)
        contact.append(datetime.now(UTC))
        begun = time.monotonic()
        gone = await follower.next()
        assert isinstance(gone, Disconnected)
        assert abs((gone.since - contact[0]).total_seconds()) < 0.2
        limit = QUICK.watch_seconds + QUICK.grace_seconds + QUICK.answer_seconds
        assert time.monotonic() - begun < limit + 1
        assert "could not watch the nodes" in gone.error.message

    follow(api.connection(), scenario, QUICK)


def test_a_silent_but_well_cluster_is_never_reported(api: FakeKubeApi):
    silent = [Stream().close() for _ in range(4)]
    script(api, [list_reply([])], [*silent, Stream(event("ADDED", node("n9")))])

    async def scenario(follower: Follower) -> None:
        seen = []
        while not isinstance(item := await follower.next(), Added):
            seen.append(type(item))
        assert seen == [Listed] + [Progress] * 5

    follow(api.connection(), scenario)


def test_a_cluster_that_comes_back_is_followed_from_where_it_was(api: FakeKubeApi):
    first = Stream(event("ADDED", node("n2", version="150")))
    trouble = Reply(status=503, headers={"Retry-After": "0"})
    watches_: list[Answer] = [
        first,
        trouble,
        trouble,
        Stream(event("ADDED", node("n3", version="170"))),
    ]
    script(api, [list_reply([])], watches_)

    async def scenario(follower: Follower) -> None:
        await follower.until(Added)
        first.cut()
        assert isinstance(await follower.next(), Disconnected)
        assert isinstance(await follower.until(Progress), Progress)
        assert (await follower.next()).item.name == "n3"  # type: ignore[union-attr]

    follow(api.connection(), scenario)
    assert watches(api) == ["100", "150", "150", "150"]
    assert len([r for r in api.requests if "watch" not in r.query]) == 1


def test_a_stream_that_breaks_again_and_again_is_reported(api: FakeKubeApi):
    trouble = event("ERROR", {"kind": "Status", "code": 500, "message": "no watch for you"})
    script(api, [list_reply([])], [Stream(trouble) for _ in range(3)])

    async def scenario(follower: Follower) -> None:
        gone = await follower.until(Disconnected)
        assert gone.error.message.endswith("answered HTTP 500: no watch for you.")

    follow(api.connection(), scenario)


def test_a_closed_port_is_reported_and_followed_when_it_opens(api: FakeKubeApi):
    connection, port = api.connection(), api.port
    api.stop()

    async def scenario(follower: Follower) -> None:
        gone = await follower.next()
        assert isinstance(gone, Disconnected)
        assert gone.error.code == "connection_refused"
        with FakeKubeApi(port=port) as again:
            script(again, [list_reply([node("n1")])], [Stream()])
            assert names(await follower.until(Listed)) == ["n1"]

    follow(connection, scenario)


@pytest.mark.parametrize(
    ("certificate", "code"), [("other_ca", "unknown_ca"), ("expired", "expired")]
)
def test_a_wrong_certificate_is_reported_and_nothing_is_sent(certificate: str, code: str):
    with FakeKubeApi(certificate=certificate) as api:

        async def scenario(follower: Follower) -> None:
            gone = await follower.next()
            assert isinstance(gone, Disconnected)
            assert isinstance(gone.error, errors.CertificateProblem)
            assert gone.error.code == code

        follow(api.connection(), scenario)
        assert api.requests == []


def test_a_name_that_does_not_exist_is_reported():
    connection = Connection(
        server="https://no-such-host.invalid:6443", ca_pem=authority().ca_pem, token="x"
    )

    async def scenario(follower: Follower) -> None:
        gone = await follower.next()
        assert isinstance(gone, Disconnected)
        assert gone.error.code == "name_not_resolved"

    follow(connection, scenario)


def test_a_server_that_ends_watches_at_once_is_not_asked_in_a_tight_loop(api: FakeKubeApi):
    script(api, [list_reply([])], [Stream().close() for _ in range(200)])
    pace = Pace(first_delay_seconds=0.1, largest_delay_seconds=0.4)

    async def scenario(follower: Follower) -> None:
        begun = time.monotonic()
        for _ in range(6):
            await follower.next()
        assert time.monotonic() - begun > 0.5

    follow(api.connection(), scenario, pace)


# --- many, and the end ----------------------------------------------------------------------------


def test_a_hung_cluster_does_not_delay_another(api: FakeKubeApi):
    script(api, [list_reply([node("n1")])], [Stream(event("ADDED", node("n2")))])
    with FakeKubeApi(speaks="nothing") as hung:

        async def first(connection: Connection) -> Event[NodeInfo]:
            events = list_and_watch(connection, NODES, cluster_name="x", pace=PATIENT)
            async with aclosing(events):
                return await asyncio.wait_for(anext(events), DEADLINE)

        async def run() -> None:
            waiting = [asyncio.create_task(first(hung.connection())) for _ in range(20)]
            assert names(await first(api.connection())) == ["n1"]
            assert not any(task.done() for task in waiting)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

        asyncio.run(run())


def test_a_hung_cluster_is_reported_within_a_minute():
    pace = Pace()
    silence = pace.watch_seconds + pace.grace_seconds
    assert silence + pace.first_delay_seconds + pace.answer_seconds < 60
    assert pace.page_seconds < 60


def test_a_cancelled_stream_ends_at_once_and_closes_its_connection(api: FakeKubeApi):
    stream = Stream()
    script(api, [list_reply([])], [stream])

    async def run() -> None:
        async def consume() -> None:
            async with aclosing(list_and_watch(api.connection(), NODES, cluster_name="x")) as it:
                async for _ in it:
                    pass

        task = asyncio.create_task(consume())
        async with asyncio.timeout(DEADLINE):
            while stream.listeners == 0:
                await asyncio.sleep(0.01)
        task.cancel()
        begun = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - begun < 1

    asyncio.run(run())
