"""The drivers against a real kubeadm cluster; kubectl is the witness."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import pytest

from clusters.drivers import errors, kubeconfig
from clusters.drivers.answers import Access
from clusters.drivers.connection import Connection
from clusters.drivers.kubernetes import KubernetesClient
from clusters.drivers.objects import NODES, Taint
from clusters.drivers.watch import Disconnected, Listed, Modified, Pace, list_and_watch
from lab import LabCluster

pytestmark = pytest.mark.lab

PROBE = "registry.k8s.io/beidou/probe:1"
FEW_RIGHTS = """
apiVersion: v1
kind: Namespace
metadata: {name: few-rights}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: few-rights}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: few-rights}
rules: [{apiGroups: [""], resources: [nodes], verbs: [get, list, watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: few-rights}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: few-rights}
subjects: [{kind: ServiceAccount, name: reader, namespace: few-rights}]
"""
MIXED_POD = """
apiVersion: v1
kind: Pod
metadata: {name: mixed, namespace: default}
spec:
  nodeName: NODE
  terminationGracePeriodSeconds: 0
  initContainers:
  - {name: proxy, image: IMAGE, restartPolicy: Always, command: [sleep, "600"],
     resources: {requests: {cpu: 30m, memory: 10Mi}}}
  - {name: setup, image: IMAGE, command: ["true"],
     resources: {requests: {cpu: 200m, memory: 1Mi}, limits: {memory: 300Mi}}}
  containers:
  - {name: main, image: IMAGE, command: [sleep, "600"],
     resources: {requests: {cpu: 50m}, limits: {cpu: "1", memory: 64Mi}}}
"""


def kubectl_json(cluster: LabCluster, *arguments: str) -> Any:
    return json.loads(cluster.kubectl([*arguments, "-o", "json"]))


@pytest.fixture(scope="module")
def connection(lab_cluster: LabCluster) -> Connection:
    return kubeconfig.parse(lab_cluster.kubeconfig)


@pytest.fixture
def client(connection: Connection) -> Iterator[KubernetesClient]:
    with KubernetesClient(connection, cluster_name="lab") as made:
        yield made


@pytest.fixture
def few_rights(lab_cluster: LabCluster, connection: Connection) -> Iterator[Connection]:
    """A service account that may read nodes and nothing else."""
    lab_cluster.kubectl(["apply", "-f", "-"], input_text=FEW_RIGHTS)
    token = lab_cluster.kubectl(["create", "token", "reader", "-n", "few-rights"]).strip()
    yield kubeconfig.from_parts(connection.server, connection.ca_pem or "", token)
    lab_cluster.kubectl(["delete", "--wait=false", "-f", "-"], input_text=FEW_RIGHTS)


@pytest.fixture
def worker(lab_cluster: LabCluster) -> str:
    nodes = kubectl_json(
        lab_cluster, "get", "nodes", "-l", "!node-role.kubernetes.io/control-plane"
    )
    return str(nodes["items"][0]["metadata"]["name"])


def test_the_steps_of_adopting_hold_on_a_real_cluster(
    client: KubernetesClient, lab_cluster: LabCluster
):
    namespace = kubectl_json(lab_cluster, "get", "namespace", "kube-system")
    assert client.reach().address == client.connection.address
    assert client.check_tls().is_verified
    assert client.version().git_version == lab_cluster.version
    assert client.whoami().username == "kubernetes-admin"
    assert client.kube_system_uid() == namespace["metadata"]["uid"]
    assert client.server_certificate_expiry() > client.check_tls().not_before


def test_nodes_are_what_kubectl_sees(client: KubernetesClient, lab_cluster: LabCluster):
    lab_cluster.wait_for_nodes()  # a control plane under load loses its Ready for a moment
    seen = {
        item["metadata"]["name"]: item
        for item in kubectl_json(lab_cluster, "get", "nodes")["items"]
    }
    nodes = {node.name: node for node in client.list_nodes()}
    assert nodes.keys() == seen.keys()
    for name, node in nodes.items():
        info = seen[name]["status"]["nodeInfo"]
        assert node.uid == seen[name]["metadata"]["uid"]
        assert node.is_ready, node.conditions
        assert node.labels == seen[name]["metadata"]["labels"]
        assert (node.system_uuid, node.kernel_version) == (
            info["systemUUID"],
            info["kernelVersion"],
        )
        assert node.capacity.cpu_millicores == 1000 * int(seen[name]["status"]["capacity"]["cpu"])
        assert list(node.pod_cidrs) == seen[name]["spec"]["podCIDRs"]


def test_requests_are_what_kubectl_describe_adds_up(
    client: KubernetesClient, lab_cluster: LabCluster, worker: str
):
    manifest = MIXED_POD.replace("NODE", worker).replace("IMAGE", PROBE)
    lab_cluster.kubectl(["apply", "-f", "-"], input_text=manifest)
    try:
        pods = {pod.name: pod for pod in client.iter_pods(page=2, node_name=worker)}
        mixed = pods["mixed"].resources
        assert (mixed.cpu_request_millicores, mixed.memory_request_bytes) == (
            230,
            64 * 2**20 + 10 * 2**20,
        )
        described = lab_cluster.kubectl(["describe", "node", worker])
        line = next(
            line for line in described.splitlines() if line.split()[:2] == ["default", "mixed"]
        )
        shown = [word for word in line.split()[2:] if not word.startswith("(")]
        assert shown[0] == "230m"
        total = sum(p.resources.cpu_request_millicores for p in pods.values() if not p.is_finished)
        allocated = described[described.index("Allocated resources:") :]
        cpu = next(line for line in allocated.splitlines() if line.split()[:1] == ["cpu"])
        assert cpu.split()[1] == f"{total}m"
    finally:
        lab_cluster.kubectl(["delete", "pod", "mixed", "--now"])


def test_every_component_of_a_real_cluster_is_well(client: KubernetesClient):
    found = {item.name: item.is_healthy for item in client.component_health()}
    expected = ("kube-apiserver", "etcd", "kube-controller-manager", "kube-scheduler")
    assert dict.fromkeys((*expected, "coredns", "kube-proxy", "lab-cni"), True) == found


def test_workloads_are_counted_as_kubectl_lists_them(
    client: KubernetesClient, lab_cluster: LabCluster
):
    counted = client.workload_counts()
    assert counted.unknown == {}
    for kind in ("namespaces", "deployments", "daemonsets", "services"):
        listed = kubectl_json(lab_cluster, "get", kind, "-A")["items"]
        assert counted.counts[kind] == len(listed), kind


def test_a_node_is_cordoned_labelled_tainted_and_left_as_before(
    client: KubernetesClient, worker: str
):
    before = client.get_node(worker)
    assert client.set_unschedulable(worker, True).unschedulable
    changed = client.patch_node(
        worker, labels={"beidou.test": "1"}, taints=[Taint("beidou.test", "NoSchedule", "x")]
    )
    assert Taint("beidou.test", "NoSchedule", "x") in changed.taints
    assert changed.labels["beidou.test"] == "1"
    client.patch_node(worker, labels={"beidou.test": None}, remove_taints=["beidou.test"])
    assert not client.set_unschedulable(worker, False).unschedulable
    after = client.get_node(worker)
    assert after.labels == before.labels
    assert "beidou.test" not in {taint.key for taint in after.taints}


def test_a_bootstrap_token_is_accepted_by_the_cluster_until_it_is_revoked(
    client: KubernetesClient, lab_cluster: LabCluster, connection: Connection
):
    token = client.create_bootstrap_token(ttl=timedelta(minutes=5), description="a test")
    joining = kubeconfig.from_parts(connection.server, connection.ca_pem or "", token.token)
    try:
        signed = f"jws-kubeconfig-{token.token_id}"
        wait_until(
            lambda: (
                signed
                in kubectl_json(lab_cluster, "get", "cm", "cluster-info", "-n", "kube-public")[
                    "data"
                ]
            )
        )
        with KubernetesClient(joining, cluster_name="lab") as as_machine:
            identity = as_machine.whoami()
        assert identity.username == f"system:bootstrap:{token.token_id}"
        assert "system:bootstrappers:kubeadm:default-node-token" in identity.groups
    finally:
        assert client.delete_bootstrap_token(token.token_id)
    with KubernetesClient(joining, cluster_name="lab") as as_machine:
        wait_until(lambda: is_refused(as_machine))


def wait_until(holds: Any, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "the condition did not come true in time"
        time.sleep(0.2)


def is_refused(client: KubernetesClient) -> bool:
    try:
        client.whoami()
    except errors.Unauthorized:
        return True
    return False


def test_joining_machines_are_told_what_kubeadm_tells_them(
    client: KubernetesClient, lab_cluster: LabCluster
):
    info = client.cluster_info()
    command = lab_cluster.join_command()
    assert info.ca_cert_hashes[0] in command
    assert info.server == f"https://{client.connection.address}"
    assert client.kubelet_config().cgroup_driver == "cgroupfs"
    assert client.kubeadm_config().kubernetes_version == lab_cluster.version
    assert client.get_service().ports == (443,)


def test_a_pod_runs_says_something_and_is_removed(client: KubernetesClient, worker: str):
    container = {
        "name": "main",
        "image": PROBE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", "echo hello; exit 3"],
    }
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "driver-probe"},
        "spec": {"restartPolicy": "Never", "nodeName": worker, "containers": [container]},
    }
    client.create_pod("default", manifest)
    try:
        with pytest.raises(errors.Conflict409, match="already exists"):
            client.create_pod("default", manifest)
        wait_until(lambda: client.get_pod("default", "driver-probe").phase == "Failed")
        pod = client.get_pod("default", "driver-probe")
        assert (pod.exit_code, pod.node_name) == (3, worker)
        assert client.pod_log("default", "driver-probe") == "hello\n"
    finally:
        assert client.delete_pod("default", "driver-probe", grace_seconds=0)


def test_few_rights_are_told_as_such(few_rights: Connection):
    with KubernetesClient(few_rights, cluster_name="lab") as client:
        assert client.whoami().username == "system:serviceaccount:few-rights:reader"
        assert len(client.list_nodes()) > 1
        answers = client.can_i(
            [Access(verb="list", resource="nodes"), Access(verb="list", resource="pods")]
        )
        assert [answer.is_allowed for answer in answers] == [True, False]
        with pytest.raises(errors.Forbidden, match="could not list the pods.*is forbidden"):
            list(client.iter_pods())
        assert client.workload_counts().counts == {}
        health = {item.name: item for item in client.component_health()}
        assert health["kube-apiserver"].is_healthy is True
        assert health["etcd"].is_healthy is True
        assert health["kube-scheduler"].is_healthy is None
        assert "is forbidden" in health["kube-scheduler"].message


def test_a_token_that_nobody_issued_is_refused(connection: Connection):
    unknown = kubeconfig.from_parts(connection.server, connection.ca_pem or "", "made-up")
    with (
        KubernetesClient(unknown, cluster_name="lab") as client,
        pytest.raises(errors.Unauthorized, match="the credential was not accepted"),
    ):
        client.whoami()


def test_a_change_of_a_node_arrives_within_seconds(
    connection: Connection, client: KubernetesClient, worker: str
):
    async def follow() -> float:
        async with aclosing(list_and_watch(connection, NODES, cluster_name="lab")) as events:
            assert isinstance(await anext(events), Listed)
            await anext(events)
            begun = time.monotonic()
            await asyncio.to_thread(client.patch_node, worker, labels={"beidou.test": "now"})
            async with asyncio.timeout(10):
                async for event in events:
                    if isinstance(event, Modified) and "beidou.test" in event.item.labels:
                        return time.monotonic() - begun
        raise AssertionError("the stream ended")

    try:
        assert asyncio.run(follow()) < 2
    finally:
        client.patch_node(worker, labels={"beidou.test": None})


def test_a_frozen_api_server_is_noticed_and_its_return_too(
    connection: Connection, lab_cluster: LabCluster
):
    pace = Pace(answer_seconds=3, watch_seconds=3, grace_seconds=2, largest_delay_seconds=2)
    control_plane = lab_cluster.nodes[0]

    async def follow() -> None:
        async with aclosing(
            list_and_watch(connection, NODES, cluster_name="lab", pace=pace)
        ) as events:
            assert isinstance(await anext(events), Listed)
            await anext(events)
            await asyncio.to_thread(control_plane.pause)
            try:
                async with asyncio.timeout(20):
                    async for event in events:
                        if isinstance(event, Disconnected):
                            assert event.error.code == "timed_out"
                            break
            finally:
                await asyncio.to_thread(control_plane.unpause)
            async with asyncio.timeout(30):
                while isinstance(await anext(events), Disconnected):
                    pass

    asyncio.run(follow())
