"""Component health with full rights, few rights, and parts that are down or elsewhere."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from clusters.drivers import errors
from clusters.drivers.answers import ComponentHealth
from clusters.drivers.health import parse_checks
from clusters.drivers.kubernetes import KubernetesClient
from tests.fakes.kube_api import FakeKubeApi, Hang, Reply, list_reply, status_reply

READY = "[+]ping ok\n[+]etcd ok\n[+]poststarthook/rbac ok\nreadyz check passed\n"
NOT_READY = "[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed\n"
STATIC_PODS = "/api/v1/namespaces/kube-system/pods"
DNS = "/apis/apps/v1/namespaces/kube-system/deployments"
DAEMON_SETS = "/apis/apps/v1/daemonsets"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{}"
DENIED = status_reply(403, "nothing for you")


def static_pod(component: str, node: str = "cp-1", ready: str = "True") -> dict[str, Any]:
    return {
        "metadata": {"name": f"{component}-{node}", "labels": {"component": component}},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


def daemon_set(name: str, ready: int = 3, desired: int = 3) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "status": {"numberReady": ready, "desiredNumberScheduled": desired},
    }


def lease(seconds_ago: float) -> Reply:
    renewed = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    spec = {"holderIdentity": "cp-1_abc", "renewTime": renewed.isoformat()}
    return Reply(body={"spec": spec})


@pytest.fixture
def api() -> Iterator[FakeKubeApi]:
    """A cluster in which everything is well."""
    with FakeKubeApi() as server:
        server.on("GET", "/readyz", Reply(body=READY))
        server.on("GET", "/livez", Reply(body=READY))
        components = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
        server.on("GET", STATIC_PODS, list_reply([static_pod(name) for name in components]))
        dns = {"metadata": {"name": "coredns"}, "spec": {"replicas": 2}}
        server.on("GET", DNS, list_reply([{**dns, "status": {"readyReplicas": 2}}]))
        server.on(
            "GET", DAEMON_SETS, list_reply([daemon_set("kube-proxy"), daemon_set("calico-node")])
        )
        yield server


def health(api: FakeKubeApi, timeout: float = 5) -> dict[str, ComponentHealth]:
    with KubernetesClient(api.connection(), cluster_name="prod-1", timeout=timeout) as client:
        return {item.name: item for item in client.component_health()}


def test_a_well_cluster_is_well_in_every_part(api: FakeKubeApi):
    found = health(api)
    assert {name: item.is_healthy for name, item in found.items()} == {
        "kube-apiserver": True,
        "etcd": True,
        "kube-controller-manager": True,
        "kube-scheduler": True,
        "coredns": True,
        "kube-proxy": True,
        "calico-node": True,
    }
    assert found["kube-apiserver"].message == "3 checks passed."
    assert (found["kube-proxy"].ready, found["kube-proxy"].desired) == (3, 3)


def test_a_failing_check_of_the_api_server_is_named(api: FakeKubeApi):
    api.on("GET", "/readyz", Reply(status=500, body=NOT_READY))
    found = health(api)["kube-apiserver"]
    assert found.is_healthy is False
    assert found.message == "Failing: etcd."
    assert [check.name for check in found.checks if not check.is_ok] == ["etcd"]


def test_a_member_of_etcd_that_is_not_ready_is_counted(api: FakeKubeApi):
    pods = [static_pod("etcd", "cp-1"), static_pod("etcd", "cp-2", ready="False")]
    api.on("GET", STATIC_PODS, list_reply(pods))
    found = health(api)["etcd"]
    assert found.is_healthy is False
    assert found.message == "1 of 2 ready."


@pytest.mark.parametrize(("ready", "desired"), [(0, 2), (1, 2), (0, 0)])
def test_dns_with_missing_replicas_is_not_well(api: FakeKubeApi, ready: int, desired: int):
    item = {
        "metadata": {"name": "coredns"},
        "spec": {"replicas": desired},
        "status": {"readyReplicas": ready},
    }
    api.on("GET", DNS, list_reply([item]))
    assert health(api)["coredns"].is_healthy is False


def test_a_network_that_misses_nodes_is_not_well(api: FakeKubeApi):
    api.on("GET", DAEMON_SETS, list_reply([daemon_set("kube-proxy"), daemon_set("cilium", 2, 3)]))
    assert health(api)["cilium"].message == "2 of 3 ready."


def test_a_daemon_set_that_no_node_wants_is_well(api: FakeKubeApi):
    api.on("GET", DAEMON_SETS, list_reply([daemon_set("kube-proxy"), daemon_set("calico", 0, 0)]))
    assert health(api)["calico"].is_healthy is True


@pytest.mark.parametrize("name", ["lab-cni", "kube-flannel-ds", "calico-node", "aws-node", "cni"])
def test_network_plugins_are_known_by_their_names(api: FakeKubeApi, name: str):
    api.on("GET", DAEMON_SETS, list_reply([daemon_set("kube-proxy"), daemon_set(name)]))
    assert health(api)[name].is_healthy


def test_other_daemon_sets_are_no_network(api: FakeKubeApi):
    api.on("GET", DAEMON_SETS, list_reply([daemon_set("node-exporter"), daemon_set("vacniss")]))
    found = health(api)
    assert found["network"].message == (
        "Unknown: No DaemonSet of a known network plugin was found."
    )
    assert found["kube-proxy"].is_healthy is None


def test_without_rights_everything_is_unknown_with_the_reason(api: FakeKubeApi):
    for path in ("/readyz", "/livez", STATIC_PODS, DNS, DAEMON_SETS):
        api.on("GET", path, DENIED)
    found = health(api)
    assert {item.is_healthy for item in found.values()} == {None}
    assert all("Unknown: Cluster prod-1: could not" in item.message for item in found.values())
    assert all("nothing for you" in item.message for item in found.values())


def test_a_hidden_control_plane_is_judged_by_its_leases(api: FakeKubeApi):
    api.on("GET", STATIC_PODS, list_reply([]))
    api.on("GET", LEASES.format("kube-scheduler"), lease(2))
    api.on("GET", LEASES.format("kube-controller-manager"), lease(600))
    found = health(api)
    assert found["kube-scheduler"].is_healthy is True
    assert found["kube-scheduler"].message.startswith("cp-1_abc renewed its lease 2 s ago.")
    assert found["kube-controller-manager"].is_healthy is False
    assert found["etcd"].is_healthy is True
    assert found["etcd"].message.startswith("The API server reaches it.")


def test_a_lease_that_was_never_renewed_says_nothing(api: FakeKubeApi):
    api.on("GET", STATIC_PODS, list_reply([]))
    api.on("GET", LEASES.format("kube-scheduler"), Reply(body={"spec": {}}))
    assert health(api)["kube-scheduler"].is_healthy is None


def test_a_cluster_that_hangs_is_an_error_not_a_health(api: FakeKubeApi):
    api.on("GET", STATIC_PODS, Hang())
    with pytest.raises(errors.Unreachable):
        health(api, timeout=0.4)


def test_lines_that_are_no_checks_are_skipped():
    checks = parse_checks("[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed\n\n")
    assert [(item.name, item.is_ok, item.message) for item in checks] == [
        ("ping", True, "ok"),
        ("etcd", False, "failed: reason withheld"),
    ]
