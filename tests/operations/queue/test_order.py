"""The order of the queue: priority, turns of teams, age."""

from datetime import timedelta

import pytest
from django.utils import timezone

from operations.models import Operation
from operations.services import order
from operations.services.order import AGEING, Waiting

NOW = timezone.now()


def wait(key: int, *, team=None, priority="normal", minutes=0.0, cluster=1) -> Waiting:
    return Waiting(
        key=key, kind="Toy", mutating=True, cluster=cluster, team=team, priority=priority,
        queued_at=NOW - timedelta(minutes=minutes), waits="",
        ready_at=NOW - timedelta(minutes=minutes),
    )  # fmt: skip


def keys(*waiting, turns=None) -> list[int]:
    return [each.key for each in order.in_order(waiting, turns=turns or {}, now=NOW)]


def test_a_higher_priority_goes_first():
    low, high, normal = (
        wait(number, priority=priority)
        for number, priority in enumerate(("low", "high", "normal"), start=1)
    )
    assert keys(low, high, normal) == [2, 3, 1]


def test_within_a_team_the_longest_wait_goes_first():
    assert keys(wait(1, minutes=1), wait(2, minutes=3), wait(3, minutes=2)) == [2, 3, 1]


def test_teams_take_turns_however_much_one_of_them_asks_for():
    of_one = [wait(number, team=1, minutes=60) for number in range(1, 5)]
    assert keys(*of_one, wait(9, team=2)) == [1, 9, 2, 3, 4]


def test_the_team_whose_last_turn_is_the_longest_ago_goes_first():
    turns = {1: NOW, 2: NOW - timedelta(hours=1)}
    assert keys(wait(1, team=1, minutes=60), wait(2, team=2), turns=turns) == [2, 1]


def test_a_team_that_never_had_a_turn_goes_before_those_that_had():
    assert keys(wait(1, team=1), wait(2, team=2), turns={1: NOW}) == [2, 1]


def test_what_counts_for_no_team_is_a_line_of_its_own():
    assert keys(*[wait(n, team=1) for n in (1, 2, 3)], wait(9)) == [1, 9, 2, 3]


def test_a_turn_at_a_high_priority_counts_for_the_others_too():
    asked = [wait(1, team=1, priority="high"), wait(2, team=1, minutes=9), wait(3, team=2)]
    assert keys(*asked) == [1, 3, 2]


def test_what_waits_long_counts_as_one_priority_higher():
    long = AGEING.total_seconds() / 60
    assert keys(wait(1), wait(2, priority="low", minutes=long)) == [2, 1]
    assert keys(wait(1), wait(2, priority="low", minutes=long - 1)) == [1, 2]


def test_no_wait_makes_more_than_high():
    week = timedelta(days=7).total_seconds() / 60
    assert wait(1, priority="high", minutes=week).rank(NOW) == 2


def test_a_clock_that_went_back_makes_nothing_less_than_low():
    assert wait(1, priority="low", minutes=-900).rank(NOW) == 0


def test_whoever_may_not_begin_costs_its_team_no_turn():
    asked = [wait(1, team=1, minutes=9, cluster=7), wait(2, team=1, minutes=8), wait(3, team=2)]
    begun = []

    def begin(each: Waiting) -> bool:
        if each.cluster == 7:
            return False
        begun.append(each.key)
        return True

    order.go_through(asked, turns={}, now=NOW, begin=begin)
    assert begun == [2, 3]


def test_two_thousand_are_in_order_within_a_moment():
    asked = [wait(n, team=n % 40, priority=("low", "normal", "high")[n % 3]) for n in range(2000)]
    assert sorted(keys(*asked)) == list(range(2000))


@pytest.mark.django_db
def test_turns_are_known_from_two_queries(queued, operators, django_assert_num_queries):
    earlier, later = NOW - timedelta(hours=2), NOW - timedelta(hours=1)
    for moment in (later, earlier):
        queued(team=operators, began_at=moment, status=Operation.Status.SUCCEEDED)
    queued(began_at=earlier, status=Operation.Status.SUCCEEDED)
    with django_assert_num_queries(2):
        assert order.turns_of({operators.pk, None}) == {operators.pk: later, None: earlier}


@pytest.mark.django_db
def test_who_never_had_a_turn_has_none(queued, operators):
    queued(team=operators)
    assert order.turns_of({operators.pk, None}) == {}
