"""What budgets allow: the same answers as the eviction API gives."""

import pytest

from operations.kinds.draining.budgets import listed, raising_helps, spare, why_blocked
from tests.operations.draining.made_up import budget, pod, selects


def test_a_pod_without_a_budget_may_go():
    assert why_blocked(pod(), [budget(app="other")]) is None


def test_a_budget_of_another_namespace_means_nothing():
    assert why_blocked(pod(namespace="elsewhere"), [budget()]) is None


def test_a_budget_without_a_selector_means_nothing():
    assert why_blocked(pod(), [budget(selector=None)]) is None


def test_an_empty_selector_means_every_pod_of_the_namespace():
    assert why_blocked(pod(app="other"), [budget(selector=selects())]) is not None


def test_a_budget_with_one_to_spare_lets_it_go():
    assert why_blocked(pod(), [budget(allowed=1)]) is None


def test_a_budget_that_has_none_to_spare_now_says_so_with_numbers():
    block = why_blocked(pod(), [budget(healthy=2, desired=2, expected=3)])
    assert block.reason == "budget shop/web needs 2 healthy of 3, 2 are: 0 may go now"
    assert not block.is_final


@pytest.mark.parametrize(
    "values",
    [
        {"min_available": 3, "expected": 3, "desired": 3, "healthy": 3},
        {"min_available": "100%", "expected": 3, "desired": 3, "healthy": 3},
        {"min_available": None, "max_unavailable": 0, "expected": 3, "desired": 3, "healthy": 3},
        {"min_available": 1, "expected": 1, "desired": 1, "healthy": 1},
    ],
)
def test_a_budget_that_can_never_be_met_is_told_apart(values):
    block = why_blocked(pod(), [budget(**values)])
    assert block.is_final
    assert "none to spare even when all are" in block.reason


def test_a_budget_whose_pods_are_not_counted_yet_is_waited_for():
    block = why_blocked(pod(), [budget(is_current=False, allowed=1)])
    assert "not counted yet" in block.reason
    assert not block.is_final


def test_two_budgets_for_one_pod_block_for_good_and_both_are_named():
    block = why_blocked(pod(), [budget("a", allowed=5), budget("b", allowed=5)])
    assert block.budgets == ("shop/a", "shop/b")
    assert block.is_final
    assert not block.raising_helps


@pytest.mark.parametrize("phase", ["Pending", "Succeeded", "Failed"])
def test_a_pod_that_runs_nothing_is_no_matter_for_budgets(phase):
    assert why_blocked(pod(phase=phase), [budget("a"), budget("b")]) is None


def test_an_unready_pod_may_go_when_enough_others_are_healthy():
    assert why_blocked(pod(is_ready=False), [budget(healthy=2, desired=2)]) is None
    assert why_blocked(pod(is_ready=False), [budget(healthy=1, desired=2)]) is not None


def test_an_unready_pod_always_may_go_when_the_budget_says_so():
    found = budget(healthy=0, desired=2, unhealthy_policy="AlwaysAllow")
    assert why_blocked(pod(is_ready=False), [found]) is None
    assert why_blocked(pod(), [found]) is not None


@pytest.mark.parametrize(
    ("values", "helps"),
    [
        ({"min_available": 2, "expected": 2}, True),
        ({"min_available": "100%", "expected": 2}, False),
        ({"min_available": "50%", "expected": 1}, True),
        ({"min_available": None, "max_unavailable": 0, "expected": 2}, False),
        ({"min_available": None, "max_unavailable": "0%", "expected": 2}, False),
    ],
)
def test_one_more_copy_helps_only_where_it_can_be_spared(values, helps):
    assert raising_helps(budget(**values)) is helps


@pytest.mark.parametrize(
    ("values", "copies", "expected"),
    [
        ({"min_available": "50%"}, 3, 1),
        ({"min_available": "51%"}, 3, 1),
        ({"min_available": None, "max_unavailable": "25%"}, 3, 1),
        ({"min_available": None, "max_unavailable": 2}, 9, 2),
        ({"min_available": None}, 4, 4),
        ({"min_available": "lots"}, 4, 0),
    ],
)
def test_shares_are_rounded_up_as_kubernetes_does(values, copies, expected):
    assert spare(budget(**values), copies) == expected


def test_long_lists_are_cut():
    assert listed(["a", "b"]) == "a, b"
    assert listed(list("abcdefg")) == "a, b, c, d, e and 2 more"
