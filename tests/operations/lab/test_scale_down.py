"""ScaleDown on real hosts and a real cluster: nothing is lost, nothing is left, nothing hangs."""

import json
import signal
import time

import psutil
import pytest

from lab.workloads import web_daemon_set
from tests.operations.lab.leaving import budget, cell, names_of, ready_elsewhere, retry
from tests.operations.lab.portal import wait_until

pytestmark = pytest.mark.lab


def test_a_machine_leaves_as_it_was_delivered_and_joins_again(portal, lab_cluster, node, workload):
    host, machine = node
    workload("moving", host)
    lab_cluster.apply(web_daemon_set("staying"))
    lab_cluster.kubectl(["rollout", "status", "daemonset/staying", "--timeout=60s"])
    try:
        operation = portal.start_operation("ScaleDown", [machine])
        row = portal.api.wait_for(operation, seconds=400)
    finally:
        lab_cluster.kubectl(["delete", "daemonset,service", "staying", "--wait=false"])
    assert row["status"] == "succeeded", row
    fates = {pod["owner"]: pod["what"] for pod in cell(row, "preCheck")["evidence"]["pods"]}
    assert fates["Deployment default/moving"] == "moved"
    assert fates["DaemonSet default/staying"] == "stays until the node is gone (DaemonSet)"
    assert ready_elsewhere(lab_cluster, "moving", host) == 2
    assert host.name not in names_of(lab_cluster, "nodes")
    assert all(check["ok"] for check in cell(row, "postCheck")["checks"])
    assert host.run("ls /etc/kubernetes /var/lib/kubelet | grep -c . || true").strip() <= "2"
    found = portal.api.get(f"machines/{machine}/")
    assert (found["state"], found["cluster"], found["node"]) == ("available", None, None)
    again = portal.start_operation("ScaleUp", [machine])
    assert portal.api.wait_for(again, seconds=300)["status"] == "succeeded"


def test_a_budget_that_can_never_be_met_is_named_and_one_more_copy_gets_past_it(
    portal, lab_cluster, node, workload
):
    host, machine = node
    workload("guarded", host)
    lab_cluster.apply(budget("guarded", minAvailable=2))
    operation = portal.start_operation("ScaleDown", [machine], params={"on_blocked": "wait"})
    row = portal.api.wait_for(operation, seconds=120)
    assert row["status"] == "failed"
    bad = [c for c in cell(row, "preCheck")["checks"] if not c["ok"] and c["severity"] == "error"]
    assert [check["check"] for check in bad] == ["budget:default/guarded"]
    assert "needs 2 healthy of 2" in bad[0]["found"]
    assert portal.api.get(f"machines/{machine}/")["state"] == "in_service"
    retry(portal, operation, raise_owner=True)
    row = portal.api.wait_for(operation, seconds=400)
    assert row["status"] == "succeeded", row
    found = json.loads(lab_cluster.kubectl("get deployment guarded -o json"))
    assert found["spec"]["replicas"] == 2
    assert "beidou.io/raised-by" not in found["metadata"].get("annotations", {})
    assert any("gets one more copy" in line for line in portal.output(operation))


def test_a_worker_that_is_killed_in_the_middle_of_a_drain_costs_nothing_but_time(
    portal, lab_cluster, node, workload
):
    host, machine = node
    workload("slow", host, replicas=3, grace=15)
    operation = portal.start_operation("ScaleDown", [machine])
    portal.wait_for_step(operation, "drain")
    wait_until(
        lambda: any("is evicted" in line for line in portal.output(operation)), "an eviction"
    )
    attempts = portal.api.get(f"operations/{operation}/")["attempts"]
    holder = next(each["holder"] for each in attempts if each["step"] == "drain")
    psutil.Process(int(holder.split("/")[-2])).send_signal(signal.SIGKILL)
    row = portal.api.wait_for(operation, seconds=400)
    assert row["status"] == "succeeded", row
    assert [each["outcome"] for each in row["attempts"] if each["step"] == "drain"] == [
        "lost",
        "done",
    ]
    assert ready_elsewhere(lab_cluster, "slow", host) == 3
    # What the killed one had not written down is lost with it: an eviction may lack its line.
    evictions = [line for line in portal.output(operation) if "is evicted" in line]
    assert 0 < len(evictions) == len(set(evictions)) <= 3


def test_a_cancel_in_the_middle_of_a_drain_leaves_the_node_cordoned(
    portal, lab_cluster, node, workload
):
    host, machine = node
    workload("patient", host, replicas=2, grace=60)
    operation = portal.start_operation("ScaleDown", [machine])
    portal.wait_for_step(operation, "drain")
    wait_until(
        lambda: any("is evicted" in line for line in portal.output(operation)), "an eviction"
    )
    began = time.monotonic()
    portal.api.post(f"operations/{operation}/cancel/", {"reason": "wrong node"})
    row = portal.api.wait_for(operation, seconds=30)
    assert time.monotonic() - began <= 10  # five seconds of ours, and what a shared machine adds
    assert row["status"] == "canceled"
    assert any("stays cordoned" in line for line in portal.output(operation))
    item = json.loads(lab_cluster.kubectl(["get", "node", host.name, "-o", "json"]))
    assert item["spec"]["unschedulable"]
    assert portal.api.get(f"machines/{machine}/")["state"] == "cordoned"


def test_a_lost_host_is_given_up_only_when_that_was_chosen(portal, lab_cluster, node, workload):
    host, machine = node
    workload("stranded", host)
    host.kill()
    operation = portal.start_operation("ScaleDown", [machine])
    row = portal.api.wait_for(operation, seconds=120)
    assert row["status"] == "failed"
    bad = {c["check"] for c in cell(row, "preCheck")["checks"] if not c["ok"]}
    assert "host" in bad
    # Once the cluster has noticed, no copy is ready any more: nothing is left to interrupt.
    retry(portal, operation, force_unreachable=True, allow_single_copy=True)
    row = portal.api.wait_for(operation, seconds=500)
    assert row["status"] == "succeeded", row
    assert host.name not in names_of(lab_cluster, "nodes")
    assert ready_elsewhere(lab_cluster, "stranded", host) == 2
    found = portal.api.get(f"machines/{machine}/")
    assert found["state"] == "faulty"
    assert "beidou.io/residue" in found["labels"]
