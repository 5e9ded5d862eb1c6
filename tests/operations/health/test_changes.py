"""What has changed since the last time, check by check."""

from datetime import UTC, datetime

import pytest

from operations.kinds.health import changes

NOW = datetime(2026, 11, 25, 22, 0, tzinfo=UTC)
EARLIER = "2026-11-01T00:00:00+00:00"
LEVELS = ("ok", "warning", "error")


def a_check(level, **values):
    severity = "warning" if level == "warning" else "error"
    return {"check": "disk:/", "ok": level == "ok", "severity": severity, **values}


@pytest.mark.parametrize("level", LEVELS)
def test_the_first_time_is_compared_with_nothing(level):
    (found,) = changes.compared([a_check(level)], None, now=NOW)
    assert found["change"] == ""
    assert found["since"] == ("" if level == "ok" else "2026-11-25T22:00:00+00:00")


@pytest.mark.parametrize(
    ("before", "now", "change"),
    [
        ("ok", "ok", ""),
        ("ok", "warning", "new"),
        ("ok", "error", "new"),
        ("warning", "ok", "repaired"),
        ("warning", "warning", "still"),
        ("warning", "error", "worse"),
        ("error", "ok", "repaired"),
        ("error", "warning", "still"),
        ("error", "error", "still"),
    ],
)
def test_every_pair_of_levels_has_its_word(before, now, change):
    earlier = a_check(before, since="" if before == "ok" else EARLIER)
    (found,) = changes.compared([a_check(now)], [earlier], now=NOW)
    assert found["change"] == change
    began_earlier = before != "ok"
    assert found["since"] == (
        EARLIER if began_earlier else "" if now == "ok" else "2026-11-25T22:00:00+00:00"
    )


def test_what_was_not_looked_at_before_and_does_not_hold_is_new():
    (found,) = changes.compared([a_check("error")], [{"check": "load", "ok": True}], now=NOW)
    assert found["change"] == "new"


def test_a_result_without_a_date_begins_to_count_now():
    (found,) = changes.compared([a_check("error")], [a_check("error")], now=NOW)
    assert (found["change"], found["since"]) == ("still", "2026-11-25T22:00:00+00:00")


def test_a_check_that_was_repaired_is_no_news_the_time_after():
    (repaired,) = changes.compared([a_check("ok")], [a_check("error", since=EARLIER)], now=NOW)
    (later,) = changes.compared([a_check("ok")], [repaired], now=NOW)
    assert (later["change"], later["since"]) == ("", "")


def test_what_was_not_tried_this_time_is_not_repaired():
    now = a_check("ok", **{changes.NOT_TRIED: True})
    (found,) = changes.compared([now], [a_check("error", since=EARLIER)], now=NOW)
    assert (found["change"], found["since"]) == ("", "")


@pytest.mark.parametrize(
    ("levels", "worst"),
    [((), "ok"), (("ok",), "ok"), (("ok", "warning"), "warning"), (LEVELS, "error")],
)
def test_the_worst_level_is_the_verdict(levels, worst):
    assert changes.worst(a_check(level) for level in levels) == worst
