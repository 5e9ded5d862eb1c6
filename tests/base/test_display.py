"""States, times, amounts and shares as pages show them."""

from datetime import datetime, timedelta

import pytest
from django.template import Context, Template
from django.utils import formats, timezone, translation

from beidou.base import display
from clusters.models import Cluster
from operations.models import Operation


def test_a_state_is_told_by_word_icon_and_colour():
    shown = display.state_badge(Cluster(health=Cluster.Health.UNREACHABLE), "health")
    assert "Unreachable" in shown
    assert "cloud_off" in shown
    assert "bg-red-100" in shown


def test_running_is_good_for_a_cluster_and_busy_for_an_operation():
    assert display.tone_of("running", "clusters.cluster") == display.GOOD
    assert display.tone_of("running", "operations.operation") == display.BUSY


def test_every_state_of_an_operation_has_a_look():
    assert all(state in display._STATES for state in Operation.Status.values)


def test_an_unknown_state_is_neutral():
    assert display.tone_of("never heard of") == display.NEUTRAL


def test_a_badge_escapes_its_text():
    assert "<b>" not in display.badge("<b>", display.GOOD, title='"><b>')


def test_a_relative_time_carries_the_exact_one():
    moment = timezone.now() - timedelta(minutes=3)
    shown = display.ago(moment)
    assert moment.isoformat() in shown
    assert "3\xa0minutes ago" in shown


def test_no_time_is_a_dash():
    assert display.NOTHING in display.ago(None)
    assert display.NOTHING in display.exact(None)
    assert display.NOTHING in display.lasting(None)


def test_what_lasts_is_told_by_its_length_and_kept_current_by_the_script():
    shown = display.lasting(timezone.now() - timedelta(hours=3))
    assert ">for 3\xa0hours<" in shown
    assert 'data-lasting="for %(time)s"' in shown


def test_what_has_just_begun_lasts_less_than_a_minute():
    assert "for less than a minute" in display.lasting(timezone.now())


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_moments_are_written_in_one_way_in_every_language(language):
    moment = datetime(2026, 3, 9, 14, 3, 5, tzinfo=timezone.get_current_timezone())
    with translation.override(language):
        assert ">2026-03-09 14:03:05<" in display.exact(moment)
        assert 'title="2026-03-09 14:03:05"' in display.ago(moment)
        assert formats.date_format(moment.date()) == "2026-03-09"
        assert formats.localize(moment) == "2026-03-09 14:03:05"


def test_badges_side_by_side_leave_out_what_there_is_not():
    shown = display.badges(display.badge("one"), "", display.badge("two"))
    assert shown.startswith('<span class="bd-badges">')
    assert shown.count("inline-flex") == 2


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0 B"), (1023, "1,023 B"), (1536, "1.5 KiB"), (2**30, "1 GiB"), (5 * 2**50, "5 PiB")],
)
def test_bytes_are_written_in_binary_units(amount, text):
    assert display.byte_size(amount) == text


@pytest.mark.parametrize(("amount", "text"), [(0, "0"), (1500, "1.5"), (96000, "96"), (None, "–")])
def test_millicores_are_written_as_cores(amount, text):
    assert display.cores(amount) == text


def test_a_bar_of_nothing_is_a_dash_and_not_a_division_by_zero():
    assert display.NOTHING in display.usage_bar(5, 0, "cpu")


def test_a_bar_past_its_end_is_red_and_stays_in_its_frame():
    shown = display.usage_bar(3000, 2000, "cpu")
    assert "bd-bar-bad" in shown
    assert 'width="100" height="8"></rect></svg>' in shown
    assert "150 %" in shown


def test_a_stale_bar_is_grey():
    assert "bd-bar-stale" in display.usage_bar(1, 2, stale=True)


def test_the_template_library_gives_the_same_to_templates():
    template = Template(
        "{% load beidou %}{% usage_bar 1 2 'bytes' %}{{ 2048|byte_size }}{{ 250|cores }}"
        "{% yes_no none 'y' 'n' %}{% badge 'new' 'busy' %}{{ none|ago }}{{ 'uid'|copyable }}"
    )
    shown = template.render(Context())
    assert "50 %" in shown
    assert "2 KiB" in shown
    assert 'data-copy="uid"' in shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (True, "yes"),
        (0, "0"),
        ([], "–"),
        (["a", "b"], "a, b"),
        ({"size": 1, "force": False}, "size: 1; force: no"),
        ({"labels": {"tier": "gold"}, "names": ["a"]}, "labels: (tier: gold); names: a"),
        ([["a", "b"], {"x": None}], "(a, b), (x: –)"),
    ],
)
def test_a_stored_value_is_told_as_people_read_it(value, text):
    assert display.value_text(value) == text
