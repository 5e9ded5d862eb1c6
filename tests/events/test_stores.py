"""What every event store must do, on each of them."""

import json
from datetime import UTC, date, datetime, timedelta

import msgspec
import pytest
from django.utils import timezone

from clusters.models import Cluster
from events import tasks
from events.drivers.kube_events import record
from events.services import search
from events.services.whole import whole
from tests.events.made import kube, modern

pytestmark = pytest.mark.django_db
NOW = timezone.now()


def made(name="web.1", version=100, **changes):
    event = modern(name, metadata__resourceVersion=str(version), **changes)
    return record(kube(event), NOW)


def of_day(day, name="web.1", **changes):
    began = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    return msgspec.structs.replace(
        made(name, **changes), day=day, first_seen=began, last_seen=began
    )


def test_an_event_is_kept_with_all_that_it_says(store, admin, cluster_a):
    said = made()
    assert store.keep(cluster_a, said) == []
    (event,) = store.all()
    assert event.cluster == cluster_a
    assert event.record() == said
    found = search.one(admin, event.key)
    assert (found.uid, whole(found)["metadata"]["uid"]) == ("uid-web.1", "uid-web.1")


def test_an_event_that_says_nothing_is_kept(store, cluster_a):
    bare = record(kube({"metadata": {"uid": "bare", "resourceVersion": "1"}}), NOW)
    assert store.keep(cluster_a, bare) == []
    (event,) = store.all()
    assert event.record() == bare


def test_odd_characters_are_kept(store, cluster_a):
    odd = made(note='nothing \0, 健康 "quoted" \\ \u2028 and 👍')
    assert store.keep(cluster_a, odd) == []
    (event,) = store.all()
    assert event.message == 'nothing ␀, 健康 "quoted" \\ \u2028 and 👍'


def test_a_message_of_100_kib_is_found_by_its_beginning_and_kept_whole(store, admin, cluster_a):
    long = "begin " + "x" * 100 * 1024
    assert store.keep(cluster_a, made(note=long)) == []
    (event,) = store.all()
    assert json.loads(event.raw)["note"] == long
    since = datetime(2026, 1, 1, tzinfo=UTC)
    asked = search.Query.of(since=since, until=NOW + timedelta(days=400), text="begin")
    assert [found.uid for found in search.page(admin, asked).rows] == ["uid-web.1"]


def test_the_same_twice_is_the_same_once(store, cluster_a):
    for _ in range(2):
        store.keep(cluster_a, made(), made("web.2"), made())
    assert store.uids() == ["web.1", "web.2"]


def test_a_repeated_event_is_one_in_its_newest_state(store, cluster_a):
    store.keep(cluster_a, made(version=100, deprecatedCount=1))
    store.keep(cluster_a, made(version=102, deprecatedCount=3))
    store.keep(cluster_a, made(version=101, deprecatedCount=2))
    (event,) = store.all()
    assert (event.version, event.count) == (102, 3)


def test_a_cluster_that_was_restored_and_counts_anew_is_believed_by_its_times(store, cluster_a):
    store.keep(cluster_a, made(version=5000, deprecatedCount=5))
    for version, minute in ((300, 7), (301, 8)):
        seen = f"2026-11-20T08:0{minute}:00Z"
        later = made(version=version, deprecatedCount=minute, deprecatedLastTimestamp=seen)
        store.keep(cluster_a, later)
    (event,) = store.all()
    assert (event.version, event.count) == (301, 8)


def test_states_without_a_number_are_ordered_by_their_times(store, cluster_a):
    for count, minute in ((1, 1), (3, 3), (2, 2)):
        seen = f"2026-11-20T08:0{minute}:00Z"
        store.keep(
            cluster_a, made(version="odd", deprecatedCount=count, deprecatedLastTimestamp=seen)
        )
    (event,) = store.all()
    assert event.count == 3


def test_a_state_that_is_listed_again_is_not_seen_later_for_a_clock_that_is_ahead(store, cluster_a):
    ahead = kube(modern(deprecatedLastTimestamp="2999-01-01T00:00:00Z"))
    for minutes in (0, 30):
        store.keep(cluster_a, record(ahead, NOW + timedelta(minutes=minutes)))
    (event,) = store.all()
    assert event.last_seen < NOW + timedelta(minutes=10)


def test_in_one_batch_the_newest_wins_in_whatever_order(store, cluster_a):
    states = [made(version=version, deprecatedCount=version) for version in (7, 9, 8)]
    store.keep(cluster_a, *states)
    (event,) = store.all()
    assert event.count == 9


def test_the_same_identity_in_two_clusters_is_two_events(store, cluster_a, cluster_b):
    store.keep(cluster_a, made())
    store.keep(cluster_b, made())
    assert {event.cluster for event in store.all()} == {cluster_a, cluster_b}


def test_days_of_mad_clocks_are_kept_too(store, cluster_a):
    mad = [of_day(date(1999, 1, 1), "old"), of_day(date(2101, 1, 1), "new")]
    assert store.keep(cluster_a, *mad) == []
    assert store.uids() == ["new", "old"]


def test_old_events_go_and_warnings_stay_longer(store, cluster_a, settings):
    settings.EVENT_DAYS, settings.EVENT_WARNING_DAYS = 30, 90
    today = timezone.now().date()
    for days_ago in (5, 40, 100):
        for kind in ("Normal", "Warning"):
            day = today - timedelta(days=days_ago)
            store.keep(cluster_a, of_day(day, f"{kind}-{days_ago}", type=kind))
    began = of_day(today - timedelta(days=100), "goes-on")
    store.keep(cluster_a, msgspec.structs.replace(began, last_seen=timezone.now()))
    assert tasks.forget_old() > 0
    store.settle()
    assert store.uids() == ["Normal-5", "Warning-40", "Warning-5", "goes-on"]


def test_an_event_of_a_day_that_went_comes_back_when_it_is_repeated(store, cluster_a, settings):
    settings.EVENT_DAYS = settings.EVENT_WARNING_DAYS = 1
    old = of_day(timezone.now().date() - timedelta(days=5))
    store.keep(cluster_a, old)
    tasks.forget_old()
    store.settle()
    assert store.uids() == []
    store.keep(cluster_a, msgspec.structs.replace(old, version=200))
    assert [event.version for event in store.all()] == [200]


def test_forgetting_where_nothing_is_kept_forgets_nothing(store):
    assert tasks.forget_old() == 0


def test_events_of_a_cluster_that_is_gone_go_too(store, cluster_a, cluster_b):
    store.keep(cluster_a, made("a"))
    store.keep(cluster_b, made("b"))
    Cluster.objects.filter(pk=cluster_a.pk).delete()
    assert tasks.forget_clusters() == 1
    store.settle()
    assert store.uids() == ["b"]


def test_nothing_is_found_by_a_key_that_is_none(store, admin, cluster_a):
    store.keep(cluster_a, made())
    for key in ("0", "nothing", "999999999999999999999999", "ab" * 16):
        assert search.one(admin, key) is None


def test_one_event_is_shown_to_those_who_may_see_its_cluster(store, admin, viewer, cluster_b):
    store.keep(cluster_b, made())
    (event,) = store.all()
    assert search.one(admin, event.key).uid == event.uid
    assert search.one(viewer, event.key) is None


def test_an_empty_store_answers_every_question(store, admin, cluster_a):
    asked = search.Query.of()
    assert search.page(admin, asked).rows == []
    assert search.counts(admin, asked, "reason") == []
    assert search.counts(admin, asked, "cluster") == []
    assert sum(bucket.others for bucket in search.histogram(admin, asked)) == 0
