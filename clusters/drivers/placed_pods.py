"""Pods with all that decides where they may run and what their end means.

More than the inventory keeps of a pod, and read only when nodes are emptied.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from clusters.drivers.objects import (
    FINISHED_PHASES,
    MIRROR_ANNOTATION,
    RawCondition,
    RawOwner,
    Resource,
)
from clusters.drivers.placement import (
    ANY_ADDRESS,
    HostPort,
    NodeTerm,
    PodTerm,
    RawAffinity,
    RawSpread,
    RawToleration,
    Spread,
    Toleration,
    hard_spread,
    node_terms,
    pod_terms,
    tolerations,
)
from clusters.drivers.pod_resources import RawContainer, RawPodSpec, effective_requests

DEFAULT_SCHEDULER = "default-scheduler"

# --- what the API answers -------------------------------------------------------------------------


class _Owner(RawOwner, frozen=True, gc=False):
    uid: str = ""


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    namespace: str = ""
    uid: str = ""
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    finalizers: list[str] | None = None
    owner_references: list[_Owner] | None = None


class _Port(msgspec.Struct, frozen=True, rename="camel"):
    host_port: int = 0
    protocol: str = "TCP"
    host_ip: str = msgspec.field(default="", name="hostIP")


class _Container(RawContainer, frozen=True, gc=False):
    ports: list[_Port] | None = None


class _Path(msgspec.Struct, frozen=True):
    path: str = ""


class _Claim(msgspec.Struct, frozen=True, rename="camel"):
    claim_name: str = ""


class _Volume(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    empty_dir: dict[str, object] | None = None
    host_path: _Path | None = None
    persistent_volume_claim: _Claim | None = None
    ephemeral: dict[str, object] | None = None


class _ResourceClaim(msgspec.Struct, frozen=True):
    name: str = ""


class _Spec(RawPodSpec, frozen=True, gc=False, rename="camel"):
    containers: list[_Container] | None = None  # type: ignore[assignment] # a narrower list
    init_containers: list[_Container] | None = None  # type: ignore[assignment]
    node_selector: dict[str, str] | None = None
    tolerations: list[RawToleration] | None = None
    affinity: RawAffinity | None = None
    topology_spread_constraints: list[RawSpread] | None = None
    scheduler_name: str = DEFAULT_SCHEDULER
    resource_claims: list[_ResourceClaim] | None = None
    volumes: list[_Volume] | None = None
    termination_grace_period_seconds: int | None = None
    priority: int | None = None


class _Status(msgspec.Struct, frozen=True):
    phase: str = "Unknown"
    conditions: list[RawCondition] | None = None


class _Pod(msgspec.Struct, frozen=True):
    metadata: _Metadata
    spec: _Spec = _Spec()
    status: _Status = _Status()


# --- what the product sees ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Owner:
    """The controller of an object."""

    kind: str
    name: str
    uid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedPod:
    """A pod; ``requests`` has cpu in millicores and everything else in its own unit.

    ``node_terms`` are alternatives (empty: any node).  ``deadline`` is when a pod that is ending
    has to be gone.  ``claims`` outlive the pod, ``own_claims`` are made for it and go with it.
    """

    namespace: str
    name: str
    uid: str = ""
    node_name: str = ""
    phase: str = "Running"
    is_ready: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)
    owner: Owner | None = None
    is_mirror: bool = False
    deadline: datetime | None = None
    finalizers: tuple[str, ...] = ()
    grace_seconds: int = 30
    priority: int = 0
    requests: Mapping[str, int] = field(default_factory=dict)
    host_ports: frozenset[HostPort] = frozenset()
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    node_terms: tuple[NodeTerm, ...] = ()
    affinity: tuple[PodTerm, ...] = ()
    anti_affinity: tuple[PodTerm, ...] = ()
    spread: tuple[Spread, ...] = ()
    scheduler: str = DEFAULT_SCHEDULER
    devices: tuple[str, ...] = ()
    """Claims of devices (dynamic resource allocation)."""
    empty_dirs: tuple[str, ...] = ()
    host_paths: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    own_claims: tuple[str, ...] = ()
    unschedulable: str = ""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def is_finished(self) -> bool:
        return self.phase in FINISHED_PHASES

    @property
    def is_ending(self) -> bool:
        return self.deadline is not None


def _placed_pod(raw: _Pod) -> PlacedPod:
    """The product's view of a raw pod; ValueError when a quantity cannot be read."""
    metadata, spec = raw.metadata, raw.spec
    owner = next((item for item in metadata.owner_references or () if item.controller), None)
    conditions = raw.status.conditions or ()
    affinity = spec.affinity or RawAffinity()
    volumes = spec.volumes or []
    grace = spec.termination_grace_period_seconds
    return PlacedPod(
        namespace=metadata.namespace,
        name=metadata.name,
        uid=metadata.uid,
        node_name=spec.node_name or "",
        phase=raw.status.phase,
        is_ready=any(item.type == "Ready" and item.status == "True" for item in conditions),
        labels=metadata.labels or {},
        owner=Owner(owner.kind, owner.name, owner.uid) if owner else None,
        is_mirror=MIRROR_ANNOTATION in (metadata.annotations or {}),
        deadline=metadata.deletion_timestamp,
        finalizers=tuple(metadata.finalizers or ()),
        grace_seconds=30 if grace is None else grace,
        priority=spec.priority or 0,
        requests=_requests(spec),
        host_ports=_host_ports(spec),
        node_selector=spec.node_selector or {},
        tolerations=tolerations(spec.tolerations),
        node_terms=node_terms(affinity.node_affinity.required if affinity.node_affinity else None),
        affinity=pod_terms(affinity.pod_affinity, metadata.namespace),
        anti_affinity=pod_terms(affinity.pod_anti_affinity, metadata.namespace),
        spread=hard_spread(spec.topology_spread_constraints, metadata.labels or {}),
        scheduler=spec.scheduler_name or DEFAULT_SCHEDULER,
        devices=tuple(item.name for item in spec.resource_claims or ()),
        empty_dirs=tuple(item.name for item in volumes if item.empty_dir is not None),
        host_paths=tuple(item.host_path.path for item in volumes if item.host_path is not None),
        claims=tuple(
            item.persistent_volume_claim.claim_name
            for item in volumes
            if item.persistent_volume_claim
        ),
        own_claims=tuple(item.name for item in volumes if item.ephemeral is not None),
        unschedulable=next(
            (
                item.message or item.reason or ""
                for item in conditions
                if item.type == "PodScheduled" and item.status == "False"
            ),
            "",
        ),
    )


def _host_ports(spec: _Spec) -> frozenset[HostPort]:
    """Of containers and sidecars; what another init container asks for is free again by then."""
    sidecars = [item for item in spec.init_containers or () if item.restart_policy == "Always"]
    return frozenset(
        HostPort(port.protocol, port.host_port, port.host_ip or ANY_ADDRESS)
        for container in (*(spec.containers or ()), *sidecars)
        for port in container.ports or ()
        if port.host_port
    )


def _requests(spec: _Spec) -> dict[str, int]:
    return {name: amount for name, amount in effective_requests(spec).items() if amount}


PLACED_PODS: Resource[PlacedPod] = Resource("/api/v1/pods", _Pod, _placed_pod, title="pods")
