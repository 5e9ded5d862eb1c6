"""Nodes, pods, owners and budgets with one line each."""

import itertools
from types import SimpleNamespace

from clusters.drivers.objects import Condition, NodeInfo, NodeResources
from clusters.drivers.placed_pods import Owner, PlacedPod
from clusters.drivers.selectors import Requirement, Selector
from clusters.drivers.workloads import Budget, Workload

_numbers = itertools.count(1)
GIB = 2**30


def node(name="n1", *, cpu=4000, memory=16 * GIB, pods=110, labels=None, taints=(), ready="True",
         unschedulable=False, roles=(), extended=None):  # fmt: skip
    amounts = NodeResources(
        cpu_millicores=cpu,
        memory_bytes=memory,
        ephemeral_storage_bytes=100 * GIB,
        pods=pods,
        extended=extended or {},
    )
    return NodeInfo(
        name=name,
        uid=f"uid-{name}",
        resource_version="1",
        created_at=None,
        labels={"kubernetes.io/hostname": name, **(labels or {})},
        annotations={},
        roles=tuple(roles),
        taints=tuple(taints),
        addresses=(),
        conditions=(Condition(type="Ready", status=ready, reason="", message="", changed_at=None),),
        unschedulable=unschedulable,
        capacity=amounts,
        allocatable=amounts,
        kubelet_version="v1.36.3",
        container_runtime_version="",
        kernel_version="",
        os_image="",
        operating_system="linux",
        architecture="amd64",
        system_uuid="",
        machine_id="",
        boot_id="",
        provider_id="",
        pod_cidrs=(),
    )


def pod(name="web-1", on="n1", *, owner="ReplicaSet:web-abc", app="web", **values):
    kind, _colon, owner_name = owner.partition(":")
    return PlacedPod(
        **{
            "namespace": "shop",
            "name": name,
            "uid": f"pod-{name}-{next(_numbers)}",
            "node_name": on,
            "labels": {"app": app},
            "owner": Owner(kind, owner_name, f"uid-{kind}-{owner_name}") if owner else None,
            **values,
        }
    )


def selects(**labels):
    return Selector(tuple(Requirement(key, "In", (value,)) for key, value in labels.items()))


def workload(name="web", kind="Deployment", *, of="", wanted=2, **values):
    """``of`` is the Deployment above a ReplicaSet."""
    return Workload(
        **{
            "kind": kind,
            "namespace": "shop",
            "name": name,
            "uid": f"uid-{kind}-{name}",
            "wanted": wanted,
            "ready": wanted,
            "selector": selects(app=name),
            "owner": Owner("Deployment", of, f"uid-Deployment-{of}") if of else None,
            **values,
        }
    )


WEB = (workload(), workload("web-abc", "ReplicaSet", of="web"))


def budget(name="web", *, app="web", **values):
    return Budget(
        **{
            "namespace": "shop",
            "name": name,
            "selector": selects(app=app),
            "allowed": 0,
            "healthy": 2,
            "desired": 2,
            "expected": 3,
            "min_available": 2,
            **values,
        }
    )


def answers(**values):
    return SimpleNamespace(
        **{
            "delete_bare_pods": False,
            "delete_local_data": False,
            "allow_single_copy": False,
            "allow_pending": False,
            "on_blocked": "stop",
            "raise_owner": False,
            "delete_blocked": False,
            **values,
        }
    )
