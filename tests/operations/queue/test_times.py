"""Windows and freezes: midnight, weeks, and the days on which the clock changes."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from operations.services.times import Calendar, Frozen, Span, Window

BERLIN = ZoneInfo("Europe/Berlin")
SATURDAY, SUNDAY = frozenset({5}), frozenset({6})
NIGHT = Window(SATURDAY, time(22), 240)


def at(text: str, zone=BERLIN) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)


def berlin(*windows: Window, freezes=()) -> Calendar:
    return Calendar(BERLIN, windows, freezes)


def frozen(begins: str, ends: str | None, reason="year's end") -> Frozen:
    return Frozen(at(begins), None if ends is None else at(ends), reason)


def test_without_windows_and_freezes_everything_may_begin():
    assert berlin().hold(at("2026-11-26 12:00")) is None
    assert berlin().closes_at(at("2026-11-26 12:00")) is None
    assert berlin().next_window(at("2026-11-26 12:00")) is None


def test_outside_the_window_nothing_may_begin_until_it_opens():
    hold = berlin(NIGHT).hold(at("2026-11-28 21:59:59"))
    assert hold.sentence == "the window Sat 22:00–02:00 (Europe/Berlin)"
    assert hold.opens_at == at("2026-11-28 22:00")


@pytest.mark.parametrize("moment", ["2026-11-28 22:00", "2026-11-28 23:59", "2026-11-29 01:59:59"])
def test_a_window_goes_on_over_midnight(moment):
    assert berlin(NIGHT).hold(at(moment)) is None
    assert berlin(NIGHT).closes_at(at(moment)) == at("2026-11-29 02:00")


def test_a_window_is_over_at_its_end():
    hold = berlin(NIGHT).hold(at("2026-11-29 02:00"))
    assert hold.opens_at == at("2026-12-05 22:00")


def test_a_window_may_last_longer_than_a_day_and_says_on_which_it_ends():
    weekend = berlin(Window(SATURDAY, time(8), 36 * 60))
    assert weekend.hold(at("2026-11-29 19:59")) is None
    hold = weekend.hold(at("2026-11-29 20:00"))
    assert hold.sentence == "the window Sat 08:00 – Sun 20:00 (Europe/Berlin)"


def test_a_window_of_a_whole_week_is_always_open():
    always = berlin(Window(frozenset({0}), time(0), 7 * 24 * 60))
    for hours in range(0, 400, 7):
        assert always.hold(at("2026-03-20 00:00") + timedelta(hours=hours)) is None


def test_windows_that_follow_each_other_are_one():
    both = berlin(NIGHT, Window(SUNDAY, time(2), 60))
    assert both.hold(at("2026-11-29 02:30")) is None
    assert both.closes_at(at("2026-11-28 22:30")) == at("2026-11-29 03:00")


def test_of_several_weekdays_the_next_counts():
    daily = berlin(Window(frozenset({1, 3}), time(1), 60))
    assert daily.hold(at("2026-11-24 02:00")).opens_at == at("2026-11-26 01:00")


def test_the_time_is_that_of_the_cluster():
    tokyo = Calendar(ZoneInfo("Asia/Tokyo"), (NIGHT,))
    assert tokyo.hold(at("2026-11-28 13:30", UTC)) is None
    assert tokyo.hold(at("2026-11-28 22:30", UTC)) is not None


# --- when the clock changes -----------------------------------------------------------------
# 2026 in Berlin: forward on 29 March from 02:00 to 03:00, back on 25 October from 03:00 to 02:00.


def spans(window: Window, around: str) -> list[Span]:
    return [span for span in window.spans(BERLIN, at(around)) if span.holds(at(around))]


def test_a_window_that_would_begin_in_the_hour_that_is_left_out_begins_as_if_it_were_not():
    (span,) = spans(Window(SUNDAY, time(2, 30), 60), "2026-03-29 03:45")
    assert span.begins == at("2026-03-29 03:30")


def test_over_the_hour_that_is_left_out_a_window_lasts_its_minutes():
    (span,) = spans(NIGHT, "2026-03-28 23:00")
    assert span.ends - span.begins == timedelta(hours=4)
    assert span.ends == at("2026-03-29 03:00")


def test_a_window_in_the_hour_that_comes_twice_begins_once():
    around = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 02:30, the first time
    window = Window(SUNDAY, time(2, 15), 30)
    begun = [span for span in window.spans(BERLIN, around) if span.begins.date() == around.date()]
    assert [span.begins for span in begun] == [datetime(2026, 10, 25, 0, 15, tzinfo=UTC)]
    assert berlin(window).hold(around) is None
    assert berlin(window).hold(around + timedelta(hours=1)) is not None


def test_over_the_hour_that_comes_twice_a_window_lasts_its_minutes():
    (span,) = spans(NIGHT, "2026-10-24 23:00")
    assert span.ends == datetime(2026, 10, 25, 0, 0, tzinfo=UTC)  # 02:00 for the first time


# --- freezes --------------------------------------------------------------------------------


def test_in_a_freeze_nothing_may_begin_and_its_reason_is_told():
    calendar = berlin(freezes=[frozen("2026-12-20 00:00", "2027-01-04 08:00")])
    hold = calendar.hold(at("2026-12-24 18:00"))
    assert hold.sentence == ("the end of the freeze “year's end”, 2027-01-04 08:00 (Europe/Berlin)")
    assert hold.opens_at == at("2027-01-04 08:00")


def test_a_freeze_begins_and_ends_at_its_moments():
    calendar = berlin(freezes=[frozen("2026-12-20 00:00", "2027-01-04 08:00")])
    assert calendar.hold(at("2026-12-19 23:59:59")) is None
    assert calendar.hold(at("2026-12-20 00:00")) is not None
    assert calendar.hold(at("2027-01-04 08:00")) is None


def test_of_a_freeze_without_an_end_nobody_knows_when_it_opens():
    hold = berlin(NIGHT, freezes=[frozen("2026-11-01 00:00", None)]).hold(at("2026-11-28 23:00"))
    assert (hold.sentence, hold.opens_at) == ("the end of the freeze “year's end”", None)


def test_a_window_within_a_freeze_is_passed_over():
    calendar = berlin(NIGHT, freezes=[frozen("2026-11-28 00:00", "2026-11-30 00:00")])
    hold = calendar.hold(at("2026-11-26 12:00"))
    assert hold.sentence == "the window Sat 22:00–02:00 (Europe/Berlin)"
    assert hold.opens_at == at("2026-12-05 22:00")


def test_a_freeze_that_ends_within_a_window_leaves_the_rest_of_it():
    calendar = berlin(NIGHT, freezes=[frozen("2026-11-28 00:00", "2026-11-28 23:00")])
    assert calendar.opens_at(at("2026-11-28 22:30")) == at("2026-11-28 23:00")


def test_the_next_freeze_closes_what_is_open():
    calendar = berlin(NIGHT, freezes=[frozen("2026-11-28 23:00", "2026-11-30 00:00")])
    assert calendar.closes_at(at("2026-11-28 22:30")) == at("2026-11-28 23:00")


def test_of_two_freezes_the_one_that_ends_later_is_waited_for():
    freezes = [
        frozen("2026-12-01 00:00", "2026-12-03 00:00", "short"),
        frozen("2026-12-01 00:00", "2026-12-09 00:00", "long"),
    ]
    hold = berlin(freezes=freezes).hold(at("2026-12-02 00:00"))
    assert "“long”" in hold.sentence
    assert hold.opens_at == at("2026-12-09 00:00")


def test_freezes_that_never_leave_a_window_open_end_the_search():
    # Every Saturday night is frozen for longer than is looked ahead.
    begins = at("2026-01-03 00:00")
    freezes = [
        Frozen(begins + timedelta(weeks=week), begins + timedelta(weeks=week, days=2), "again")
        for week in range(300)
    ]
    assert berlin(NIGHT, freezes=freezes).opens_at(at("2026-01-01 00:00")) is None
