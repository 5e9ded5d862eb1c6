"""What the steps share: nodes, what preCheck has found, which machines go when."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from clusters.drivers import errors as kube_errors
from clusters.drivers.kubernetes import KubernetesClient
from clusters.drivers.objects import NodeInfo
from machines.models import Machine
from operations.kinds.base import StepRun
from operations.kinds.draining.plan import CONTROL_PLANE
from operations.kinds.names import name_of
from operations.kinds.patience import patiently
from operations.kinds.scale_down.settling import evidence_of, node_name
from operations.kinds.upgrade_cluster.params import UpgradeClusterParams
from operations.models import MachineStep, Operation, OperationMachine

T = TypeVar("T")
STATIC_PODS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
STAGED = "/var/lib/beidou/upgrade"
BIN_DIR = {"artifacts_bin_dir": "/usr/local/bin"}
"""Where programs lie, unless the site says otherwise."""
PROGRAMS = ("kubelet", "kubeadm", "kubectl")
MARK = "beidou.io/upgrading"
"""Label of a node that this portal has cordoned for its upgrade, and opens again afterwards."""
VERB = "beidou.io/upgrade-verb"
"""Label of a control plane on which kubeadm works: which operation told it to do what."""


AWAY_SECONDS = 600.0


def asked(run: StepRun, call: Callable[[], T]) -> T:
    """What the cluster answers, however long kubeadm keeps its only API server away.

    After a lost worker it may still be at work on the host.
    """
    return patiently(run, call, seconds=AWAY_SECONDS)


def mark_of(run: StepRun) -> str:
    return name_of(run.operation)


def is_control_plane(node: NodeInfo) -> bool:
    return any(role in CONTROL_PLANE for role in node.roles)


def has_etcd(run: StepRun, client: KubernetesClient, target: OperationMachine) -> bool:
    """As preCheck has seen it on the host; where that was skipped, by the static pod."""
    found = evidence_of(target, "preCheck")
    if "etcd" in found:
        return bool(found["etcd"])
    try:
        asked(run, lambda: client.get_pod("kube-system", f"etcd-{node_name(target)}"))
    except kube_errors.NotFound:
        return False
    return True


def was_not_whole(operation: Operation) -> frozenset[str]:
    """Workloads that were not whole before anything was begun: nobody waits for those."""
    cells = MachineStep.objects.filter(
        step__operation=operation, step__name="preCheck", status__in=MachineStep.PASSED
    )
    found: set[str] = set()
    for evidence in cells.filter(evidence__has_key="not_whole").values_list("evidence", flat=True):
        found.update(evidence["not_whole"])
    return frozenset(found)


def control_planes_of(members: Sequence[OperationMachine]) -> set[int]:
    """Keys of the members whose node is a control plane, as the collector knows it."""
    rows = OperationMachine.objects.filter(pk__in=[member.pk for member in members])
    roles = rows.values_list("pk", "machine__node__roles")
    return {key for key, each in roles if any(role in CONTROL_PLANE for role in each or ())}


def planes_of(_params: Any, machines: Sequence[Machine]) -> list[Machine]:
    """Those of a plan whose node is a control plane, as the collector knows it."""
    rows = Machine.objects.filter(pk__in=[machine.pk for machine in machines])
    found = {
        key
        for key, roles in rows.values_list("pk", "node__roles")
        if any(role in CONTROL_PLANE for role in roles or ())
    }
    return [machine for machine in machines if machine.pk in found]


def workers_of(_params: Any, machines: Sequence[Machine]) -> list[Machine]:
    planes = {machine.pk for machine in planes_of(_params, machines)}
    return [machine for machine in machines if machine.pk not in planes]


def one_control_plane(
    _params: UpgradeClusterParams, waiting: Sequence[OperationMachine]
) -> Sequence[OperationMachine]:
    """All workers pass first, since there is nothing to do; then each control plane by itself."""
    planes = control_planes_of(waiting)
    workers = [member for member in waiting if member.pk not in planes]
    return workers or waiting[:1]


def some_workers(
    params: UpgradeClusterParams, waiting: Sequence[OperationMachine]
) -> Sequence[OperationMachine]:
    planes = control_planes_of(waiting)
    first = [member for member in waiting if member.pk in planes]
    return first or waiting[: params.wave_size]


def planes_and_workers(
    run: StepRun, client: KubernetesClient
) -> tuple[list[OperationMachine], list[OperationMachine]]:
    """The step's machines, as the cluster itself says it."""
    nodes = asked(run, client.list_nodes)
    names = {node.name for node in nodes if is_control_plane(node)}
    planes = [target for target in run.targets if node_name(target) in names]
    return planes, [target for target in run.targets if target not in planes]
