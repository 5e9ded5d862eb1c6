"""The event stream: whole at first, then what changes, nothing twice, and it ends."""

import asyncio

import httpx
import pytest

from beidou.base import streaming
from beidou.base.models import ApiToken
from operations.services import broadcast, output
from tests.operations import portal as portal_of
from tests.operations.portal import Portal, session_of, until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def portal():
    running = Portal()
    running.start()
    yield running
    running.stop()


@pytest.fixture
def quick(monkeypatch):
    for name in ("LOOK_SECONDS", "LOOK_SECONDS_LARGE"):
        monkeypatch.setattr(broadcast, name, 0.05)
    monkeypatch.setattr(streaming, "RECHECK_SECONDS", 0.1)
    monkeypatch.setattr(streaming, "HEARTBEAT_SECONDS", 0.2)


class Reader(portal_of.Reader):
    def __init__(self, portal, user, operation, query="", headers=None):
        super().__init__(
            portal, user, f"/api/v1/operations/{operation.pk}/events/{query}", headers=headers
        )

    @property
    def numbers(self):
        return [row[0] for rows in self.named("output") for row in rows]


def test_it_begins_whole_and_tells_changes_and_output_and_ends(
    quick, portal, toy, begin, work, viewer
):
    operation = begin()
    reader = Reader(portal, viewer, operation)
    until(lambda: reader.named("snapshot"), "a snapshot")
    work()
    until(lambda: reader.is_over, "the end of the stream")
    assert reader.named("end") == [{"status": "succeeded"}]
    assert reader.named("change")[-1]["operation"]["status"] == "succeeded"
    assert reader.numbers == list(range(1, output.last_line(operation.pk) + 1))


def test_the_headers_keep_proxies_from_holding_it_back(portal, toy, begin, viewer):
    operation = begin()
    reader = Reader(portal, viewer, operation)
    until(lambda: reader.named("snapshot"), "a snapshot")
    assert reader.answer.headers["X-Accel-Buffering"] == "no"
    assert reader.answer.headers["Cache-Control"] == "no-cache"
    assert reader.answer.headers["Content-Type"].startswith("text/event-stream")
    reader.stopped.set()


def test_a_quiet_stream_shows_that_it_lives(quick, portal, toy, begin, viewer):
    operation = begin()
    reader = Reader(portal, viewer, operation)
    until(lambda: reader.comments >= 2, "two heartbeats")
    reader.stopped.set()


def test_who_comes_back_gets_only_the_lines_that_are_missing(portal, toy, begin, work, viewer):
    toy.during = lambda run: [run.say(f"line {n}") for n in range(20)]
    operation = begin()
    work()
    reader = Reader(portal, viewer, operation, headers={"Last-Event-ID": "15"})
    until(lambda: reader.is_over, "the end of the stream")
    assert reader.numbers == list(range(16, output.last_line(operation.pk) + 1))
    assert len(reader.named("snapshot")) == 1


def test_a_new_watcher_may_begin_with_the_newest_lines(portal, toy, begin, work, viewer):
    toy.during = lambda run: [run.say(f"line {n}") for n in range(20)]
    operation = begin()
    work()
    reader = Reader(portal, viewer, operation, "?tail=3")
    until(lambda: reader.is_over, "the end of the stream")
    last = output.last_line(operation.pk)
    assert reader.numbers == [last - 2, last - 1, last]


def test_several_watchers_see_the_same(quick, portal, toy, begin, work, viewer, operator):
    operation = begin()
    readers = [Reader(portal, user, operation) for user in (viewer, operator, viewer)]
    until(lambda: all(each.named("snapshot") for each in readers), "a snapshot for each")
    work()
    until(lambda: all(each.is_over for each in readers), "the end for each")
    first, *others = readers
    for other in others:
        assert other.numbers == first.numbers
        assert other.named("change")[-1]["operation"] == first.named("change")[-1]["operation"]


def test_many_lines_at_once_arrive_whole_and_in_order(quick, portal, toy, begin, work, viewer):
    toy.during = lambda run: [run.say(f"line {n}") for n in range(12_000)]
    operation = begin()
    reader = Reader(portal, viewer, operation)
    until(lambda: reader.named("snapshot"), "a snapshot")
    work()
    until(lambda: reader.is_over, "the end of the stream", seconds=40)
    assert reader.numbers == list(range(1, output.last_line(operation.pk) + 1))


def test_a_stream_ends_when_the_right_is_taken_away(
    quick, portal, toy, begin, viewer, viewers, cluster_a
):
    operation = begin()
    reader = Reader(portal, viewer, operation)
    until(lambda: reader.named("snapshot"), "a snapshot")
    viewer.groups.clear()
    until(lambda: reader.is_over, "the end of the stream")
    assert reader.named("forbidden") == [{}]


def test_a_stream_ends_when_the_watcher_signs_out(quick, portal, toy, begin, viewer):
    from django.contrib.sessions.models import Session  # noqa: PLC0415

    operation = begin()
    reader = Reader(portal, viewer, operation)
    until(lambda: reader.named("snapshot"), "a snapshot")
    Session.objects.all().delete()
    until(lambda: reader.is_over, "the end of the stream")


def test_a_stranger_gets_404_in_the_one_error_shape(portal, toy, begin, stranger):
    operation = begin()
    answer = httpx.get(
        f"{portal.url}/api/v1/operations/{operation.pk}/events/",
        cookies={"beidou_session": session_of(stranger)},
        headers={"Accept": "text/event-stream"},
    )
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


def test_a_program_follows_with_its_token_until_it_is_revoked(quick, portal, toy, begin, viewer):
    operation = begin()
    token, key = ApiToken.issue(user=viewer, name="watcher")
    url = f"{portal.url}/api/v1/operations/{operation.pk}/events/"
    with httpx.stream("GET", url, headers={"Authorization": f"Token {key}"}, timeout=20) as answer:
        lines = answer.iter_lines()
        assert any(line == "event: snapshot" for line in lines)
        token.delete()
        assert any(line == "event: forbidden" for line in lines)


def test_the_file_is_streamed_by_the_real_server_too(portal, toy, begin, work, viewer):
    operation = begin()
    work()
    answer = httpx.get(
        f"{portal.url}/api/v1/operations/{operation.pk}/output/download/",
        cookies={"beidou_session": session_of(viewer)},
    )
    assert answer.text.count("\n") == output.last_line(operation.pk)


def test_a_watcher_that_does_not_keep_up_is_sent_away():
    async def overflow():
        watcher = streaming.Watcher()
        for _ in range(streaming.QUEUE_MESSAGES + 1):
            watcher.put("x")
        return watcher.is_gone, await watcher.queue.get()

    assert asyncio.run(overflow()) == (True, None)


def test_one_reader_serves_all_watchers_and_ends_with_the_last(toy, begin, quick):
    operation = begin()

    async def watch():
        centre = streaming.hub(broadcast.Channel)
        channel, first = await centre.join(operation.pk, "en")
        other, second = await centre.join(operation.pk, "en")
        is_shared = channel is other
        centre.leave(channel, first)
        is_kept = (operation.pk, "en") in centre.channels
        centre.leave(channel, second)
        return is_shared, is_kept, dict(centre.channels)

    assert asyncio.run(watch()) == (True, True, {})


def test_an_operation_that_is_gone_ends_the_stream_at_once(db):
    async def read():
        parts = broadcast.stream(
            404, after=None, tail=10, may_still_see=lambda: True, language="en"
        )
        return [part async for part in parts]

    assert asyncio.run(read()) == []
