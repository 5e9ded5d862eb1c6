"""A kubeadm cluster of the lab: its nodes, its pod network, and what a later machine needs."""

import itertools
import json
import socket
import ssl

import pytest

from lab import Lab, LabCluster, LabError
from lab.cluster import install_kubernetes
from lab.versions import release
from lab.workloads import web_daemon_set, web_deployment

pytestmark = pytest.mark.lab


@pytest.fixture(scope="package")
def web_pods(cluster: LabCluster) -> dict[str, str]:
    """One web server per node: address by name of the pod."""
    cluster.apply(web_daemon_set("web"))
    cluster.kubectl("rollout status daemonset/web --timeout=90s")
    pods = json.loads(cluster.kubectl("get pods -l app=web -o json"))["items"]
    return {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in pods}


def test_all_nodes_are_ready_at_the_right_version(cluster: LabCluster):
    nodes = json.loads(cluster.kubectl("get nodes -o json"))["items"]
    versions = {
        node["metadata"]["name"]: node["status"]["nodeInfo"]["kubeletVersion"] for node in nodes
    }
    assert versions == {"c1-control-1": "v1.36.3", "c1-worker-1": "v1.36.3"}
    assert sorted(cluster.ready_nodes()) == ["c1-control-1", "c1-worker-1"]


def test_pods_reach_each_other_on_every_node(cluster: LabCluster, web_pods: dict[str, str]):
    for source, (target, address) in itertools.product(web_pods, web_pods.items()):
        fetch = ["exec", source, "--", "timeout", "5", "wget", "-qO-", f"http://{address}:8080/"]
        assert cluster.kubectl(fetch).strip() == target


def test_a_service_is_found_by_name(cluster: LabCluster, web_pods: dict[str, str]):
    for source in web_pods:
        fetch = ["exec", source, "--", "timeout", "5", "wget", "-qO-", "http://web/"]
        assert cluster.kubectl(fetch).strip() in web_pods


def test_a_deployment_runs_on_the_worker_alone(cluster: LabCluster):
    cluster.apply(web_deployment("shop", replicas=2))
    cluster.kubectl("rollout status deployment/shop --timeout=90s")
    column = "jsonpath={.items[*].spec.nodeName}"
    assert set(cluster.kubectl(f"get pods -l app=shop -o {column}").split()) == {"c1-worker-1"}
    cluster.kubectl("delete deployment,service shop")


def test_the_administrator_signs_in_with_a_certificate(cluster: LabCluster):
    config = json.loads(cluster.kubectl("config view --raw -o json"))
    assert config["clusters"][0]["cluster"]["server"] == cluster.server
    groups = json.loads(cluster.kubectl("auth whoami -o json"))["status"]["userInfo"]["groups"]
    assert "kubeadm:cluster-admins" in groups


def test_the_api_server_s_certificate_holds_from_this_machine(cluster: LabCluster):
    authority = cluster.nodes[0].run("cat /etc/kubernetes/pki/ca.crt")
    address = cluster.nodes[0].address
    context = ssl.create_default_context(cadata=authority)
    with (
        socket.create_connection((address, 6443), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=address) as connection,
    ):
        assert connection.version() in ("TLSv1.2", "TLSv1.3")


def test_a_delivered_host_joins_with_kubeadm_s_own_command(real_lab: Lab, cluster: LabCluster):
    host = real_lab.host("joining-1")
    install_kubernetes(host, release(), real_lab.artifacts(), control_plane=False)
    host.run(f"{cluster.join_command()} --ignore-preflight-errors=all 2>&1")
    cluster.wait_for_nodes(host.name, timeout=60)
    cluster.kubectl(f"delete node {host.name}")
    host.destroy()


def test_a_node_that_does_not_come_is_named(cluster: LabCluster):
    with pytest.raises(LabError, match=r"(?s)Ready of the nodes ghost in cluster c1.*c1-worker-1"):
        cluster.wait_for_nodes("ghost", timeout=0.1)


def test_kubectl_s_complaint_is_in_the_error(cluster: LabCluster):
    with pytest.raises(LabError, match='pods "nobody" not found'):
        cluster.kubectl("get pod nobody")


def test_a_cluster_s_name_is_taken_once(real_lab: Lab, cluster: LabCluster):
    with pytest.raises(LabError, match="has a cluster c1 already"):
        real_lab.kwok_cluster("c1", nodes=0, pods=0)


def test_another_process_finds_the_cluster(real_lab: Lab, cluster: LabCluster):
    found = Lab.attach(real_lab.name).find_cluster("c1")
    assert found.kubeconfig == cluster.kubeconfig
    assert [host.name for host in found.nodes] == ["c1-control-1", "c1-worker-1"]


def test_an_unknown_cluster_is_refused(real_lab: Lab):
    with pytest.raises(LabError, match="has no cluster nothing"):
        real_lab.find_cluster("nothing")
