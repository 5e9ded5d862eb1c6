"""Several nodes that leave in one operation: budgets that guard pods on all of them, numbers that
hold for all of them together, and shares of zones."""

import pytest

from operations.kinds.draining.checks import make_checks
from operations.kinds.draining.plan import ZONE, Code, Situation, make_plan
from tests.operations.draining.made_up import WEB, answers, budget, node, pod, workload
from tests.operations.draining.running import Run

# --- evictions ------------------------------------------------------------------------------------


@pytest.fixture
def three(api):
    """n1 and n3 leave, n2 stays."""
    api.add_node("n3")
    return api


def test_two_nodes_of_one_budget_empty_one_after_the_other(three, drain):
    three.starts_after = 20
    three.deploy("web", on=["n1", "n3"])
    three.budget("web", minAvailable=1)
    run = Run(on_blocked="stop")
    drain(run, "n1", "n3")
    assert run.failed == {}
    assert three.most_away["web"] == 1
    assert three.on_node("n1") == three.on_node("n3") == []


def test_two_nodes_that_hold_each_other_s_budgets_do_not_wait_for_ever(three, drain):
    for name in ("web", "api"):
        three.deploy(name, on=["n1", "n3"])
        three.budget(name, maxUnavailable=1)
    run = Run(on_blocked="stop", pods_at_once=1)
    drain(run, "n1", "n3")
    assert run.failed == {}
    assert three.on_node("n1") == three.on_node("n3") == []


@pytest.mark.parametrize("starts_after", [1, 100])
def test_a_budget_of_two_workloads_waits_for_the_copies_of_both(three, drain, starts_after):
    """The copy of another workload that is not ready yet is what keeps this one's budget at 0."""
    three.starts_after = starts_after
    three.deploy("web", on=["n1", "n2"])
    three.deploy("api", on=["n3", "n2"])
    three.budget("web", "api", maxUnavailable=1)
    run = Run(on_blocked="stop")
    drain(run, "n1", "n3")
    assert run.failed == {}
    assert three.on_node("n1") == three.on_node("n3") == []
    assert three.most_away["web"] + three.most_away["api"] == 2


def test_what_ends_on_a_node_that_failed_is_not_waited_for_by_the_others(three, drain):
    three.deploy("web", on=["n1", "n2"], grace=3600)
    three.deploy("api", on=["n3", "n2"])
    three.budget("web", "api", maxUnavailable=0)
    three.begin_end(three.pods["shop", "web-1"], 3600)
    three.add_pod("debug", "n1")
    run = Run(on_blocked="stop", limit_minutes=60)
    drain(run, "n1", "n3")
    assert "debug came after preCheck" in run.failed["n1"][0]
    assert "a budget blocks it" in run.failed["n3"][0]
    assert three.seconds < 100


def test_pods_at_once_holds_for_all_nodes_together(three, drain):
    for number in range(4):
        three.deploy(f"app{number}", on=["n1", "n2"], grace=3)
        three.deploy(f"more{number}", on=["n3", "n2"], grace=3)
    counts = []
    three.on_tick = lambda: counts.append(
        sum("deletionTimestamp" in each["metadata"] for each in three.pods.values())
    )
    drain(Run(pods_at_once=2), "n1", "n3")
    assert max(counts) == 2


def test_all_nodes_are_cordoned_before_the_first_eviction(three, drain):
    three.deploy("web", on=["n1", "n2"])
    original = three._route

    def watching(request):
        if request.path.endswith("/eviction"):
            assert three.nodes["n1"]["spec"]["unschedulable"]
            assert three.nodes["n3"]["spec"]["unschedulable"]
        return original(request)

    three._route = watching
    drain(Run(), "n1", "n3")


def test_one_more_copy_serves_both_nodes(three, drain):
    three.deploy("web", on=["n1", "n3"])
    three.budget("web", minAvailable=2)
    run = Run(raise_owner=True)
    drain(run, "n1", "n3")
    assert run.failed == {}
    assert three.replicas("web") == 3
    assert sum("gets one more copy" in line for line in run.lines) == 1


def test_a_copy_that_another_operation_takes_back_is_added_again(three, drain):
    """Both relied on it; the other one has ended first."""
    three.deploy("web", on=["n1", "n3"])
    three.budget("web", minAvailable=2)
    raised = {"beidou.io/raised-by": "9", "beidou.io/replicas-before": "2"}
    web = three.workloads["Deployment", "web"]
    web["metadata"]["annotations"] = raised

    def other_ends():
        if three.seconds > 20 and web["metadata"]["annotations"].get("beidou.io/raised-by") == "9":
            web["metadata"]["annotations"] = {}

    three.on_tick = other_ends
    run = Run(raise_owner=True)
    drain(run, "n1")
    assert run.failed == {}
    assert run.said("has one more copy already")
    assert run.said("gets one more copy for a while: 3 replicas")


# --- the plan -------------------------------------------------------------------------------------


def rows_of(plan):
    return {row["check"]: row for row in make_checks(plan, answers())}


def plans(nodes, *pods, leaving, workloads=WEB, **values):
    return make_plan(Situation(nodes, pods, workloads, **values), leaving)


def in_zone(name, zone, **values):
    return node(name, labels={ZONE: zone}, **values)


def test_the_share_of_a_zone_counts_all_that_leave():
    nodes = [in_zone(f"n{number}", "a") for number in range(5)]
    found = plans(nodes, leaving=["n0", "n1", "n2"])
    for plan in found.values():
        row = rows_of(plan)["share:zone:a"]
        assert row["found"] == "3 of 5 nodes would be gone"
        assert not row["ok"]


def test_one_of_the_same_zone_alone_is_no_large_share():
    nodes = [in_zone(f"n{number}", "a") for number in range(5)]
    (plan,) = plans(nodes, leaving=["n0"]).values()
    assert rows_of(plan)["share:zone:a"]["ok"]


def test_each_node_is_told_of_its_own_zone_and_role_alone():
    nodes = [
        in_zone("n1", "a", roles=("web",)), in_zone("n2", "a"), in_zone("n3", "b"),
        in_zone("n4", "b", roles=("web",)),
    ]  # fmt: skip
    found = plans(nodes, leaving=["n1", "n3"])
    assert [share.label for share in found["n1"].shares] == ["role web", "zone a"]
    assert [share.label for share in found["n3"].shares] == ["zone b"]
    assert {share.leaving for share in found["n1"].shares} == {1}


def test_room_is_taken_by_the_pods_of_all_that_leave():
    nodes = [node("n1"), node("n2"), node("n3", cpu=1000)]
    pods = [
        pod("web-1", on="n1", requests={"cpu": 600}), pod("web-2", on="n2", requests={"cpu": 600}),
    ]  # fmt: skip
    found = plans(nodes, *pods, leaving=["n1", "n2"])
    assert sum(len(plan.problems(Code.NO_ROOM)) for plan in found.values()) == 1


def test_all_copies_on_nodes_that_leave_are_no_only_copies():
    found = plans(
        [node("n1"), node("n2"), node("n3")], pod("web-1", on="n1"), pod("web-2", on="n2"),
        leaving=["n1", "n2"], workloads=[workload(), *WEB[1:]],
    )  # fmt: skip
    assert not any(plan.problems(Code.ONLY_COPY) for plan in found.values())


def test_a_budget_that_lets_one_go_blocks_neither_node():
    found = plans(
        [node("n1"), node("n2"), node("n3")], pod("web-1", on="n1"), pod("web-2", on="n2"),
        leaving=["n1", "n2"], budgets=[budget(allowed=1)],
    )  # fmt: skip
    assert not any(plan.problems(Code.BUDGET) for plan in found.values())
