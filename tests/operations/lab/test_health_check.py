"""HealthCheck on real hosts and a real cluster: what is wrong is named, nothing is left behind."""

import json
import signal

import psutil
import pytest

from tests.operations.lab.portal import wait_until

pytestmark = pytest.mark.lab
PROBES = "get pods -n kube-system -l app.kubernetes.io/component=probe -o name"


@pytest.fixture(scope="module")
def third(portal, shared_lab, lab_cluster):
    """A third node, without which nobody can tell which of two is cut off."""
    host = shared_lab.host("checked")
    (machine,) = portal.register(host)
    row = portal.api.wait_for(portal.start_operation("ScaleUp", [machine]), seconds=400)
    assert row["status"] == "succeeded", row
    yield host, machine
    lab_cluster.kubectl(["delete", "node", "--ignore-not-found", host.name])
    host.destroy()


@pytest.fixture(scope="module")
def nodes(portal, lab_cluster, third):
    """Host and key of the machine of every node: the lab's own are registered, too."""
    cluster = portal.cluster["id"]
    own = {host.name: host for host in lab_cluster.nodes}

    def seen():
        rows = portal.api.get(f"nodes/?cluster={cluster}")["results"]
        return own.keys() <= {row["name"] for row in rows}

    wait_until(seen, "the collector to see the nodes", 60)
    wish = {"cluster": cluster, "nodes": list(own), "credential": portal.credential["id"]}
    found = portal.api.post("machines/register/", wish)
    keys = [*found["created"], *found["linked"]]
    portal.api.post("machines/gather-facts/", {"machines": keys})
    rows = [portal.api.get(f"machines/{key}/") for key in keys]
    machines = {row["address"]: row["id"] for row in rows}

    def pinned():
        return all(portal.api.get(f"machines/{key}/")["host_key"] for key in keys)

    wait_until(pinned, "the host keys to be pinned", 60)
    pairs = [(host, machines[host.address]) for host in own.values()]
    return [*pairs, third]


@pytest.fixture
def check(portal, nodes):
    def run(*machines, **params):
        chosen = machines or [machine for _host, machine in nodes]
        operation = portal.start_operation("HealthCheck", list(chosen), params=params)
        return portal.api.wait_for(operation, seconds=300)

    return run


def checks_of(row, machine):
    (member,) = [each for each in row["machines"] if each["machine"] == machine]
    return {each["check"]: each for each in member["steps"][0]["checks"]}


def failing(row, machine):
    return {
        name
        for name, each in checks_of(row, machine).items()
        if not each["ok"] and each["severity"] == "error"
    }


def states(row):
    return {member["machine"]: member["state"] for member in row["machines"]}


def pods_are_ready(lab_cluster, node):
    """A kubelet that comes back tells of its pods some seconds after it tells of itself."""
    of_node = f"get pods -n kube-system --field-selector spec.nodeName={node} -o json"
    pods = json.loads(lab_cluster.kubectl(of_node.split()))["items"]
    return all(
        condition["status"] == "True"
        for pod in pods
        for condition in pod["status"].get("conditions", [])
        if condition["type"] == "Ready"
    )


def probes(lab_cluster):
    return lab_cluster.kubectl(PROBES).split()


def test_a_well_cluster_passes_and_nothing_is_left_in_it(check, lab_cluster, nodes):
    row = check()
    assert row["status"] == "succeeded", row
    for _host, machine in nodes:
        found = checks_of(row, machine)
        assert {
            "service:kubelet", "service:containerd", "process:kube-proxy", "kubelet-health",
            "certificate:kubelet-client-current.pem", "disk:/var/lib/kubelet", "clock",
            "api-server", "condition:Ready", "daemonset-pods", "node-network", "pod",
            "pod-network", "pod-service", "pod-dns", "pod-gone",
        } <= set(found)  # fmt: skip
        assert "reaches 2 of 2" in found["pod-network"]["found"]
    assert "certificate:etcd/server.crt" in checks_of(row, nodes[0][1])
    assert probes(lab_cluster) == []


def test_a_kubelet_that_was_stopped_is_named_and_later_repaired(check, lab_cluster, nodes):
    host, machine = nodes[2]
    check()
    host.run("systemctl stop kubelet")
    try:
        row = check()
    finally:
        host.run("systemctl start kubelet")
    assert row["status"] == "partial"
    assert {"service:kubelet", "kubelet-health"} <= failing(row, machine)
    assert checks_of(row, machine)["service:kubelet"]["change"] == "new"
    assert states(row)[nodes[0][1]] == "succeeded"
    wait_until(lambda: host.name in lab_cluster.ready_nodes(), "the node to be Ready", 90)
    wait_until(lambda: pods_are_ready(lab_cluster, host.name), "its pods to be ready", 120)
    again = check()
    assert again["status"] == "succeeded", again
    assert checks_of(again, machine)["service:kubelet"]["change"] == "repaired"
    assert probes(lab_cluster) == []


def test_a_cluster_without_dns_is_named_on_every_node(check, lab_cluster, nodes):
    dns = ["-n", "kube-system", "deployment/coredns"]
    replicas = json.loads(lab_cluster.kubectl(["get", *dns, "-o", "json"]))["spec"]["replicas"]
    lab_cluster.kubectl(["scale", *dns, "--replicas=0"])
    pods = "get pods -n kube-system -l k8s-app=kube-dns -o name"
    wait_until(lambda: not lab_cluster.kubectl(pods).strip(), "the DNS to be gone", 60)
    try:
        row = check()
    finally:
        lab_cluster.kubectl(["cordon", nodes[2][0].name])  # the next test cuts it off
        lab_cluster.kubectl(["scale", *dns, f"--replicas={replicas}"])
        lab_cluster.kubectl(["rollout", "status", *dns, "--timeout=90s"])
        lab_cluster.kubectl(["uncordon", nodes[2][0].name])
    for _host, machine in nodes:
        assert failing(row, machine) == {"pod-dns"}
        assert "cluster's DNS" in checks_of(row, machine)["pod-dns"]["advice"]


def test_a_node_without_pod_network_is_told_from_those_that_only_miss_it(check, nodes):
    host, machine = nodes[2]
    host.run("iptables -I FORWARD -j DROP")
    try:
        row = check()
    finally:
        host.run("iptables -D FORWARD -j DROP")
    assert "pod-network" in failing(row, machine)
    for other, key in nodes[:2]:
        assert other.name in checks_of(row, machine)["pod-network"]["found"]
        found = checks_of(row, key)["pod-network"]
        assert (found["ok"], found["severity"]) == (False, "warning")
        assert host.name in found["found"]
        assert failing(row, key) == set()


def test_an_image_that_cannot_be_pulled_is_named(check, lab_cluster, nodes):
    machine = nodes[2][1]
    row = check(machine, pull_image="registry.invalid/nothing:1")
    assert failing(row, machine) == {"image-pull"}
    assert "registry.invalid" in checks_of(row, machine)["image-pull"]["found"]
    assert probes(lab_cluster) == []


def test_two_at_once_do_not_disturb_each_other(portal, lab_cluster, nodes):
    machines = [machine for _host, machine in nodes]
    operations = [portal.start_operation("HealthCheck", machines) for _ in range(2)]
    for operation in operations:
        row = portal.api.wait_for(operation, seconds=300)
        assert row["status"] == "succeeded", row
    assert probes(lab_cluster) == []


def test_a_worker_that_is_killed_in_the_middle_leaves_nothing_behind(portal, lab_cluster, nodes):
    machines = [machine for _host, machine in nodes]
    operation = portal.start_operation("HealthCheck", machines)
    wait_until(lambda: probes(lab_cluster), "the test pods", 90)
    (attempt,) = portal.api.get(f"operations/{operation}/")["attempts"]
    psutil.Process(int(attempt["holder"].split("/")[-2])).send_signal(signal.SIGKILL)
    row = portal.api.wait_for(operation, seconds=400)
    assert row["status"] == "succeeded", row
    assert [each["outcome"] for each in row["attempts"]] == ["lost", "done"]
    assert probes(lab_cluster) == []
    wait_until(lambda: portal.marked() == [], "the processes to be gone", 10)


def test_a_cancel_in_the_middle_leaves_nothing_behind(portal, lab_cluster, nodes):
    machines = [machine for _host, machine in nodes]
    operation = portal.start_operation("HealthCheck", machines)
    wait_until(lambda: probes(lab_cluster), "the test pods", 90)
    portal.api.post(f"operations/{operation}/cancel/", {"reason": "not now"})
    row = portal.api.wait_for(operation, seconds=60)
    assert row["status"] == "canceled"
    assert probes(lab_cluster) == []
    assert portal.marked() == []
    assert portal.api.get(f"machines/{machines[0]}/")["state"] == "in_service"
