"""Kubernetes objects with only the fields that are used, and what the product makes of them.

Two layers.  The *raw* structs mirror the JSON of the API (everything optional, null allowed,
because API servers and the programs behind them send both).  ``NodeInfo`` and ``PodInfo`` are what
the rest of the product sees: flat, in exact units, small enough for tens of thousands of them.
Nothing heavy may be imported here: the collector lives on this module.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from sys import intern
from typing import Any, Generic, TypeVar

import msgspec

from clusters.drivers import quantity
from clusters.drivers.pod_resources import PodResources, RawPodSpec, effective_resources

logger = logging.getLogger(__name__)

ROLE_LABEL_PREFIX = "node-role.kubernetes.io/"
ROLE_LABEL = "kubernetes.io/role"
FINISHED_PHASES = frozenset({"Succeeded", "Failed"})
NATIVE_RESOURCES = frozenset({"cpu", "memory", "ephemeral-storage", "pods"})
MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
# The whole object once more, as somebody last wrote it with kubectl.
LAST_APPLIED_ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
ANNOTATION_LENGTH = 500
ANNOTATIONS_MAX = 200


class RawOwner(msgspec.Struct, frozen=True, gc=False):
    kind: str = ""
    name: str = ""
    controller: bool | None = None


class RawMetadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[RawOwner] | None = None


class RawTaint(msgspec.Struct, frozen=True, gc=False):
    key: str
    effect: str
    value: str | None = None


class RawCondition(msgspec.Struct, frozen=True, rename="camel", gc=False):
    type: str
    status: str
    reason: str | None = None
    message: str | None = None
    last_transition_time: datetime | None = None


class RawAddress(msgspec.Struct, frozen=True, gc=False):
    type: str
    address: str


class RawNodeSpec(msgspec.Struct, frozen=True, rename="camel"):
    unschedulable: bool | None = None
    taints: list[RawTaint] | None = None
    pod_cidrs: list[str] | None = msgspec.field(default=None, name="podCIDRs")
    provider_id: str | None = msgspec.field(default=None, name="providerID")


class RawSystemInfo(msgspec.Struct, frozen=True, rename="camel", gc=False):
    machine_id: str = msgspec.field(default="", name="machineID")
    system_uuid: str = msgspec.field(default="", name="systemUUID")
    boot_id: str = msgspec.field(default="", name="bootID")
    kernel_version: str = ""
    os_image: str = ""
    container_runtime_version: str = ""
    kubelet_version: str = ""
    operating_system: str = ""
    architecture: str = ""


class RawNodeStatus(msgspec.Struct, frozen=True, rename="camel"):
    capacity: dict[str, str] | None = None
    allocatable: dict[str, str] | None = None
    conditions: list[RawCondition] | None = None
    addresses: list[RawAddress] | None = None
    node_info: RawSystemInfo = RawSystemInfo()


class RawNode(msgspec.Struct, frozen=True):
    metadata: RawMetadata
    spec: RawNodeSpec = RawNodeSpec()
    status: RawNodeStatus = RawNodeStatus()


class RawPodMetadata(msgspec.Struct, frozen=True, rename="camel"):
    """Without labels: they are most of a pod's metadata, and nothing here uses them."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    owner_references: list[RawOwner] | None = None


class RawPodStatus(msgspec.Struct, frozen=True):
    phase: str = "Unknown"
    conditions: list[RawCondition] | None = None


class RawPod(msgspec.Struct, frozen=True):
    metadata: RawPodMetadata
    spec: RawPodSpec = RawPodSpec()
    status: RawPodStatus = RawPodStatus()


# --- what the product sees ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Taint:
    key: str
    effect: str
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    type: str
    status: str
    reason: str
    message: str
    changed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeResources:
    """Millicores, bytes and counts; ``extended`` holds devices and huge pages by their name."""

    cpu_millicores: int
    memory_bytes: int
    ephemeral_storage_bytes: int
    pods: int
    extended: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeInfo:
    """A Node object; ``addresses`` are (type, address) pairs as Kubernetes orders them."""

    name: str
    uid: str
    resource_version: str
    created_at: datetime | None
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    roles: tuple[str, ...]
    taints: tuple[Taint, ...]
    addresses: tuple[tuple[str, str], ...]
    conditions: tuple[Condition, ...]
    unschedulable: bool
    capacity: NodeResources
    allocatable: NodeResources
    kubelet_version: str
    container_runtime_version: str
    kernel_version: str
    os_image: str
    operating_system: str
    architecture: str
    system_uuid: str
    machine_id: str
    boot_id: str
    provider_id: str
    pod_cidrs: tuple[str, ...]

    @property
    def is_ready(self) -> bool | None:
        """True or False as the Ready condition says; None when it is unknown or missing."""
        status = next((item.status for item in self.conditions if item.type == "Ready"), "Unknown")
        return {"True": True, "False": False}.get(status)

    def address(self, kind: str = "InternalIP") -> str:
        """The first address of a kind, or an empty text."""
        return next((address for type_, address in self.addresses if type_ == kind), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class PodInfo:
    """A Pod as far as inventory needs it; ``owner_kind`` is empty for a pod made by hand."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    node_name: str
    phase: str
    is_ready: bool
    is_terminating: bool
    created_at: datetime | None
    owner_kind: str
    owner_name: str
    resources: PodResources

    @property
    def is_finished(self) -> bool:
        """Whether it has ended and so occupies nothing on its node."""
        return self.phase in FINISHED_PHASES


def node_info(raw: RawNode) -> NodeInfo:
    """The product's view of a raw node; ValueError when a quantity cannot be read."""
    labels = raw.metadata.labels or {}
    system = raw.status.node_info
    return NodeInfo(
        name=raw.metadata.name,
        uid=raw.metadata.uid,
        resource_version=raw.metadata.resource_version,
        created_at=raw.metadata.creation_timestamp,
        labels=labels,
        annotations=_annotations(raw.metadata.annotations or {}),
        roles=_roles(labels),
        taints=tuple(
            Taint(item.key, item.effect, item.value or "") for item in raw.spec.taints or ()
        ),
        addresses=tuple((item.type, item.address) for item in raw.status.addresses or ()),
        conditions=tuple(_condition(item) for item in raw.status.conditions or ()),
        unschedulable=bool(raw.spec.unschedulable),
        capacity=_node_resources(raw.status.capacity or {}),
        allocatable=_node_resources(raw.status.allocatable or {}),
        kubelet_version=system.kubelet_version,
        container_runtime_version=system.container_runtime_version,
        kernel_version=system.kernel_version,
        os_image=system.os_image,
        operating_system=system.operating_system,
        architecture=system.architecture,
        system_uuid=system.system_uuid,
        machine_id=system.machine_id,
        boot_id=system.boot_id,
        provider_id=raw.spec.provider_id or "",
        pod_cidrs=tuple(raw.spec.pod_cidrs or ()),
    )


def pod_info(raw: RawPod) -> PodInfo:
    """The product's view of a raw pod; ValueError when a quantity cannot be read."""
    metadata = raw.metadata
    owner = next((item for item in metadata.owner_references or () if item.controller), None)
    conditions = raw.status.conditions or ()
    # Tens of thousands of pods share a few hundred of these texts.
    return PodInfo(
        namespace=intern(metadata.namespace),
        name=metadata.name,
        uid=metadata.uid,
        resource_version=metadata.resource_version,
        node_name=intern(raw.spec.node_name or ""),
        phase=intern(raw.status.phase),
        is_ready=any(item.type == "Ready" and item.status == "True" for item in conditions),
        is_terminating=metadata.deletion_timestamp is not None,
        created_at=metadata.creation_timestamp,
        owner_kind=intern(owner.kind) if owner else "",
        owner_name=intern(owner.name) if owner else "",
        resources=effective_resources(raw.spec),
    )


def _annotations(given: Mapping[str, str]) -> dict[str, str]:
    """Without the huge ones: a node may carry 256 KiB of them, and a fleet has many nodes.

    Longer values end in an ellipsis; by name, those behind the limit are left out.
    """
    names = sorted(name for name in given if name != LAST_APPLIED_ANNOTATION)
    return {name: _cut(given[name]) for name in names[:ANNOTATIONS_MAX]}


def _cut(text: str) -> str:
    return text if len(text) <= ANNOTATION_LENGTH else text[: ANNOTATION_LENGTH - 1] + "…"


def _roles(labels: Mapping[str, str]) -> tuple[str, ...]:
    roles = {
        label.removeprefix(ROLE_LABEL_PREFIX)
        for label in labels
        if label.startswith(ROLE_LABEL_PREFIX)
    }
    if labels.get(ROLE_LABEL):
        roles.add(labels[ROLE_LABEL])
    return tuple(sorted(roles - {""}))


def _condition(raw: RawCondition) -> Condition:
    return Condition(
        type=raw.type,
        status=raw.status,
        reason=raw.reason or "",
        message=raw.message or "",
        changed_at=raw.last_transition_time,
    )


def _node_resources(table: Mapping[str, str]) -> NodeResources:
    return NodeResources(
        cpu_millicores=quantity.millicores(table.get("cpu", "0")),
        memory_bytes=quantity.units(table.get("memory", "0")),
        ephemeral_storage_bytes=quantity.units(table.get("ephemeral-storage", "0")),
        pods=quantity.units(table.get("pods", "0")),
        extended={
            name: quantity.units(text)
            for name, text in table.items()
            if name not in NATIVE_RESOURCES
        },
    )


# --- lists and watches ----------------------------------------------------------------------------

RawT = TypeVar("RawT")
InfoT = TypeVar("InfoT")


class ListMetadata(msgspec.Struct, frozen=True, rename="camel", gc=False):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")
    remaining_item_count: int | None = None


class Page(msgspec.Struct, Generic[RawT], frozen=True):
    """One page of a LIST."""

    metadata: ListMetadata = ListMetadata()
    items: list[RawT] | None = None


class Resource(Generic[InfoT]):
    """One listable resource: where it is, how its JSON is decoded, and what is made of it."""

    def __init__(
        self, path: str, raw: type[RawT], convert: Callable[[RawT], InfoT], *, title: str
    ) -> None:
        self.path = path
        self.title = title
        self._page = msgspec.json.Decoder(Page[raw]).decode  # type: ignore[valid-type]
        self._decode = msgspec.json.Decoder(raw).decode
        self._convert: Callable[[Any], InfoT] = convert

    def decode_page(self, data: bytes) -> tuple[list[InfoT], ListMetadata]:
        """Objects and position of one page; ValueError when it is no page at all.

        An object that cannot be read (programs write odd things through the API) is left out and
        logged, so that it does not hide all others.
        """
        try:
            page = self._page(data)
            return [self._convert(item) for item in page.items or ()], page.metadata
        except ValueError:
            rough = _ROUGH_PAGES.decode(data)
        found = (self.decode_if_readable(item) for item in rough.items or ())
        return [item for item in found if item is not None], rough.metadata

    def decode_object(self, data: bytes | msgspec.Raw) -> InfoT:
        """One object; ValueError when it cannot be read."""
        return self._convert(self._decode(data))

    def decode_if_readable(self, data: bytes | msgspec.Raw) -> InfoT | None:
        """One object of many; None, and a line in the log, when it cannot be read."""
        try:
            return self.decode_object(data)
        except ValueError as error:
            logger.warning("Left out one of the %s that cannot be read: %s", self.title, error)
            return None


_ROUGH_PAGES = msgspec.json.Decoder(Page[msgspec.Raw])

NODES: Resource[NodeInfo] = Resource("/api/v1/nodes", RawNode, node_info, title="nodes")
PODS: Resource[PodInfo] = Resource("/api/v1/pods", RawPod, pod_info, title="pods")
