"""What counts as a question of an operation: blocking points that an answer lifts, and nothing
else."""

import pytest

from operations.kinds.base import asking, check
from operations.models import Operation
from operations.services.asking import question
from tests.operations.toy import toy_kind

pytestmark = pytest.mark.django_db
SIZE = frozenset({"size"})
SMALL = asking(check("size", False, "1", "more", "retry with size"), "size")
BROKEN = check("whole", False, "broken", "whole")


@pytest.fixture
def asked(begin, work, machines):
    """What an operation asks whose machines fail with these checks."""

    def ask(checks, *, answers=SIZE, approvals=frozenset(), count=3):
        def fail_some(run):
            for each in list(run.targets)[:count]:
                run.fail(each, "no", checks=checks)

        with toy_kind(answers=answers, approvals=approvals) as script:
            script.during = fail_some
            begin()
            work()
            return question(Operation.objects.get())

    return ask


def test_a_check_that_names_an_answer_asks(asked):
    found = asked([SMALL])
    assert (found.answers, found.is_approval, found.message) == (SIZE, False, "no")


def test_an_answer_that_nobody_may_give_to_their_own_is_an_approval(asked):
    assert asked([SMALL], approvals=SIZE).is_approval


def test_warnings_and_what_is_in_order_ask_nothing_and_stop_no_question(asked):
    fine, warned = check("a", True, "x", "x"), check("b", False, "x", "y", "", "warning")
    assert asked([fine, warned, SMALL]) is not None


@pytest.mark.parametrize("checks", [[], [BROKEN], [SMALL, BROKEN]])
def test_what_no_answer_mends_is_a_failure(asked, checks):
    assert asked(checks) is None


def test_an_answer_that_the_kind_does_not_take_is_none(asked):
    assert asked([SMALL], answers=frozenset({"other"})) is None


def test_a_part_that_asks_is_enough(asked):
    assert asked([SMALL], count=1) is not None


def test_an_operation_that_succeeds_asks_nothing(asked):
    assert asked([SMALL], count=0) is None
