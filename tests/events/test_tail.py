"""The live tail: each state of an event once, as it is stored, to those who may see it."""

import re
import socket
from datetime import timedelta
from functools import partial

import httpx
import pytest
from django.contrib.sessions.models import Session
from django.db import OperationalError
from django.utils import timezone

from beidou.base import config, streaming
from beidou.base.models import ApiToken
from events.admin import shown
from events.models import Event, NamespaceGrant
from events.services import search, tail
from tests import factories
from tests.operations.portal import Portal, Reader, until

pytestmark = pytest.mark.django_db(transaction=True)
PATH = "/api/v1/events/tail/"


@pytest.fixture
def portal():
    running = Portal()
    running.start()
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(tail, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(tail, "SOONEST_SECONDS", 0.01)
    monkeypatch.setattr(tail, "AWAY_SECONDS_MAX", 0.2)
    monkeypatch.setattr(streaming, "RECHECK_SECONDS", 0.1)
    monkeypatch.setattr(streaming, "HEARTBEAT_SECONDS", 0.2)


@pytest.fixture
def follow(portal):
    """``follow(user, "?reason=Failed")``: a reader who is told what comes from now on."""
    readers = []

    def begin(user, query="", after=None):
        headers = {"Last-Event-ID": after} if after else {}
        reader = Reader(portal, user, f"{PATH}{query}", headers=headers)
        readers.append(reader)
        until(lambda: reader.named("live") or reader.is_over, "the stream is live")
        assert reader.named("live"), reader.answer.read()
        return reader

    yield begin
    for reader in readers:
        reader.stopped.set()


def rows(reader):
    return [row for told in reader.named("rows") for row in told]


def names(reader):
    return [row["name"] for row in rows(reader)]


def last_id(reader):
    return [number for _name, _data, number in reader.events if number][-1]


def told(reader, *wanted):
    until(lambda: names(reader)[-len(wanted) :] == list(wanted), f"{wanted} told last")


def repeat(event, **changes):
    """The collector stores a newer state of it."""
    changes = {"last_seen": timezone.now(), "version": event.version + 1000, **changes}
    Event.objects.filter(pk=event.pk).update(**changes)


def now(cluster, name, **values):
    return factories.make_event(cluster, name=name, last_seen=timezone.now(), **values)


# --- what is told ---------------------------------------------------------------------------------


def test_an_event_is_told_when_it_is_stored_as_the_list_shows_it(follow, viewer, api, cluster_a):
    factories.make_event(cluster_a, name="before")
    reader = follow(viewer)
    now(cluster_a, "new", reason="Failed", count=3)
    told(reader, "new")
    assert rows(reader) == api(viewer).get("/api/v1/events/?reason=Failed").json()["results"]


def test_each_state_is_told_once(follow, viewer, cluster_a):
    reader = follow(viewer)
    event = now(cluster_a, "again")
    told(reader, "again")
    repeat(event, count=2)
    told(reader, "again", "again")
    now(cluster_a, "last")
    told(reader, "last")
    assert [(row["name"], row["count"]) for row in rows(reader)] == [
        ("again", 1), ("again", 2), ("last", 1),
    ]  # fmt: skip


def test_what_is_stored_late_is_told(follow, viewer, cluster_a):
    reader = follow(viewer)
    now(cluster_a, "in time")
    told(reader, "in time")
    factories.make_event(cluster_a, name="late", last_seen=timezone.now() - timedelta(seconds=50))
    told(reader, "late")


@pytest.mark.parametrize(("quiet_for", "window"), [(0, 60), (300, 360), (3600, 600)])
def test_the_quieter_a_search_the_later_its_events_may_be(quiet_for, window):
    channel = tail.TailChannel.__new__(tail.TailChannel)
    channel.looked = timezone.now()
    channel.newest = channel.looked - timedelta(seconds=quiet_for)
    assert channel.looked - channel._since() == timedelta(seconds=window)


def test_a_clock_that_is_ahead_hides_nothing(follow, viewer, cluster_a):
    ahead = timezone.now() + timedelta(minutes=4)
    factories.make_event(cluster_a, name="ahead", last_seen=ahead)
    reader = follow(viewer)
    now(cluster_a, "now")
    told(reader, "now")


def test_filters_and_text_hold(follow, viewer, cluster_a):
    reader = follow(viewer, "?reason=Failed&cluster=cluster-a&q=image")
    now(cluster_a, "other reason", message="image", reason="Pulled")
    now(cluster_a, "other text", message="probe", reason="Failed")
    now(cluster_a, "wanted", message="no such image", reason="Failed")
    told(reader, "wanted")
    assert names(reader) == ["wanted"]


def test_too_many_at_once_are_counted_with_the_address_that_finds_them(
    follow, viewer, api, cluster_a, monkeypatch
):
    monkeypatch.setattr(tail, "TOLD_MAX", 2)
    reader = follow(viewer, "?reason=Failed")
    began = timezone.now()
    storm = [
        factories.make_event(
            cluster_a, name=f"storm-{n}", last_seen=began + timedelta(microseconds=n)
        )
        for n in range(5)
    ]
    Event.objects.filter(pk__in=[event.pk for event in storm]).update(reason="Failed")
    until(lambda: reader.named("left_out"), "what was left out")
    (left,) = reader.named("left_out")
    assert (left["count"], left["more"]) == (3, False)
    found = [row["name"] for row in api(viewer).get(left["url"]).json()["results"]]
    assert found == ["storm-2", "storm-1", "storm-0"]
    assert names(reader) == ["storm-3", "storm-4"]


def test_when_not_even_all_were_read_it_says_so(follow, viewer, cluster_a, monkeypatch):
    monkeypatch.setattr(tail, "TOLD_MAX", 2)
    monkeypatch.setattr(tail, "READ_MAX", 3)
    reader = follow(viewer, "?reason=Failed")
    events = [now(cluster_a, f"storm-{n}", reason="Other") for n in range(5)]
    Event.objects.filter(pk__in=[event.pk for event in events]).update(reason="Failed")
    until(lambda: reader.named("left_out"), "what was left out")
    assert [(left["count"], left["more"]) for left in reader.named("left_out")] == [(1, True)]


def test_a_search_too_busy_for_what_is_stored_late_says_so_once(
    follow, viewer, api, cluster_a, monkeypatch
):
    monkeypatch.setattr(tail, "READ_MAX", 2)
    reader = follow(viewer)
    for number in range(4):
        now(cluster_a, f"e-{number}")
        told(reader, f"e-{number}")
    late = timezone.now() - timedelta(seconds=5)
    factories.make_event(cluster_a, name="late", last_seen=late)
    now(cluster_a, "last")
    told(reader, "last")
    assert "late" not in names(reader)
    (left,) = reader.named("left_out")
    assert (left["count"], left["more"]) == (0, True)
    found = api(viewer).get(left["url"]).json()["results"]
    assert "late" in [row["name"] for row in found]


def test_who_joins_a_busy_search_is_told_so_too(follow, viewer, operator, cluster_a, monkeypatch):
    monkeypatch.setattr(tail, "READ_MAX", 1)
    for number in range(3):
        now(cluster_a, f"e-{number}")
    for user in (viewer, operator):
        reader = follow(user)
        assert [left["count"] for left in reader.named("left_out")] == [0]


# --- who is told ----------------------------------------------------------------------------------


def test_events_of_foreign_clusters_are_told_to_nobody(follow, viewer, admin, cluster_a, cluster_b):
    reader, whole = follow(viewer), follow(admin)
    now(cluster_b, "foreign")
    now(cluster_a, "own")
    told(reader, "own")
    told(whole, "foreign", "own")
    assert names(reader) == ["own"]


@pytest.mark.parametrize("query", ["?cluster=cluster-b", "?cluster=999"])
def test_a_cluster_that_one_may_not_see_tells_nothing(query, follow, viewer, cluster_a, cluster_b):
    reader, own = follow(viewer, query), follow(viewer)
    now(cluster_b, "foreign")
    now(cluster_a, "own")
    told(own, "own")
    assert names(reader) == []


def test_whoever_loses_the_right_is_told_no_more(follow, viewer, cluster_a):
    reader = follow(viewer)
    viewer.groups.clear()
    until(lambda: reader.is_over, "the end of the stream")
    assert reader.named("changed") == [{}]
    assert names(follow(viewer)) == []


def test_whoever_loses_one_cluster_goes_on_with_the_other(
    follow, viewer, viewers, cluster_a, cluster_b
):
    other = factories.make_team("others")
    factories.grant(other, cluster_b, "viewer")
    viewer.groups.add(other)
    reader = follow(viewer)
    now(cluster_b, "both")
    told(reader, "both")
    viewer.groups.remove(other)
    until(lambda: reader.is_over, "the end of the stream")
    again = follow(viewer, after=last_id(reader))
    now(cluster_b, "foreign")
    now(cluster_a, "own")
    told(again, "own")
    assert names(again) == ["own"]


def test_a_cluster_that_is_granted_is_told_of_soon(follow, viewer, viewers, cluster_a, cluster_b):
    reader = follow(viewer)
    factories.grant(viewers, cluster_b, "viewer")
    until(lambda: reader.is_over, "the end of the stream")
    again = follow(viewer, after=last_id(reader))
    now(cluster_b, "new")
    told(again, "new")


@pytest.mark.parametrize(
    "end",
    [
        lambda viewer: Session.objects.all().delete(),
        lambda viewer: type(viewer).objects.filter(pk=viewer.pk).update(is_active=False),
    ],
    ids=["signed out", "deactivated"],
)
def test_whoever_is_gone_is_told_no_more(end, follow, viewer, cluster_a):
    reader = follow(viewer)
    end(viewer)
    until(lambda: reader.is_over, "the end of the stream")
    assert reader.named("forbidden") == [{}]


def test_a_program_follows_with_its_token_until_it_is_revoked(portal, viewer, cluster_a):
    token, key = ApiToken.issue(user=viewer, name="follower")
    head = {"Authorization": f"Token {key}"}
    with httpx.stream("GET", f"{portal.url}{PATH}", headers=head, timeout=20) as answer:
        lines = answer.iter_lines()
        assert any(line == "event: live" for line in lines)
        token.delete()
        assert any(line == "event: forbidden" for line in lines)


# --- coming back ----------------------------------------------------------------------------------


def test_who_comes_back_gets_what_is_missing_and_nothing_twice(follow, viewer, cluster_a):
    first, other = follow(viewer), follow(viewer)
    now(cluster_a, "seen")
    told(first, "seen")
    first.stopped.set()
    now(cluster_a, "missed")
    told(other, "missed")
    again = follow(viewer, after=last_id(first))
    now(cluster_a, "new")
    told(again, "new")
    assert names(again) == ["missed", "new"]


def test_a_reader_waits_a_moment_for_its_only_viewer(follow, viewer, cluster_a, portal):
    first = follow(viewer)
    now(cluster_a, "seen")
    told(first, "seen")
    first.stopped.set()
    now(cluster_a, "missed")
    first.thread.join()
    again = follow(viewer, after=last_id(first))
    told(again, "missed")
    assert names(again) == ["missed"]


def test_after_a_restart_nothing_is_missing(follow, viewer, cluster_a, portal):
    first = follow(viewer)
    now(cluster_a, "seen")
    told(first, "seen")
    portal.stop()
    until(lambda: first.is_over, "the end of the stream")
    now(cluster_a, "missed")
    portal.start()
    again = follow(viewer, after=last_id(first))
    now(cluster_a, "new")
    told(again, "missed", "new")
    assert names(again) in (["seen", "missed", "new"], ["missed", "new"])


def test_what_is_forgotten_is_asked_of_the_store(follow, viewer, cluster_a, monkeypatch):
    monkeypatch.setattr(tail, "REMEMBERED_MAX", 1)
    first, other = follow(viewer), follow(viewer)
    place = last_id(first)
    for name in ("one", "two", "three"):
        now(cluster_a, name)
        told(other, name)
    assert names(follow(viewer, after=place)) == ["one", "two", "three"]


def test_in_silence_the_place_goes_on(follow, viewer, cluster_a, monkeypatch):
    monkeypatch.setattr(tail, "AT_SECONDS", 0.1)
    reader = follow(viewer)
    until(lambda: len(reader.named("at")) > 1, "the place is told again")
    moments = [tail.Position.parse(number).moment for _n, _d, number in reader.events if number]
    assert moments == sorted(set(moments))


@pytest.mark.parametrize("after", ["x", "1-2-3", "0" * 40, "00000000-1-99999999999999999999"])
def test_what_is_no_place_is_refused(after, viewer, api, cluster_a):
    answer = api(viewer).get(PATH, {"after": after})
    assert (answer.status_code, set(answer.json()["fields"])) == (400, {"after"})


def test_a_place_of_long_ago_looks_back_a_day_at_most(follow, viewer, cluster_a):
    factories.make_event(cluster_a, name="old", last_seen=timezone.now() - timedelta(days=2))
    factories.make_event(cluster_a, name="young", last_seen=timezone.now() - timedelta(hours=2))
    assert names(follow(viewer, after="00000000-0-1")) == ["young"]


# --- what it costs --------------------------------------------------------------------------------


def channels():
    """The readers of the running portal."""
    found = [hub for (_loop, kind), hub in streaming._hubs.items() if kind is tail.TailChannel]
    return [channel for hub in found for channel in hub.channels.values()]


def test_one_reader_serves_all_of_one_search_and_scope(
    follow, viewer, operator, admin, cluster_a, cluster_b
):
    for user in (viewer, operator, viewer):
        follow(user, "?reason=Failed&cluster=cluster-a")
    (channel,) = channels()
    assert len(channel.watchers) == 3
    follow(viewer, "?reason=Pulled")
    follow(admin, "?reason=Pulled")
    assert len(channels()) == 3


def test_a_reader_ends_when_nobody_comes_back(follow, viewer, cluster_a, monkeypatch):
    monkeypatch.setattr(tail.TailChannel, "linger_seconds", 0.1)
    reader = follow(viewer)
    reader.stopped.set()
    until(lambda: not channels(), "the reader has ended")


def test_what_a_reader_remembers_is_bounded(follow, viewer, cluster_a, monkeypatch):
    monkeypatch.setattr(tail, "READ_MAX", 2)
    monkeypatch.setattr(tail, "KNOWN_MAX", 3)
    monkeypatch.setattr(tail, "REMEMBERED_MAX", 2)
    reader = follow(viewer)
    for number in range(6):
        now(cluster_a, f"event-{number}")
        told(reader, f"event-{number}")
    (channel,) = channels()
    until(lambda: len(channel._known) == 3, "old ones are forgotten")
    assert sum(len(batch.rows) for batch in channel._remembered) == 2


def test_there_are_never_too_many_readers(follow, portal, viewer, cluster_a, monkeypatch):
    monkeypatch.setattr(tail, "SEARCHES_MAX", 1)
    follow(viewer)
    follow(viewer)
    refused = Reader(portal, viewer, f"{PATH}?reason=Failed")
    until(lambda: refused.is_over, "the end of the stream")
    ((name, data, _number),) = refused.events
    assert name == "away"
    assert "Too many different searches" in data["message"]


def refusal(portal, user, query):
    """What somebody is told instead of what they wanted to follow."""
    refused = Reader(portal, user, f"{PATH}{query}")
    until(lambda: refused.is_over, "the end of the stream")
    ((name, data, _number),) = refused.events
    assert name == "away"
    return data["message"]


def test_one_person_cannot_take_the_room_of_the_others(
    follow, portal, viewer, admin, cluster_a, monkeypatch
):
    monkeypatch.setattr(tail, "SEARCHES_OF_ONE_MAX", 2)
    for reason in ("A", "B", "B"):
        follow(viewer, f"?reason={reason}")
    assert "You follow 2 different searches already" in refusal(portal, viewer, "?reason=C")
    follow(admin, "?reason=C")


def test_a_search_that_others_follow_costs_a_person_nothing(
    follow, viewer, admin, operator, cluster_a, monkeypatch
):
    monkeypatch.setattr(tail, "SEARCHES_OF_ONE_MAX", 1)
    follow(viewer, "?reason=A")
    follow(operator, "?reason=B")
    follow(viewer, "?reason=B")


def test_a_reader_that_lingers_is_of_whoever_left_it(
    follow, portal, viewer, cluster_a, monkeypatch
):
    monkeypatch.setattr(tail, "SEARCHES_OF_ONE_MAX", 1)
    reader = follow(viewer, "?reason=A")
    reader.stopped.set()
    (channel,) = channels()
    until(lambda: not channel.watchers, "the viewer has left")
    assert "already" in refusal(portal, viewer, "?reason=B")
    follow(viewer, "?reason=A")


# --- while the store is away ----------------------------------------------------------------------


@pytest.fixture
def lose(settings):
    """``lose()``: the store is one that does not answer; ``lose(False)``: it is there again."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"elasticsearch+http://127.0.0.1:{taken.getsockname()[1]}/beidou"

        def change(is_away=True):
            settings.EVENT_STORE = config.parse_event_store_url(address) if is_away else None

        yield change
        change(False)


def test_a_store_that_is_away_is_told_once_and_the_tail_goes_on(follow, viewer, cluster_a, lose):
    reader = follow(viewer)
    lose()
    until(lambda: reader.named("away"), "that the store is away")
    now(cluster_a, "meanwhile")
    (channel,) = channels()
    until(lambda: channel.failures > 2, "it is tried again")
    lose(False)
    told(reader, "meanwhile")
    assert [name for name, _data, _number in reader.events if name != "at"] == [
        "live", "away", "back", "rows",
    ]  # fmt: skip
    assert "does not answer" in reader.named("away")[0]["message"]


def test_whoever_joins_meanwhile_is_told_so_in_their_language(portal, viewer, cluster_a, lose):
    lose()
    reader = Reader(portal, viewer, PATH)
    until(lambda: reader.named("away"), "that the store is away")
    second = Reader(portal, viewer, PATH, headers={"Accept-Language": "zh-hans"})
    until(lambda: second.named("away"), "that the store is away")
    now(cluster_a, "meanwhile")
    lose(False)
    for each in (reader, second):
        until(partial(each.named, "live"), "the stream is live")
        told(each, "meanwhile")
        each.stopped.set()


def test_a_database_that_does_not_answer_costs_no_viewer(follow, viewer, cluster_a, monkeypatch):
    def refuse(*args, **values):
        raise OperationalError("it has gone")

    reader = follow(viewer)
    with monkeypatch.context() as broken:
        broken.setattr(search, "page_in", refuse)
        until(lambda: reader.named("away"), "that the database is away")
    now(cluster_a, "meanwhile")
    told(reader, "meanwhile")
    assert reader.named("away") == [{"message": "The portal's database does not answer now."}]


def test_a_mistake_of_the_portal_is_told_and_the_tail_goes_on(
    follow, viewer, cluster_a, monkeypatch, caplog
):
    def fail(*args, **values):
        raise ZeroDivisionError

    reader = follow(viewer)
    with monkeypatch.context() as broken:
        broken.setattr(search, "page_in", fail)
        until(lambda: reader.named("away"), "that something is wrong")
    now(cluster_a, "meanwhile")
    told(reader, "meanwhile")
    assert reader.named("away") == [{"message": "The portal made a mistake; it is in its log."}]
    assert "ZeroDivisionError" in caplog.text


def test_each_failure_makes_the_pause_longer_up_to_a_limit(monkeypatch):
    monkeypatch.undo()
    channel = tail.TailChannel.__new__(tail.TailChannel)
    paces = []
    for channel.failures in (0, 1, 2, 3, 4, 5, 5000):
        paces.append(channel._pace())
    assert paces == [2, 4, 8, 16, 30, 30, 30]


def test_no_other_stream_waits_for_a_store_that_hangs():
    assert tail._LOOKS is not streaming._DATABASE


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["range", "since", "until"])
@pytest.mark.parametrize("address", [PATH, "/events/event/tail/"])
def test_a_tail_has_no_times(address, name, viewer, browser, cluster_a):
    answer = browser(viewer).get(address, {name: "1h"})
    assert answer.status_code == 400
    assert f"it takes no {name}" in answer.content.decode()


@pytest.mark.parametrize("address", [PATH, "/events/event/tail/"])
def test_nobody_follows_without_signing_in(address, client):
    assert client.get(address).status_code == 401


@pytest.mark.parametrize("address", [PATH, "/events/event/tail/"])
def test_whether_one_may_follow_can_be_asked_without_following(address, viewer, browser, cluster_a):
    answer = browser(viewer).head(address)
    assert (answer.status_code, answer.streaming) == (200, False)
    assert answer["Content-Type"].startswith("text/event-stream")


# --- rows for the page ----------------------------------------------------------------------------

PAGE_PATH = "/events/event/tail/"


def place_of(page):
    return re.search(r'"after": "([^"]+)"', page.content.decode())[1]


def key_of(row):
    return re.search(r'data-key="(\d+)"', row)[1]


def test_rows_of_the_page_are_those_of_its_list(portal, viewer, browser, cluster_a):
    node = factories.make_node(cluster_a, "n1")
    reader = Reader(portal, viewer, PAGE_PATH)
    until(lambda: reader.named("live"), "the stream is live")
    now(cluster_a, "web", message="<script>alert(1)</script>", node="n1", count=3)
    until(lambda: reader.named("rows"), "a row")
    reader.stopped.set()
    ((row,),) = reader.named("rows")
    assert "&lt;script&gt;" in row
    assert "<script>" not in row
    assert f"/clusters/node/{node.pk}/change/" in row
    assert row in browser(viewer).get("/events/event/").content.decode()


def test_the_page_goes_on_behind_what_it_shows(portal, viewer, browser, cluster_a):
    before = now(cluster_a, "before")
    place = place_of(browser(viewer).get("/events/event/"))
    now(cluster_a, "between")
    reader = Reader(portal, viewer, f"{PAGE_PATH}?&after={place}")
    until(lambda: reader.named("rows"), "the rows")
    reader.stopped.set()
    keys = [key_of(row) for row in reader.named("rows")[0]]
    assert keys[0] == str(before.pk)  # the page knows that it has it already
    assert len(keys) == 2


def test_what_is_older_than_the_rows_of_the_page_is_no_news(
    portal, viewer, browser, cluster_a, monkeypatch
):
    monkeypatch.setattr(shown, "ROWS", 2)
    events = [now(cluster_a, f"event-{n}") for n in range(4)]
    place = place_of(browser(viewer).get("/events/event/"))
    reader = Reader(portal, viewer, f"{PAGE_PATH}?&after={place}")
    until(lambda: reader.named("live"), "the stream is live")
    reader.stopped.set()
    keys = [key_of(row) for told in reader.named("rows") for row in told]
    assert set(keys) <= {str(event.pk) for event in events[-2:]}
    assert reader.named("left_out") == []


def test_a_stranger_cannot_follow_on_the_page(browser, stranger, cluster_a):
    assert browser(stranger).get(PAGE_PATH).status_code == 403


def test_nothing_can_be_posted_to_it(browser, admin):
    assert browser(admin).post(PAGE_PATH).status_code == 405


def test_live_follows_the_search_without_its_times(viewer, browser, cluster_a):
    page = browser(viewer).get("/events/event/?reason=Failed&range=7d&q=oom").content.decode()
    assert '"url": "/events/event/tail/?q=oom\\u0026reason=Failed"' in page


@pytest.mark.parametrize("place", ["until=2100-01-01T00:00:00Z", "cursor=1-1"])
def test_elsewhere_in_the_list_live_leads_to_the_newest(place, viewer, browser, cluster_a):
    page = browser(viewer).get(f"/events/event/?reason=Failed&{place}").content.decode()
    assert 'href="/events/event/?reason=Failed#live"' in page
    assert "ev-live-data" not in page


# --- namespaces alone -----------------------------------------------------------------------------


@pytest.fixture
def limited(cluster_a):
    team = factories.make_team("shop")
    NamespaceGrant.objects.create(team=team, cluster=cluster_a, namespace="shop")
    return factories.make_user("limited", teams=(team,))


def test_a_team_is_told_of_its_namespaces_alone(follow, limited, viewer, cluster_a):
    reader, whole = follow(limited), follow(viewer)
    now(cluster_a, "other", namespace="pay")
    now(cluster_a, "node", namespace="")
    now(cluster_a, "own")
    told(reader, "own")
    told(whole, "own")
    assert names(reader) == ["own"]
    assert names(whole) == ["other", "node", "own"]


def test_teams_with_other_namespaces_share_no_reader(follow, limited, cluster_a):
    other = factories.make_team("other")
    NamespaceGrant.objects.create(team=other, cluster=cluster_a, namespace="pay")
    theirs = follow(factories.make_user("neighbour", teams=(other,)))
    reader = follow(limited)
    now(cluster_a, "own")
    now(cluster_a, "other", namespace="pay")
    told(reader, "own")
    told(theirs, "other")
    assert names(reader) == ["own"]
    assert names(theirs) == ["other"]
    assert len(channels()) == 2


def test_what_is_taken_is_told_no_more_and_what_is_given_is(follow, limited, cluster_a):
    reader = follow(limited)
    NamespaceGrant.objects.create(team=limited.groups.get(), cluster=cluster_a, namespace="pay")
    NamespaceGrant.objects.filter(namespace="shop").delete()
    now(cluster_a, "taken")
    now(cluster_a, "given", namespace="pay")
    told(reader, "given")
    assert names(reader) == ["given"]


def test_who_connects_again_is_not_told_from_memory_what_was_taken(follow, limited, cluster_a):
    NamespaceGrant.objects.create(team=limited.groups.get(), cluster=cluster_a, namespace="pay")
    reader, other = follow(limited), follow(limited)
    place = last_id(reader)
    now(cluster_a, "taken")
    now(cluster_a, "kept", namespace="pay")
    told(other, "taken", "kept")
    NamespaceGrant.objects.filter(namespace="shop").delete()
    assert names(follow(limited, after=place)) == ["kept"]


def test_when_the_last_namespace_is_taken_it_ends(follow, limited, cluster_a):
    reader = follow(limited)
    NamespaceGrant.objects.all().delete()
    until(lambda: reader.is_over, "the end of the stream")
    assert reader.named("changed") == [{}]
