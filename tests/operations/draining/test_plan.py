"""The fate of every pod, and what must be answered first."""

import datetime

import pytest

from operations.kinds.draining.checks import make_checks
from operations.kinds.draining.plan import (
    ZONE,
    Code,
    Situation,
    What,
    make_plan,
    owners_of,
)
from operations.kinds.scale_down.params import ANSWERS
from tests.operations.draining.made_up import WEB, answers, budget, node, pod, workload

NODES = (node("n1"), node("n2"))


def plan_of(*pods, nodes=NODES, workloads=WEB, leaving=("n1",), **values):
    situation = Situation(nodes, pods, workloads, **values)
    return make_plan(situation, leaving)[leaving[0]]


def fate_of(*pods, **values):
    return plan_of(*pods, **values).fates[0]


def codes(fate):
    return {problem.code for problem in fate.problems}


def failed(plan, **given):
    return {
        item["check"]
        for item in make_checks(plan, answers(**given))
        if not item["ok"] and item["severity"] == "error"
    }


# --- fates ----------------------------------------------------------------------------------------


def test_a_pod_of_a_deployment_moves():
    fate = fate_of(pod(), pod("web-2", on="n2"))
    assert (fate.what, fate.owner, fate.problems) == (What.MOVED, "Deployment shop/web", ())


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"owner": "DaemonSet:proxy"}, What.DAEMON_SET),
        ({"is_mirror": True, "owner": "Node:n1"}, What.STATIC),
        ({"phase": "Succeeded", "owner": "Job:once"}, What.ENDED),
        ({"deadline": datetime.datetime.now(datetime.UTC)}, What.ENDING),
        ({"owner": "Job:once"}, What.AGAIN),
        ({"owner": "CloneSet:web"}, What.PERHAPS),
        ({"owner": ""}, What.LOST),
        ({"owner": "ReplicaSet:deleted"}, What.LOST),
    ],
)
def test_each_kind_of_pod_has_its_fate(values, what):
    assert fate_of(pod(**values)).what == what


def test_a_static_pod_and_a_daemon_set_are_nobody_s_problem():
    kept = {"empty_dirs": ("a",), "host_paths": ("/b",)}
    assert fate_of(pod(owner="DaemonSet:proxy", **kept)).problems == ()
    assert fate_of(pod(is_mirror=True, **kept)).problems == ()


# --- problems -------------------------------------------------------------------------------------


def test_a_bare_pod_would_be_lost():
    plan = plan_of(pod(owner=""))
    assert failed(plan) == {Code.BARE}
    assert failed(plan, delete_bare_pods=True) == set()


def test_a_lost_pod_needs_no_room():
    assert codes(fate_of(pod(owner="", requests={"cpu": 99000}))) == {Code.BARE}


@pytest.mark.parametrize("values", [{"empty_dirs": ("cache",)}, {"host_paths": ("/srv",)}])
def test_local_data_must_be_given_up(values):
    plan = plan_of(pod(**values), pod("web-2", on="n2"))
    assert failed(plan) == {Code.LOCAL_DATA}
    assert failed(plan, delete_local_data=True) == set()


def test_the_only_copy_is_interrupted():
    plan = plan_of(pod(), workloads=[workload(wanted=1), *WEB[1:]])
    assert failed(plan) == {Code.ONLY_COPY}
    assert failed(plan, allow_single_copy=True) == set()


def test_two_copies_on_one_node_are_not_interrupted():
    plan = plan_of(pod("web-1"), pod("web-2"))
    assert failed(plan) == set()


def test_the_last_ready_one_of_two_copies_is_an_only_copy():
    fate = fate_of(pod(), pod("web-2", on="n2", is_ready=False))
    assert codes(fate) == {Code.ONLY_COPY}


def test_a_workload_that_is_down_already_cannot_be_interrupted():
    assert codes(fate_of(pod(is_ready=False))) == set()


def test_copies_of_two_rollouts_of_one_deployment_count_together():
    newer = workload("web-def", "ReplicaSet", of="web")
    fate = fate_of(
        pod(), pod("web-2", on="n2", owner="ReplicaSet:web-def"), workloads=(*WEB, newer)
    )
    assert fate.problems == ()


def test_a_pod_that_fits_nowhere_says_why():
    plan = plan_of(pod(requests={"cpu": 9000}), pod("web-2", on="n2"))
    (fate, problem) = plan.problems(Code.NO_ROOM)[0]
    assert fate.pod.name == "web-1"
    assert "too little cpu (9 wanted, at most 4 free)" in problem.text
    assert failed(plan) == {Code.NO_ROOM}
    assert failed(plan, allow_pending=True) == set()


def test_nodes_that_leave_together_are_no_room_for_each_other():
    plan = plan_of(pod(), pod("web-2", on="n2"), leaving=("n1", "n2"))
    assert codes(plan.fates[0]) == {Code.NO_ROOM}


# --- budgets --------------------------------------------------------------------------------------


def test_a_budget_that_blocks_now_may_be_waited_for():
    plan = plan_of(pod(), pod("web-2", on="n2"), budgets=[budget()])
    assert failed(plan) == {"budget:shop/web"}
    assert failed(plan, on_blocked="wait") == set()
    assert failed(plan, raise_owner=True) == set()
    assert failed(plan, delete_blocked=True) == set()


def test_waiting_does_not_answer_a_budget_that_can_never_be_met():
    never = budget(min_available=3, desired=3, healthy=3, expected=3)
    plan = plan_of(pod(), pod("web-2", on="n2"), budgets=[never])
    assert failed(plan, on_blocked="wait") == {"budget:shop/web"}
    assert failed(plan, raise_owner=True) == set()


def test_one_more_copy_does_not_answer_a_budget_that_spares_none():
    never = budget(min_available=None, max_unavailable=0, desired=3, healthy=3)
    plan = plan_of(pod(), pod("web-2", on="n2"), budgets=[never])
    assert failed(plan, raise_owner=True, on_blocked="wait") == {"budget:shop/web"}
    (row,) = [item for item in make_checks(plan, answers()) if item["check"] == "budget:shop/web"]
    assert "delete_blocked" in row["advice"]
    assert "raise_owner" not in row["advice"]


def test_a_blocked_pod_is_named_with_its_budget_and_the_ways_out():
    plan = plan_of(pod(), pod("web-2", on="n2"), budgets=[budget()])
    (row,) = [item for item in make_checks(plan, answers()) if item["check"] == "budget:shop/web"]
    assert "it keeps shop/web-1" in row["found"]
    for word in ("on_blocked: wait", "raise_owner", "delete_blocked"):
        assert word in row["advice"]


def test_an_answered_problem_is_still_shown_as_a_warning():
    plan = plan_of(pod(owner=""))
    rows = {item["check"]: item for item in make_checks(plan, answers(delete_bare_pods=True))}
    assert rows[Code.BARE]["severity"] == "warning"
    assert "delete_bare_pods was chosen" in rows[Code.BARE]["advice"]


def test_every_point_that_blocks_names_the_answers_that_lift_it():
    plan = plan_of(
        pod("bare", owner=""), pod(), pod("web-2", on="n2"), budgets=[budget()], nodes=NODES[:1]
    )
    rows = {item["check"]: item for item in make_checks(plan, answers())}
    assert rows[Code.BARE]["answers"] == ["delete_bare_pods"]
    assert rows[Code.NO_ROOM]["answers"] == ["allow_pending"]
    assert rows["budget:shop/web"]["answers"] == ["on_blocked", "raise_owner", "delete_blocked"]
    named = {answer for row in rows.values() for answer in row.get("answers", [])}
    assert named <= ANSWERS


def test_what_was_answered_asks_nothing_more():
    plan = plan_of(pod(owner=""))
    rows = make_checks(plan, answers(delete_bare_pods=True))
    assert not any("answers" in row for row in rows)


# --- the node itself ------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["control-plane", "master"])
def test_a_control_plane_is_refused_whatever_is_answered(role):
    plan = plan_of(pod(), pod("web-2", on="n2"), nodes=(node("n1", roles=(role,)), node("n2")))
    assert failed(plan, delete_blocked=True, allow_pending=True) == {"control-plane"}


@pytest.mark.parametrize("program", ["etcd", "kube-apiserver"])
def test_a_control_plane_without_its_role_is_known_by_what_runs_there(program):
    static = pod(f"{program}-n1", namespace="kube-system", is_mirror=True)
    assert plan_of(static).control_plane == f"{program} runs on it"


def test_a_large_share_of_a_zone_is_a_warning():
    nodes = (
        node("n1", labels={ZONE: "a"}),
        node("n2", labels={ZONE: "a"}),
        node("n3", labels={ZONE: "b"}),
    )
    plan = plan_of(nodes=nodes)
    rows = {item["check"]: item for item in make_checks(plan, answers())}
    assert rows["share:zone:a"]["found"] == "1 of 2 nodes would be gone"
    assert rows["share:zone:a"]["severity"] == "warning"
    assert not rows["share:zone:a"]["ok"]
    assert "share:zone:b" not in rows


def test_a_small_share_of_a_pool_is_in_order():
    nodes = tuple(node(f"n{i}", roles=("compute",)) for i in range(1, 6))
    rows = {item["check"]: item for item in make_checks(plan_of(nodes=nodes), answers())}
    assert rows["share:role:compute"]["ok"]


def test_nodes_that_are_not_ready_are_no_part_of_a_pool():
    nodes = (
        node("n1", roles=("compute",)),
        node("n2", roles=("compute",), ready="False"),
    )
    assert plan_of(nodes=nodes).shares[0].total == 1


def test_pods_that_may_take_long_to_end_are_named():
    plan = plan_of(pod(grace_seconds=3600), pod("web-2", on="n2"))
    rows = {item["check"]: item for item in make_checks(plan, answers())}
    assert "shop/web-1 (3600 s)" in rows["long-grace"]["found"]


def test_a_node_that_is_not_in_the_cluster_has_no_plan():
    assert make_plan(Situation(NODES, []), ["n9"]) == {}


def test_owners_are_counted_as_they_are_now():
    situation = Situation(NODES, [pod(), pod("web-2", on="n2")], WEB)
    plan = make_plan(situation, ["n1"])["n1"]
    assert owners_of(situation, plan) == {"Deployment shop/web": {"wanted": 2, "ready": 2}}


def test_a_plan_can_be_kept_as_plain_values():
    fate = fate_of(pod(), pod("web-2", on="n2"), budgets=[budget()])
    assert fate.as_dict() == {
        "pod": "shop/web-1",
        "owner": "Deployment shop/web",
        "what": "moved",
        "problems": ["budget shop/web needs 2 healthy of 3, 2 are: 0 may go now"],
        "doubts": [],
    }
