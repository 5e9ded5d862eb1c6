"""One pod in detail: what a check that starts a pod needs to know to wait for it and explain it."""

from datetime import datetime

import msgspec

from clusters.drivers.answers import PodDetail
from clusters.drivers.objects import RawCondition, Resource


class _State(msgspec.Struct, frozen=True):
    """One of the three states; only the fields that any of them has."""

    reason: str | None = None
    message: str | None = None
    exit_code: int | None = msgspec.field(default=None, name="exitCode")


class _States(msgspec.Struct, frozen=True):
    waiting: _State | None = None
    terminated: _State | None = None


class _ContainerStatus(msgspec.Struct, frozen=True):
    name: str
    state: _States = _States()


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    namespace: str = ""
    uid: str = ""
    deletion_timestamp: datetime | None = None


class _Container(msgspec.Struct, frozen=True):
    image: str = ""


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    node_name: str | None = None
    containers: list[_Container] | None = None


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    phase: str = "Unknown"
    message: str | None = None
    pod_ip: str = msgspec.field(default="", name="podIP")
    host_ip: str = msgspec.field(default="", name="hostIP")
    conditions: list[RawCondition] | None = None
    init_container_statuses: list[_ContainerStatus] | None = None
    container_statuses: list[_ContainerStatus] | None = None


class RawPodDetail(msgspec.Struct, frozen=True):
    metadata: _Metadata
    spec: _Spec = _Spec()
    status: _Status = _Status()


def pod_detail(raw: RawPodDetail) -> PodDetail:
    """The product's view; ``exit_code`` is the first one that is not 0, else 0 once all ended."""
    status = raw.status
    conditions = status.conditions or ()
    containers = (*(status.init_container_statuses or ()), *(status.container_statuses or ()))
    return PodDetail(
        namespace=raw.metadata.namespace,
        name=raw.metadata.name,
        uid=raw.metadata.uid,
        node_name=raw.spec.node_name or "",
        phase=status.phase,
        is_ready=any(item.type == "Ready" and item.status == "True" for item in conditions),
        is_terminating=raw.metadata.deletion_timestamp is not None,
        pod_ip=status.pod_ip,
        host_ip=status.host_ip,
        exit_code=_exit_code(status.container_statuses or []),
        message=status.message or _unschedulable(conditions),
        waiting=tuple(_waits(item) for item in containers if item.state.waiting is not None),
        said="\n".join(_said(item) for item in containers if _said(item)),
        images=tuple(item.image for item in raw.spec.containers or ()),
    )


POD_DETAILS: Resource[PodDetail] = Resource("/api/v1/pods", RawPodDetail, pod_detail, title="pods")


def _said(container: _ContainerStatus) -> str:
    ended = container.state.terminated
    return (ended.message or "").strip() if ended is not None else ""


def _exit_code(containers: list[_ContainerStatus]) -> int | None:
    ended = [item.state.terminated for item in containers if item.state.terminated is not None]
    codes = [state.exit_code or 0 for state in ended]
    failed = next((code for code in codes if code), None)
    if failed is not None:
        return failed
    return 0 if codes and len(codes) == len(containers) else None


def _unschedulable(conditions: "list[RawCondition] | tuple[()]") -> str:
    """Why no node was found, which Kubernetes tells in a condition only."""
    return next(
        (
            item.message or item.reason or ""
            for item in conditions
            if item.type == "PodScheduled" and item.status == "False"
        ),
        "",
    )


def _waits(container: _ContainerStatus) -> str:
    state = container.state.waiting or _State()
    reason = state.reason or "waiting"
    return f"{container.name}: {reason}" + (f" ({state.message})" if state.message else "")
