"""Reading all that decides about pods from the cluster, as far as it may be read."""

from collections.abc import Callable
from typing import TypeVar

from clusters.drivers import errors as kube_errors
from clusters.drivers.kubernetes import KubernetesClient
from clusters.drivers.workloads import WORKLOAD_KINDS
from operations.kinds.base import StepRun
from operations.kinds.draining.plan import EVICTED, Situation, what_happens

T = TypeVar("T")


def situation(run: StepRun, client: KubernetesClient) -> Situation:
    workloads = client.workloads
    pods = []
    for pod in workloads.pods():
        run.stop_if_asked()
        pods.append(pod)
    are_labels_asked_for = any(
        term.asks_for_labels for pod in pods for term in (*pod.affinity, *pod.anti_affinity)
    )
    return Situation(
        nodes=client.list_nodes(),
        pods=pods,
        workloads=[item for kind in WORKLOAD_KINDS for item in workloads.all(kind)],
        budgets=workloads.budgets(),
        volumes=_if_allowed(run, workloads.volumes),
        namespaces=_if_allowed(run, workloads.namespaces) if are_labels_asked_for else None,
    )


def running_pods(client: KubernetesClient, node: str) -> list[str]:
    """Those that a drain would have moved: all but what stays until the node is gone."""
    pods = client.workloads.pods(node_name=node)
    return [pod.key for pod in pods if what_happens(pod, None) in EVICTED]


def _if_allowed(run: StepRun, read: Callable[[], T]) -> T | None:
    """What is no right that is needed; the plan says where it is missed."""
    try:
        return read()
    except kube_errors.Forbidden as error:
        run.say(f"Some pods' room cannot be worked out. {error.message}", level="warning")
        return None
