"""Emptying a node with 30 pods on the lab: our drain, and ``kubectl drain``.

Each pod is one of two copies of a Deployment, the other copy runs on another node.  ``kubectl
drain`` returns when the pods are gone; ours also waits until every owner has its copies again, so
that time is told for both.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from bench.report import Measure, middle
from clusters.drivers import kubeconfig
from clusters.drivers.kubernetes import KubernetesClient
from lab import Lab
from lab.cluster import LabCluster
from lab.workloads import web_deployment
from operations.kinds.draining.drainer import Drainer
from operations.kinds.draining.leaving import Leaving
from operations.kinds.scale_down import ScaleDownParams

ROUNDS = 3
PODS = 30


def run() -> Iterator[Measure]:
    with Lab.start("bench-drain") as lab:
        cluster = lab.cluster("bench", control_planes=1, workers=2)
        workers = "get nodes -o name -l !node-role.kubernetes.io/control-plane"
        leaving, staying = (line.removeprefix("node/") for line in cluster.kubectl(workers).split())
        mine, plain = [], []
        for _ in range(ROUNDS):
            plain.append(_timed(cluster, leaving, staying, _by_kubectl))
            mine.append(_timed(cluster, leaving, staying, _by_us))
    ratios = [ours[0] / theirs[0] for ours, theirs in zip(mine, plain, strict=True)]
    whole = [ours[1] / theirs[1] for ours, theirs in zip(mine, plain, strict=True)]
    yield Measure(
        f"drain of a node with {PODS} pods / kubectl drain",
        f"{middle(ratios):.2f} until it ends, {middle(whole):.2f} until all copies are ready",
        f"{middle([each[0] for each in mine]):.1f} s with replacements waited for, kubectl "
        f"{middle([each[0] for each in plain]):.1f} s, {middle([each[1] for each in plain]):.1f} s "
        "until they are ready",
        "<= 1.2 until all copies are ready",
        middle(whole) <= 1.2,
    )


def _timed(
    cluster: LabCluster, leaving: str, staying: str, drain: Callable[[LabCluster, str], None]
) -> tuple[float, float]:
    """Seconds until the drain ended, and until every Deployment had its copies again."""
    names = [f"bench-{number}" for number in range(PODS)]
    for node, replicas in ((leaving, 1), (staying, 2)):
        others = {leaving, staying} - {node}
        cluster.kubectl(["cordon", *others])
        cluster.kubectl(["uncordon", node])
        cluster.apply("---\n".join(web_deployment(name, replicas=replicas) for name in names))
        _wait_for_copies(cluster, replicas * PODS)
    cluster.kubectl(["uncordon", leaving])
    began = time.monotonic()
    drain(cluster, leaving)
    ended = time.monotonic() - began
    _wait_for_copies(cluster, 2 * PODS)
    whole = time.monotonic() - began
    cluster.kubectl(["delete", "deployments,services", "--wait=true", *names])
    cluster.kubectl(["uncordon", leaving])
    _wait_for_copies(cluster, 0)
    return ended, whole


def _wait_for_copies(cluster: LabCluster, wanted: int) -> None:
    deadline = time.monotonic() + 300
    while (found := _copies(cluster)) != wanted:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{found} pods are ready, not {wanted}")
        time.sleep(0.2)


def _copies(cluster: LabCluster) -> int:
    """Ready pods that are not ending."""
    items: list[dict[str, Any]] = json.loads(cluster.kubectl("get pods -o json"))["items"]
    return sum(
        "deletionTimestamp" not in item["metadata"]
        and any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in item["status"].get("conditions", ())
        )
        for item in items
    )


def _by_kubectl(cluster: LabCluster, node: str) -> None:
    cluster.kubectl(["drain", node, "--ignore-daemonsets", "--delete-emptydir-data"], timeout=300)


class _Run:
    """As much of a step as the drain needs, without a database."""

    params = ScaleDownParams(pods_at_once=PODS)
    operation = SimpleNamespace(pk=1)

    def say(self, text: str, **_values: object) -> None:
        """Nobody reads it here."""

    def note(self, target: object, message: str) -> None:
        """Nor here."""

    def stop_if_asked(self) -> None:
        """Nobody does."""

    def fail(self, target: object, message: str, **_values: Mapping[str, object]) -> None:
        raise RuntimeError(message)


def _by_us(cluster: LabCluster, node: str) -> None:
    run: Any = _Run()
    target: Any = node
    connection = kubeconfig.parse(cluster.kubeconfig)
    with KubernetesClient(connection, cluster_name="bench", timeout=15) as client:
        Drainer(run, client, [Leaving(target, node)]).drain()
