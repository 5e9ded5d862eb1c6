"""Whether the owners of evicted pods have what they had before.

Pods are counted instead of believing ``status.readyReplicas``, which lags: a pod that is being
deleted or its replacement not being ready yet is seen at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from beidou.base.sentences import Sentence, joined
from clusters.drivers import errors
from clusters.drivers.placed_pods import PlacedPod
from clusters.drivers.workloads import WORKLOAD_KINDS, Workload, Workloads


@dataclass
class Awaited:
    """An owner from which pods were taken: ``target`` ready copies are wanted back."""

    workload: Workload
    target: int
    ready: int = 0
    recent: set[str] = field(default_factory=set)
    """Pods that were taken since ``ready`` was counted."""
    was_asked: bool = False
    nowhere: str = ""
    """Why a replacement fits nowhere, in the scheduler's words."""

    @property
    def missing(self) -> int:
        return max(self.target - self.ready, 0)

    @property
    def away(self) -> int:
        return self.missing + len(self.recent)

    @property
    def lacking(self) -> str:
        counted = Sentence("%(ready)s of %(wanted)s ready", ready=self.ready, wanted=self.target)
        return joined([counted, self.nowhere], ". ") if self.nowhere else counted

    @property
    def at_once(self) -> int:
        """How many may be away when no budget says it: never more than half of them."""
        return max(self.target // 2, 1)


class Owners:
    """Owners by key; ``before`` has ready copies as preCheck counted them."""

    def __init__(
        self, workloads: Workloads, before: Mapping[str, int], *, allow_pending: bool
    ) -> None:
        self._workloads = workloads
        self._before = dict(before)
        self._allow_pending = allow_pending
        self._topmost: dict[str, Workload | None] = {}
        self.awaited: dict[str, Awaited] = {}

    def of(self, pod: PlacedPod) -> Workload | None:
        """The topmost owner; None for a pod whose owner keeps no number of copies."""
        if pod.owner is None or pod.owner.kind not in WORKLOAD_KINDS:
            return None
        if pod.owner.uid not in self._topmost:
            self._topmost[pod.owner.uid] = self._find(pod)
        return self._topmost[pod.owner.uid]

    def _find(self, pod: PlacedPod) -> Workload | None:
        assert pod.owner is not None  # noqa: S101  looked at by the caller
        kind, name = pod.owner.kind, pod.owner.name
        found: Workload | None = None
        while kind in WORKLOAD_KINDS:
            try:
                found = self._workloads.get(kind, pod.namespace, name)
            except errors.NotFound:
                break
            if found.owner is None:
                break
            kind, name = found.owner.kind, found.owner.name
        return found

    def expect(self, workload: Workload, pod: PlacedPod | None = None) -> Awaited:
        """Begin to look after an owner, before its (next) pod is taken."""
        awaited = self.awaited.get(workload.key)
        if awaited is None:
            awaited = Awaited(workload, 0)
            self._count(awaited)
            awaited.target = min(self._before.get(workload.key, awaited.ready), workload.wanted)
            self.awaited[workload.key] = awaited
        if pod is not None:
            awaited.recent.add(pod.uid)
            awaited.was_asked = True
        return awaited

    def expect_all(self, keys: Mapping[str, int]) -> None:
        """Also those whose pods an earlier attempt took."""
        for key, _ready in keys.items():
            kind, _space, place = key.partition(" ")
            namespace, _slash, name = place.partition("/")
            if key in self.awaited or kind not in WORKLOAD_KINDS:
                continue
            try:
                self.expect(self._workloads.get(kind, namespace, name))
            except errors.NotFound:
                continue  # somebody took the whole workload away

    def look(self) -> list[str]:
        """Count the awaited owners anew; those that are whole are no longer awaited."""
        whole = []
        for key, awaited in list(self.awaited.items()):
            current = awaited.workload
            try:
                current = self._workloads.get(current.kind, current.namespace, current.name)
            except errors.NotFound:
                del self.awaited[key]
                continue
            awaited.workload = current
            awaited.target = min(awaited.target, current.wanted)
            self._count(awaited)
            if not awaited.missing:
                del self.awaited[key]
                whole.append(key)
        return whole

    def _count(self, awaited: Awaited) -> None:
        workload = awaited.workload
        awaited.ready, awaited.nowhere = 0, ""
        awaited.recent.clear()
        pods = self._workloads.pods(namespace=workload.namespace, selector=workload.selector)
        for pod in pods:
            if pod.is_ending or pod.is_finished or self.key_of(pod) != workload.key:
                continue
            if pod.is_ready:
                awaited.ready += 1
            elif pod.unschedulable:
                awaited.nowhere = f"{pod.key}: {pod.unschedulable}"
                awaited.ready += self._allow_pending

    def key_of(self, pod: PlacedPod) -> str:
        owner = self.of(pod)
        return owner.key if owner else ""
