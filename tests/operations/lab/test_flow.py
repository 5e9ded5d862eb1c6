"""The article's whole way on real hosts: one manifest, two machines, two approvals, schedulable;
and a machine that takes another one's place."""

import json

import pytest
import yaml

from tests.operations.lab.deciding import asking, say_yes
from tests.operations.lab.portal import wait_until

pytestmark = pytest.mark.lab


def test_the_manifest_brings_two_machines_all_the_way_to_schedulable(
    portal, lab_cluster, deliver, approver, tmp_path
):
    hosts = deliver(2)
    machines = portal.register(*hosts)
    document = {
        "apiVersion": "vcluster.caas.beidou.io/v1alpha1",
        "kind": "AutoOperationTask",
        "metadata": {"name": "scaleup-batch-1", "namespace": "beidou-system"},
        "spec": {
            "cluster": lab_cluster.name,
            "clusterType": "native",
            "operationIds": ["scale-up"],
            "operationTaskMachines": [{"name": host.address} for host in hosts],
            "operationTaskStep": [
                {"step": "ScaleUpPreCheck"},
                {"step": "ScaleUpWorkprocess"},
                {"step": "ScaleUp"},
                {"step": "UncordonNodes"},
                {"step": "ScaleUpSubWorkprocess"},
            ],
            "operationTaskType": "ScaleUp",
        },
    }
    path = tmp_path / "task.yaml"
    path.write_text(yaml.safe_dump(document))
    portal.manage("apply", "-f", str(path), "--user", "admin")
    (row,) = portal.api.get("auto-operation-tasks/?name=scaleup-batch-1")["results"]
    task = row["id"]
    for step in ("ScaleUpWorkprocess", "ScaleUpSubWorkprocess"):
        order = wait_until(lambda: asking(portal, task), f"the question of {step}", 600)
        if step == "ScaleUpWorkprocess":
            states = [portal.api.get(f"machines/{key}/")["state"] for key in machines]
            assert states == ["available", "available"]
        say_yes(portal, approver, task, order)
    wait_until(
        lambda: portal.api.get(f"auto-operation-tasks/{task}/")["status"] == "succeeded",
        "the end of the task",
        120,
    )
    for host, machine in zip(hosts, machines, strict=True):
        item = json.loads(lab_cluster.kubectl(["get", "node", host.name, "-o", "json"]))
        assert not item["spec"].get("unschedulable")
        assert portal.api.get(f"machines/{machine}/")["state"] == "in_service"


def test_a_machine_takes_another_one_s_place_with_routes_and_gates_between(
    portal, lab_cluster, node, deliver
):
    """The old one leaves only after the new one has its routes, takes pods, and is well."""
    old_host, old = node
    (new_host,) = deliver(1)
    (new,) = portal.register(new_host)
    wish = {
        "template": "ReplaceMachine",
        "cluster": lab_cluster.name,
        "machines": [new_host.address],
        "replaced": [old_host.address],
        "steps": [
            "ScaleUpPreCheck",
            "ScaleDownPreCheck",
            "ScaleUp",
            "PodRoutes",
            "UncordonNodes",
            "NodesReady",
            "HealthGate",
            "ScaleDown",
        ],
    }
    task = portal.api.post("auto-operation-tasks/", wish)["id"]

    def ended():
        row = portal.api.get(f"auto-operation-tasks/{task}/")
        assert row["status"] not in ("failed", "partial", "canceled"), row
        return row["status"] == "succeeded"

    wait_until(ended, "the end of the task", 900)
    nodes = json.loads(lab_cluster.kubectl("get nodes -o json"))["items"]
    ranges = {item["metadata"]["name"]: item["spec"]["podCIDR"] for item in nodes}
    assert new_host.name in ranges
    assert old_host.name not in ranges
    routes = new_host.run("ip route show proto 186")
    for name, pod_range in ranges.items():
        assert (pod_range in routes) == (name != new_host.name)
    assert portal.api.get(f"machines/{new}/")["state"] == "in_service"
    assert portal.api.get(f"machines/{old}/")["state"] == "available"
