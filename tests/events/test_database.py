"""The embedded store, on whichever database the tests run."""

import json
import zlib
from datetime import UTC, date, datetime, timedelta

import msgspec
import pytest
from django.db import connection
from django.utils import timezone

from clusters.models import Cluster
from clusters.services import removal
from events import tasks
from events.drivers import database, days
from events.drivers.kube_events import record
from events.models import Event
from events.services import storing
from tests import factories
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


def test_an_event_is_kept_with_all_that_it_says(cluster_a):
    assert database.write(cluster_a.pk, [made()]) == []
    event = Event.objects.get()
    assert event.cluster == cluster_a
    assert (event.reason, event.kind, event.name, event.node) == (
        "BackOff",
        "Pod",
        "web-6f9c-x2",
        "n1",
    )
    assert event.last_seen == datetime(2026, 11, 20, 8, 5, tzinfo=UTC)
    assert json.loads(zlib.decompress(event.raw))["metadata"]["uid"] == "uid-web.1"


def test_the_same_twice_is_the_same_once(cluster_a):
    for _ in range(2):
        database.write(cluster_a.pk, [made(), made("web.2"), made()])
    assert Event.objects.count() == 2


def test_a_repeated_event_is_one_row_in_its_newest_state(cluster_a):
    database.write(cluster_a.pk, [made(version=100, deprecatedCount=1)])
    database.write(cluster_a.pk, [made(version=102, deprecatedCount=3)])
    database.write(cluster_a.pk, [made(version=101, deprecatedCount=2)])
    event = Event.objects.get()
    assert (event.version, event.count) == (102, 3)


def test_a_cluster_that_was_restored_and_counts_anew_is_believed_by_its_times(cluster_a):
    database.write(cluster_a.pk, [made(version=5000, deprecatedCount=5)])
    later = made(version=300, deprecatedCount=6, deprecatedLastTimestamp="2026-11-20T08:09:00Z")
    database.write(cluster_a.pk, [later])
    assert Event.objects.get().count == 6


def test_a_state_that_is_listed_again_is_not_seen_later_for_a_clock_that_is_ahead(cluster_a):
    ahead = kube(modern(deprecatedLastTimestamp="2999-01-01T00:00:00Z"))
    for minutes in (0, 30):
        database.write(cluster_a.pk, [record(ahead, NOW + timedelta(minutes=minutes))])
    assert Event.objects.get().last_seen < NOW + timedelta(minutes=10)


def test_in_one_batch_the_newest_wins_in_whatever_order(cluster_a):
    states = [made(version=version, deprecatedCount=version) for version in (7, 9, 8)]
    database.write(cluster_a.pk, states)
    assert Event.objects.get().count == 9


def test_the_same_identity_in_two_clusters_is_two_events(cluster_a, cluster_b):
    database.write(cluster_a.pk, [made()])
    database.write(cluster_b.pk, [made()])
    assert Event.objects.count() == 2


def test_what_the_database_refuses_holds_up_no_other(cluster_a):
    bad = msgspec.structs.replace(made("bad"), count=2**70 if is_postgresql() else -1)
    records = [made(f"e{number}") for number in range(5)]
    ((refused, why),) = database.write(cluster_a.pk, [*records[:3], bad, *records[3:]])
    assert refused is bad
    assert why
    assert Event.objects.count() == 5


def test_what_is_refused_goes_into_the_log_and_ends_nothing(cluster_a, monkeypatch, caplog):
    monkeypatch.setattr(database, "write", lambda key, records: [(records[0], "too odd")])
    storing.store(cluster_a.uid, [(NOW.timestamp(), [kube(modern("odd"))])])
    assert "uid-odd" in caplog.text


def is_postgresql():
    return connection.vendor == "postgresql"


def test_days_of_mad_clocks_are_kept_too(cluster_a):
    mad = [of_day(date(1999, 1, 1), "old"), of_day(date(2999, 1, 1), "new")]
    assert database.write(cluster_a.pk, mad) == []
    assert Event.objects.count() == 2


def test_old_events_go_and_warnings_stay_longer(cluster_a, settings):
    settings.EVENT_DAYS, settings.EVENT_WARNING_DAYS = 30, 90
    today = timezone.now().date()
    for days_ago in (5, 40, 100):
        for kind in ("Normal", "Warning"):
            day = today - timedelta(days=days_ago)
            database.write(cluster_a.pk, [of_day(day, f"{kind}-{days_ago}", type=kind)])
    goes_on = msgspec.structs.replace(
        of_day(today - timedelta(days=100), "goes-on"), last_seen=timezone.now()
    )
    database.write(cluster_a.pk, [goes_on])
    assert tasks.forget_old() > 0
    left = Event.objects.values_list("uid", flat=True)
    assert set(left) == {"uid-Normal-5", "uid-Warning-5", "uid-Warning-40", "uid-goes-on"}


def test_an_event_of_a_day_that_went_comes_back_when_it_is_repeated(cluster_a, settings):
    settings.EVENT_DAYS = settings.EVENT_WARNING_DAYS = 1
    old = of_day(timezone.now().date() - timedelta(days=5))
    database.write(cluster_a.pk, [old])
    tasks.forget_old()
    assert not Event.objects.exists()
    database.write(cluster_a.pk, [msgspec.structs.replace(old, version=200)])
    assert Event.objects.get().version == 200


def test_events_of_a_cluster_that_is_gone_go_too(cluster_a, cluster_b):
    database.write(cluster_a.pk, [made()])
    database.write(cluster_b.pk, [made()])
    Cluster.objects.filter(pk=cluster_a.pk).delete()
    tasks.forget_old()
    assert [event.cluster_id for event in Event.objects.all()] == [cluster_b.pk]


def test_more_than_one_portion_is_deleted(cluster_a, monkeypatch):
    monkeypatch.setattr(days, "DELETED_AT_ONCE", 2)
    database.write(cluster_a.pk, [made(f"e{number}") for number in range(5)])
    assert days.delete_where("type = %s", ["Warning"]) == 5


def test_a_day_goes_at_once_where_the_database_can(cluster_a):
    today = timezone.now().date()
    old = today - timedelta(days=10)
    database.write(cluster_a.pk, [of_day(today, "a"), of_day(old, "b")])
    if is_postgresql():
        assert {days.partition(today), days.partition(old)} <= set(days._partitions())
    days.drop_before(today - timedelta(days=5))
    if is_postgresql():
        assert days.partition(old) not in days._partitions()
    assert [event.uid for event in Event.objects.all()] == ["uid-a"]


def test_the_page_that_asks_before_un_adopting_tells_of_the_events(cluster_a):
    factories.make_event_stream(cluster_a, stored=12)
    assert any("12" in sentence for sentence in removal.consequences_of(cluster_a))
