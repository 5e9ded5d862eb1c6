"""What an alert rule would have fired in the last seven days, and what is cut short."""

from datetime import time, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from events.models import AlertRule
from events.services import alert_preview, figures, search
from tests import factories

pytestmark = pytest.mark.django_db
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture
def now(settings):
    settings.TIME_ZONE = "UTC"
    return timezone.now().replace(hour=12, minute=0, second=0, microsecond=0)


def burst(cluster, at, number=3, **values):
    for second in range(number):
        factories.make_event(cluster, last_seen=at + timedelta(seconds=second), **values)


@pytest.fixture(params=["read", "asked"])
def way(request, monkeypatch):
    """Few events are read, of many the store is asked."""
    monkeypatch.setattr(alert_preview, "READ_MAX", 0 if request.param == "asked" else 20_000)
    return request.param


@pytest.fixture
def asked(monkeypatch):
    monkeypatch.setattr(alert_preview, "READ_MAX", 0)


def wish(**values) -> AlertRule:
    return AlertRule(**{"threshold": 3, "window_minutes": 10, "group_by": "cluster", **values})


def firings(user, now, **values):
    return alert_preview.preview(wish(**values), user, now).firings


def test_a_burst_would_have_fired_when_it_came(operator, way, cluster_a, now):
    burst(cluster_a, now - 30 * HOUR, 5)
    (firing,) = firings(operator, now)
    assert (firing.cluster, firing.value, firing.peak) == (cluster_a.pk, "", 5)
    assert timedelta(0) <= firing.began - (now - 30 * HOUR) <= 3 * MINUTE
    assert timedelta(0) <= firing.ended - firing.began <= 13 * MINUTE
    assert firing.told_at == firing.began


@pytest.mark.parametrize("values", [{"threshold": 6}, {"search": "reason=Other"}])
def test_too_few_or_others_would_not(values, operator, way, cluster_a, now):
    burst(cluster_a, now - 30 * HOUR, 5)
    assert firings(operator, now, **values) == ()


def test_too_few_within_any_window_would_not(operator, way, cluster_a, now):
    for number in range(20):
        burst(cluster_a, now - (100 - number) * HOUR, 2)
    assert firings(operator, now) == ()


@pytest.mark.parametrize("minutes", [1, 7, 10, 60, 720])
def test_each_window_finds_a_burst_however_it_lies(minutes, operator, way, cluster_a, now):
    for number in range(4):
        # Across the borders of every step.
        burst(cluster_a, now - (150 - number * 31) * HOUR - timedelta(seconds=7 * number + 1))
    found = firings(operator, now, window_minutes=minutes)
    assert len(found) == 4


def test_what_lasts_is_one_alert_and_what_comes_anew_is_another(operator, way, cluster_a, now):
    for minutes in range(0, 60, 3):
        burst(cluster_a, now - 50 * HOUR + minutes * MINUTE, 1)
    burst(cluster_a, now - 20 * HOUR)
    late, early = firings(operator, now)
    assert early.ended - early.began > 45 * MINUTE
    assert late.began > early.ended


def test_what_fires_now_has_no_end(operator, way, cluster_a, now):
    burst(cluster_a, now - 2 * MINUTE)
    (firing,) = firings(operator, now)
    assert firing.ended is None


@pytest.mark.parametrize(
    ("by", "threshold", "expected"),
    [("", 6, {""}), ("node", 3, {"n1", "n2"}), ("reason", 6, {"Scheduled"}), ("cluster", 7, set())],
)
def test_groups_are_counted_by_themselves(by, threshold, expected, operator, way, cluster_a, now):
    for node in ("n1", "n2"):
        burst(cluster_a, now - 10 * HOUR, node=node)
    found = firings(operator, now, group_by=by, threshold=threshold)
    assert {each.value for each in found} == expected


def test_it_is_seen_with_the_rights_of_who_looks(way, operator, admin, cluster_a, cluster_b, now):
    burst(cluster_b, now - 10 * HOUR)
    assert firings(operator, now) == ()
    assert [each.cluster for each in firings(admin, now)] == [cluster_b.pk]


@pytest.mark.parametrize(
    ("hour", "told_after"), [(12, timedelta(0)), (2, 4 * HOUR), (23, 7 * HOUR)]
)
def test_quiet_hours_put_off_what_still_fires_when_they_end(
    hour, told_after, operator, cluster_a, now
):
    begin = now.replace(hour=hour) - timedelta(days=2)
    for minutes in range(0, 8 * 60, 3):
        burst(cluster_a, begin + minutes * MINUTE, 1)
    (firing,) = firings(operator, now, quiet_from=time(22), quiet_to=time(6))
    assert abs(firing.told_at - begin - told_after) <= 10 * MINUTE


def test_quiet_hours_keep_what_is_over_before_they_end(operator, cluster_a, now):
    burst(cluster_a, now.replace(hour=2) - timedelta(days=2))
    found = alert_preview.preview(wish(quiet_from=time(22), quiet_to=time(6)), operator, now)
    assert [each.told_at for each in found.firings] == [None]
    assert found.told == 0


# --- bounds ---------------------------------------------------------------------------------------


def counted(user, now, **values) -> int:
    with CaptureQueriesContext(connection) as captured:
        alert_preview.preview(wish(**values), user, now)
    return len(captured)


def test_few_events_are_read_once_whatever_the_number_of_groups(operator, cluster_a, now):
    for number in range(30):
        burst(cluster_a, now - 30 * HOUR, name=f"web-{number}")
    assert counted(operator, now, group_by="name") <= 5  # one of them for the clusters
    assert len(firings(operator, now, group_by="name")) == 30


def test_many_events_cost_few_queries_where_they_are_bursts(asked, operator, cluster_a, now):
    assert counted(operator, now) <= 4
    burst(cluster_a, now - 30 * HOUR, 50)
    assert counted(operator, now) <= 8
    assert counted(operator, now, window_minutes=1) <= 30


def test_the_largest_groups_alone_are_asked_about_and_it_says_so(
    asked, operator, cluster_a, now, monkeypatch
):
    monkeypatch.setattr(alert_preview, "GROUPS_MAX", 1)
    burst(cluster_a, now - HOUR, 3, name="small")
    burst(cluster_a, now - HOUR, 4, name="large")
    found = alert_preview.preview(wish(group_by="name"), operator, now)
    assert [each.value for each in found.firings] == ["large"]
    assert found.groups_left_out


def test_the_newest_alone_are_listed_and_all_are_counted(operator, cluster_a, now, monkeypatch):
    monkeypatch.setattr(alert_preview, "SHOWN_MAX", 1)
    for hours in (30, 20, 10):
        burst(cluster_a, now - hours * HOUR)
    found = alert_preview.preview(wish(), operator, now)
    assert (len(found.firings), found.found, found.is_cut) == (1, 3, True)
    assert found.firings[0].began > now - 11 * HOUR


def test_what_takes_too_long_is_cut_short_and_says_so(asked, operator, cluster_a, now, monkeypatch):
    burst(cluster_a, now - HOUR)
    monkeypatch.setattr(alert_preview, "SECONDS", -1.0)
    found = alert_preview.preview(wish(), operator, now)
    assert (found.firings, found.is_late) == ((), True)


def test_what_takes_too_long_within_a_group_is_cut_short(operator, cluster_a, now, monkeypatch):
    burst(cluster_a, now - HOUR)
    query = search.Query(since=now - timedelta(days=7), until=now, clusters=(cluster_a.pk,))
    late = figures.steps(operator, query, 150 * timedelta(seconds=1), clock=figures.Clock(-1))
    assert (late.steps, late.is_late) == ({}, True)


def test_steps_agree_with_the_events_themselves(operator, cluster_a, now):
    """Every step is counted, and counted right."""
    since = now - timedelta(days=7)
    moments = [now - 40 * HOUR + timedelta(seconds=97 * number) for number in range(60)]
    for moment in moments:
        factories.make_event(cluster_a, last_seen=moment)
    width = timedelta(seconds=150)
    query = search.Query(since=since, until=now)
    found = figures.steps(operator, query, width, clock=figures.Clock(10))
    expected: dict[int, int] = {}
    for moment in moments:
        number = (moment - since) // width
        expected[number] = expected.get(number, 0) + 1
    assert found.steps == expected
