"""Alert rules by the clock: what begins, goes on, is over, is told, and what stands still."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import time, timedelta

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from guardian.shortcuts import remove_perm

from beidou.base.errors import TemporaryError
from beidou.base.models import Notice
from beidou.base.sentences import Sentence
from beidou.base.tasks import CLOCK, OUTSIDE, SCHEDULES, WORK
from events import tasks
from events.drivers.errors import SearchTooSlow, StoreAway
from events.models import AlertRule, EventAlert, EventStream
from events.services import alert_preview, alerting, figures, search
from tests import factories

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


@pytest.fixture
def noon(settings):
    """Today's, in the portal's time zone: quiet hours are told by it."""
    settings.TIME_ZONE = "UTC"
    return timezone.now().replace(hour=12, minute=0, second=0, microsecond=0)


def happen(cluster, number, at, **values):
    for _number in range(number):
        factories.make_event(cluster, last_seen=at - timedelta(seconds=30), **values)


def alerts(**wanted) -> list[EventAlert]:
    return list(EventAlert.objects.filter(**wanted).order_by("pk"))


def notices() -> list[str]:
    rows = Notice.objects.filter(kind=alerting.KIND).order_by("pk")
    return [str(row.title) for row in rows]


# --- what fires -----------------------------------------------------------------------------------


def test_enough_events_within_the_window_fire_and_are_told(operator, cluster_a, noon):
    rule = factories.make_alert_rule(operator, name="Crashes", search="reason=BackOff")
    happen(cluster_a, 3, noon, reason="BackOff")
    assert alerting.look_at_all(noon) == 1
    (alert,) = alerts()
    assert (alert.rule, alert.cluster, alert.count, alert.told) == (rule, cluster_a, 3, 1)
    assert (alert.began_at, alert.is_firing) == (noon, True)
    assert alert.search == f"reason=BackOff&cluster={cluster_a.pk}"
    notice = Notice.objects.get()
    assert notice.title == "Alert Crashes: 3 events within 10 minutes."
    assert (notice.cluster_id, notice.severity) == (cluster_a.pk, "warning")
    assert (notice.object_type, notice.object_id) == ("events.eventalert", str(alert.pk))


@pytest.mark.parametrize(
    ("number", "minutes", "reason"), [(2, 0, "BackOff"), (3, 10, "BackOff"), (3, 0, "Pulled")]
)
def test_too_few_too_old_or_other_events_do_not_fire(
    number, minutes, reason, operator, cluster_a, noon
):
    factories.make_alert_rule(operator, search="reason=BackOff")
    happen(cluster_a, number, noon - minutes * MINUTE, reason=reason)
    alerting.look_at_all(noon)
    assert alerts() == []


def test_one_that_repeats_is_one_event(operator, cluster_a, noon):
    factories.make_alert_rule(operator)
    happen(cluster_a, 2, noon, count=500)
    alerting.look_at_all(noon)
    assert alerts() == []


def test_what_a_clock_ahead_of_ours_wrote_is_counted(operator, cluster_a, noon):
    factories.make_alert_rule(operator)
    happen(cluster_a, 3, noon + 2 * MINUTE)
    alerting.look_at_all(noon)
    assert len(alerts()) == 1


# --- between the looks ----------------------------------------------------------------------------


def burst(cluster, at, number=3, **values):
    """So many events within four seconds, from ``at`` on."""
    for each in range(number):
        seen = at + timedelta(seconds=4 * each / max(1, number - 1))
        factories.make_event(cluster, last_seen=seen, **values)


@pytest.fixture
def minute_rule(operator, noon):
    """It was counted at noon for the first time."""
    rule = factories.make_alert_rule(operator, window_minutes=1)
    alerting.look_at_all(noon)
    return rule


def test_a_burst_between_two_looks_fires_and_is_over_at_the_next(minute_rule, cluster_a, noon):
    burst(cluster_a, noon + timedelta(seconds=2))
    alerting.look_at_all(noon + timedelta(seconds=70))
    (alert,) = alerts()
    assert (alert.count, alert.told, alert.is_firing) == (3, 1, True)
    assert alert.since <= noon + timedelta(seconds=2)
    for minutes in range(2, 6):
        alerting.look_at_all(noon + minutes * MINUTE)
    (alert,) = alerts()
    assert (alert.count, alert.is_firing) == (3, False)
    assert len(notices()) == 1


def test_a_burst_across_two_looks_fires(minute_rule, cluster_a, noon):
    """Each of the two windows that are looked at holds too few."""
    at = noon + MINUTE
    burst(cluster_a, at - timedelta(seconds=5), 2)
    alerting.look_at_all(at)
    assert alerts() == []
    burst(cluster_a, at + timedelta(seconds=1), 2)
    alerting.look_at_all(at + timedelta(seconds=61))
    assert [alert.count for alert in alerts()] == [4]


def test_as_many_events_that_never_are_in_one_window_do_not_fire(minute_rule, cluster_a, noon):
    for minutes in range(1, 8):
        burst(cluster_a, noon + minutes * MINUTE, 1)
        alerting.look_at_all(noon + minutes * MINUTE)
    assert alerts() == []


def test_a_burst_that_is_stored_late_fires(minute_rule, cluster_a, noon):
    alerting.look_at_all(noon + 2 * MINUTE)
    burst(cluster_a, noon + timedelta(seconds=50))
    alerting.look_at_all(noon + 3 * MINUTE)
    assert [alert.count for alert in alerts()] == [3]


def test_what_waited_in_a_spool_fires_when_it_is_stored(minute_rule, cluster_a, noon):
    """The store was away for half an hour, and is looked at before the spool was shipped."""
    stream = factories.make_event_stream(
        cluster_a, waiting=3, lag_seconds=1800, updated_at=noon + 30 * MINUTE
    )
    alerting.look_at_all(noon + 30 * MINUTE)
    assert alerts() == []
    burst(cluster_a, noon + MINUTE)
    EventStream.objects.filter(pk=stream.pk).update(waiting=0, lag_seconds=0)
    alerting.look_at_all(noon + 31 * MINUTE)
    assert [alert.count for alert in alerts()] == [3]
    alerting.look_at_all(noon + 32 * MINUTE)
    alerting.look_at_all(noon + 33 * MINUTE)
    assert [alert.is_firing for alert in alerts()] == [False]


def test_what_happened_while_the_store_could_not_be_asked_fires_then(
    minute_rule, cluster_a, noon, monkeypatch
):
    def away(*_args, **_more):
        raise StoreAway(Sentence("It is away."))

    burst(cluster_a, noon + 2 * MINUTE)
    with monkeypatch.context() as patched:
        patched.setattr(search, "counts", away)
        for minutes in range(1, 30):
            alerting.look_at_all(noon + minutes * MINUTE)
    assert alerts() == []
    alerting.look_at_all(noon + 30 * MINUTE)
    assert [alert.count for alert in alerts()] == [3]


def test_after_a_long_outage_a_day_is_looked_back(minute_rule, cluster_a, noon):
    burst(cluster_a, noon + 10 * MINUTE)
    alerting.look_at_all(noon + timedelta(hours=25))
    assert alerts() == []


def test_a_burst_of_hours_ago_is_found_in_steps_that_a_store_can_count(
    minute_rule, cluster_a, noon, monkeypatch
):
    monkeypatch.setattr(alerting, "STEPS_MAX", 300)
    burst(cluster_a, noon + timedelta(hours=2))
    burst(cluster_a, noon + timedelta(hours=5), 1)
    alerting.look_at_all(noon + timedelta(hours=20))
    assert [alert.count for alert in alerts()] == [3]


def test_what_an_alert_has_told_is_not_told_again(minute_rule, cluster_a, noon):
    burst(cluster_a, noon + timedelta(seconds=30))
    alerting.look_at_all(noon + MINUTE)
    alerting.look_at_all(noon + 2 * MINUTE)
    AlertRule.objects.update(counted_at=noon)  # as after an outage
    alerting.look_at_all(noon + 9 * MINUTE)
    assert [alert.is_firing for alert in alerts()] == [False]


@pytest.mark.parametrize(
    "change", [{"threshold": 2}, {"search": "reason=BackOff"}, {"enabled": False}]
)
def test_a_rule_that_is_changed_or_switched_on_begins_then(change, minute_rule, cluster_a, noon):
    burst(cluster_a, noon + MINUTE / 2, reason="BackOff")
    AlertRule.objects.update(**change)
    alerting.look_at_all(noon + 4 * MINUTE)
    AlertRule.objects.update(enabled=True)
    alerting.look_at_all(noon + 5 * MINUTE)
    assert alerts() == []


def test_what_was_missed_and_cannot_be_counted_in_time_is_counted_the_next_time(
    minute_rule, cluster_a, noon, monkeypatch
):
    burst(cluster_a, noon + 2 * MINUTE)
    with monkeypatch.context() as patched:
        patched.setattr(figures, "steps", lambda *_args, **_more: figures.Steps({}, is_late=True))
        alerting.look_at_all(noon + 10 * MINUTE)
    minute_rule.refresh_from_db()
    assert "counting took too long" in minute_rule.problem
    alerting.look_at_all(noon + 11 * MINUTE)
    assert [alert.count for alert in alerts()] == [3]


def test_what_fires_now_is_told_although_looking_back_fails_and_others_are_counted(
    minute_rule, operator, cluster_a, noon, monkeypatch
):
    groups = figures.groups

    def slow_over_much(user, query, *args, **more):
        if query.until - query.since > 8 * MINUTE:
            raise StoreAway(Sentence("It took too long."))
        return groups(user, query, *args, **more)

    factories.make_alert_rule(operator, name="another", window_minutes=1, threshold=3)
    AlertRule.objects.update(counted_at=noon - MINUTE)
    burst(cluster_a, noon + 10 * MINUTE - timedelta(seconds=5))
    monkeypatch.setattr(figures, "groups", slow_over_much)
    alerting.look_at_all(noon + 10 * MINUTE)
    assert [alert.told for alert in alerts()] == [1, 1]
    minute_rule.refresh_from_db()
    assert minute_rule.problem == "It took too long."


def test_a_rule_that_is_too_slow_to_count_keeps_no_other_from_being_counted(
    minute_rule, operator, cluster_a, noon, monkeypatch
):
    other = factories.make_alert_rule(operator, name="another", window_minutes=1, threshold=3)
    groups = figures.groups

    def too_slow_once(*args, **more):
        monkeypatch.setattr(figures, "groups", groups)
        raise SearchTooSlow(Sentence("It took too long."))

    burst(cluster_a, noon + MINUTE - timedelta(seconds=5))
    AlertRule.objects.filter(pk=other.pk).update(looked_at=noon)
    monkeypatch.setattr(figures, "groups", too_slow_once)
    alerting.look_at_all(noon + MINUTE)
    assert [alert.rule.name for alert in alerts()] == ["another"]


def test_looking_back_far_goes_on_where_its_time_was_over(
    minute_rule, cluster_a, noon, monkeypatch
):
    monkeypatch.setattr(alerting, "PORTION", timedelta(hours=2))
    burst(cluster_a, noon + timedelta(hours=1))
    burst(cluster_a, noon + timedelta(hours=5))
    steps, asked = figures.steps, []

    def once(*args, **more):
        asked.append(1)
        return steps(*args, **more) if len(asked) == 1 else figures.Steps({}, is_late=True)

    with monkeypatch.context() as patched:
        patched.setattr(figures, "steps", once)
        alerting.look_at_all(noon + timedelta(hours=6))
    minute_rule.refresh_from_db()
    assert minute_rule.counted_at >= noon + timedelta(hours=2)
    assert len(alerts()) == 1


@pytest.mark.parametrize("offset", range(0, 60, 7))
def test_what_the_preview_finds_a_rule_finds_too(offset, minute_rule, operator, cluster_a, noon):
    burst(cluster_a, noon + timedelta(seconds=30 + offset), 5)
    now = noon
    while now < noon + 5 * MINUTE:
        now += timedelta(seconds=63)
        alerting.look_at_all(now)
    assert alert_preview.preview(minute_rule, operator, now).found == len(alerts()) == 1


# --- groups ---------------------------------------------------------------------------------------


@pytest.fixture
def two_clusters(admin, cluster_a, cluster_b, noon):
    """Three events on each: of one node on the first, of three on the second."""
    happen(cluster_a, 3, noon, node="n1", namespace="shop", name="web", reason="Failed")
    for number in range(3):
        happen(cluster_b, 1, noon, node=f"n{number}", namespace="shop", name="web")
    return admin


@pytest.mark.parametrize(
    ("by", "threshold", "expected"),
    [
        ("", 6, {(None, "")}),
        ("", 7, set()),
        ("cluster", 3, {("cluster-a", ""), ("cluster-b", "")}),
        ("cluster", 4, set()),
        ("node", 3, {("cluster-a", "n1")}),
        ("node", 4, set()),
        ("namespace", 3, {("cluster-a", "shop"), ("cluster-b", "shop")}),
        ("name", 3, {("cluster-a", "web"), ("cluster-b", "web")}),
        ("reason", 3, {("cluster-a", "Failed"), ("cluster-b", "Scheduled")}),
    ],
)
def test_each_group_is_counted_by_itself(by, threshold, expected, two_clusters, noon):
    factories.make_alert_rule(two_clusters, group_by=by, threshold=threshold)
    alerting.look_at_all(noon)
    found = {(row.cluster and row.cluster.name, row.value) for row in alerts()}
    assert found == expected


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ("node=n1&node=n2", [("cluster-a", "n1")]),
        ("node=n2", []),
        ("cluster=cluster-b", []),
    ],
)
def test_what_is_not_chosen_makes_no_group(search, expected, two_clusters, noon):
    """The counts of the event centre tell what else could be chosen."""
    factories.make_alert_rule(two_clusters, group_by="node", search=search)
    alerting.look_at_all(noon)
    assert [(row.cluster.name, row.value) for row in alerts()] == expected


def test_chosen_clusters_alone_are_counted(two_clusters, noon):
    factories.make_alert_rule(two_clusters, search="cluster=cluster-b")
    alerting.look_at_all(noon)
    assert [row.cluster.name for row in alerts()] == ["cluster-b"]


def test_all_together_on_one_chosen_cluster_belong_to_it(two_clusters, cluster_b, noon):
    factories.make_alert_rule(two_clusters, group_by="", search="cluster=cluster-b")
    alerting.look_at_all(noon)
    assert [(row.cluster, row.count) for row in alerts()] == [(cluster_b, 3)]


def test_events_without_the_value_make_no_group(operator, cluster_a, noon):
    factories.make_alert_rule(operator, group_by="node")
    happen(cluster_a, 3, noon, node="")
    alerting.look_at_all(noon)
    assert alerts() == []


def test_the_largest_groups_alone_are_alerts_and_the_rule_says_so(
    operator, cluster_a, noon, monkeypatch
):
    monkeypatch.setattr(alerting, "GROUPS_MAX", 1)
    rule = factories.make_alert_rule(operator, group_by="name")
    happen(cluster_a, 3, noon, name="small")
    happen(cluster_a, 4, noon, name="large")
    alerting.look_at_all(noon)
    assert [row.value for row in alerts()] == ["large"]
    rule.refresh_from_db()
    assert "the 1 largest are alerts" in rule.problem


def test_a_rule_costs_the_same_however_many_groups(operator, cluster_a, noon):
    factories.make_alert_rule(operator, group_by="name", threshold=2)

    def queries(now) -> int:
        with CaptureQueriesContext(connection) as captured:
            alerting.look_at_all(now)
        return len([each for each in captured if "events_event" in each["sql"]])

    happen(cluster_a, 2, noon, name="a")
    queries(noon)
    few = queries(noon + MINUTE)
    for number in range(10):
        happen(cluster_a, 2, noon, name=f"b{number}")
    queries(noon + 2 * MINUTE)
    assert queries(noon + 3 * MINUTE) == few


# --- going on, over, anew -------------------------------------------------------------------------


def test_while_it_fires_nobody_is_told_again(operator, cluster_a, noon):
    factories.make_alert_rule(operator)
    happen(cluster_a, 3, noon)
    alerting.look_at_all(noon)
    happen(cluster_a, 2, noon + MINUTE)
    alerting.look_at_all(noon + MINUTE)
    (alert,) = alerts()
    assert (alert.count, alert.peak, alert.began_at) == (5, 5, noon)
    assert alert.last_at == noon + MINUTE
    assert len(notices()) == 1


def test_it_is_over_when_too_few_are_found(operator, cluster_a, noon):
    factories.make_alert_rule(operator)
    happen(cluster_a, 3, noon)
    alerting.look_at_all(noon)
    alerting.look_at_all(noon + 11 * MINUTE)
    (alert,) = alerts()
    assert (alert.ended_at, alert.peak, alert.is_firing) == (noon + 11 * MINUTE, 3, False)


def test_anew_within_the_window_it_goes_on_untold(operator, cluster_a, noon):
    factories.make_alert_rule(operator)
    happen(cluster_a, 3, noon)
    for minutes, number in ((0, 0), (11, 0), (15, 4)):
        happen(cluster_a, number, noon + minutes * MINUTE)
        alerting.look_at_all(noon + minutes * MINUTE)
    (alert,) = alerts()
    assert (alert.is_firing, alert.peak, alert.began_at) == (True, 4, noon)
    assert len(notices()) == 1


def test_anew_after_it_was_over_for_a_window_it_is_another_and_told(operator, cluster_a, noon):
    factories.make_alert_rule(operator)
    happen(cluster_a, 3, noon)
    for minutes, number in ((0, 0), (11, 0), (22, 3)):
        happen(cluster_a, number, noon + minutes * MINUTE)
        alerting.look_at_all(noon + minutes * MINUTE)
    first, second = alerts()
    assert (first.is_firing, second.is_firing) == (False, True)
    assert len(notices()) == 2


def test_what_a_changed_rule_found_before_is_over(operator, cluster_a, noon):
    rule = factories.make_alert_rule(operator)
    happen(cluster_a, 3, noon, name="web")
    alerting.look_at_all(noon)
    AlertRule.objects.filter(pk=rule.pk).update(group_by="name")
    alerting.look_at_all(noon + MINUTE)
    first, second = alerts()
    assert (first.is_firing, second.is_firing, second.value) == (False, True, "web")


def test_what_a_rule_found_is_over_when_it_is_switched_off(operator, cluster_a, noon):
    rule = factories.make_alert_rule(operator)
    happen(cluster_a, 3, noon)
    alerting.look_at_all(noon)
    AlertRule.objects.filter(pk=rule.pk).update(enabled=False)
    assert alerting.look_at_all(noon + MINUTE) == 0
    assert [row.is_firing for row in alerts()] == [False]


def test_called_twice_the_clock_looks_once(operator, cluster_a, noon):
    factories.make_alert_rule(operator)
    assert alerting.look_at_all(noon) == 1
    assert alerting.look_at_all(noon + timedelta(seconds=1)) == 0


@pytest.mark.django_db(transaction=True)
def test_of_two_workers_at_once_one_looks(operator, cluster_a, noon):
    rule = factories.make_alert_rule(operator)
    together = threading.Barrier(2)

    def claim(_number) -> bool:
        row = AlertRule.objects.get(pk=rule.pk)
        together.wait(10)
        try:
            return alerting._claim(row, noon)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(claim, range(2))) == [False, True]


@pytest.mark.parametrize("of_a_cluster", [True, False])
def test_the_same_never_fires_twice_at_once(of_a_cluster, operator, cluster_a, noon):
    values = {
        "rule": factories.make_alert_rule(operator), "group_by": "", "value": "",
        "cluster": cluster_a if of_a_cluster else None, "since": noon, "began_at": noon,
        "last_at": noon, "count": 3, "peak": 3,
    }  # fmt: skip
    EventAlert.objects.create(**values, ended_at=noon)
    EventAlert.objects.create(**values)
    with pytest.raises(IntegrityError), transaction.atomic():
        EventAlert.objects.create(**values)


def test_whoever_is_slower_looks_not_at_all(operator, cluster_a, noon):
    rule = factories.make_alert_rule(operator)
    AlertRule.objects.update(looked_at=noon)
    assert not alerting._claim(rule, noon)


# --- quiet hours ----------------------------------------------------------------------------------


def quiet(owner, begin, end):
    return factories.make_alert_rule(owner, quiet_from=time(begin), quiet_to=time(end))


def test_in_quiet_hours_it_is_stored_only_and_told_when_they_end(operator, cluster_a, noon):
    quiet(operator, 11, 13)
    happen(cluster_a, 3, noon + 55 * MINUTE)
    alerting.look_at_all(noon + 55 * MINUTE)
    assert [row.told for row in alerts()] == [0]
    assert notices() == []
    alerting.look_at_all(noon + 60 * MINUTE)
    assert [row.told for row in alerts()] == [1]
    assert len(notices()) == 1
    alerting.look_at_all(noon + 61 * MINUTE)
    assert len(notices()) == 1


def test_what_is_over_before_quiet_hours_end_is_never_told(operator, cluster_a, noon):
    quiet(operator, 11, 13)
    happen(cluster_a, 3, noon)
    for minutes in (0, 30, 60):
        alerting.look_at_all(noon + minutes * MINUTE)
    assert [(row.told, row.is_firing) for row in alerts()] == [(0, False)]
    assert notices() == []


@pytest.mark.parametrize(
    ("hour", "is_told"), [(21, True), (22, False), (0, False), (5, False), (6, True), (12, True)]
)
def test_quiet_hours_may_go_over_midnight(hour, is_told, operator, cluster_a, noon):
    quiet(operator, 22, 6)
    now = noon.replace(hour=hour)
    happen(cluster_a, 3, now)
    alerting.look_at_all(now)
    assert bool(notices()) is is_told


def test_quiet_hours_are_those_of_the_portal(operator, cluster_a, noon, settings):
    settings.TIME_ZONE = "Asia/Shanghai"  # where it is 20:00
    quiet(operator, 19, 21)
    happen(cluster_a, 3, noon)
    alerting.look_at_all(noon)
    assert notices() == []


# --- rights ---------------------------------------------------------------------------------------


def test_a_rule_sees_what_its_owner_may_see(operator, cluster_a, cluster_b, noon):
    factories.make_alert_rule(operator)
    factories.make_alert_rule(operator, group_by="", threshold=4)
    happen(cluster_a, 3, noon)
    happen(cluster_b, 9, noon)
    alerting.look_at_all(noon)
    assert [row.cluster for row in alerts()] == [cluster_a]


def test_a_role_that_was_taken_back_takes_the_events_with_it(operator, cluster_a, cluster_b, noon):
    factories.grant(operator.groups.get(), cluster_b, "viewer")
    factories.make_alert_rule(operator)
    happen(cluster_b, 3, noon)
    alerting.look_at_all(noon)
    assert [row.cluster for row in alerts()] == [cluster_b]
    remove_perm("clusters.view_cluster", operator.groups.get(), cluster_b)
    alerting.look_at_all(noon + MINUTE)
    assert [row.is_firing for row in alerts()] == [False]


@pytest.mark.parametrize(
    ("leave", "sentence"),
    [
        (lambda owner: owner.delete(), "operator, whose rule it is, has no account any more"),
        (
            lambda owner: type(owner).objects.filter(pk=owner.pk).update(is_active=False),
            "operator, whose rule it is, has no account any more",
        ),
        (lambda owner: owner.groups.clear(), "operator, whose rule it is, may see no cluster."),
    ],
    ids=["removed", "inactive", "without role"],
)
def test_a_rule_whose_owner_has_left_stands_still_and_says_so(
    leave, sentence, operator, cluster_a, noon
):
    rule = factories.make_alert_rule(operator)
    happen(cluster_a, 3, noon)
    alerting.look_at_all(noon)
    leave(operator)
    alerting.look_at_all(noon + MINUTE)
    rule.refresh_from_db()
    assert sentence in rule.problem
    assert rule.problem_since == noon + MINUTE
    assert [row.is_firing for row in alerts()] == [False]


# --- what goes wrong ------------------------------------------------------------------------------


@pytest.fixture
def failing(monkeypatch):
    """The counts of rules that search for this fail so."""
    counts = search.counts

    def fail_with(error):
        def count(user, query, field, **values):
            if "bad" in query.reason:
                raise error
            return counts(user, query, field, **values)

        monkeypatch.setattr(search, "counts", count)

    return fail_with


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (TemporaryError(Sentence("The event store is away.")), "The event store is away."),
        (DatabaseError("no such table"), "The database did not answer as it should"),
        (ZeroDivisionError(), "The portal made a mistake"),
    ],
)
def test_a_rule_that_fails_says_so_and_stops_no_other(
    error, sentence, failing, operator, cluster_a, noon, caplog
):
    failing(error)
    bad = factories.make_alert_rule(operator, name="a", search="reason=bad")
    factories.make_alert_rule(operator, name="b")
    happen(cluster_a, 3, noon)
    assert alerting.look_at_all(noon) == 2
    bad.refresh_from_db()
    assert sentence in bad.problem
    assert [row.rule.name for row in alerts()] == ["b"]


def test_a_problem_keeps_the_moment_of_its_beginning_and_goes_by_itself(
    failing, operator, cluster_a, noon, monkeypatch
):
    rule = factories.make_alert_rule(operator, search="reason=bad")
    with monkeypatch.context() as patched:
        patched.setattr(search, "counts", lambda *_args, **_more: 1 / 0)
        alerting.look_at_all(noon)
        alerting.look_at_all(noon + MINUTE)
    rule.refresh_from_db()
    assert rule.problem_since == noon
    alerting.look_at_all(noon + 2 * MINUTE)
    rule.refresh_from_db()
    assert (rule.problem, rule.problem_since) == ("", None)


def test_a_store_that_does_not_answer_is_waited_for_once_and_all_rules_say_so(
    operator, cluster_a, noon, monkeypatch
):
    asked = []

    def hang(*_args, **_more):
        asked.append(1)
        raise StoreAway(Sentence("The event store does not answer."))

    for name in "abc":
        factories.make_alert_rule(operator, name=name)
    happen(cluster_a, 3, noon)
    with monkeypatch.context() as patched:
        patched.setattr(search, "counts", hang)
        assert alerting.look_at_all(noon) == 1
    assert len(asked) == 1
    told = set(AlertRule.objects.values_list("problem", "problem_since"))
    assert told == {("The event store does not answer.", noon)}
    # Those that were not looked at are due at once.
    assert alerting.look_at_all(noon + timedelta(seconds=1)) == 2
    assert [row.rule.name for row in alerts()] == ["b", "c"]


def test_what_fires_goes_on_while_the_store_is_away(failing, operator, cluster_a, noon):
    factories.make_alert_rule(operator, search="reason=bad")
    happen(cluster_a, 3, noon, reason="bad")
    alerting.look_at_all(noon)
    failing(TemporaryError(Sentence("The event store is away.")))
    alerting.look_at_all(noon + MINUTE)
    assert [row.is_firing for row in alerts()] == [True]


def test_a_search_that_is_none_any_more_is_said(operator, cluster_a, noon):
    rule = factories.make_alert_rule(operator, search="q=" + "x" * 600)
    alerting.look_at_all(noon)
    rule.refresh_from_db()
    assert "longer than 500 characters" in rule.problem


def test_counting_that_takes_too_long_is_given_up_and_said(operator, cluster_a, noon, monkeypatch):
    monkeypatch.setattr(alerting, "RULE_SECONDS", -1.0)
    rule = factories.make_alert_rule(operator, group_by="node")
    happen(cluster_a, 3, noon)
    alerting.look_at_all(noon)
    rule.refresh_from_db()
    assert "counting took too long" in rule.problem


def test_rules_that_had_to_wait_come_first_the_next_time(operator, cluster_a, noon, monkeypatch):
    first, second = (factories.make_alert_rule(operator, name=name) for name in "ab")
    AlertRule.objects.filter(pk=first.pk).update(looked_at=noon - 2 * MINUTE)
    AlertRule.objects.filter(pk=second.pk).update(looked_at=noon - 3 * MINUTE)
    looked = []
    monkeypatch.setattr(alerting, "look_at", lambda rule, _now: looked.append(rule.name))
    alerting.look_at_all(noon)
    assert looked == ["b", "a"]
    monkeypatch.setattr(alerting, "ALL_SECONDS", -1.0)
    assert alerting.look_at_all(noon + MINUTE) == 0


def test_a_cluster_that_goes_takes_its_alerts_along(admin, cluster_a, noon):
    factories.make_alert_rule(admin)
    happen(cluster_a, 3, noon)
    alerting.look_at_all(noon)
    cluster_a.delete()
    assert alerts() == []
    # Its events are removed a little later: an administrator's counts still hold them.
    alerting.look_at_all(noon + MINUTE)
    assert alerts() == []


# --- who does it ----------------------------------------------------------------------------------


def test_rules_are_looked_at_once_a_minute(operator, cluster_a):
    factories.make_alert_rule(operator)
    assert tasks.look_for_alerts() == 1


def test_nothing_that_asks_the_event_store_keeps_the_clock():
    queues = {each.function: each.queue for each in SCHEDULES if each.function.startswith("events")}
    assert queues == {
        "events.tasks.look_for_alerts": OUTSIDE,
        "events.tasks.learn_reasons": OUTSIDE,
        "events.tasks.forget_old": WORK,
        "events.tasks.look_for_stale_labels": CLOCK,  # looks into the database, and asks a worker
    }


def test_while_one_look_hangs_no_other_begins(operator, cluster_a, monkeypatch):
    factories.make_alert_rule(operator)
    found = []
    monkeypatch.setattr(alerting, "look_at_all", lambda: found.append(tasks.look_for_alerts()) or 1)
    assert tasks.look_for_alerts() == 1
    assert found == [0]
    assert tasks.look_for_alerts() == 1  # and the next is not kept out


def test_what_is_over_is_forgotten_with_the_notices(operator, cluster_a, noon, settings):
    rule = factories.make_alert_rule(operator)
    old = noon - timedelta(days=settings.NOTICE_DAYS + 1)
    values = {"rule": rule, "since": old, "began_at": old, "last_at": old, "count": 1, "peak": 1}
    EventAlert.objects.create(**values, value="over", ended_at=old)
    EventAlert.objects.create(**values, value="fires")
    EventAlert.objects.create(**values, value="lately", ended_at=noon)
    assert alerting.forget_old(noon) == 1
    assert {row.value for row in alerts()} == {"fires", "lately"}
