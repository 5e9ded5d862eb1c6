"""kwok: nodes and pods that behave like real ones towards the API server, and run nothing."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lab import binaries, bulk
from lab.cluster import LabCluster
from lab.controlplane import LocalControlPlane
from lab.process import Server, start_server
from lab.state import LabRecord, claim_port

LEASE_SECONDS = 600
"""How long a node's lease holds; the default of 40 s makes 500 writes a second of 5,000 nodes."""


def start_kwok(record: LabRecord, cluster: LabCluster) -> Server:
    """Let kwok manage all nodes annotated ``kwok.x-k8s.io/node: fake`` and their pods."""
    program = binaries.ensure_binary("kwok")
    port = claim_port(record)
    return start_server(
        f"{cluster.name}-kwok",
        program,
        f"--kubeconfig={cluster.kubeconfig_path}",
        f"--config={stages(program)}",
        "--manage-all-nodes=false",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        f"--node-lease-duration-seconds={LEASE_SECONDS}",
        f"--server-address=127.0.0.1:{port}",
        "--v=WARN",
        folder=record.folder,
    )


def stages(program: Path) -> Path:
    """The behaviour of nodes and pods; kwok built from its module has none by itself."""
    return program.parent / "stages.yaml"


def fill(plane: LocalControlPlane, *, nodes: int, pods: int, owned: bool = True) -> None:
    """Write the nodes and pods of a cluster of the given size."""
    version = plane.cluster.version
    bulk.write_objects(plane.etcd_url, nodes=nodes, pods=pods, version=version, owned=owned)


def keep_off(cluster: LabCluster) -> None:
    """No pod of a DaemonSet comes to simulated nodes: kwok's would say that it runs there."""
    rule = {"key": "type", "operator": "NotIn", "values": ["kwok"]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [rule]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    patch = json.dumps({"spec": {"template": {"spec": {"affinity": affinity}}}})
    for name in cluster.kubectl("get daemonsets -n kube-system -o name").split():
        cluster.kubectl(["patch", "-n", "kube-system", name, "--type=merge", "--patch", patch])
        cluster.kubectl(["rollout", "status", "-n", "kube-system", name, "--timeout=120s"])


def add_beside(cluster: LabCluster, numbers: Iterable[int]) -> None:
    """Simulated nodes beside the real ones of a kubeadm cluster, through its API.

    Closed, so that nothing is scheduled on them, and neither their addresses nor their pod ranges
    are such as the cluster's own network would make routes to.
    """
    items = []
    for number in numbers:
        node: Any = bulk.node(number, version=cluster.version)
        (place,) = [each for each in node["status"]["addresses"] if each["type"] == "InternalIP"]
        place["type"] = "ExternalIP"
        pod_range = f"100.{64 + number // 256}.{number % 256}.0/24"
        node["spec"] |= {"podCIDR": pod_range, "podCIDRs": [pod_range], "unschedulable": True}
        items.append(node)
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    cluster.kubectl(["create", "-f", "-"], input_text=text, timeout=900)
