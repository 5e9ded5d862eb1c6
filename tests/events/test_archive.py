"""Into the archive before events are deleted, and back: nothing lost, nothing doubled."""

import gzip
import hashlib
import json
import os
import subprocess
import sys
from datetime import timedelta

import msgspec
import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from beidou.base import config
from beidou.base.models import AuditEntry
from clusters.models import Cluster
from events import tasks
from events.drivers import archive, archive_s3, segments
from events.drivers.archive import MARK, Archive
from events.drivers.errors import ArchiveAway, SegmentLost, StoreAway
from events.models import Event, EventArchiving, EventRestore, EventRetention, EventSegment
from events.services import archiving, restoring
from events.services.stores import chosen
from events.services.stores.base import Keeper
from events.services.stores.embedded import EmbeddedStore
from tests import factories
from tests.events.stores import Stored
from tests.events.test_stores import made, of_day

pytestmark = pytest.mark.django_db
TODAY = timezone.now().date()


def ago(days):
    return TODAY - timedelta(days=days)


class Killed(BaseException):
    """As if the process had ended here."""


@pytest.fixture
def folder(tmp_path, settings):
    settings.EVENT_DAYS, settings.EVENT_WARNING_DAYS = 30, 90
    place = tmp_path / "archive"
    place.mkdir()
    settings.EVENT_ARCHIVE = config.parse_event_archive_url(f"file://{place}")
    return place


def keep(cluster, *records):
    assert chosen.store().write(keeper(cluster), records) == []


def keeper(cluster):
    return Keeper.of(cluster)


def left():
    return sorted(event.uid.removeprefix("uid-") for event in Event.objects.all())


def objects(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.gz") if path.is_file())


def read(path):
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def archived(folder):
    """The UIDs of all events in all objects."""
    lines = [line for name in objects(folder) for line in read(folder / name)]
    return sorted(line["event"]["id"].removeprefix("uid-") for line in lines)


def problem():
    return EventArchiving.objects.get().problem


def after_a_kill():
    """What a killed process held is free some minutes later."""
    EventArchiving.objects.update(held_until=timezone.now() - timedelta(seconds=1))


# --- there ----------------------------------------------------------------------------------------


def test_what_is_past_its_time_is_archived_and_then_deleted(folder, cluster_a):
    old = of_day(ago(40), "old", type="Normal")
    keep(cluster_a, old, of_day(ago(5), "young", type="Normal"), of_day(ago(40), "warning"))
    assert tasks.archive_old() == 1
    assert left() == ["warning", "young"]
    row = EventSegment.objects.get()
    content = (folder / row.object_name).read_bytes()
    assert (row.cluster, row.cluster_uid, row.cluster_name) == (
        cluster_a, cluster_a.uid, "cluster-a",
    )  # fmt: skip
    assert (row.day, row.part, row.number, row.events) == (ago(40), "others", 1, 1)
    assert (row.bytes, row.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert (row.first_seen, row.last_seen) == (old.first_seen, old.last_seen)
    assert row.removed_at is not None
    (line,) = read(folder / row.object_name)
    assert (line["event"]["id"], line["orchestrator"]["cluster"]["name"]) == (
        "uid-old", "cluster-a",
    )  # fmt: skip
    assert json.loads(line["event"]["original"])["metadata"]["name"] == "old"
    assert problem() == ""


def test_a_day_of_which_all_leaves_at_once_is_one_segment(folder, cluster_a, cluster_b):
    for cluster in (cluster_a, cluster_b):
        keep(cluster, of_day(ago(100), "w"), of_day(ago(100), "n", type="Normal"))
    keep(cluster_a, of_day(ago(101), "other day"))
    tasks.archive_old()
    rows = EventSegment.objects.order_by("cluster_name", "day")
    assert [(row.cluster_name, row.day, row.part, row.events) for row in rows] == [
        ("cluster-a", ago(101), "warnings", 1),
        ("cluster-a", ago(100), "all", 2),
        ("cluster-b", ago(100), "all", 2),
    ]
    assert left() == []


def test_the_days_of_a_cluster_count(folder, cluster_a, cluster_b):
    EventRetention.objects.create(cluster=cluster_a, days=3, warning_days=3)
    for cluster in (cluster_a, cluster_b):
        keep(cluster, of_day(ago(10), cluster.name))
    assert tasks.archive_old() == 1
    assert left() == ["cluster-b"]


def test_a_day_with_many_events_has_several_segments(folder, cluster_a, monkeypatch):
    monkeypatch.setattr(archiving, "EVENTS_MAX", 2)
    monkeypatch.setattr(archiving, "AT_ONCE", 2)
    names = [f"e{number}" for number in range(5)]
    keep(cluster_a, *(of_day(ago(100), name) for name in names))
    assert tasks.archive_old() == 5
    assert [row.events for row in EventSegment.objects.order_by("number")] == [2, 2, 1]
    assert archived(folder) == names
    assert left() == []


def test_of_large_objects_fewer_are_read_at_once(folder, cluster_a, monkeypatch):
    keep(cluster_a, *(of_day(ago(100), f"e{number}") for number in range(20)))
    size = len(Stored(chosen.store()).all()[0].raw)
    monkeypatch.setattr(archiving, "WHOLE_AT_ONCE", 8)
    monkeypatch.setattr(archiving, "BYTES_AT_ONCE", 3 * size)
    limits = []
    page = EmbeddedStore.page

    def noted(self, *given, **values):
        limits.append(values["limit"])
        return page(self, *given, **values)

    monkeypatch.setattr(EmbeddedStore, "page", noted)
    assert tasks.archive_old() == 20
    assert limits[0] == 8
    assert set(limits[1:]) <= {2, 3}  # names differ in length
    assert len(archived(folder)) == 20


def test_of_large_objects_fewer_are_removed_at_once(folder, cluster_a, monkeypatch):
    monkeypatch.setattr(segments, "PORTION_BYTES", 1)
    keep(cluster_a, *(of_day(ago(100), f"e{number}") for number in range(3)))
    removed = []
    remove = EmbeddedStore.remove

    def noted(self, cluster, records):
        removed.append(len(records))
        return remove(self, cluster, records)

    monkeypatch.setattr(EmbeddedStore, "remove", noted)
    assert tasks.archive_old() == 3
    assert removed == [1, 1, 1]


def test_with_an_archive_the_clock_leaves_it_to_a_worker(folder, cluster_a, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "events.services.retention.tasks.enqueue", lambda *given: asked.append(given)
    )
    keep(cluster_a, of_day(ago(100)))
    assert tasks.forget_old() == 0
    assert asked == [("events.tasks.archive_old",)]
    assert left() == ["web.1"]


def test_an_event_that_goes_on_stays(folder, cluster_a):
    began = of_day(ago(100), "goes-on")
    keep(cluster_a, msgspec.structs.replace(began, last_seen=timezone.now()))
    assert tasks.archive_old() == 0
    assert (left(), objects(folder)) == (["goes-on"], [])


def test_what_a_cluster_calls_itself_leads_out_of_no_folder(folder, db):
    odd = factories.make_cluster("odd", uid="../../../x")
    keep(odd, of_day(ago(100)))
    assert tasks.archive_old() == 1
    assert EventSegment.objects.get().object_name.startswith("_________x/")


def test_what_comes_late_has_a_segment_of_its_own(folder, cluster_a):
    for name in ("first", "late"):
        keep(cluster_a, of_day(ago(100), name))
        tasks.archive_old()
    assert [row.number for row in EventSegment.objects.order_by("number")] == [1, 2]
    assert archived(folder) == ["first", "late"]


# --- what may go wrong ----------------------------------------------------------------------------


def test_while_the_archive_is_away_nothing_is_deleted_and_a_sentence_says_so(folder, cluster_a):
    keep(cluster_a, of_day(ago(100)))
    folder.rename(folder.with_name("elsewhere"))
    assert tasks.archive_old() == 0
    assert f"archive of events ({folder}) cannot be used" in problem()
    since = EventArchiving.objects.get().problem_since
    tasks.archive_old()
    assert EventArchiving.objects.get().problem_since == since
    assert (left(), EventSegment.objects.count()) == (["web.1"], 0)
    folder.with_name("elsewhere").rename(folder)
    assert tasks.archive_old() == 1
    assert (left(), problem(), EventArchiving.objects.get().problem_since) == ([], "", None)


def test_a_folder_that_is_not_mounted_is_not_taken_for_the_archive(folder, cluster_a):
    keep(cluster_a, of_day(ago(100), "a"))
    tasks.archive_old()
    keep(cluster_a, of_day(ago(101), "b"))
    folder.rename(folder.with_name("elsewhere"))
    folder.mkdir()
    assert tasks.archive_old() == 0
    assert f"holds no “{MARK}”" in problem()
    assert left() == ["b"]


def test_what_reads_back_otherwise_is_not_deleted(folder, cluster_a, monkeypatch):
    keep(cluster_a, of_day(ago(100)))
    save = archive._Folder._save

    def spoil(self, name, content):
        saved = save(self, name, content)
        (folder / saved).write_bytes(b"spoilt")
        return saved

    with monkeypatch.context() as patched:
        patched.setattr(archive._Folder, "_save", spoil)
        assert tasks.archive_old() == 0
    assert "gives something else back" in problem()
    assert (left(), EventSegment.objects.count()) == (["web.1"], 0)
    assert tasks.archive_old() == 1
    assert archived(folder) == ["web.1"]


def test_a_data_folder_that_is_full_is_told(folder, cluster_a, monkeypatch):
    keep(cluster_a, of_day(ago(100)))

    def full(self, piece):
        raise ArchiveAway("The data folder takes no segment of events.")

    monkeypatch.setattr(segments.Draft, "_write", full)
    assert tasks.archive_old() == 0
    assert "data folder takes no segment" in problem()
    assert left() == ["web.1"]


def test_a_store_that_is_away_is_told(folder, cluster_a, monkeypatch):
    def away(*_given):
        raise StoreAway("The event store does not answer.")

    monkeypatch.setattr(EmbeddedStore, "parts", away)
    assert tasks.archive_old() == 0
    assert problem() == "The event store does not answer."


def test_killed_before_the_row_the_next_run_leaves_one_segment(folder, cluster_a, monkeypatch):
    keep(cluster_a, of_day(ago(100), "a"))

    def killed(*_given, **_values):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(EventSegment.objects, "create", killed)
        with pytest.raises(Killed):
            tasks.archive_old()
    assert len(objects(folder)) == 1
    assert left() == ["a"]
    assert tasks.archive_old() == 0  # for some minutes the killed one is taken for alive
    after_a_kill()
    keep(cluster_a, of_day(ago(100), "b"))
    assert tasks.archive_old() == 2
    assert objects(folder) == [EventSegment.objects.get().object_name]
    assert archived(folder) == ["a", "b"]


def test_killed_while_deleting_the_next_run_deletes_the_rest(folder, cluster_a, monkeypatch):
    monkeypatch.setattr(archiving, "AT_ONCE", 2)
    keep(cluster_a, *(of_day(ago(100), f"e{number}") for number in range(5)))
    remove = EmbeddedStore.remove
    calls = []

    def killed(self, *given):
        calls.append(given)
        if len(calls) == 2:
            raise Killed
        return remove(self, *given)

    with monkeypatch.context() as patched:
        patched.setattr(EmbeddedStore, "remove", killed)
        with pytest.raises(Killed):
            tasks.archive_old()
    assert len(left()) == 3
    assert EventSegment.objects.get().removed_at is None
    after_a_kill()
    assert tasks.archive_old() == 3
    row = EventSegment.objects.get()
    assert (row.events, objects(folder)) == (5, [row.object_name])
    assert row.removed_at is not None


def test_what_a_store_shows_for_a_while_after_it_was_removed_is_not_archived_again(
    folder, cluster_a, monkeypatch
):
    keep(cluster_a, of_day(ago(100)))
    tasks.archive_old()
    row = restored(cluster_a)
    EventRestore.objects.filter(pk=row.pk).delete()
    remove, removed = EmbeddedStore.remove, []

    def late(self, *given):
        removed.append(given)
        return len(given[1])

    def refresh(self):
        while removed:
            remove(self, *removed.pop())

    monkeypatch.setattr(EmbeddedStore, "remove", late)
    monkeypatch.setattr(EmbeddedStore, "refresh", refresh)
    assert tasks.archive_old() == 1
    assert (left(), len(objects(folder))) == ([], 1)


def test_an_event_that_is_repeated_meanwhile_stays(folder, cluster_a, monkeypatch):
    keep(cluster_a, of_day(ago(100), "a"), of_day(ago(100), "b"))
    put = Archive.put

    def repeated(self, *given):
        put(self, *given)
        keep(cluster_a, msgspec.structs.replace(of_day(ago(100), "b"), version=200))

    with monkeypatch.context() as patched:
        patched.setattr(Archive, "put", repeated)
        assert tasks.archive_old() == 1
    assert left() == ["b"]
    assert tasks.archive_old() == 1
    assert [row.events for row in EventSegment.objects.order_by("number")] == [2, 1]


def test_one_run_is_at_it_at_a_time(folder, cluster_a, monkeypatch):
    keep(cluster_a, of_day(ago(100)))
    put, seen = Archive.put, []

    def meanwhile(self, *given):
        seen.append(tasks.archive_old())
        put(self, *given)

    monkeypatch.setattr(Archive, "put", meanwhile)
    assert tasks.archive_old() == 1
    assert (seen, EventSegment.objects.count()) == ([0], 1)


def test_a_run_that_was_overtaken_notes_and_deletes_nothing(folder, cluster_a, monkeypatch):
    keep(cluster_a, of_day(ago(100)))
    put = Archive.put

    def overtaken(self, *given):
        put(self, *given)
        EventArchiving.objects.update(holder="another")

    monkeypatch.setattr(Archive, "put", overtaken)
    assert tasks.archive_old() == 0
    assert (left(), EventSegment.objects.count()) == (["web.1"], 0)
    assert EventArchiving.objects.get().holder == "another"


def test_a_long_run_ends_and_the_next_goes_on(folder, cluster_a, monkeypatch):
    keep(cluster_a, of_day(ago(101), "a"), of_day(ago(100), "b"))
    with monkeypatch.context() as patched:
        patched.setattr(archiving, "RUN_FOR", timedelta(0))
        assert tasks.archive_old() == 0
    assert tasks.archive_old() == 2


@pytest.fixture
def short_runs(monkeypatch):
    """The time of each run is over when something has gone."""
    monkeypatch.setattr(archiving._Run, "_is_over", property(lambda run: run.gone > 0))


def test_clusters_take_turns_where_there_is_no_time_for_all(
    folder, short_runs, cluster_a, cluster_b
):
    for number in range(3):
        keep(cluster_a, of_day(ago(100 + number), f"a{number}"))
    keep(cluster_b, of_day(ago(100), "b"))
    assert (tasks.archive_old(), left()) == (1, ["a0", "a1", "b"])
    assert (tasks.archive_old(), left()) == (1, ["a0", "a1"])
    assert (tasks.archive_old(), left()) == (1, ["a0"])


def test_archiving_that_does_not_keep_up_says_so_until_it_does(
    folder, short_runs, cluster_a, cluster_b
):
    keep(cluster_a, of_day(ago(101), "a"))
    keep(cluster_b, of_day(ago(100), "b"))
    tasks.archive_old()
    row = EventArchiving.objects.get()
    assert row.problem.startswith("Archiving does not keep up")
    assert str(ago(100)) in row.problem
    tasks.archive_old()
    row.refresh_from_db()
    assert (row.problem, row.problem_since) == ("", None)


def test_what_has_just_become_due_may_wait_for_the_next_run(
    folder, short_runs, cluster_a, cluster_b
):
    keep(cluster_a, of_day(ago(100), "a", type="Normal"))
    keep(cluster_b, of_day(ago(31), "b", type="Normal"))
    tasks.archive_old()
    assert left() == ["b"]
    assert EventArchiving.objects.get().problem == ""


def test_an_object_that_is_gone_before_its_events_were_deleted_is_made_up_for(
    folder, cluster_a, monkeypatch
):
    keep(cluster_a, of_day(ago(100)))

    def killed(*_given):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(EmbeddedStore, "remove", killed)
        with pytest.raises(Killed):
            tasks.archive_old()
    after_a_kill()
    lost = EventSegment.objects.get()
    (folder / lost.object_name).unlink()
    assert tasks.archive_old() == 1
    assert "is not in the archive any more" in problem()
    lost.refresh_from_db()
    assert lost.problem
    assert archived(folder) == ["web.1"]
    assert EventSegment.objects.get(number=2).removed_at is not None


def test_events_of_a_cluster_that_is_gone_are_deleted_and_what_is_archived_stays(folder, cluster_a):
    keep(cluster_a, of_day(ago(100), "archived"))
    tasks.archive_old()
    keep(cluster_a, of_day(ago(100), "late"))
    uid = cluster_a.uid
    Cluster.objects.filter(pk=cluster_a.pk).delete()
    assert tasks.forget_clusters() == 1
    tasks.archive_old()
    assert archived(folder) == ["archived"]
    row = EventSegment.objects.get()
    assert (row.cluster, row.cluster_name) == (None, "cluster-a")
    again = factories.make_cluster("again", uid=uid)
    tasks.archive_old()
    row.refresh_from_db()
    assert row.cluster == again


# --- and back -------------------------------------------------------------------------------------


def restored(cluster, first=100, last=100, days=7):
    call_command(
        "restore_events", cluster=cluster.name, since=ago(first), until=ago(last), keep_days=days
    )
    return EventRestore.objects.first()


def test_what_was_archived_comes_back_as_it_was(folder, cluster_a, capsys):
    said = [
        of_day(ago(100), "a"),
        of_day(ago(100), "b", note="健康 \0", type="Normal"),
        of_day(ago(99), "c"),
        of_day(ago(98), "not asked for"),
    ]  # fmt: skip
    keep(cluster_a, *said)
    tasks.archive_old()
    assert left() == []
    row = restored(cluster_a, 100, 99)
    assert left() == ["a", "b", "c"]
    back = sorted((event.record() for event in Stored(chosen.store()).all()), key=lambda r: r.uid)
    assert back == said[:3]
    assert (row.events, row.refused, row.problem) == (3, 0, "")
    assert row.finished_at is not None
    assert f"3 events are back until {TODAY + timedelta(days=7)}." in capsys.readouterr().out
    assert AuditEntry.objects.get(verb="restore events").after["since"] == str(ago(100))


def test_what_came_back_stays_until_its_date_and_is_not_archived_again(folder, cluster_a):
    keep(cluster_a, of_day(ago(100)))
    tasks.archive_old()
    row = restored(cluster_a)
    assert EventSegment.objects.get().removed_at is None
    assert tasks.archive_old() == 0
    assert left() == ["web.1"]
    EventRestore.objects.filter(pk=row.pk).update(kept_until=TODAY)
    assert tasks.archive_old() == 1
    assert (left(), len(objects(folder))) == ([], 1)
    assert EventSegment.objects.get().removed_at is not None


def test_a_newer_state_in_the_store_stays(folder, cluster_a):
    keep(cluster_a, of_day(ago(100)))
    tasks.archive_old()
    keep(
        cluster_a, msgspec.structs.replace(of_day(ago(100)), version=300, last_seen=timezone.now())
    )
    restored(cluster_a)
    assert [event.version for event in Event.objects.all()] == [300]


def test_restoring_twice_changes_nothing(folder, cluster_a):
    keep(cluster_a, of_day(ago(100)))
    tasks.archive_old()
    restored(cluster_a)
    restored(cluster_a)
    assert left() == ["web.1"]


def test_a_segment_that_is_damaged_costs_no_other_and_brings_nothing(folder, cluster_a):
    keep(cluster_a, of_day(ago(100), "a"), of_day(ago(99), "b"))
    tasks.archive_old()
    damaged = EventSegment.objects.get(day=ago(100))
    path = folder / damaged.object_name
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CommandError, match=r"is not what was put there\. Run the same again"):
        restored(cluster_a, 100, 99)
    assert left() == ["b"]
    damaged.refresh_from_db()
    assert "not what was put there" in damaged.problem


def test_an_archive_that_is_away_is_told_in_the_row(folder, cluster_a):
    keep(cluster_a, of_day(ago(100)))
    tasks.archive_old()
    row = EventRestore(
        cluster=cluster_a, since=ago(100), until=ago(100), kept_until=restoring.usual_end()
    )
    restoring.begin(row)
    folder.rename(folder.with_name("elsewhere"))
    tasks.restore(row.pk)
    row.refresh_from_db()
    assert "cannot be used" in row.problem
    assert row.finished_at is not None
    folder.with_name("elsewhere").rename(folder)
    restored(cluster_a)
    assert left() == ["web.1"]


def test_what_was_let_go_meanwhile_is_not_brought_back_to_life(folder, cluster_a, monkeypatch):
    keep(cluster_a, of_day(ago(100), "a"), of_day(ago(99), "b"))
    tasks.archive_old()
    write = EmbeddedStore.write

    def let_go(self, *given):
        EventRestore.objects.all().delete()
        return write(self, *given)

    monkeypatch.setattr(EmbeddedStore, "write", let_go)
    row = EventRestore(
        cluster=cluster_a, since=ago(100), until=ago(99), kept_until=restoring.usual_end()
    )
    restoring.begin(row)
    tasks.restore(row.pk)
    assert not EventRestore.objects.exists()
    assert left() == ["a"]
    assert tasks.archive_old() == 1
    assert left() == []


def test_what_a_killed_worker_did_not_finish_is_asked_for_again(folder, cluster_a, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "events.services.restoring.tasks.enqueue", lambda *given: asked.append(given)
    )
    row = EventRestore.objects.create(
        cluster=cluster_a, since=ago(9), until=ago(9), kept_until=ago(-3)
    )
    restoring.go_on()
    assert asked == []
    EventRestore.objects.update(touched_at=timezone.now() - timedelta(hours=1))
    restoring.go_on()
    assert asked == [("events.tasks.restore", row.pk)]


def test_days_that_are_brought_back_while_they_leave_stay(folder, cluster_a, monkeypatch):
    monkeypatch.setattr(archiving, "AT_ONCE", 1)
    keep(cluster_a, of_day(ago(100), "a"), of_day(ago(100), "b"))
    remove = EmbeddedStore.remove

    def asked_for(self, *given):
        EventRestore.objects.create(
            cluster=cluster_a, since=ago(100), until=ago(100), kept_until=ago(-3)
        )
        return remove(self, *given)

    monkeypatch.setattr(EmbeddedStore, "remove", asked_for)
    assert tasks.archive_old() == 1
    assert len(left()) == 1
    assert EventSegment.objects.get().removed_at is None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"cluster": "nothing"}, "There is no cluster nothing"),
        ({"since": "soon"}, "'soon' is no day"),
        ({"since": str(ago(90))}, "before the first"),
        ({"since": str(ago(300)), "until": str(ago(200))}, "holds nothing of this cluster"),
        ({"keep_days": "0"}, "must be after today"),
        ({"keep_days": "400"}, "must be after today"),
    ],
)
def test_what_cannot_be_restored_is_refused_in_a_sentence(changes, sentence, folder, cluster_a):
    keep(cluster_a, of_day(ago(100)))
    tasks.archive_old()
    given = {
        "cluster": "cluster-a", "since": str(ago(100)), "until": str(ago(100)), **changes,
    }  # fmt: skip
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    with pytest.raises(CommandError, match=sentence):
        call_command("restore_events", *arguments)
    assert not EventRestore.objects.exists()


def test_a_folder_that_is_not_mounted_makes_no_segment_lost(folder, cluster_a):
    keep(cluster_a, of_day(ago(100)))
    tasks.archive_old()
    folder.rename(folder.with_name("elsewhere"))
    folder.mkdir()
    with pytest.raises(CommandError, match="not mounted"):
        restored(cluster_a)
    assert EventSegment.objects.get().problem == ""
    folder.rmdir()
    folder.with_name("elsewhere").rename(folder)
    restored(cluster_a)
    assert left() == ["web.1"]


def test_without_an_archive_nothing_can_be_restored(settings, cluster_a):
    settings.EVENT_ARCHIVE = None
    with pytest.raises(CommandError, match="BEIDOU_EVENT_ARCHIVE_URL is not set"):
        restored(cluster_a)
    assert tasks.archive_old() == 0
    assert "BEIDOU_EVENT_ARCHIVE_URL is not set" in problem()


# --- segments -------------------------------------------------------------------------------------


def test_the_same_events_make_the_same_segment(tmp_path):
    def digest():
        with segments.Draft(tmp_path, "uid", "prod") as draft:
            draft.add(made())
            return draft.close()

    assert digest() == digest()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        b"no gzip",
        gzip.compress(b"no JSON\n"),
        gzip.compress(b"{}\n"),
        gzip.compress(b"[]" * 99)[:9],
    ],
    ids=["gzip", "json", "document", "half"],
)
def test_what_is_no_segment_is_refused(content, tmp_path):
    path = tmp_path / "segment"
    path.write_bytes(content)
    with path.open("rb") as file, pytest.raises(SegmentLost, match="cannot be read"):
        list(segments.records(file, 10))


def test_a_server_that_does_not_answer_is_told_without_its_secrets(tmp_path, monkeypatch):
    monkeypatch.setattr(archive_s3, "TRIES", 1)
    address = config.parse_event_archive_url("s3+http://key-id:sesame@127.0.0.1:1/bucket/a")
    with pytest.raises(ArchiveAway, match=r"http://127\.0\.0\.1:1/bucket/a\) cannot be") as told:
        Archive(address, tmp_path).require(is_new=True)
    assert "key-id" not in told.value.message
    assert "sesame" not in told.value.message + repr(address)


def test_what_s3_needs_is_loaded_for_it_alone():
    code = (
        "import django, sys; django.setup(); import events.collector.attached, events.tasks;"
        "sys.exit('boto3' in sys.modules or 'storages' in sys.modules)"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, timeout=120)
    assert done.returncode == 0
