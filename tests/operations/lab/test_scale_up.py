"""ScaleUp on real hosts and a real cluster, and everything that can hit it on the way."""

import json
import signal

import pytest

from tests.operations.lab.portal import wait_until

pytestmark = pytest.mark.lab


def node(lab_cluster, name):
    return json.loads(lab_cluster.kubectl(["get", "node", name, "-o", "json"]))


def is_ready(item):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in item["status"]["conditions"])


def assert_in_service(portal, lab_cluster, host, machine):
    item = node(lab_cluster, host.name)
    assert is_ready(item)
    assert not item["spec"].get("unschedulable")
    assert portal.api.get(f"machines/{machine}/")["state"] == "in_service"


def joins(host):
    """How often kubeadm join was begun on the host, by its own journal."""
    return int(host.run("journalctl --no-pager -q | grep -c 'Started beidou-.*-join' || true"))


def test_two_delivered_machines_become_schedulable_nodes(portal, lab_cluster, deliver):
    hosts = deliver(2)
    machines = portal.register(*hosts)
    operation = portal.start_operation("ScaleUp", machines)
    row = portal.api.wait_for(operation, seconds=300)
    assert row["status"] == "succeeded", row
    for host, machine in zip(hosts, machines, strict=True):
        assert_in_service(portal, lab_cluster, host, machine)
    proof = [
        cell
        for member in row["machines"]
        for cell in member["steps"]
        if cell["step"] == "postCheck"
    ]
    assert all(cell["evidence"]["reached_from_peer"] for cell in proof)
    tokens = lab_cluster.kubectl("get secrets -n kube-system -o name")
    assert "bootstrap-token-" not in tokens or "Beidou" not in lab_cluster.kubectl(
        "get secrets -n kube-system -o yaml"
    )


def test_all_that_is_wrong_with_a_machine_is_reported_together(portal, deliver):
    (host,) = deliver(1)
    (machine,) = portal.register(host)
    host.run("mkdir -p /etc/cni/net.d && touch /etc/cni/net.d/10-old.conflist")
    host.run("install -m 755 /bin/true /usr/local/bin/kubeadm")
    operation = portal.start_operation("ScaleUp", [machine])
    row = portal.api.wait_for(operation, seconds=120)
    assert row["status"] == "failed"
    cell = next(cell for cell in row["machines"][0]["steps"] if cell["step"] == "preCheck")
    bad = {check["check"] for check in cell["checks"] if not check["ok"]}
    assert len(bad) >= 2
    assert all(check["advice"] for check in cell["checks"] if not check["ok"])
    assert portal.api.get(f"machines/{machine}/")["state"] == "available"


def test_one_bad_machine_does_not_stop_the_other_and_is_retried_alone(portal, lab_cluster, deliver):
    good, bad = deliver(2)
    machines = portal.register(good, bad)
    bad.run("install -m 755 /bin/true /usr/local/bin/kubelet")
    operation = portal.start_operation("ScaleUp", machines)
    row = portal.api.wait_for(operation, seconds=300)
    assert row["status"] == "partial"
    assert_in_service(portal, lab_cluster, good, machines[0])
    bad.run("rm /usr/local/bin/kubelet")
    portal.api.post(f"operations/{operation}/retry/", {"reason": "removed the old kubelet"})
    wait_until(lambda: portal.api.get(f"operations/{operation}/")["status"] != "partial", "retry")
    row = portal.api.wait_for(operation, seconds=300)
    assert row["status"] == "succeeded"
    assert joins(good) == 1
    assert_in_service(portal, lab_cluster, bad, machines[1])


def test_cancel_ends_a_playbook_in_its_middle_and_leaves_nothing_running(portal, deliver):
    """How soon is measured by ``python -m bench scale_up``."""
    (host,) = deliver(1)
    (machine,) = portal.register(host)
    operation = portal.start_operation("ScaleUp", [machine])
    portal.wait_for_step(operation, "scaleUp")
    wait_until(portal.ansible, "ansible to run")
    portal.api.post(f"operations/{operation}/cancel/", {"reason": "wrong rack"})
    row = portal.api.wait_for(operation, seconds=60)
    assert row["status"] == "canceled"
    assert portal.marked() == []
    assert host.run("systemctl list-units --no-legend 'beidou-*' | wc -l").strip() == "0"
    assert portal.api.get(f"machines/{machine}/")["state"] == "faulty"


def test_a_machine_that_was_canceled_half_way_is_cleaned_and_joins_later(
    portal, lab_cluster, deliver
):
    (host,) = deliver(1)
    (machine,) = portal.register(host)
    operation = portal.start_operation("ScaleUp", [machine])
    portal.wait_for_step(operation, "scaleUp")
    wait_until(portal.ansible, "ansible to run")
    portal.api.post(f"operations/{operation}/cancel/", {"reason": "test"})
    portal.api.wait_for(operation, seconds=60)
    clean = portal.start_operation("CleanUp", [machine])
    assert portal.api.wait_for(clean, seconds=200)["status"] == "succeeded"
    again = portal.start_operation("ScaleUp", [machine])
    assert portal.api.wait_for(again, seconds=300)["status"] == "succeeded"
    assert_in_service(portal, lab_cluster, host, machine)


@pytest.mark.parametrize("victims", [("work",), ("web", "collect")], ids=" and ".join)
def test_programs_that_are_killed_in_every_step_cost_nothing_but_time(
    portal, lab_cluster, deliver, victims
):
    """As soon as a step has begun; a short one may have ended by then, which is between steps."""
    (host,) = deliver(1)
    (machine,) = portal.register(host)
    operation = portal.start_operation("ScaleUp", [machine])
    for step in ("preCheck", "scaleUp", "postCheck", "uncordon"):
        portal.wait_until_begun(operation, step)
        killed = {victim: portal.program(victim) for victim in victims}
        for process in killed.values():
            process.send_signal(signal.SIGKILL)
        for victim, process in killed.items():
            portal.wait_for_program(victim, other_than=process.pid)
    row = portal.api.wait_for(operation, seconds=400)
    assert row["status"] == "succeeded", row
    assert joins(host) == 1
    assert_in_service(portal, lab_cluster, host, machine)
    wait_until(lambda: portal.marked() == [], "the processes to be gone", 10)


@pytest.mark.parametrize("victim", ["worker child", "ansible"])
def test_a_killed_process_costs_nothing_but_time(portal, lab_cluster, deliver, victim):
    """In scaleUp, the one step that lasts; between and at the edges of steps: test_recovery.py."""
    (host,) = deliver(1)
    (machine,) = portal.register(host)
    operation = portal.start_operation("ScaleUp", [machine])
    portal.wait_for_step(operation, "scaleUp")
    wait_until(portal.ansible, "ansible to run")
    process = {
        "worker child": lambda: portal.step_worker(operation),
        "ansible": lambda: portal.ansible()[-1],
    }[victim]()
    process.send_signal(signal.SIGKILL)
    row = portal.api.wait_for(operation, seconds=400)
    if row["status"] == "failed" and victim == "ansible":
        # A playbook that was killed is a failure of the step, said plainly; retry goes on.
        assert row["machines"][0]["message"]
        portal.api.post(f"operations/{operation}/retry/", {"reason": "ansible was killed"})
        wait_until(
            lambda: portal.api.get(f"operations/{operation}/")["status"] != "failed", "the retry"
        )
        row = portal.api.wait_for(operation, seconds=300)
    assert row["status"] == "succeeded", row
    assert joins(host) == 1
    assert_in_service(portal, lab_cluster, host, machine)
    wait_until(lambda: portal.marked() == [], "the processes to be gone", 10)


def test_the_whole_portal_is_killed_and_goes_on_after_a_restart(portal, lab_cluster, deliver):
    (host,) = deliver(1)
    (machine,) = portal.register(host)
    operation = portal.start_operation("ScaleUp", [machine])
    portal.wait_for_step(operation, "scaleUp")
    wait_until(portal.ansible, "ansible to run")
    portal.process.kill()
    portal.process.wait()
    wait_until(lambda: portal.marked() == [], "ansible to be gone", 10)
    portal.start()
    row = portal.api.wait_for(operation, seconds=400)
    assert row["status"] == "succeeded", row
    assert joins(host) == 1
    assert_in_service(portal, lab_cluster, host, machine)
