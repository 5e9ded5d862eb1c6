"""From an API server on a real socket through the spool into the store, by the collector."""

import asyncio
import json
import time
from datetime import timedelta

import pytest
from django.db import InterfaceError, OperationalError
from django.utils import timezone

from beidou.base.models import Notice
from clusters.models import CollectorLease
from clusters.services import leases
from events.collector import attached
from events.collector.spool import Frame, Room, Spool
from events.models import Event, EventStream
from events.services import storing, streams
from events.services.stores.embedded import EmbeddedStore
from tests.events.collecting import (
    CORE,
    MODERN,
    collecting,
    give,
    listed,
    stored,
    stream_of,
)
from tests.events.made import core, modern
from tests.events.made import kube as made_kube
from tests.fakes.kube_api import Reply, Stream, event, status_reply

pytestmark = pytest.mark.django_db


def test_what_is_there_and_what_happens_is_stored(kube, watched):
    watch = Stream()
    give(kube, listed(modern("a"), modern("b")), watch)
    with collecting() as collector:
        collector.until(lambda: len(stored()) == 2)
        watch.send(event("ADDED", modern("c", metadata__resourceVersion="1001")))
        collector.until(lambda: "uid-c" in stored())


def test_a_repeated_event_is_kept_as_one_with_its_count(kube, watched):
    watch = Stream()
    give(kube, listed(modern("a")), watch)
    with collecting() as collector:
        collector.until(lambda: stored() == {"uid-a": 3})
        repeated = modern("a", metadata__resourceVersion="1001", deprecatedCount=4)
        watch.send(event("MODIFIED", repeated))
        collector.until(lambda: stored() == {"uid-a": 4})


def test_what_the_cluster_forgets_stays(kube, watched):
    watch = Stream()
    give(kube, listed(modern("a")), watch)
    with collecting() as collector:
        collector.until(lambda: len(stored()) == 1)
        watch.send(event("DELETED", modern("a", metadata__resourceVersion="1001")))
        watch.send(event("ADDED", modern("b", metadata__resourceVersion="1002")))
        collector.until(lambda: len(stored()) == 2)


def test_a_list_of_many_pages_is_stored_whole(kube, watched):
    def answer(request):
        if "watch" in request.query:
            return Stream()
        page = int(request.query.get("continue", "0"))
        metadata = {"resourceVersion": "1000"} | ({"continue": str(page + 1)} if page < 3 else {})
        return Reply({"metadata": metadata, "items": [modern(f"e{page}-{n}") for n in range(9)]})

    kube.on("GET", MODERN, answer)
    with collecting() as collector:
        collector.until(lambda: len(stored()) == 36)


def test_a_page_that_fails_in_the_middle_of_a_list_costs_nothing_but_time(kube, watched):
    failures = [status_reply(500, "etcdserver: leader changed")]

    def answer(request):
        if "watch" in request.query:
            return Stream()
        if "continue" not in request.query:
            more = {"resourceVersion": "1000", "continue": "1"}
            return Reply({"metadata": more, "items": [modern("a")]})
        return failures.pop() if failures else listed(modern("b"))

    kube.on("GET", MODERN, answer)
    with collecting() as collector:
        collector.until(lambda: len(stored()) == 2)


def test_after_a_restart_the_watch_goes_on_where_it_was(kube, watched):
    give(kube, listed(modern("a")), Stream())
    with collecting() as collector:
        collector.until(lambda: (stream_of(watched) or EventStream()).position == "1000")
    give(kube, status_reply(500, "no list is needed"), Stream())
    asked = len(kube.asked("GET", MODERN))
    with collecting() as collector:
        collector.until(lambda: len(kube.asked("GET", MODERN)) > asked)
    again = kube.asked("GET", MODERN)[asked]
    assert (again.query.get("watch"), again.query["resourceVersion"]) == ("true", "1000")


def test_another_collector_goes_on_from_what_is_stored(kube, watched, settings, tmp_path):
    give(kube, listed(modern("a")), Stream())
    with collecting() as collector:
        collector.until(lambda: (stream_of(watched) or EventStream()).position == "1000")
    settings.DATA_DIR = tmp_path / "another host"
    asked = len(kube.asked("GET", MODERN))
    with collecting("other") as collector:
        collector.until(lambda: len(kube.asked("GET", MODERN)) > asked)
        collector.until(lambda: stream_of(watched).holder == "other")
    assert kube.asked("GET", MODERN)[asked].query["resourceVersion"] == "1000"


def test_after_a_kill_another_goes_on_from_what_was_acknowledged_and_doubles_nothing(
    kube, watched, settings, tmp_path, monkeypatch
):
    """What the killed one had heard and not stored is on its host, out of reach at first."""
    keep = storing.keep_in_database
    faults: list[str] = []

    def failing(*args):
        if faults:
            raise OperationalError("the store is away")
        return keep(*args)

    monkeypatch.setattr(storing, "keep_in_database", failing)
    monkeypatch.setattr(leases, "LEASE_SECONDS", 1)
    watch, later = (
        Stream(),
        [
            event("ADDED", modern(name, metadata__resourceVersion=version))
            for name, version in (("b", "1001"), ("c", "1002"))
        ],
    )
    give(kube, listed(modern("a")), watch)
    with monkeypatch.context() as killed, collecting("killed") as collector:
        killed.setattr(leases, "release", lambda _holder: None)  # it cannot say good-bye
        collector.until(lambda: (row := stream_of(watched)) and row.position == "1000")
        faults.append("away")
        for each in later:
            watch.send(each)
        collector.until(lambda: stream_of(watched).waiting == 2)
    assert stream_of(watched).position == "1000"
    faults.clear()
    host, settings.DATA_DIR = settings.DATA_DIR, tmp_path / "another host"
    give(kube, status_reply(500, "no list is needed"), Stream(*later))
    asked = len(kube.asked("GET", MODERN))
    with collecting("another") as collector:
        collector.until(lambda: len(stored()) == 3)
        collector.until(lambda: stream_of(watched).position == "1002")
    again = kube.asked("GET", MODERN)[asked]
    assert (again.query.get("watch"), again.query["resourceVersion"]) == ("true", "1000")
    settings.DATA_DIR = host
    give(kube, status_reply(500, "no list is needed"), Stream())
    with collecting("the first again") as collector:
        collector.until(lambda: (row := stream_of(watched)).holder != "another" and not row.waiting)
    assert stored() == {"uid-a": 3, "uid-b": 3, "uid-c": 3}


def test_a_position_that_the_cluster_has_forgotten_leads_to_a_list_and_no_doubles(kube, watched):
    gone = Stream(event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired"}))
    give(kube, listed(modern("a"), modern("b")), gone, Stream())
    with collecting() as collector:
        collector.until(
            lambda: [r for r in kube.asked("GET", MODERN) if "watch" not in r.query][1:]
        )
        collector.until(lambda: (row := stream_of(watched)) and row.stored >= 4)
    assert len(stored()) == 2


def test_a_cluster_that_was_restored_from_a_backup_is_listed_anew(kube, watched):
    give(kube, listed(modern("a"), version="5000"))
    with collecting() as collector:
        collector.until(lambda: (stream_of(watched) or EventStream()).position == "5000")
    early = status_reply(504, "Timeout: Too large resource version: 5000, current: 300")

    def answer(request):
        if "watch" not in request.query:
            return listed(modern("b"), version="300")
        return early if request.query["resourceVersion"] == "5000" else Stream()

    kube.on("GET", MODERN, answer)
    with collecting() as collector:
        collector.until(lambda: len(stored()) == 2)
        collector.until(lambda: stream_of(watched).position == "300")


def test_a_credential_that_is_good_for_the_older_name_only_is_enough(kube, watched):
    kube.on("GET", MODERN, status_reply(403, "events.events.k8s.io is forbidden"))
    give(kube, listed(core("a")), path=CORE)
    with collecting() as collector:
        collector.until(lambda: len(stored()) == 1)
        collector.until(lambda: (row := stream_of(watched)) and not row.problem)


def test_a_credential_that_may_not_is_told_with_the_reason_and_delays_nothing_else(kube, watched):
    for path in (MODERN, CORE):
        kube.on("GET", path, status_reply(403, "events is forbidden"))
    with collecting() as collector:
        collector.until(lambda: "events" in (stream_of(watched) or EventStream()).problem)
        collector.until(lambda: watched.nodes.count() == 1)
    assert stream_of(watched).problem_since is not None
    # Told once under each name, and then left alone for a while.
    assert len(kube.asked("GET", MODERN)) <= 2


def test_while_the_store_takes_nothing_events_wait_and_nothing_is_lost(kube, watched, monkeypatch):
    """The database is the store here and cannot be stopped for itself: the fault is put in."""
    store = storing.keep_in_database
    faults: list[str] = []

    def failing(*args):
        if faults:
            raise OperationalError("the store is away")
        return store(*args)

    monkeypatch.setattr(storing, "keep_in_database", failing)
    watch = Stream()
    give(kube, listed(modern("a")), watch)
    with collecting() as collector:
        collector.until(lambda: len(stored()) == 1)
        faults.append("away")
        for number in range(5):
            made = modern(f"w{number}", metadata__resourceVersion=str(2000 + number))
            watch.send(event("ADDED", made))
        collector.until(lambda: stream_of(watched).waiting == 5)
        collector.until(lambda: "the store is away" in stream_of(watched).problem)
        assert stream_of(watched).lag_seconds > 0
        faults.clear()
        collector.until(lambda: len(stored()) == 6)
        collector.until(lambda: not stream_of(watched).problem)


def test_what_the_store_refuses_is_counted_apart_and_holds_up_nothing(kube, watched, monkeypatch):
    write = EmbeddedStore.write

    def refusing(self, keeper, records, labels):
        bad = [each for each in records if each.uid == "uid-bad"]
        write(self, keeper, [each for each in records if each not in bad])
        return [(each, "too odd") for each in bad]

    monkeypatch.setattr(EmbeddedStore, "write", refusing)
    give(kube, listed(modern("a"), modern("bad"), modern("b")))
    with collecting() as collector:
        collector.until(lambda: (row := stream_of(watched)) and row.stored == 2)
        collector.until(lambda: stream_of(watched).refused == 1)
        collector.until(lambda: not stream_of(watched).waiting)


def test_what_waited_when_the_process_ended_is_stored_by_the_next(kube, watched, monkeypatch):
    def away(*args):
        raise OperationalError("the store is away")

    give(kube, listed(modern("a"), modern("b")))
    with monkeypatch.context() as patched, collecting() as collector:
        patched.setattr(storing, "keep_in_database", away)
        collector.until(lambda: (row := stream_of(watched)) and row.waiting == 2)
    give(kube, status_reply(500, "away"))
    with collecting() as collector:
        collector.until(lambda: len(stored()) == 2)


def test_a_full_spool_stops_the_reading_with_a_sentence_and_goes_on_by_itself(kube, watched):
    give(kube, listed(modern("a")))
    with collecting() as collector:
        (events,) = collector.process._further
        events._room.most_bytes = 1
        collector.until(
            lambda: "spool of events is full" in (stream_of(watched) or EventStream()).problem
        )
        assert stored() == {}
        events._room.most_bytes = 1 << 20
        collector.until(lambda: len(stored()) == 1)


def alarms():
    return list(Notice.objects.filter(kind="event.spool"))


def test_before_the_spool_is_full_people_are_told_and_the_page_says_so_beside_the_reason(
    kube, watched, monkeypatch
):
    keep, faults = storing.keep_in_database, ["away"]

    def failing(*args):
        if faults:
            raise OperationalError("the store is away")
        return keep(*args)

    monkeypatch.setattr(storing, "keep_in_database", failing)
    give(kube, listed(modern("a"), modern("b")))
    with collecting() as collector:
        (events,) = collector.process._further
        collector.until(lambda: (row := stream_of(watched)) and row.waiting == 2)
        assert alarms() == []
        events._room.most_bytes = events._room.used_bytes * 100 // 85
        collector.until(lambda: "The spool of events is 85 % full" in stream_of(watched).problem)
        collector.until(lambda: "the store is away" in stream_of(watched).problem)
        (alarm,) = alarms()
        assert (alarm.severity, alarm.cluster_id) == ("critical", None)
        assert "me" in alarm.title
        assert "85 % full" in alarm.details
        faults.clear()
        collector.until(lambda: not stream_of(watched).problem)
        assert len(alarms()) == 1


def test_a_spool_that_fills_anew_is_told_anew_and_one_on_the_brink_once(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    told = []

    async def in_writer(_function, *values):
        told.append(values)

    collector = attached.EventCollector("me", in_writer)
    collector._room.most_bytes = 100
    for used, times in ((79, 0), (81, 1), (75, 1), (85, 1), (60, 1), (80, 2)):
        collector._room.used_bytes = used
        asyncio.run(collector._look_at_room())
        assert len(told) == times, used


def test_how_full_the_spool_is_is_told_also_while_the_store_is_away(kube, watched, monkeypatch):
    def away(*args):
        raise OperationalError("the store is away")

    monkeypatch.setattr(storing, "keep_in_database", away)
    give(kube, listed(modern("a")))
    with collecting() as collector:
        collector.until(lambda: (row := stream_of(watched)) and row.waiting)
        (events,) = collector.process._further
        events._room.most_bytes = events._room.used_bytes * 10 // 9
        collector.until(lambda: stream_of(watched).spool_percent == 90)


def test_events_of_a_cluster_that_was_un_adopted_leave_no_file(kube, watched, tmp_path):
    give(kube, listed(modern("a")))
    with collecting() as collector:
        collector.until(lambda: len(stored()) == 1)
        folder = tmp_path / "spool" / "0" / watched.uid
        assert folder.exists()
        watched.delete()
        collector.until(lambda: not folder.exists())


def test_what_another_collector_of_this_host_left_is_stored_and_removed(kube, watched, tmp_path):
    give(kube, listed())
    left = Spool(tmp_path / "spool" / "5" / watched.uid, Room(1 << 20))
    left.append(Frame(position="7", received_at=1.0, events=[made_kube(modern("left"))]))
    left.close()
    with collecting() as collector:
        collector.until(lambda: "uid-left" in stored())
        collector.until(lambda: not left.folder.exists())


def test_a_mistake_in_one_report_or_sweep_costs_nothing_else(kube, watched, monkeypatch):
    faults = [ValueError("odd"), InterfaceError("closed"), OSError("disk")]
    write, unknown_of = streams.write, storing.unknown_of

    def failing(does):
        def fail(*args):
            if faults:
                raise faults.pop()
            return does(*args)

        return fail

    monkeypatch.setattr(streams, "write", failing(write))
    monkeypatch.setattr(storing, "unknown_of", failing(unknown_of))
    give(kube, listed(modern("a")))
    with collecting() as collector:
        collector.until(lambda: not faults and len(stored()) == 1)
        collector.until(lambda: (row := stream_of(watched)) and row.stored == 1)


def test_events_that_wait_in_a_spool_that_was_damaged_are_listed_anew(kube, watched, tmp_path):
    spool = Spool(tmp_path / "spool" / "0" / watched.uid, Room(1 << 20))
    spool.append(Frame(position="990", received_at=time.time(), events=[made_kube(modern("x"))]))
    spool.append(Frame(position="1000", received_at=time.time(), events=[made_kube(modern("y"))]))
    spool.close()
    (segment,) = spool.folder.glob("*.segment")
    data = bytearray(segment.read_bytes())
    data[40] ^= 1
    segment.write_bytes(data)
    give(kube, listed(modern("x"), modern("y"), modern("z"), version="1100"))
    with collecting() as collector:
        collector.until(lambda: set(stored()) == {"uid-x", "uid-y", "uid-z"})
        collector.until(lambda: not (spool.folder / "damaged").exists())
        collector.until(lambda: stream_of(watched).position == "1100")


def test_a_cluster_that_is_adopted_again_is_listed_and_not_gone_on_with(kube, watched, tmp_path):
    give(kube, listed(modern("a")))
    with collecting() as collector:
        collector.until(lambda: (row := stream_of(watched)) and row.position == "1000")
    EventStream.objects.all().delete()
    Event.objects.all().delete()
    with collecting() as collector:
        collector.until(lambda: len(stored()) == 1)


def test_what_a_spool_reached_before_says_nothing_of_a_cluster_adopted_anew(kube, watched):
    give(kube, listed(modern("a")))
    with collecting() as collector:
        collector.until(lambda: (row := stream_of(watched)) and row.position == "1000")
    EventStream.objects.all().delete()
    give(kube, status_reply(500, "it cannot be listed now"))
    with collecting() as collector:
        collector.until(lambda: (row := stream_of(watched)) and row.problem)
    assert stream_of(watched).position == ""


def test_damage_that_a_collector_left_leads_to_a_list_by_whoever_holds_the_cluster(
    kube, watched, tmp_path
):
    left = Spool(tmp_path / "spool" / "5" / watched.uid, Room(1 << 20))
    for name in ("x", "y"):
        left.append(Frame(position="7", received_at=time.time(), events=[made_kube(modern(name))]))
    left.close()
    (segment,) = left.folder.glob("*.segment")
    data = bytearray(segment.read_bytes())
    data[40] ^= 1
    segment.write_bytes(data)
    give(kube, listed(modern("x"), modern("y"), version="1000"))
    EventStream.objects.create(cluster=watched, position="7", position_at=timezone.now())
    CollectorLease.objects.update_or_create(
        cluster=watched,
        defaults={"holder": "another", "until": timezone.now() + timedelta(hours=1)},
    )
    with collecting() as collector:
        collector.until(lambda: not left.folder.exists())
    row = stream_of(watched)
    assert (row.position, row.position_at) == ("", None)


def test_a_stream_is_told_by_its_holder_alone(kube, watched):
    give(kube, listed(modern("a")))
    with collecting() as collector:
        collector.until(lambda: (row := stream_of(watched)) and row.holder == "me")
        CollectorLease.objects.filter(cluster=watched).update(holder="another")
        EventStream.objects.filter(cluster=watched).update(holder="another", heard=7)
        collector.until(lambda: watched.pk not in collector.process._watched)
    assert (stream_of(watched).holder, stream_of(watched).heard) == ("another", 7)


def test_broken_utf_8_and_nul_are_replaced_and_freeze_nothing(kube, watched):
    text = json.dumps({"metadata": {"resourceVersion": "9"}, "items": [modern("a", note="NOTE")]})
    kube.on(
        "GET",
        MODERN,
        lambda request: (
            Stream()
            if "watch" in request.query
            else Reply(text.replace("NOTE", "a\\u0000b\\ud800c"))
        ),
    )
    with collecting() as collector:
        collector.until(lambda: len(stored()) == 1)
    assert Event.objects.get().message == "a\ufffdb\ufffdc"
