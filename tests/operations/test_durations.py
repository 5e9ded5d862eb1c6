"""How long an operation was worked on, apart from how long it lay."""

from datetime import timedelta

import pytest
from django.utils import timezone

from operations.durations import is_interrupted
from operations.models import Attempt, Operation
from operations.services import listing

pytestmark = pytest.mark.django_db
NOW = timezone.now()


def before(**span):
    return NOW - timedelta(**span)


@pytest.fixture
def operation(toy, begin):
    """It failed after 60 s, lay for an hour, and was through 22 s after a retry."""
    operation = begin()
    first, second = operation.steps.order_by("position")
    for step, number, began, ended in (
        (first, 1, before(seconds=3682), before(seconds=3622)),
        (first, 2, before(seconds=22), before(seconds=12)),
        (second, 1, before(seconds=12), NOW),
    ):
        Attempt.objects.create(
            step=step, number=number, holder="w", started_at=began, finished_at=ended
        )
    Operation.objects.update(status="succeeded", started_at=before(seconds=3682), finished_at=NOW)
    return operation


def worked(operation):
    row = listing.with_times(Operation.objects.filter(pk=operation.pk)).get()
    return row.worked and round(row.worked.total_seconds())


def test_only_the_time_of_its_steps_counts(operation):
    assert worked(operation) == 82


def test_a_step_that_runs_counts_until_now(operation):
    Attempt.objects.filter(step__name="second").update(finished_at=None)
    assert worked(operation) >= 82


def test_without_any_step_nothing_was_worked(toy, begin):
    assert worked(begin()) is None


def test_the_list_shows_how_long_it_was_worked_on_and_the_span(operation, browser, viewer):
    text = browser(viewer).get("/operations/operation/").content.decode()
    assert '<span title="1 h 1 m from start to end">1 m 22 s</span>' in text


def test_the_list_shows_one_figure_where_nothing_lay_between(operation, browser, viewer):
    Operation.objects.update(started_at=before(seconds=85))
    text = browser(viewer).get("/operations/operation/").content.decode()
    assert "1 m 25 s" in text
    assert "from start to end" not in text


@pytest.mark.parametrize(
    ("worked", "span", "expected"),
    [(60, 69, False), (60, 71, True), (1000, 1090, False), (1000, 1120, True), (0, 5, False)],
)
def test_seconds_between_steps_are_no_interruption(worked, span, expected):
    assert is_interrupted(worked, span) is expected
