"""What one cluster is known to be, and what of it the database does not know yet.

Used by the event loop alone: events go in, ``take`` gives a batch to write, ``give_back`` returns
one that could not be written.  Of each pod only its sums are kept, of each node what the cluster's
own figures need and a fingerprint, so that a report without news writes nothing.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from beidou.base.errors import BeidouError
from clusters.collector import verdict
from clusters.collector.verdict import Verdict
from clusters.drivers.answers import ComponentHealth
from clusters.drivers.objects import NodeInfo, PodInfo
from clusters.drivers.watch import (
    Added,
    Deleted,
    Disconnected,
    Event,
    Listed,
    Modified,
    Progress,
)
from clusters.services.inventory import Usage, UsageKey

NODES_PER_BATCH = 1000
SUMS_EVERY = timedelta(seconds=10)
CONFIRM_EVERY = timedelta(seconds=15)
JOINING = timedelta(minutes=3)
"""How long a new node may take to become Ready before the cluster counts as degraded."""


class NodeBrief(NamedTuple):
    fingerprint: int
    is_ready: bool
    created_at: datetime | None
    cpu: int
    memory: int
    pods: int


class PodBrief(NamedTuple):
    node: str
    namespace: str
    phase: str
    is_active: bool
    cpu_requested: int
    memory_requested: int
    cpu_limit: int
    memory_limit: int


@dataclass
class UsageBatch:
    """Sums that changed since the last batch; ``replace`` when there was none."""

    changed: dict[UsageKey, Usage]
    gone: set[UsageKey]
    per_node: dict[str, Usage]
    replace: bool


@dataclass
class Batch:
    """What is to be written about one cluster, in this order."""

    nodes: list[NodeInfo] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    all_names: list[str] | None = None
    usage: UsageBatch | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    verdict: Verdict | None = None
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def has_nodes(self) -> bool:
        return bool(self.nodes or self.deleted or self.all_names is not None)

    @property
    def is_empty(self) -> bool:
        return not (self.has_nodes or self.usage or self.figures or self.verdict)


class Stream:
    """Whether one of the two streams is alive, and when it last was."""

    def __init__(self) -> None:
        self.is_listed = False
        self.contact: datetime | None = None
        self.lost: Disconnected | None = None

    def heard(self, event: Event[Any], now: datetime) -> None:
        if isinstance(event, Disconnected):
            self.lost = event
            return
        self.lost, self.contact = None, now
        self.is_listed = self.is_listed or isinstance(event, Listed)


class ClusterState:
    """One cluster as its streams tell it."""

    def __init__(self, *, now: datetime | None = None) -> None:
        self.nodes_stream = Stream()
        self.pods_stream = Stream()
        self.components: list[ComponentHealth] = []
        self.component_trouble = ""
        self._begun = now or datetime.now(UTC)
        self._unusable: BeidouError | None = None
        self._nodes: dict[str, NodeBrief] = {}
        self._pods: dict[str, PodBrief] = {}
        # what the database does not know
        self._pending: dict[str, NodeInfo] = {}
        self._deleted: set[str] = set()
        self._relisted = False
        self._figures: dict[str, Any] = {}
        self._figures_dirty = False
        self._sums_dirty = False
        # what it knows
        self._written_sums: dict[UsageKey, Usage] | None = None
        self._written_node_sums: dict[str, Usage] = {}
        self._sums_at: datetime | None = None
        self._confirmed_at: datetime | None = None
        self._written_verdict: tuple[str, str] | None = None
        self._judged_at: datetime | None = None

    # --- what the streams say ---------------------------------------------------------------------

    def on_nodes(self, event: Event[NodeInfo], now: datetime) -> None:
        self.nodes_stream.heard(event, now)
        if isinstance(event, Listed):
            gone = self._nodes.keys() - {item.name for item in event.items}
            for name in gone:
                self._forget_node(name)
            for item in event.items:
                self._learn_node(item)
            self._relisted = True
            self._figures_dirty = True
        elif isinstance(event, Added | Modified):
            self._learn_node(event.item)
        elif isinstance(event, Deleted):
            self._forget_node(event.item.name)

    def on_pods(self, event: Event[PodInfo], now: datetime) -> None:
        self.pods_stream.heard(event, now)
        if isinstance(event, Listed):
            self._pods = {item.uid: _pod_brief(item) for item in event.items}
            self._sums_dirty = True
        elif isinstance(event, Added | Modified):
            brief = _pod_brief(event.item)
            if self._pods.get(event.item.uid) != brief:
                self._pods[event.item.uid] = brief
                self._sums_dirty = True
        elif isinstance(event, Deleted):
            self._sums_dirty |= self._pods.pop(event.item.uid, None) is not None
        else:
            assert isinstance(event, Progress | Disconnected)  # noqa: S101 - nothing else exists

    def on_components(self, components: list[ComponentHealth], figures: Mapping[str, Any]) -> None:
        """One look at the components succeeded; ``figures`` are the fields it gives."""
        self.components = components
        self.component_trouble = ""
        self._figures.update(figures)

    def on_unusable(self, error: BeidouError) -> None:
        """The stored credential cannot be used at all."""
        self._unusable = error

    def on_usable(self) -> None:
        self._unusable = None

    def _learn_node(self, info: NodeInfo) -> None:
        brief = _node_brief(info)
        if self._nodes.get(info.name) == brief:
            return
        self._nodes[info.name] = brief
        self._pending[info.name] = info
        self._deleted.discard(info.name)
        self._figures_dirty = True

    def _forget_node(self, name: str) -> None:
        self._nodes.pop(name, None)
        self._pending.pop(name, None)
        self._written_node_sums.pop(name, None)
        self._deleted.add(name)
        self._figures_dirty = True

    # --- what is to be written --------------------------------------------------------------------

    def take(self, now: datetime) -> Batch | None:
        """The next batch, or None when the database knows everything that matters now."""
        batch = Batch(at=now)
        self._take_nodes(batch)
        if not self._pending:  # first the nodes: sums are set on their rows
            self._take_sums(batch, now)
        self._take_figures(batch, now)
        self._take_verdict(batch, now)
        return None if batch.is_empty else batch

    @property
    def has_more(self) -> bool:
        """Whether another batch of nodes waits right now."""
        return bool(self._pending)

    def give_back(self, batch: Batch) -> None:
        """This of a batch was not written; whatever came since then is newer and stays."""
        for info in batch.nodes:
            if info.name in self._nodes:
                self._pending.setdefault(info.name, info)
        self._deleted |= {name for name in batch.deleted if name not in self._nodes}
        self._relisted |= batch.all_names is not None
        if batch.usage is not None:
            self._written_sums = None
            self._written_node_sums = {}
            self._sums_dirty = True
        if batch.figures:
            self._figures = {**batch.figures, **self._figures}
            self._figures_dirty = True
        if batch.verdict is not None:
            self._written_verdict = None

    def _take_nodes(self, batch: Batch) -> None:
        names = list(self._pending)[:NODES_PER_BATCH]
        batch.nodes = [self._pending.pop(name) for name in names]
        for name in names:
            self._written_node_sums.pop(name, None)  # a new row begins without sums
            self._sums_dirty = True
        batch.deleted = sorted(self._deleted)
        self._deleted = set()
        if self._relisted and not self._pending:
            batch.all_names = list(self._nodes)
            self._relisted = False

    def _take_sums(self, batch: Batch, now: datetime) -> None:
        due = self._sums_at is None or now - self._sums_at >= SUMS_EVERY
        listed = self.nodes_stream.is_listed and self.pods_stream.is_listed
        if not (self._sums_dirty and due and listed):
            return
        sums, node_sums = self._sums()
        old = self._written_sums
        batch.usage = UsageBatch(
            changed={key: usage for key, usage in sums.items() if (old or {}).get(key) != usage},
            gone=set() if old is None else old.keys() - sums.keys(),
            per_node={
                name: usage
                for name, usage in node_sums.items()
                if self._written_node_sums.get(name) != usage
            },
            replace=old is None,
        )
        self._written_sums, self._written_node_sums = sums, node_sums
        self._sums_dirty = False
        self._sums_at = now
        self._figures_dirty = True

    def _sums(self) -> tuple[dict[UsageKey, Usage], dict[str, Usage]]:
        """Per node and namespace, and per node; nodes without pods are there with nothing."""
        sums: dict[UsageKey, Usage] = {}
        nodes: dict[str, Usage] = {name: Usage() for name in self._nodes}
        for pod in self._pods.values():
            usage = sums.setdefault((pod.node, pod.namespace), Usage())
            usage.phases[pod.phase] = usage.phases.get(pod.phase, 0) + 1
            if pod.is_active:
                _add(usage, pod)
                if pod.node in nodes:
                    _add(nodes[pod.node], pod)
        return sums, nodes

    def _take_figures(self, batch: Batch, now: datetime) -> None:
        batch.figures, self._figures = self._figures, {}
        if not self.nodes_stream.is_listed:
            return
        contact = self.nodes_stream.contact
        due = self._confirmed_at is None or now - self._confirmed_at >= CONFIRM_EVERY
        fresh = self.nodes_stream.lost is None and due
        if not (self._figures_dirty or fresh):
            return
        batch.figures |= {
            "observed_at": contact,
            "nodes_total": len(self._nodes),
            "nodes_ready": sum(node.is_ready for node in self._nodes.values()),
            "cpu_allocatable": sum(node.cpu for node in self._nodes.values()),
            "memory_allocatable": sum(node.memory for node in self._nodes.values()),
            "pods_allocatable": sum(node.pods for node in self._nodes.values()),
        }
        if self._written_sums is not None:
            active = [usage for (node, _), usage in self._written_sums.items() if node]
            batch.figures |= {
                "sums_at": self.pods_stream.contact,
                "cpu_requested": sum(usage.cpu_requested for usage in active),
                "memory_requested": sum(usage.memory_requested for usage in active),
                "pods_count": sum(usage.pods for usage in active),
            }
        self._figures_dirty = False
        self._confirmed_at = now

    def _take_verdict(self, batch: Batch, now: datetime) -> None:
        found = self.verdict(now)
        if found is None:
            return
        words = (found.health, found.reason)
        due = self._judged_at is None or now - self._judged_at >= CONFIRM_EVERY
        if words != self._written_verdict or due:
            batch.verdict = found
            self._written_verdict = words
            self._judged_at = now

    def verdict(self, now: datetime) -> Verdict | None:
        """The health as it looks now; None before anything was heard."""
        if self._unusable is not None:
            return verdict.unreachable(self._begun, self._unusable.message)
        lost = self.nodes_stream.lost
        if lost is not None:
            return verdict.unreachable(lost.since, lost.error.message)
        if not self.nodes_stream.is_listed:
            return None
        not_ready = sorted(
            name
            for name, node in self._nodes.items()
            if not node.is_ready and not _is_joining(node, now)
        )
        troubles = [self.component_trouble] if self.component_trouble else []
        if self.pods_stream.lost is not None:
            troubles.append(self.pods_stream.lost.error.message)
        return verdict.judge(
            now=now,
            not_ready=not_ready,
            nodes=len(self._nodes),
            components=self.components,
            troubles=troubles,
        )


def _is_joining(node: NodeBrief, now: datetime) -> bool:
    """A node that has just registered is not ready yet, and nobody need worry."""
    return node.created_at is not None and now - node.created_at < JOINING


def _add(usage: Usage, pod: PodBrief) -> None:
    usage.pods += 1
    usage.cpu_requested += pod.cpu_requested
    usage.cpu_limit += pod.cpu_limit
    usage.memory_requested += pod.memory_requested
    usage.memory_limit += pod.memory_limit


def _node_brief(info: NodeInfo) -> NodeBrief:
    # The resource version changes with every heartbeat; what it brings is compared instead.
    shown = msgspec.to_builtins(info)
    shown["resource_version"] = ""
    return NodeBrief(
        fingerprint=hash(msgspec.json.encode(shown)),
        is_ready=info.is_ready is True,
        created_at=info.created_at,
        cpu=info.allocatable.cpu_millicores,
        memory=info.allocatable.memory_bytes,
        pods=info.allocatable.pods,
    )


def _pod_brief(pod: PodInfo) -> PodBrief:
    resources = pod.resources
    return PodBrief(
        node=sys.intern(pod.node_name),
        namespace=sys.intern(pod.namespace),
        phase=sys.intern(pod.phase),
        is_active=not pod.is_finished,
        cpu_requested=resources.cpu_request_millicores,
        memory_requested=resources.memory_request_bytes,
        cpu_limit=resources.cpu_limit_millicores,
        memory_limit=resources.memory_limit_bytes,
    )
