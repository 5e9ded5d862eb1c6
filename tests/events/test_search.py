"""Finding events, in every store."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from beidou.base.errors import InvalidInput
from events.drivers.kube_events import record
from events.services import search
from events.services.search import Cursor, FoundEvent, Query
from tests.events.made import kube, modern

pytestmark = pytest.mark.django_db
BEGIN = datetime(2026, 11, 20, tzinfo=UTC)
DAY = timedelta(days=1)


def query(**values):
    return Query.of(since=BEGIN, until=BEGIN + DAY, **values)


@pytest.fixture
def keep(store):
    def kept(cluster, *events):
        assert store.keep(cluster, *(record(kube(event), BEGIN + DAY) for event in events)) == []

    return kept


def at(minutes, name=None, **changes):
    time = (BEGIN + timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")
    return modern(
        name or f"e{minutes}",
        metadata__creationTimestamp=time,
        deprecatedFirstTimestamp=time,
        deprecatedLastTimestamp=time,
        **changes,
    )


def found(user, asked):
    return [event.uid.removeprefix("uid-") for event in search.page(user, asked).rows]


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("backoff", {"pull", "restart"}),
        ("BackOff container", {"restart"}),
        ('"image registry.example.com/web"', {"pull"}),
        ('"registry image"', set()),
        ("regis*", {"pull"}),
        ("backoff -container", {"pull"}),
        ("-backoff", {"probe"}),
        ("web-6f9c", {"pull", "restart", "probe"}),
        ("6f9", set()),
        ("健康检查", {"probe"}),
        ("unhealthy OR", set()),
        ("'; DROP TABLE events_event; --", set()),
    ],
)
def test_text_finds_the_same_on_both_databases(admin, cluster_a, typed, names, keep):
    keep(
        cluster_a,
        at(1, "restart"),
        at(2, "pull", note="Back-off pulling image registry.example.com/web:1"),
        at(3, "probe", reason="Unhealthy", note="健康检查 failed"),
    )
    assert set(found(admin, query(text=typed))) == names


def test_the_text_of_a_changed_event_is_found_and_the_old_one_is_not(admin, cluster_a, keep):
    keep(cluster_a, at(1, "x", note="first words"))
    keep(cluster_a, at(1, "x", note="second words", metadata__resourceVersion="200"))
    assert found(admin, query(text="second")) == ["x"]
    assert found(admin, query(text="first")) == []


def test_the_newest_come_first_and_pages_go_on_without_gap_or_double(admin, cluster_a, keep):
    keep(cluster_a, *(at(number // 3, f"e{number}") for number in range(20)))
    seen: list[FoundEvent] = []
    cursor = None
    while True:
        page = search.page(admin, query(), after=cursor, limit=3)
        seen += page.rows
        if page.next is None:
            break
        cursor = Cursor.parse(str(page.next))
    assert len({event.uid for event in seen}) == len(seen) == 20
    assert seen == sorted(seen, key=lambda event: (event.last_seen, event.tie), reverse=True)


def test_what_arrives_while_somebody_pages_moves_nothing(admin, cluster_a, keep):
    keep(cluster_a, *(at(number) for number in range(6)))
    first = search.page(admin, query(), limit=3)
    keep(cluster_a, at(30), at(31))
    second = search.page(admin, query(), after=first.next, limit=3)
    assert [event.uid for event in second.rows] == ["uid-e2", "uid-e1", "uid-e0"]


@pytest.mark.parametrize("text", ["", "1", "-", "a-b", "1-2-3", "9" * 20 + "-1", "1-" + "9" * 30])
def test_a_cursor_that_is_none_is_refused(text):
    with pytest.raises(InvalidInput, match="no place in a list"):
        Cursor.parse(text)


def test_fields_narrow_and_several_values_mean_any(admin, cluster_a, cluster_b, keep):
    keep(cluster_a, at(1, "a"), at(2, "b", reason="Killing", type="Normal"))
    keep(cluster_b, at(3, "c", reason="Pulled", type="Normal"))
    assert found(admin, query(reason=("Killing", "Pulled"))) == ["c", "b"]
    assert found(admin, query(type=("Normal",), clusters=(cluster_a.pk,))) == ["b"]


def test_only_the_time_asked_for_is_searched(admin, cluster_a, keep):
    keep(cluster_a, at(0), at(60), at(120))
    asked = Query.of(since=BEGIN + timedelta(minutes=30), until=BEGIN + timedelta(minutes=120))
    assert found(admin, asked) == ["e60"]


def test_without_times_the_last_day_is_meant():
    asked = Query.of()
    assert asked.until - asked.since == DAY


def test_times_that_cross_are_refused():
    with pytest.raises(InvalidInput, match="ends before it begins"):
        Query.of(since=BEGIN, until=BEGIN)


def test_each_sees_the_clusters_that_he_may_see(
    admin, operator, viewer, stranger, cluster_a, cluster_b, keep
):
    keep(cluster_a, at(1, "a"))
    keep(cluster_b, at(2, "b"))
    assert found(admin, query()) == ["b", "a"]
    assert found(operator, query()) == found(viewer, query()) == ["a"]
    assert found(stranger, query()) == []
    assert search.counts(viewer, query(), "cluster") == [(cluster_a.pk, 1)]


def test_counts_give_the_commonest_and_what_else_could_be_chosen(admin, cluster_a, keep):
    keep(cluster_a, at(1), at(2), at(3, reason="Pulled", type="Normal"))
    asked = query(reason=("Pulled",))
    assert search.counts(admin, asked, "reason") == [("BackOff", 2), ("Pulled", 1)]
    assert search.counts(admin, asked, "type") == [("Normal", 1)]


def test_the_histogram_counts_every_event_once(admin, cluster_a, keep):
    keep(cluster_a, at(0), at(1), at(700, type="Normal"), at(1439))
    buckets = search.histogram(admin, query())
    assert len(buckets) == 48  # of half an hour each
    assert sum(bucket.warnings for bucket in buckets) == 3
    assert sum(bucket.others for bucket in buckets) == 1
    assert (buckets[0].warnings, buckets[23].others, buckets[47].warnings) == (2, 1, 1)


@pytest.mark.parametrize("seconds", [1, 7, 60, 90, 3600, 7200])
@pytest.mark.parametrize("offset", [0, 1, 60, 3600])
def test_parts_are_counted_from_whatever_moment_they_begin(admin, cluster_a, keep, seconds, offset):
    minutes = (0, 1, 59, 60, 61, 125, 300)
    keep(cluster_a, *(at(number) for number in minutes))
    begin = BEGIN + timedelta(seconds=offset)
    asked = Query.of(since=begin, until=BEGIN + DAY)
    wanted = Counter(
        (minute * 60 - offset) // seconds for minute in minutes if minute * 60 >= offset
    )
    found = search.parts(admin, asked, seconds)
    assert {number: part.warnings for number, part in found.items()} == wanted


def test_whole_objects_are_not_read_for_a_list(admin, cluster_a, keep):
    keep(cluster_a, at(1))
    (event,) = search.page(admin, query()).rows
    assert event.raw == b""


def test_what_went_on_after_the_range_is_found_where_that_is_asked(admin, cluster_a, keep):
    def lasting(name, first, last):
        moments = [(BEGIN + timedelta(minutes=each)).isoformat() for each in (first, last)]
        times = zip(("deprecatedFirstTimestamp", "deprecatedLastTimestamp"), moments, strict=True)
        return modern(name, metadata__creationTimestamp=moments[0], **dict(times))

    keep(
        cluster_a,
        lasting("within", 60, 65),
        lasting("went-on", 65, 300),
        lasting("before", 0, 30),
        lasting("after", 70, 130),
    )

    def names(**more):
        since = BEGIN + timedelta(minutes=60)
        asked = Query.of(since=since, until=since + timedelta(minutes=10), **more)
        drawn = sum(each.warnings + each.others for each in search.histogram(admin, asked))
        assert drawn == len(found(admin, asked))
        return set(found(admin, asked))

    assert names() == {"within"}
    assert names(during=True) == {"within", "went-on"}
