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
from clusters.drivers.pod_resources import RawContainer, RawPodSpec, effective_requests
from clusters.drivers.selectors import (
    RawRequirement,
    RawSelector,
    Requirement,
    Selector,
    requirement,
    selector,
)

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


class _Toleration(msgspec.Struct, frozen=True):
    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


class _NodeTerm(msgspec.Struct, frozen=True, rename="camel"):
    match_expressions: list[RawRequirement] | None = None
    match_fields: list[RawRequirement] | None = None


class _NodeTerms(msgspec.Struct, frozen=True, rename="camel"):
    node_selector_terms: list[_NodeTerm] | None = None


class _NodeAffinity(msgspec.Struct, frozen=True):
    required: _NodeTerms | None = msgspec.field(
        default=None, name="requiredDuringSchedulingIgnoredDuringExecution"
    )


class _PodTerm(msgspec.Struct, frozen=True, rename="camel"):
    topology_key: str = ""
    label_selector: RawSelector | None = None
    namespaces: list[str] | None = None
    namespace_selector: RawSelector | None = None


class _PodAffinity(msgspec.Struct, frozen=True):
    required: list[_PodTerm] | None = msgspec.field(
        default=None, name="requiredDuringSchedulingIgnoredDuringExecution"
    )


class _Affinity(msgspec.Struct, frozen=True, rename="camel"):
    node_affinity: _NodeAffinity | None = None
    pod_affinity: _PodAffinity | None = None
    pod_anti_affinity: _PodAffinity | None = None


class _Port(msgspec.Struct, frozen=True, rename="camel"):
    host_port: int = 0
    protocol: str = "TCP"


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


class _Spec(RawPodSpec, frozen=True, gc=False, rename="camel"):
    containers: list[_Container] | None = None  # type: ignore[assignment] # a narrower list
    node_selector: dict[str, str] | None = None
    tolerations: list[_Toleration] | None = None
    affinity: _Affinity | None = None
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


@dataclass(frozen=True, slots=True)
class Toleration:
    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


@dataclass(frozen=True, slots=True)
class NodeTerm:
    """One alternative of a required node affinity."""

    expressions: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        """A term without any condition means no node."""
        if not self.expressions and not self.fields:
            return False
        return all(item.holds(labels) for item in self.expressions) and all(
            item.holds({"metadata.name": name}) for item in self.fields
        )

    def __str__(self) -> str:
        return " and ".join(str(item) for item in (*self.expressions, *self.fields))


@dataclass(frozen=True, slots=True)
class PodTerm:
    """Pods that must (affinity) or must not (anti-affinity) share ``topology_key`` with the pod.

    ``namespaces`` empty means every one: selectors of namespaces are not looked into.
    """

    topology_key: str
    selector: Selector | None
    namespaces: frozenset[str]

    def means(self, namespace: str, labels: Mapping[str, str]) -> bool:
        return (
            self.selector is not None
            and (not self.namespaces or namespace in self.namespaces)
            and self.selector.matches(labels)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedPod:
    """A pod; ``requests`` has cpu in millicores and everything else in its own unit.

    ``node_terms`` are alternatives (empty: any node).  ``deadline`` is when a pod that is ending
    has to be gone.
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
    host_ports: frozenset[tuple[str, int]] = frozenset()
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    node_terms: tuple[NodeTerm, ...] = ()
    affinity: tuple[PodTerm, ...] = ()
    anti_affinity: tuple[PodTerm, ...] = ()
    empty_dirs: tuple[str, ...] = ()
    host_paths: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
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
    affinity = spec.affinity or _Affinity()
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
        host_ports=frozenset(
            (port.protocol, port.host_port)
            for container in spec.containers or ()
            for port in container.ports or ()
            if port.host_port
        ),
        node_selector=spec.node_selector or {},
        tolerations=tuple(
            Toleration(item.key, item.operator or "Equal", item.value, item.effect)
            for item in spec.tolerations or ()
        ),
        node_terms=_node_terms(affinity.node_affinity),
        affinity=_pod_terms(affinity.pod_affinity, metadata.namespace),
        anti_affinity=_pod_terms(affinity.pod_anti_affinity, metadata.namespace),
        empty_dirs=tuple(item.name for item in volumes if item.empty_dir is not None),
        host_paths=tuple(item.host_path.path for item in volumes if item.host_path is not None),
        claims=tuple(
            item.persistent_volume_claim.claim_name
            if item.persistent_volume_claim
            else f"{metadata.name}-{item.name}"
            for item in volumes
            if item.persistent_volume_claim or item.ephemeral is not None
        ),
        unschedulable=next(
            (
                item.message or item.reason or ""
                for item in conditions
                if item.type == "PodScheduled" and item.status == "False"
            ),
            "",
        ),
    )


def _requests(spec: _Spec) -> dict[str, int]:
    return {name: amount for name, amount in effective_requests(spec).items() if amount}


def _node_terms(raw: _NodeAffinity | None) -> tuple[NodeTerm, ...]:
    return node_terms(raw.required) if raw else ()


def node_terms(raw: _NodeTerms | None) -> tuple[NodeTerm, ...]:
    """Alternatives; an affinity that is there without any means no node at all."""
    if raw is None:
        return ()
    terms = tuple(
        NodeTerm(
            tuple(requirement(item) for item in term.match_expressions or ()),
            tuple(requirement(item) for item in term.match_fields or ()),
        )
        for term in raw.node_selector_terms or ()
    )
    return terms or (NodeTerm(),)


def _pod_terms(raw: _PodAffinity | None, own: str) -> tuple[PodTerm, ...]:
    return tuple(
        PodTerm(
            item.topology_key,
            selector(item.label_selector),
            frozenset()
            if item.namespace_selector is not None
            else frozenset(item.namespaces or (own,)),
        )
        for item in (raw.required if raw else None) or ()
    )


# --- volumes that are bound to nodes --------------------------------------------------------------


class _VolumeNodes(msgspec.Struct, frozen=True):
    required: _NodeTerms | None = None


class _ClaimRef(msgspec.Struct, frozen=True):
    namespace: str = ""
    name: str = ""


class _VolumeSpec(msgspec.Struct, frozen=True, rename="camel"):
    node_affinity: _VolumeNodes | None = None
    claim_ref: _ClaimRef | None = None


class _PersistentVolume(msgspec.Struct, frozen=True):
    spec: _VolumeSpec = _VolumeSpec()


@dataclass(frozen=True, slots=True)
class BoundVolume:
    """Where the volume of a claim can be reached from; no terms: from everywhere."""

    namespace: str
    claim: str
    node_terms: tuple[NodeTerm, ...]


def _bound_volume(raw: _PersistentVolume) -> BoundVolume:
    claim = raw.spec.claim_ref or _ClaimRef()
    nodes = raw.spec.node_affinity
    return BoundVolume(claim.namespace, claim.name, node_terms(nodes.required) if nodes else ())


PLACED_PODS: Resource[PlacedPod] = Resource("/api/v1/pods", _Pod, _placed_pod, title="pods")
VOLUMES: Resource[BoundVolume] = Resource(
    "/api/v1/persistentvolumes", _PersistentVolume, _bound_volume, title="volumes"
)
