"""Emptying nodes of a cluster whose controllers answer, in simulated time."""

import pytest

from clusters.drivers.errors import Forbidden
from operations.kinds.base import Stopped
from operations.kinds.draining.raising import put_back
from operations.kinds.names import name_of
from operations.models import Operation
from tests.fakes.kube_api import status_reply
from tests.operations.draining.running import OPERATION, Run, leaves

# --- what goes well -------------------------------------------------------------------------------


def test_an_empty_node_is_cordoned_and_done(api, drain):
    run = Run()
    drain(run)
    assert api.nodes["n1"]["spec"]["unschedulable"]
    assert run.said("Node n1 is empty")


def test_pods_move_and_their_replacements_are_ready_before_it_ends(api, drain):
    api.starts_after = 20
    api.deploy("web", on=["n1", "n1", "n2"])
    drain(Run())
    assert api.on_node("n1") == []
    ready = [p for p in api.pods.values() if p["status"]["phase"] == "Running"]
    assert len(ready) == 3
    assert api.seconds >= 20


def test_daemon_sets_static_and_ended_pods_stay(api, drain):
    api.add_pod("proxy", "n1", owner={"kind": "DaemonSet", "name": "proxy", "controller": True})
    static = api.add_pod("etcd", "n1", owner={"kind": "Node", "name": "n1", "controller": True})
    static["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "hash"}
    api.add_pod("once", "n1")["status"]["phase"] = "Succeeded"
    api.on_tick = lambda: api.pods["shop", "once"]["status"].update(phase="Succeeded")
    drain(Run())
    assert sorted(api.on_node("n1")) == ["etcd", "once", "proxy"]
    assert api.evicted == []


def test_without_a_budget_never_more_than_half_of_the_copies_are_away(api, drain):
    api.deploy("web", on=["n1"] * 6)
    drain(Run())
    assert api.most_away["web"] == 3
    assert api.on_node("n1") == []


def test_two_copies_on_one_node_go_one_after_the_other(api, drain):
    api.deploy("web", on=["n1", "n1"])
    drain(Run())
    assert api.most_away["web"] == 1


def test_a_budget_is_honoured_until_all_have_moved(api, drain):
    api.deploy("web", on=["n1"] * 4)
    api.budget("web", minAvailable=3)
    run = Run()
    drain(run)
    assert api.on_node("n1") == []
    assert api.most_away["web"] == 1
    assert run.noted("waiting for budget shop/web-budget (0 allowed)")


def test_at_most_so_many_pods_are_under_way_at_once(api, drain):
    for number in range(6):
        api.deploy(f"app{number}", on=["n1", "n2"], grace=3)
    counts = []
    api.on_tick = lambda: counts.append(
        sum("deletionTimestamp" in p["metadata"] for p in api.pods.values())
    )
    drain(Run(pods_at_once=2))
    assert max(counts) == 2


def test_nodes_that_leave_together_take_none_of_each_other_s_pods(api, drain):
    api.add_node("n3")
    api.deploy("web", on=["n1", "n3"])
    drain(Run(), "n1", "n3")
    assert len(api.on_node("n2")) == 2


def test_progress_counts_pods(api, drain):
    api.deploy("web", on=["n1", "n1", "n2"], grace=5)
    run = Run()
    drain(run)
    assert run.noted("0 of 2 moved; 1 ending")
    assert run.noted("1 of 2 moved")
    assert run.said("has left (2 of 2)")


def test_a_pod_that_somebody_else_has_evicted_is_told_once_and_not_evicted_again(api, drain):
    api.deploy("web", on=["n1", "n2"], grace=5)
    (pod,) = api.on_node("n1")
    api.begin_end(api.pods["shop", pod], 5)
    run = Run()
    drain(run)
    assert api.evicted == []
    assert [line for line in run.lines if "is ending" in line] == [f"shop/{pod} is ending already."]


def test_a_pod_of_a_job_is_not_waited_for(api, drain):
    api.add_pod("once", "n1", owner={"kind": "Job", "name": "once", "uid": "j", "controller": True})
    drain(Run())
    assert api.evicted == ["once"]


def test_a_node_that_is_gone_already_is_no_failure(api, drain):
    run = Run()
    found = drain(run, "n9")
    assert found.evidence == {"node": "n9", "missing": True}
    assert run.failed == {}


# --- going on after a lost worker -----------------------------------------------------------------


def test_a_drain_that_was_lost_half_way_goes_on(api, drainer, drain):
    api.starts_after = 30
    api.deploy("web", on=["n1"] * 4)
    drainer(Run(), leaves())._round()
    assert len(api.evicted) == 2
    drain(Run(), before={"Deployment shop/web": 4})
    assert api.on_node("n1") == []
    assert len(api.evicted) == 4
    assert api.most_away["web"] == 2


def test_replacements_of_the_lost_attempt_are_waited_for_too(api, drainer, drain):
    api.deploy("web", on=["n1", "n2"])
    api.starts_after = 50
    drainer(Run(), leaves())._round()
    api.sleep(1)
    assert api.on_node("n1") == []
    run = Run()
    drain(run, before={"Deployment shop/web": 2})
    assert run.noted("waiting for 1 of Deployment shop/web to be ready")
    assert api.seconds >= 50


def test_a_workload_that_was_scaled_down_meanwhile_is_not_waited_for(api, drain):
    api.deploy("web", on=["n1", "n2"])
    api.workloads["Deployment", "web"]["spec"]["replicas"] = 1
    drain(Run(), before={"Deployment shop/web": 2})
    assert api.on_node("n1") == []


def test_a_workload_that_was_deleted_meanwhile_is_not_waited_for(api, drain):
    drain(Run(), before={"Deployment shop/gone": 2})


# --- what was chosen for blocks -------------------------------------------------------------------


def never_met(api):
    api.deploy("web", on=["n1", "n2"])
    api.budget("web", minAvailable=2)


def test_waiting_ends_at_the_limit_and_names_budget_pods_and_ways_out(api, drain):
    never_met(api)
    run = Run(limit_minutes=5)
    drain(run)
    message, checks = run.failed["n1"]
    assert "not empty after 5 min: 0 of 1 moved" in message
    assert "Node n1 stays cordoned" in message
    assert checks[0]["check"] == "budget:shop/web-budget"
    assert "it keeps shop/web-1" in checks[0]["found"]
    assert "raise_owner" in checks[0]["advice"]
    assert api.seconds == pytest.approx(300, abs=10)


def test_stop_believes_a_block_that_nothing_will_lift(api, drain):
    never_met(api)
    run = Run(on_blocked="stop")
    drain(run)
    assert "a budget blocks it" in run.failed["n1"][0]
    assert api.seconds < 60


def test_stop_is_patient_while_a_replacement_is_coming(api, drain):
    api.starts_after = 100
    api.deploy("web", on=["n1", "n1", "n2"])
    api.budget("web", maxUnavailable=1)
    run = Run(on_blocked="stop")
    drain(run)
    assert run.failed == {}
    assert api.on_node("n1") == []


def test_a_budget_that_is_changed_while_it_is_waited_for_lets_it_go_on(api, drain):
    never_met(api)
    api.on_tick = lambda: (
        api.budgets[0]["spec"].update(minAvailable=1) if api.seconds > 20 else None
    )
    run = Run()
    drain(run)
    assert run.failed == {}


def test_the_owner_gets_one_more_copy_for_a_while(api, client, drain):
    never_met(api)
    run = Run(raise_owner=True)
    drain(run)
    assert run.failed == {}
    assert api.on_node("n1") == []
    assert api.most_away["web"] <= 1
    assert api.replicas("web") == 3
    put_back(client.workloads, operation=name_of(OPERATION), say=run.lines.append)
    assert api.replicas("web") == 2
    assert api.workloads["Deployment", "web"]["metadata"]["annotations"] == {}
    assert run.said("Deployment shop/web is back at 2 replicas.")


def test_an_owner_is_raised_once_however_many_pods_wait(api, drain):
    api.deploy("web", on=["n1", "n1", "n1"])
    api.budget("web", minAvailable=3)
    drain(Run(raise_owner=True))
    assert api.replicas("web") == 4


def test_what_somebody_else_changed_is_not_put_back(api, client, drain):
    never_met(api)
    run = Run(raise_owner=True)
    drain(run)
    api.workloads["Deployment", "web"]["spec"]["replicas"] = 7
    put_back(client.workloads, operation=name_of(OPERATION), say=run.lines.append)
    assert api.replicas("web") == 7
    assert run.said("somebody changed it")


def test_what_another_operation_raised_is_not_put_back(api, client, drain):
    never_met(api)
    drain(Run(raise_owner=True))
    put_back(client.workloads, operation=name_of(Operation(pk=18)), say=print)
    assert api.replicas("web") == 3


def test_what_another_portal_raised_is_not_put_back(api, client, drain, settings):
    """Its operation may have the same key."""
    never_met(api)
    drain(Run(raise_owner=True))
    settings.SECRET_KEY = "another-portal-" + "x" * 50
    put_back(client.workloads, operation=name_of(OPERATION), say=print)
    assert api.replicas("web") == 3


def test_raising_is_not_tried_where_it_cannot_help(api, drain):
    api.deploy("web", on=["n1", "n2"])
    api.budget("web", maxUnavailable=0)
    run = Run(raise_owner=True, on_blocked="stop")
    drain(run)
    assert api.replicas("web") == 2
    assert "n1" in run.failed


def test_blocked_pods_are_deleted_only_when_that_was_approved(api, drain):
    never_met(api)
    run = Run(delete_blocked=True)
    drain(run)
    assert api.deleted_past_budgets == ["web-1"]
    assert run.said("as approved")
    assert api.on_node("n1") == []


def test_two_budgets_for_one_pod_block_for_good(api, drain):
    api.deploy("web", on=["n1", "n2"])
    api.budget("web", minAvailable=1)
    api.budget("web", minAvailable=1)
    run = Run(on_blocked="stop")
    drain(run)
    message, checks = run.failed["n1"]
    assert "leave one budget" in checks[0]["advice"]


def test_one_blocked_node_does_not_keep_the_other(api, drain):
    api.add_node("n3")
    never_met(api)
    api.deploy("shop", on=["n3", "n2"])
    run = Run(on_blocked="stop")
    drain(run, "n1", "n3")
    assert list(run.failed) == ["n1"]
    assert api.on_node("n3") == []


# --- pods nobody answered for ---------------------------------------------------------------------


def test_a_bare_pod_that_came_after_pre_check_is_not_deleted_unasked(api, drain):
    api.add_pod("debug", "n1")
    run = Run()
    drain(run)
    assert "shop/debug came after preCheck" in run.failed["n1"][0]
    assert api.on_node("n1") == ["debug"]


def test_a_bare_pod_goes_when_it_may(api, drain):
    api.add_pod("debug", "n1")
    drain(Run(delete_bare_pods=True))
    assert api.on_node("n1") == []


def test_data_on_the_node_is_not_deleted_unasked(api, drain):
    api.deploy("web", on=["n1", "n2"])
    for pod in api.pods.values():
        pod["spec"]["volumes"] = [{"name": "cache", "emptyDir": {}}]
    run = Run()
    drain(run)
    assert "emptyDir cache" in run.failed["n1"][0]
    assert api.evicted == []


# --- pods that do not end -------------------------------------------------------------------------


def test_a_pod_that_ignores_its_end_is_named_after_its_grace_and_a_margin(api, drain):
    api.deploy("web", on=["n1", "n2"], grace=10)
    api.stubborn.add("web-1")
    run = Run(limit_minutes=3)
    drain(run)
    assert run.said("shop/web-1 should have ended by now")
    message, checks = run.failed["n1"]
    assert "force_delete" in checks[0]["advice"]


def test_a_pod_that_ignores_its_end_is_forced_only_when_that_was_chosen(api, drain):
    api.deploy("web", on=["n1", "n2"], grace=10)
    api.stubborn.add("web-1")
    run = Run(force_delete=True)
    drain(run)
    assert run.failed == {}
    assert run.said("shop/web-1 was deleted by force")
    assert api.seconds >= 40


def test_finalizers_are_named(api, drain):
    api.deploy("web", on=["n1", "n2"])
    api.stubborn.add("web-1")
    api.pods["shop", "web-1"]["metadata"]["finalizers"] = ["example.com/wait"]
    run = Run(limit_minutes=2)
    drain(run)
    assert run.said("it keeps its finalizers example.com/wait")


# --- replacements that do not come ----------------------------------------------------------------


def test_replacements_that_fit_nowhere_are_named_at_the_limit(api, drain):
    api.nodes["n2"]["spec"]["unschedulable"] = True
    api.deploy("web", on=["n1", "n2"])
    run = Run(limit_minutes=2)
    drain(run)
    message, checks = run.failed["n1"]
    assert checks[0]["check"] == "replacements"
    assert "nodes are available" in checks[0]["found"]


def test_replacements_that_fit_nowhere_may_wait_when_that_was_chosen(api, drain):
    api.nodes["n2"]["spec"]["unschedulable"] = True
    api.deploy("web", on=["n1", "n2"])
    run = Run(limit_minutes=2, allow_pending=True)
    drain(run)
    assert run.failed == {}


# --- bad days -------------------------------------------------------------------------------------


def test_an_api_server_that_goes_away_for_a_while_costs_time_only(api, drain):
    api.deploy("web", on=["n1", "n1", "n2"], grace=5)

    def outage():
        api.down = 2 < api.seconds < 60

    api.on_tick = outage
    run = Run()
    drain(run)
    assert run.failed == {}
    assert run.noted("the cluster does not answer")
    assert sum("tried again" in line for line in run.lines) == 1
    assert api.on_node("n1") == []


def test_an_api_server_that_stays_away_is_named_at_the_limit(api, drain):
    api.down = True
    run = Run(limit_minutes=1)
    drain(run)
    assert "HTTP 503" in run.failed["n1"][0]


def refusing(api, *, until, path=""):
    original = api._route
    api._route = lambda request: (
        status_reply(403, "no")
        if api.seconds < until and request.path.endswith(path)
        else original(request)
    )


def test_a_missing_right_ends_the_step(api, drain):
    api.deploy("web", on=["n1", "n2"])
    refusing(api, until=1000, path="/eviction")
    with pytest.raises(Forbidden, match="could not evict pod shop/web-1"):
        drain(Run())
    assert 30 <= api.seconds < 40


def test_an_api_server_that_has_just_begun_refuses_for_a_moment_only(api, drain):
    """Until it has read its roles it forbids everything, as the lab shows."""
    api.deploy("web", on=["n1", "n2"])
    refusing(api, until=15)
    run = Run()
    drain(run)
    assert run.failed == {}
    assert api.on_node("n1") == []
    assert run.said("The cluster answers again")


def test_refusals_with_answers_between_them_end_nothing(api, drain):
    api.deploy("web", on=["n1", "n2"], grace=120)
    original = api._route
    api._route = lambda request: (
        status_reply(403, "no") if int(api.seconds) % 40 < 20 else original(request)
    )
    run = Run()
    drain(run)
    assert run.failed == {}


def test_a_busy_api_server_is_asked_again(api, drain):
    api.deploy("web", on=["n1", "n2"])
    original, answers = api._route, [status_reply(429, "Too many requests")] * 2

    def busy(request):
        if request.path.endswith("/eviction") and answers:
            return answers.pop()
        return original(request)

    api._route = busy
    run = Run()
    drain(run)
    assert api.on_node("n1") == []
    assert sum("could not be evicted now" in line for line in run.lines) == 1


def test_evictions_that_are_refused_all_along_are_told_and_named_at_the_limit(api, drain):
    """As by a webhook that does not answer; no budget is to blame."""
    api.deploy("web", on=["n1", "n2"])
    original = api._route
    api._route = lambda request: (
        status_reply(500, "failed calling webhook guard: timeout")
        if request.path.endswith("/eviction")
        else original(request)
    )
    run = Run(limit_minutes=2)
    drain(run)
    assert run.noted("the cluster does not evict 1 now: failed calling webhook guard")
    message, checks = run.failed["n1"]
    assert checks[0]["check"] == "evictions"
    assert "shop/web-1: failed calling webhook guard: timeout" in checks[0]["found"]
    assert "see what refuses them" in message


def test_a_cancel_ends_it_at_once_and_leaves_the_node_cordoned(api, drain):
    never_met(api)
    run = Run()

    def cancel():
        run.is_stopped = api.seconds > 5

    api.on_tick = cancel
    with pytest.raises(Stopped):
        drain(run)
    assert api.seconds < 7
    assert api.nodes["n1"]["spec"]["unschedulable"]


def test_no_pod_goes_before_its_node_is_cordoned(api, drain):
    api.deploy("web", on=["n1", "n2"])
    original, refusals = api._route, [status_reply(500, "etcd is slow")] * 3

    def slow(request):
        if request.method == "PATCH" and refusals:
            return refusals.pop()
        if request.path.endswith("/eviction"):
            assert api.nodes["n1"]["spec"]["unschedulable"]
        return original(request)

    api._route = slow
    drain(Run())
    assert api.on_node("n1") == []


def test_a_dead_node_is_named_and_fails_at_the_limit(api, drain):
    api.nodes["n1"]["status"]["conditions"][0]["status"] = "Unknown"
    api.deploy("web", on=["n1", "n2"])
    api.stubborn.add("web-1")
    run = Run(limit_minutes=3)
    drain(run)
    message, checks = run.failed["n1"]
    assert "the node is not Ready" in message
    assert any("force_unreachable" in row["advice"] for row in checks)


def test_a_dead_node_is_given_up_when_that_was_chosen(api, drain):
    api.nodes["n1"]["status"]["conditions"][0]["status"] = "Unknown"
    for number in range(3):
        api.deploy(f"app{number}", on=["n1", "n2"])
        api.stubborn.update(api.on_node("n1"))
    run = Run(force_unreachable=True, pods_at_once=1)
    found = drain(run)
    assert run.failed == {}
    assert len(found.evidence["left_behind"]) == 3
    assert api.seconds < 60
