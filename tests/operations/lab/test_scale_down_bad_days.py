"""ScaleDown on bad days, for real: the API server goes away, pods and kubelets do not obey, and
several nodes leave at once."""

import time

import pytest

from tests.operations.lab.leaving import budget, cell, names_of, pods_of, ready_elsewhere, retry
from tests.operations.lab.portal import wait_until

pytestmark = pytest.mark.lab
MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml"
ASIDE = "/root/kube-apiserver.yaml"
OUTAGE_SECONDS = 30
IGNORES = 'trap \\"\\" TERM; while :; do httpd -f -p 8080 -h /tmp/www; done'


@pytest.fixture
def api_server(lab_cluster):
    """``stop`` and ``start`` the cluster's only API server; it runs again afterwards."""
    plane = lab_cluster.nodes[0]

    def answers():
        return lab_cluster.try_kubectl("get --raw /readyz --request-timeout=2s")[0] == 0

    class ApiServer:
        def stop(self):
            plane.run(f"mv {MANIFEST} {ASIDE}")
            wait_until(lambda: not answers(), "the API server to end", 90)

        def start(self):
            plane.run(f"test ! -e {ASIDE} || mv {ASIDE} {MANIFEST}")
            wait_until(answers, "the API server to answer", 120)

    yield ApiServer()
    ApiServer().start()


def said(portal, operation, text):
    return any(text in line for line in portal.output(operation))


def wait_until_said(portal, operation, text, seconds=60):
    def heard():
        row = portal.api.get(f"operations/{operation}/")
        if said(portal, operation, text):
            return True
        assert row["status"] in ("waiting", "running"), portal.output(operation)[-20:]
        return False

    wait_until(heard, f"“{text}”", seconds)


def message_of(portal, operation, step="drain"):
    return cell(portal.api.get(f"operations/{operation}/"), step)["message"]


def test_an_api_server_that_stops_in_the_middle_of_a_drain_costs_time_only(
    portal, lab_cluster, node, workload, api_server
):
    host, machine = node
    workload("carried", host, replicas=4, grace=20)
    operation = portal.start_operation("ScaleDown", [machine])
    portal.wait_for_step(operation, "drain")
    wait_until_said(portal, operation, "is evicted")
    api_server.stop()
    began = time.monotonic()
    wait_until(
        lambda: "the cluster does not answer" in message_of(portal, operation),
        "the drain to say so",
    )
    wait_until_said(portal, operation, "It is tried again.")
    wait_until(lambda: time.monotonic() - began > OUTAGE_SECONDS, "the outage to pass")
    assert portal.api.get(f"operations/{operation}/")["status"] == "running"
    api_server.start()
    wait_until_said(portal, operation, "The cluster answers again; the drain goes on.")
    row = portal.api.wait_for(operation, seconds=500)
    assert row["status"] == "succeeded", row
    assert [each["outcome"] for each in row["attempts"] if each["step"] == "drain"] == ["done"]
    evictions = [line for line in portal.output(operation) if "is evicted" in line]
    assert len(evictions) == len(set(evictions)) == 4
    assert ready_elsewhere(lab_cluster, "carried", host) == 4
    assert host.name not in names_of(lab_cluster, "nodes")
    assert portal.api.get(f"machines/{machine}/")["state"] == "available"


def test_a_pod_that_ignores_sigterm_ends_with_its_grace_and_no_sooner(
    portal, lab_cluster, node, workload
):
    host, machine = node
    workload(
        "deaf", host, grace=20,
        change=lambda text: text.replace("exec httpd -f -p 8080 -h /tmp/www", IGNORES),
    )  # fmt: skip
    operation = portal.start_operation("ScaleDown", [machine])
    portal.wait_for_step(operation, "drain")
    wait_until(lambda: "1 ending" in message_of(portal, operation), "the drain to say so")
    row = portal.api.wait_for(operation, seconds=500)
    assert row["status"] == "succeeded", row
    assert cell(row, "drain")["evidence"]["seconds"] >= 20
    assert not said(portal, operation, "should have ended by now")
    assert ready_elsewhere(lab_cluster, "deaf", host) == 2


def test_pods_that_do_not_end_are_named_and_forced_only_when_that_was_chosen(
    portal, lab_cluster, node, workload
):
    """Its kubelet hangs, so that nothing ends on the node."""
    host, machine = node
    workload("held", host)
    host.run("systemctl kill --signal=STOP kubelet")
    operation = portal.start_operation("ScaleDown", [machine], params={"limit_minutes": 2})
    wait_until_said(portal, operation, "should have ended by now: it ignores its end", 120)
    assert "should have ended by now" in message_of(portal, operation)
    row = portal.api.wait_for(operation, seconds=200)
    assert row["status"] == "failed", row
    bad = {check["check"]: check for check in cell(row, "drain")["checks"]}
    assert "default/held" in bad["ending"]["found"]
    assert "force_delete" in bad["ending"]["advice"]
    assert portal.api.get(f"machines/{machine}/")["state"] == "cordoned"
    retry(portal, operation, force_delete=True, allow_single_copy=True)
    row = portal.api.wait_for(operation, seconds=500)
    assert row["status"] == "succeeded", row
    assert said(portal, operation, "was deleted by force.")
    assert ready_elsewhere(lab_cluster, "held", host) == 2
    assert host.name not in names_of(lab_cluster, "nodes")


def test_two_nodes_that_one_budget_guards_leave_together(portal, lab_cluster, join, workload):
    hosts, machines = join(2)
    workload("paired", *hosts, replicas=4, grace=5)
    lab_cluster.apply(budget("paired", minAvailable=3))
    assert {pod["spec"]["nodeName"] for pod in pods_of(lab_cluster, "paired")} == {
        host.name for host in hosts
    }
    operation = portal.start_operation("ScaleDown", machines)
    row = portal.api.wait_for(operation, seconds=600)
    assert row["status"] == "succeeded", row
    assert not {host.name for host in hosts} & set(names_of(lab_cluster, "nodes"))
    assert len(pods_of(lab_cluster, "paired")) == 4
    assert {portal.api.get(f"machines/{key}/")["state"] for key in machines} == {"available"}
