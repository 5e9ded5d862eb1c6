"""Emptying nodes: pods with their owners and budgets, evictions, replicas.

A part of ``KubernetesClient`` (``client.workloads``), apart because only operations that empty
nodes need it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final
from urllib.parse import quote

import msgspec

from beidou.base.sentences import Sentence
from clusters.drivers import errors
from clusters.drivers.listing import iterate
from clusters.drivers.objects import Resource
from clusters.drivers.placed_pods import PLACED_PODS, Owner, PlacedPod
from clusters.drivers.selectors import RawSelector, Selector, selector
from clusters.drivers.transport import MERGE_PATCH, Transport
from clusters.drivers.volumes import VOLUMES, BoundVolume

# --- workloads ------------------------------------------------------------------------------------


class _Owner(msgspec.Struct, frozen=True):
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    annotations: dict[str, str] | None = None
    owner_references: list[_Owner] | None = None


class _Spec(msgspec.Struct, frozen=True):
    replicas: int | None = None
    selector: msgspec.Raw = msgspec.Raw(b"null")


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    ready_replicas: int = 0


class _Workload(msgspec.Struct, frozen=True):
    metadata: _Metadata
    spec: _Spec = _Spec()
    status: _Status = _Status()


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What keeps a number of pods alive; ``wanted`` and ``ready`` count them."""

    kind: str
    namespace: str
    name: str
    uid: str = ""
    resource_version: str = ""
    wanted: int = 1
    ready: int = 0
    selector: Selector | None = None
    owner: Owner | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


_PATHS: Final = {
    "Deployment": "/apis/apps/v1",
    "StatefulSet": "/apis/apps/v1",
    "ReplicaSet": "/apis/apps/v1",
    "ReplicationController": "/api/v1",
}
WORKLOAD_KINDS: Final = tuple(_PATHS)
_SELECTOR = msgspec.json.Decoder(RawSelector)
_LABELS = msgspec.json.Decoder(dict[str, str])


def _workload(kind: str, raw: _Workload) -> Workload:
    metadata = raw.metadata
    owner = next((item for item in metadata.owner_references or () if item.controller), None)
    return Workload(
        kind=kind,
        namespace=metadata.namespace,
        name=metadata.name,
        uid=metadata.uid,
        resource_version=metadata.resource_version,
        wanted=1 if raw.spec.replicas is None else raw.spec.replicas,
        ready=raw.status.ready_replicas,
        selector=_selector_of(kind, raw.spec.selector),
        owner=Owner(owner.kind, owner.name, owner.uid) if owner else None,
        annotations=metadata.annotations or {},
    )


def _selector_of(kind: str, raw: msgspec.Raw) -> Selector | None:
    """A ReplicationController has plain labels where the others have a selector."""
    if bytes(raw) == b"null":
        return None
    if kind == "ReplicationController":
        return selector(RawSelector(match_labels=_LABELS.decode(raw)))
    return selector(_SELECTOR.decode(raw))


def _resource(kind: str) -> Resource[Workload]:
    path = f"{_PATHS[kind]}/{kind.lower()}s"
    return Resource(path, _Workload, lambda raw: _workload(kind, raw), title=f"{kind}s")


_RESOURCES: Final = {kind: _resource(kind) for kind in _PATHS}


# --- budgets --------------------------------------------------------------------------------------


class _BudgetSpec(msgspec.Struct, frozen=True, rename="camel"):
    selector: RawSelector | None = None
    min_available: int | str | None = None
    max_unavailable: int | str | None = None
    unhealthy_pod_eviction_policy: str | None = None


class _BudgetStatus(msgspec.Struct, frozen=True, rename="camel"):
    disruptions_allowed: int = 0
    current_healthy: int = 0
    desired_healthy: int = 0
    expected_pods: int = 0
    observed_generation: int = 0


class _Budget(msgspec.Struct, frozen=True):
    metadata: _Metadata
    spec: _BudgetSpec = _BudgetSpec()
    status: _BudgetStatus = _BudgetStatus()


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A PodDisruptionBudget; ``is_current``: its controller has seen its newest form."""

    namespace: str
    name: str
    selector: Selector | None = Selector()
    min_available: int | str | None = None
    max_unavailable: int | str | None = None
    unhealthy_policy: str = "IfHealthyBudget"
    allowed: int = 0
    healthy: int = 0
    desired: int = 0
    expected: int = 0
    is_current: bool = True

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


def _budget(raw: _Budget) -> Budget:
    spec, status = raw.spec, raw.status
    return Budget(
        namespace=raw.metadata.namespace,
        name=raw.metadata.name,
        selector=selector(spec.selector),
        min_available=spec.min_available,
        max_unavailable=spec.max_unavailable,
        unhealthy_policy=spec.unhealthy_pod_eviction_policy or "IfHealthyBudget",
        allowed=status.disruptions_allowed,
        healthy=status.current_healthy,
        desired=status.desired_healthy,
        expected=status.expected_pods,
        is_current=status.observed_generation >= raw.metadata.generation,
    )


_BUDGETS: Resource[Budget] = Resource(
    "/apis/policy/v1/poddisruptionbudgets", _Budget, _budget, title="budgets"
)


# --- namespaces -----------------------------------------------------------------------------------


class _NamespaceMetadata(msgspec.Struct, frozen=True):
    name: str
    labels: dict[str, str] | None = None


class _Namespace(msgspec.Struct, frozen=True):
    metadata: _NamespaceMetadata


_NAMESPACES: Resource[tuple[str, dict[str, str]]] = Resource(
    "/api/v1/namespaces",
    _Namespace,
    lambda raw: (raw.metadata.name, raw.metadata.labels or {}),
    title="namespaces",
)


# --- evictions ------------------------------------------------------------------------------------


class Evicted(Enum):
    """What the API server answered to an eviction."""

    ACCEPTED = "accepted"
    GONE = "gone"
    BLOCKED = "blocked by a budget"
    NEVER = "refused for good"
    BUSY = "not now"


@dataclass(frozen=True, slots=True)
class Eviction:
    outcome: Evicted
    message: str = ""


class _Cause(msgspec.Struct, frozen=True):
    reason: str = ""
    message: str = ""


class _Details(msgspec.Struct, frozen=True):
    causes: list[_Cause] | None = None


class _Refusal(msgspec.Struct, frozen=True):
    code: int = 0
    message: str = ""
    status: str = ""
    details: _Details | None = None


_REFUSAL = msgspec.json.Decoder(_Refusal)


def _read_refusal(data: bytes) -> Eviction:
    """From the Status of the API server.

    429 is its answer for a budget as well as for too many calls; only the cause tells them apart.
    500 is its answer for a pod that has more than one budget.
    """
    try:
        refusal = _REFUSAL.decode(data)
    except msgspec.DecodeError:
        return Eviction(Evicted.BUSY, "an answer that is not of Kubernetes")
    if refusal.status != "Failure":
        return Eviction(Evicted.ACCEPTED)
    causes = (refusal.details.causes if refusal.details else None) or []
    budget = next((item for item in causes if item.reason == "DisruptionBudget"), None)
    text = (budget.message if budget else "") or refusal.message
    if budget is not None or (refusal.code == 429 and "disruption budget" in refusal.message):
        return Eviction(Evicted.BLOCKED, text)
    if "more than one PodDisruptionBudget" in refusal.message:
        return Eviction(Evicted.NEVER, text)
    return Eviction(Evicted.BUSY, text)


class Workloads:
    """See the module's text."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def pods(
        self, *, node_name: str = "", namespace: str = "", selector: Selector | None = None
    ) -> Iterator[PlacedPod]:
        """Pods with all that decides their place, of a node, of a namespace, of a selector."""
        query = {}
        if node_name:
            query["fieldSelector"] = f"spec.nodeName={node_name}"
        if selector is not None and str(selector):
            query["labelSelector"] = str(selector)
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods" if namespace else ""
        return iterate(self._transport, PLACED_PODS, path=path, query=query)

    def budgets(self) -> list[Budget]:
        return list(iterate(self._transport, _BUDGETS))

    def volumes(self) -> list[BoundVolume]:
        return list(iterate(self._transport, VOLUMES))

    def namespaces(self) -> dict[str, dict[str, str]]:
        """Name → labels."""
        return dict(iterate(self._transport, _NAMESPACES))

    def all(self, kind: str) -> list[Workload]:
        return list(iterate(self._transport, _RESOURCES[kind]))

    def get(self, kind: str, namespace: str, name: str) -> Workload:
        """One Deployment, StatefulSet, ReplicaSet or ReplicationController; NotFound."""
        action = Sentence("read %(kind)s %(key)s", kind=kind, key=f"{namespace}/{name}")
        data = self._transport.call("GET", _workload_path(kind, namespace, name), action=action)
        return self._transport.decode(_RESOURCES[kind].decode_object, data, action=action)

    def set_replicas(
        self, workload: Workload, replicas: int, *, annotations: Mapping[str, str | None]
    ) -> Workload:
        """Change replicas and annotations in one step; Conflict409 when it changed meanwhile."""
        action = Sentence("set %(key)s to %(count)s replicas", key=workload.key, count=replicas)
        data = self._transport.call(
            "PATCH",
            _workload_path(workload.kind, workload.namespace, workload.name),
            action=action,
            body={
                "metadata": {
                    "resourceVersion": workload.resource_version,
                    "annotations": dict(annotations),
                },
                "spec": {"replicas": replicas},
            },
            content_type=MERGE_PATCH,
        )
        return self._transport.decode(_RESOURCES[workload.kind].decode_object, data, action=action)

    def evict(self, pod: PlacedPod) -> Eviction:
        """Ask for the end of exactly this pod; the API server honours budgets.

        ExternalError only when there was no answer, or none that is about the pod.
        """
        try:
            data = self._transport.call(
                "POST",
                f"{_pod_path(pod)}/eviction",
                action=Sentence("evict pod %(pod)s", pod=pod.key),
                body={
                    "apiVersion": "policy/v1",
                    "kind": "Eviction",
                    "metadata": {"name": pod.name, "namespace": pod.namespace},
                    "deleteOptions": {"preconditions": {"uid": pod.uid}},
                },
                accept_statuses=(429, 500),
            )
        except (errors.NotFound, errors.Conflict409):
            # Of the same name, but not this pod: that one is gone.
            return Eviction(Evicted.GONE)
        return _read_refusal(data)

    def delete(self, pod: PlacedPod, *, grace_seconds: int | None = None) -> bool:
        """Delete exactly this pod past every budget; False when it was gone already."""
        options: dict[str, object] = {"preconditions": {"uid": pod.uid}}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        try:
            self._transport.call(
                "DELETE",
                _pod_path(pod),
                action=Sentence("delete pod %(pod)s", pod=pod.key),
                body=options,
            )
        except (errors.NotFound, errors.Conflict409):
            return False
        return True


def _pod_path(pod: PlacedPod) -> str:
    return f"/api/v1/namespaces/{quote(pod.namespace, safe='')}/pods/{quote(pod.name, safe='')}"


def _workload_path(kind: str, namespace: str, name: str) -> str:
    base = f"{_PATHS[kind]}/namespaces/{quote(namespace, safe='')}/{kind.lower()}s"
    return f"{base}/{quote(name, safe='')}"
