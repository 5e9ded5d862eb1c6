"""What clusters, programs and event stores do on bad days, through the whole collector: nothing is
lost, nothing crashes, and the page says why.  What a store alone decides is in ``test_stores``."""

import html
import json
import threading
import zlib

import pytest

from beidou.base import config
from events.collector import stream as reading
from events.collector.spool import Spool
from events.models import Event, EventStream
from events.services.stores import chosen
from tests import factories
from tests.clusters.conftest import connect, prepare
from tests.clusters.test_collector_process import serve
from tests.events.collecting import MODERN, collecting, give, listed, stored, stream_of
from tests.events.made import modern
from tests.fakes.kube_api import FakeKubeApi, Stream, event, status_reply
from tests.fakes.search_server import FakeSearchServer

pytestmark = pytest.mark.django_db


def whole(found):
    return json.loads(zlib.decompress(found.raw))


def streams_page(client):
    return html.unescape(client.get("/events/eventstream/").content.decode())


def line(made, kind="ADDED"):
    return json.dumps(event(kind, made)) + "\n"


# --- what clusters say ----------------------------------------------------------------------------


def test_bytes_that_are_no_utf_8_are_replaced_and_hold_up_nothing(kube, watched):
    watch = Stream()
    give(kube, listed(), watch)
    broken = line(modern("a", note="NOTE")).encode().replace(b"NOTE", b"pulled \xff\xc0 image")
    with collecting() as collector:
        watch.send(broken).send(event("ADDED", modern("b")))
        collector.until(lambda: len(stored()) == 2)
    assert Event.objects.get(uid="uid-a").message == "pulled \ufffd\ufffd image"


def test_a_message_of_100_kib_is_stored_whole_and_cut_for_the_list(kube, watched):
    give(kube, listed(modern("a", note="begin " + "x" * 100 * 1024), modern("b")))
    with collecting() as collector:
        collector.until(lambda: len(stored()) == 2)
    found = Event.objects.get(uid="uid-a")
    assert (len(found.message), found.message[-1]) == (16 * 1024, "…")
    assert len(whole(found)["note"]) == 100 * 1024 + len("begin ")


def test_huge_annotations_are_kept_in_the_object(kube, watched):
    notes = {f"example.com/note-{number}": "y" * 1024 for number in range(250)}
    give(kube, listed(modern("a", metadata__annotations=notes), modern("b")))
    with collecting() as collector:
        collector.until(lambda: len(stored()) == 2)
    assert whole(Event.objects.get(uid="uid-a"))["metadata"]["annotations"] == notes


def test_a_clock_in_the_future_is_five_minutes_ahead_at_most_and_kept_in_the_object(kube, watched):
    ahead = "2999-01-01T00:00:00Z"
    give(kube, listed(modern("a", deprecatedLastTimestamp=ahead)))
    with collecting() as collector:
        collector.until(lambda: len(stored()) == 1)
        collector.until(lambda: (row := stream_of(watched)) and row.stored == 1)
    found = Event.objects.get()
    assert found.last_seen.year < 2999
    assert whole(found)["deprecatedLastTimestamp"] == ahead


def test_an_event_whose_name_is_used_again_is_another_event(kube, watched):
    watch = Stream()
    give(kube, listed(modern("a")), watch)
    with collecting() as collector:
        collector.until(lambda: len(stored()) == 1)
        watch.send(event("DELETED", modern("a", metadata__resourceVersion="1001")))
        again = modern("a", metadata__uid="uid-second", metadata__resourceVersion="1002")
        watch.send(event("ADDED", again))
        collector.until(lambda: set(stored()) == {"uid-a", "uid-second"})


def test_a_cluster_that_is_made_anew_under_its_name_begins_anew(kube, watched, tmp_path):
    give(kube, listed(modern("old"), version="5000"))
    with FakeKubeApi() as fresh, collecting() as collector:
        collector.until(lambda: (row := stream_of(watched)) and row.position == "5000")
        name, spool = watched.name, tmp_path / "spool" / "0" / watched.uid
        watched.delete()
        prepare(fresh, uid="uid-of-the-new-one")
        serve(fresh, Stream())
        give(fresh, listed(modern("new"), version="300"))
        again = connect(
            factories.make_cluster(name, uid="uid-of-the-new-one", server=fresh.server), fresh
        )
        collector.until(lambda: (row := stream_of(again)) and row.position == "300")
        collector.until(lambda: not spool.exists())
    assert [each.uid for each in Event.objects.filter(cluster=again)] == ["uid-new"]


PODS_EVENTS, REPEATS, FIRST = 500, 100, 2000


def storm(begun):
    """50,000 states of the events of one pod, as the kubelet folds them: each event a hundred
    times.  A few thousand on each watch, from its position on, once it has ``begun``."""
    lines: list[str] = []
    for count in range(1, REPEATS + 1):
        for number in range(PODS_EVENTS):
            version = str(FIRST + len(lines) + 1)
            values = {"metadata__resourceVersion": version, "deprecatedCount": count}
            kind = "ADDED" if count == 1 else "MODIFIED"
            lines.append(line(modern(f"storm-{number}", **values), kind))

    def answer(request):
        if "watch" not in request.query:
            return listed(version=str(FIRST))
        begin = int(request.query["resourceVersion"]) - FIRST
        if not begun.is_set() or begin == len(lines):
            return Stream()
        return Stream("".join(lines[begin : begin + 5000])).close()

    return answer


@pytest.fixture
def frames(monkeypatch):
    """How much each frame holds that goes into a spool."""
    sizes = []
    append = Spool.append

    def noted(self, frame):
        sizes.append(sum(len(each.raw) for each in frame.events))
        append(self, frame)

    monkeypatch.setattr(Spool, "append", noted)
    return sizes


def test_a_storm_of_one_pod_is_counted_whole_and_delays_no_other_cluster(kube, watched, frames):
    calm, begun = Stream(), threading.Event()
    kube.on("GET", MODERN, storm(begun))
    with FakeKubeApi() as other:
        prepare(other, uid="uid-of-the-calm-one")
        serve(other, Stream())
        give(other, listed(), calm)
        quiet = factories.make_cluster("calm", uid="uid-of-the-calm-one", server=other.server)
        connect(quiet, other)
        with collecting() as collector:
            (events,) = collector.process._further
            collector.until(lambda: len(events._held) == 2)
            begun.set()
            flow = events._shipments[watched.uid].flow
            for number in range(3):
                before = flow.stored
                collector.until(lambda before=before: flow.stored > before)
                calm.send(event("ADDED", modern(f"calm-{number}")))
                collector.until(lambda number=number: f"uid-calm-{number}" in stored())
            assert flow.stored < PODS_EVENTS * REPEATS
            collector.until(lambda: flow.stored == PODS_EVENTS * REPEATS, seconds=300)
            collector.until(lambda: stream_of(watched).stored == PODS_EVENTS * REPEATS)
    counts = dict(Event.objects.filter(cluster=watched).values_list("uid", "count"))
    assert counts == {f"uid-storm-{number}": REPEATS for number in range(PODS_EVENTS)}
    assert max(frames) < 2 * reading.MOST_BYTES


# --- what event stores do -------------------------------------------------------------------------


@pytest.fixture
def server(settings):
    with FakeSearchServer() as server:
        settings.EVENT_STORE = config.parse_event_store_url(f"elasticsearch+{server.url}/test")
        yield server
    chosen.of.cache_clear()


def kept(server):
    return {each["event"]["id"] for each in server.documents.values()}


TROUBLES = {
    "no disk": (
        {"refuses_each": (429, "cluster_block_exception", "flood-stage watermark exceeded")},
        "takes nothing (flood-stage watermark exceeded); this is so when its disk is full",
    ),
    "read-only": (
        {"refuses_all": (403, "cluster_block_exception", "index read-only / allow delete")},
        "takes nothing (index read-only / allow delete)",
    ),
    "expired credential": (
        {"refuses_all": (401, "security_exception", "token expired")},
        "refuses the portal's credential (token expired)",
    ),
    "mapping of another version": ({"generation": 7}, "was not made by the portal"),
    "mapping of somebody else": ({"generation": None}, "was not made by the portal"),
    "another portal": ({"owner": "another portal"}, "belong to another portal"),
    "too much to do": (
        {"refuses_each": (429, "es_rejected_execution_exception", "queue is full")},
        "has too much to do (queue is full)",
    ),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_a_store_refuses_is_said_on_the_page_waits_and_is_stored_later(
    trouble, kube, watched, server, browser, admin
):
    changes, sentence = TROUBLES[trouble]
    before = {name: getattr(server, name) for name in changes}
    for name, value in changes.items():
        setattr(server, name, value)
    watch = Stream()
    give(kube, listed(modern("a"), modern("b")), watch)
    with collecting() as collector:
        collector.until(lambda: sentence in (stream_of(watched) or EventStream()).problem)
        assert sentence in streams_page(browser(admin))
        watch.send(event("ADDED", modern("c", metadata__resourceVersion="1001")))
        collector.until(lambda: stream_of(watched).waiting == 3)
        assert kept(server) == set()
        for name, value in before.items():
            setattr(server, name, value)
        collector.until(lambda: kept(server) == {"uid-a", "uid-b", "uid-c"})
        collector.until(lambda: (row := stream_of(watched)).waiting == 0 and not row.problem)


def test_an_index_that_somebody_made_anew_with_other_fields_costs_no_event(kube, watched, server):
    watch = Stream()
    give(kube, listed(modern("a")), watch)
    with collecting() as collector:
        collector.until(lambda: kept(server) == {"uid-a"})
        server.generation = None
        server.refuses_each = (400, "document_parsing_exception", "failed to parse [@timestamp]")
        watch.send(event("ADDED", modern("b", metadata__resourceVersion="1001")))
        collector.until(lambda: "was not made by the portal" in stream_of(watched).problem)
        server.generation, server.refuses_each = 1, None
        collector.until(lambda: kept(server) == {"uid-a", "uid-b"})


def test_one_event_that_a_store_cannot_take_is_in_the_log_and_holds_up_no_other(
    kube, watched, server, caplog
):
    server.refuses_each = (400, "document_parsing_exception", "failed to parse")
    watch = Stream()
    give(kube, listed(modern("a")), watch)
    with collecting() as collector:
        collector.until(lambda: (row := stream_of(watched)) and row.refused == 1)
        server.refuses_each = None
        watch.send(event("ADDED", modern("b", metadata__resourceVersion="1001")))
        collector.until(lambda: kept(server) == {"uid-b"})
    assert "uid-a" in caplog.text


# --- credentials of clusters ----------------------------------------------------------------------


def test_a_credential_that_has_expired_is_said_and_a_new_one_goes_on_where_it_was(
    kube, watched, browser, admin
):
    give(kube, listed(modern("a")))
    with collecting() as collector:
        collector.until(lambda: (row := stream_of(watched)) and row.position == "1000")
        kube.on("GET", MODERN, status_reply(401, "Unauthorized"))
        collector.until(lambda: stream_of(watched).problem)
        assert "credential" in streams_page(browser(admin))
        asked = len(kube.asked("GET", MODERN))
        watch = Stream(event("ADDED", modern("b", metadata__resourceVersion="1001")))
        give(kube, status_reply(500, "no list is needed"), watch)
        collector.until(lambda: len(stored()) == 2)
        collector.until(lambda: not stream_of(watched).problem)
    assert {each.query.get("watch") for each in kube.asked("GET", MODERN)[asked:]} == {"true"}


def test_a_credential_that_cannot_even_be_tried_is_said_instead_of_no_collector(
    kube, watched, browser, admin
):
    give(kube, listed(modern("a")))
    broken = factories.make_cluster("broken")
    with collecting() as collector:
        collector.until(lambda: (row := stream_of(broken)) and row.problem)
        page = streams_page(browser(admin))
        assert "Cluster broken has no credential" in page
        collector.until(lambda: len(stored()) == 1)
        connect(broken, kube)
        collector.until(lambda: not stream_of(broken).problem)
