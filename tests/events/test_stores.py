"""What every event store must do, on each of them."""

import json
from datetime import UTC, date, datetime, timedelta

import msgspec
import pytest
from django.core.management import call_command
from django.utils import timezone

from beidou.base import config
from clusters.models import Cluster
from events import tasks
from events.drivers.kube_events import record
from events.models import EventRestore, EventRetention
from events.services import search
from events.services.stores.base import Keeper, Scope
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


@pytest.mark.parametrize("ahead", [timedelta(minutes=6), timedelta(hours=1)])
def test_an_older_state_that_is_read_later_is_not_newer_for_a_clock_that_is_ahead(
    store, cluster_a, ahead
):
    """As by a collector that was paused while another took over."""
    now = timezone.now()

    def state(count, received):
        seen = (now + ahead + timedelta(seconds=count)).isoformat()
        changes = {"metadata__resourceVersion": str(100 + count), "deprecatedCount": count}
        said = kube(modern(deprecatedLastTimestamp=seen, **changes))
        return record(said, received)

    store.keep(cluster_a, state(11, now))
    store.keep(cluster_a, state(10, now + timedelta(minutes=2)))
    assert [event.count for event in store.all()] == [11]
    store.keep(cluster_a, state(12, now + timedelta(minutes=2)))
    assert [event.count for event in store.all()] == [12]


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


def test_a_cluster_may_have_days_of_its_own(store, cluster_a, cluster_b, settings):
    settings.EVENT_DAYS, settings.EVENT_WARNING_DAYS = 30, 90
    EventRetention.objects.create(cluster=cluster_a, days=60)
    EventRetention.objects.create(cluster=cluster_b, days=10, warning_days=20)
    today = timezone.now().date()
    for cluster in (cluster_a, cluster_b):
        for days_ago in (5, 15, 40, 70, 100):
            day = today - timedelta(days=days_ago)
            both = [of_day(day, f"{kind}-{days_ago}", type=kind) for kind in ("Normal", "Warning")]
            store.keep(cluster, *both)
    assert tasks.forget_old() > 0
    store.settle()
    left: dict[Cluster, set[str]] = {cluster_a: set(), cluster_b: set()}
    for event in store.all():
        left[event.cluster].add(event.uid.removeprefix("uid-"))
    assert left[cluster_a] == {
        "Normal-5", "Normal-15", "Normal-40",
        "Warning-5", "Warning-15", "Warning-40", "Warning-70",
    }  # fmt: skip
    assert left[cluster_b] == {"Normal-5", "Warning-5", "Warning-15"}


def test_a_cluster_that_is_kept_for_longer_keeps_no_other(store, cluster_a, cluster_b, settings):
    settings.EVENT_DAYS = settings.EVENT_WARNING_DAYS = 5
    EventRetention.objects.create(cluster=cluster_a, days=100, warning_days=100)
    today = timezone.now().date()
    store.keep(cluster_a, of_day(today - timedelta(days=50), "long"))
    store.keep(cluster_b, of_day(today - timedelta(days=50), "same day"))
    store.keep(cluster_b, of_day(today - timedelta(days=20), "other day"))
    assert tasks.forget_old() > 0
    store.settle()
    assert store.uids() == ["long"]


def test_days_that_were_brought_back_stay_until_their_date(store, cluster_a, cluster_b, settings):
    settings.EVENT_DAYS = settings.EVENT_WARNING_DAYS = 5
    today = timezone.now().date()
    back = today - timedelta(days=50)
    row = EventRestore.objects.create(
        cluster=cluster_a, since=back, until=back, kept_until=today + timedelta(days=1)
    )
    for day in (-1, 0, 1):
        store.keep(cluster_a, of_day(back + timedelta(days=day), f"a{day}"))
    store.keep(cluster_b, of_day(back, "b"))
    tasks.forget_old()
    store.settle()
    assert store.uids() == ["a0"]
    EventRestore.objects.filter(pk=row.pk).update(kept_until=today)
    tasks.forget_old()
    store.settle()
    assert store.uids() == []


def test_of_states_only_those_that_are_meant_are_removed(store, cluster_a, cluster_b):
    same, newer, later = made("same"), made("newer"), made("later")
    keeper = Keeper.of(cluster_a)
    store.keep(cluster_a, same, made("newer", version=101), made("other"))
    store.keep(cluster_a, msgspec.structs.replace(later, version=0, last_seen=NOW))
    store.keep(cluster_b, same)
    assert store.store.remove(keeper, [same, newer, later, made("nowhere")]) == 1
    store.settle()
    assert store.uids() == ["later", "newer", "other", "same"]
    assert {event.cluster for event in store.all() if event.uid == "uid-same"} == {cluster_b}
    assert store.store.remove(keeper, []) == 0


def test_what_was_removed_a_moment_ago_is_taken_again(store, cluster_a):
    store.keep(cluster_a, made(), made("b"))
    assert store.store.remove(Keeper(cluster_a.pk, cluster_a.uid, "a"), [made()]) == 1
    store.keep(cluster_a, made(), made())
    assert store.uids() == ["b", "web.1"]
    store.keep(cluster_a, made(version=101))
    assert sorted(event.version for event in store.all()) == [100, 101]


def test_days_of_which_nothing_is_left_take_nothing_more_with_them(store, cluster_a):
    old = timezone.now().date() - timedelta(days=20)
    store.keep(cluster_a, of_day(old, "stays"), of_day(old + timedelta(days=1), "goes"))
    goes = of_day(old + timedelta(days=1), "goes")
    store.store.remove(Keeper(cluster_a.pk, cluster_a.uid, "a"), [goes])
    store.store.forget_empty_days(timezone.now().date())
    store.settle()
    assert store.uids() == ["stays"]


def test_what_went_into_the_archive_comes_back_as_it_was(store, cluster_a, settings, tmp_path):
    settings.EVENT_DAYS = settings.EVENT_WARNING_DAYS = 5
    settings.EVENT_ARCHIVE = config.parse_event_archive_url(f"file://{tmp_path}")
    day = timezone.now().date() - timedelta(days=20)
    said = [of_day(day, f"e{number}", note=f"网 {number}") for number in range(5)]
    said.append(of_day(day, "normal", type="Normal"))
    young = made("young", deprecatedLastTimestamp=NOW.isoformat())
    store.keep(cluster_a, *said, young)
    assert tasks.archive_old() == 6
    store.settle()
    assert store.uids() == ["young"]
    given = {"cluster": "cluster-a", "since": day, "until": day}
    call_command("restore_events", **given)
    store.settle()
    back = {event.uid: event.record() for event in store.all()}
    assert [back[record.uid] for record in said] == said
    assert tasks.archive_old() == 0
    EventRestore.objects.update(kept_until=day)
    assert tasks.archive_old() == 6
    store.settle()
    assert store.uids() == ["young"]
    assert len(list(tmp_path.rglob("*.gz"))) == 1


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


# --- figures about times before now ---------------------------------------------------------------


def hour(number):
    return datetime(2026, 11, 20, number, tzinfo=UTC)


def lasting(name, first, last, **changes):
    seen = {"first_seen": hour(first), "last_seen": hour(last), "day": date(2026, 11, 20)}
    return msgspec.structs.replace(made(name, **changes), **seen)


def whole_day(**values):
    return search.Query.of(since=hour(0), until=hour(0) + timedelta(days=1), **values)


def test_an_event_counts_in_every_span_in_which_it_went_on(store, admin, cluster_a):
    store.keep(cluster_a, lasting("long", 1, 9), lasting("short", 5, 5), lasting("late", 9, 9))
    spans = [search.Span(hour(begin), hour(begin + 2)) for begin in (0, 4, 8, 10)]
    found = search.tallies(admin, {"all": whole_day()}, (), spans)
    assert found == {"all": [1, 2, 2, 0]}


def test_a_span_begins_with_its_first_moment_and_ends_before_its_last(store, admin, cluster_a):
    store.keep(cluster_a, lasting("a", 2, 4))
    spans = [search.Span(hour(0), hour(2)), search.Span(hour(4), hour(6))]
    assert search.tallies(admin, {"all": whole_day()}, (), spans) == {"all": [0, 1]}


def test_many_queries_are_counted_side_by_side(store, admin, cluster_a):
    store.keep(
        cluster_a,
        lasting("a", 1, 1, note="0/3 nodes are available: 3 Insufficient cpu."),
        lasting("b", 1, 1, reason="Failed", note="Failed to pull image"),
        lasting("c", 1, 1, note="Back-off pulling image"),
    )
    queries = {
        "reason": whole_day(reason=("Failed",)),
        "text": whole_day(text='"insufficient cpu"'),
        "not": whole_day(reason=("BackOff",), text='-"pulling image"'),
        "nothing": whole_day(reason=("None",)),
    }
    found = search.tallies(admin, queries, (), [search.Span(hour(0), hour(2))])
    assert found == {"reason": [1], "text": [1], "not": [1], "nothing": [0]}


def test_of_foreign_clusters_nothing_is_counted(store, viewer, stranger, cluster_a, cluster_b):
    store.keep(cluster_b, lasting("b", 1, 1))
    spans = [search.Span(hour(0), hour(2))]
    for user, chosen in ((viewer, ()), (viewer, (cluster_b.pk,)), (stranger, ())):
        assert search.tallies(user, {"all": whole_day()}, chosen, spans) == {"all": [0]}
        assert search.firsts(user, chosen, spans) == [None]


def test_each_span_says_since_when_there_are_events(store, admin, cluster_a, cluster_b):
    store.keep(cluster_a, lasting("a", 1, 5), lasting("b", 2, 4))
    store.keep(cluster_b, lasting("c", 3, 3))
    spans = [
        search.Span(hour(0), hour(9)),
        search.Span(hour(5), hour(6)),
        search.Span(hour(6), hour(9)),
    ]
    assert search.firsts(admin, (), spans) == [hour(3), hour(5), None]
    assert search.firsts(admin, (cluster_a.pk,), spans) == [hour(4), hour(5), None]


def test_each_reason_of_each_cluster_is_told_once_with_its_beginning(store, cluster_a, cluster_b):
    store.keep(cluster_a, lasting("a", 3, 4), lasting("b", 1, 9), lasting("n", 1, 1, reason=""))
    store.keep(cluster_b, lasting("c", 2, 2), lasting("d", 2, 2, reason="Failed"))
    scope = Scope({each.pk: each for each in (cluster_a, cluster_b)})
    found = store.store.reasons(whole_day(), scope, 10)
    assert sorted(found) == [
        (cluster_a.pk, "BackOff", hour(1)),
        (cluster_b.pk, "BackOff", hour(2)),
        (cluster_b.pk, "Failed", hour(2)),
    ]
    assert len(store.store.reasons(whole_day(), scope, 2)) == 2


def test_reasons_of_a_cluster_outside_the_scope_are_not_told(store, cluster_a, cluster_b):
    store.keep(cluster_b, lasting("c", 2, 2))
    assert store.store.reasons(whole_day(), Scope({cluster_a.pk: cluster_a}), 10) == []


def test_a_store_without_events_has_no_figures(store, admin, cluster_a):
    spans = [search.Span(hour(0), hour(2))]
    assert search.tallies(admin, {"all": whole_day()}, (), spans) == {"all": [0]}
    assert search.firsts(admin, (), spans) == [None]
    assert store.store.reasons(whole_day(), Scope({cluster_a.pk: cluster_a}), 10) == []
