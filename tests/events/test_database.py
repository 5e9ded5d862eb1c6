"""What the embedded store alone does, on whichever database the tests run."""

import re
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from django.db import connection
from django.utils import timezone

from clusters.services import removal
from events.drivers import database, days
from events.drivers.kube_events import record
from events.models import Event
from events.services import search, storing
from events.services.search import Query
from events.services.stores.base import Keeper, Limit, Limits
from events.services.stores.embedded import EmbeddedStore
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


def test_what_the_database_refuses_holds_up_no_other(cluster_a):
    bad = msgspec.structs.replace(made("bad"), count=2**70 if is_postgresql() else -1)
    records = [made(f"e{number}") for number in range(5)]
    ((refused, why),) = database.write(cluster_a.pk, [*records[:3], bad, *records[3:]])
    assert refused is bad
    assert why
    assert Event.objects.count() == 5


def test_what_is_refused_goes_into_the_log_and_ends_nothing(cluster_a, monkeypatch, caplog):
    monkeypatch.setattr(database, "write", lambda key, records: [(records[0], "too odd")])
    storing.keep_in_database(
        EmbeddedStore(), cluster_a.uid, [(NOW.timestamp(), [kube(modern("odd"))])]
    )
    assert "uid-odd" in caplog.text


def is_postgresql():
    return connection.vendor == "postgresql"


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
    before = today - timedelta(days=5)
    EmbeddedStore().forget(Limits(Limit(before, before)))
    if is_postgresql():
        assert days.partition(old) not in days._partitions()
    assert [event.uid for event in Event.objects.all()] == ["uid-a"]


def test_a_day_that_one_cluster_needs_goes_for_the_others_alone(cluster_a, cluster_b):
    old = timezone.now().date() - timedelta(days=10)
    database.write(cluster_a.pk, [of_day(old, "a")])
    database.write(cluster_b.pk, [of_day(old, "b")])
    short, long = old + timedelta(days=5), old - timedelta(days=5)
    own = {Keeper.of(cluster_a): Limit(long, long)}
    assert EmbeddedStore().forget(Limits(Limit(short, short), own)) == 1
    assert [event.uid for event in Event.objects.all()] == ["uid-a"]
    if is_postgresql():
        assert days.partition(old) in days._partitions()


def test_a_state_is_removed_by_its_identity_however_many_were_seen_in_its_moment(cluster_a):
    old = timezone.now().date() - timedelta(days=10)
    one = of_day(old)
    database.write(
        cluster_a.pk, [msgspec.structs.replace(one, uid=f"uid-{number}") for number in range(3000)]
    )
    with connection.cursor() as cursor:
        explain = "EXPLAIN" if is_postgresql() else "EXPLAIN QUERY PLAN"
        cursor.execute(
            f"{explain} {database._REMOVE}", [cluster_a.pk, "uid-1", old, one.last_seen, 100]
        )
        plan = " ".join(str(row[-1]) for row in cursor.fetchall())
    assert "Index Cond" in plan or "USING INDEX" in plan
    assert re.search(r"cluster_id ?=.{0,25}uid", plan)


def test_an_empty_day_is_given_back(cluster_a):
    old = timezone.now().date() - timedelta(days=10)
    database.write(cluster_a.pk, [of_day(old, "a"), of_day(old - timedelta(days=1), "b")])
    Event.objects.filter(uid="uid-a").delete()
    EmbeddedStore().forget_empty_days(old + timedelta(days=5))
    assert [event.uid for event in Event.objects.all()] == ["uid-b"]
    if is_postgresql():
        assert days.partition(old) not in days._partitions()
        assert days.partition(old - timedelta(days=1)) in days._partitions()


def test_the_page_that_asks_before_un_adopting_tells_of_the_events(cluster_a):
    factories.make_event_stream(cluster_a, stored=12)
    assert any("12" in sentence for sentence in removal.consequences_of(cluster_a))


def test_a_page_costs_one_query_however_deep(admin, cluster_a, django_assert_num_queries):
    database.write(cluster_a.pk, [made(f"e{number}") for number in range(10)])
    asked = Query.of(since=NOW - timedelta(days=3650), until=NOW + timedelta(days=1))
    cursor = search.page(admin, asked, limit=8).next  # the clusters are known from here on
    for after in (None, cursor):
        with django_assert_num_queries(1):
            page = search.page(admin, asked, after=after, limit=2)
            assert [event.cluster.name for event in page.rows] == ["cluster-a"] * 2
