"""What will happen to every pod of the nodes that leave, before anything is touched.

Pure: from what the cluster says now to a plan.  What a person has to decide first is a ``Problem``;
``answers`` names the parameters that decide it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Protocol

from beidou.base.sentences import Sentence
from clusters.drivers.objects import NodeInfo
from clusters.drivers.placed_pods import PlacedPod
from clusters.drivers.volumes import BoundVolume
from clusters.drivers.workloads import WORKLOAD_KINDS, Budget, Workload
from operations.kinds.draining.budgets import Block, why_blocked
from operations.kinds.draining.fitting import Room

ZONE = "topology.kubernetes.io/zone"
ROLE_PREFIX = "node-role.kubernetes.io/"
CONTROL_PLANE = ("control-plane", "master")
ETCD_OR_API = ("etcd", "kube-apiserver")


class What(StrEnum):
    """What happens to a pod."""

    MOVED = "moved"
    AGAIN = "begun again"  # of a Job
    PERHAPS = "left to its controller"  # which nobody here knows
    LOST = "lost"
    DAEMON_SET = "stays until the node is gone (DaemonSet)"
    STATIC = "stays until the node is gone (static)"
    ENDED = "has ended already"
    ENDING = "is ending already"


EVICTED = frozenset({What.MOVED, What.AGAIN, What.PERHAPS, What.LOST})
STAYING = frozenset({What.DAEMON_SET, What.STATIC})


class Code(StrEnum):
    """Kinds of problems, by the names of the checks that report them."""

    BARE = "bare-pods"
    LOCAL_DATA = "local-data"
    ONLY_COPY = "only-copies"
    BUDGET = "budgets"
    NO_ROOM = "room"


class Answers(Protocol):
    """The parameters with which a person decides."""

    delete_bare_pods: bool
    delete_local_data: bool
    allow_single_copy: bool
    allow_pending: bool
    on_blocked: str
    raise_owner: bool
    delete_blocked: bool


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that must be decided before the pod may go."""

    code: Code
    text: str
    block: Block | None = None

    def is_answered(self, answers: Answers) -> bool:
        match self.code:
            case Code.BARE:
                return answers.delete_bare_pods
            case Code.LOCAL_DATA:
                return answers.delete_local_data
            case Code.ONLY_COPY:
                return answers.allow_single_copy
            case Code.NO_ROOM:
                return answers.allow_pending
        block = self.block
        if answers.delete_blocked or block is None:
            return True
        if answers.raise_owner and block.raising_helps:
            return True
        return answers.on_blocked == "wait" and not block.is_final


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    pod: PlacedPod
    what: What
    owner: str = ""
    problems: tuple[Problem, ...] = ()
    doubts: tuple[str, ...] = ()
    """What keeps from working out whether it finds room elsewhere."""

    @property
    def is_evicted(self) -> bool:
        return self.what in EVICTED

    def as_dict(self) -> dict[str, object]:
        return {
            "pod": self.pod.key,
            "owner": self.owner,
            "what": str(self.what),
            "problems": [problem.text for problem in self.problems],
            "doubts": list(self.doubts),
        }


@dataclass(frozen=True, slots=True)
class Share:
    """How much of a zone or pool the nodes that leave are."""

    label: str
    leaving: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlan:
    node: NodeInfo
    fates: tuple[Fate, ...]
    shares: tuple[Share, ...] = ()
    control_plane: str = ""
    """Why the node is one, as a sentence; empty when it is none."""

    @property
    def evicted(self) -> tuple[Fate, ...]:
        return tuple(fate for fate in self.fates if fate.is_evicted)

    def problems(self, code: Code) -> list[tuple[Fate, Problem]]:
        return [
            (fate, problem)
            for fate in self.fates
            for problem in fate.problems
            if problem.code == code
        ]


@dataclass
class Situation:
    """What the cluster says now, as far as it may be read."""

    nodes: Sequence[NodeInfo]
    pods: Sequence[PlacedPod]
    workloads: Sequence[Workload] = ()
    budgets: Sequence[Budget] = ()
    volumes: Sequence[BoundVolume] | None = ()
    """None: they may not be read."""
    namespaces: Mapping[str, Mapping[str, str]] | None = None
    """Name → labels; None: they may not be read, or nobody asks for them."""
    _by_uid: dict[str, Workload] = field(init=False)

    def __post_init__(self) -> None:
        self._by_uid = {workload.uid: workload for workload in self.workloads if workload.uid}

    def workload_of(self, pod: PlacedPod) -> Workload | None:
        """The topmost owner that keeps a number of copies: the Deployment, not its ReplicaSet."""
        found = self._by_uid.get(pod.owner.uid) if pod.owner else None
        while found is not None and found.owner is not None:
            above = self._by_uid.get(found.owner.uid)
            if above is None:
                break
            found = above
        return found

    @cached_property
    def copies(self) -> Counter[str]:
        """Ready pods per topmost owner (by uid)."""
        counted: Counter[str] = Counter()
        for pod in self.pods:
            if pod.is_ready and not pod.is_ending and not pod.is_finished:
                workload = self.workload_of(pod)
                if workload is not None:
                    counted[workload.uid] += 1
        return counted


def make_plan(situation: Situation, leaving: Iterable[str]) -> dict[str, NodePlan]:
    """Node name → plan, for every leaving node that exists; all of them leave together."""
    names = set(leaving)
    gone = [node for node in situation.nodes if node.name in names]
    pods: dict[str, list[PlacedPod]] = defaultdict(list)
    for pod in situation.pods:
        if pod.node_name in names:
            pods[pod.node_name].append(pod)
    moving = sorted((pod for own in pods.values() for pod in own), key=_hardest_first)
    judge = _Judge(situation, names, moving)
    fates = {pod.uid: judge.fate(pod) for pod in moving}
    shares = find_shares(situation.nodes, names)
    return {
        node.name: NodePlan(
            node=node,
            fates=tuple(fates[pod.uid] for pod in pods[node.name]),
            shares=tuple(share for share in shares if share.label in _groups(node)),
            control_plane=why_control_plane(node, pods[node.name]),
        )
        for node in gone
    }


def _hardest_first(pod: PlacedPod) -> tuple[int, int, int, str]:
    """Placing the large ones first finds room where a scheduler would."""
    return (
        -pod.priority,
        -pod.requests.get("cpu", 0),
        -pod.requests.get("memory", 0),
        pod.key,
    )


class _Judge:
    def __init__(self, situation: Situation, leaving: set[str], moving: list[PlacedPod]) -> None:
        self.situation = situation
        self.room = Room(
            situation.nodes,
            [
                pod
                for pod in situation.pods
                if pod.node_name not in leaving or what_happens(pod, None) in STAYING
            ],
            situation.volumes,
            leaving=leaving,
            namespaces=situation.namespaces,
        )
        self.nowhere = self.room.place_all(
            pod for pod in moving if self._what(pod) in EVICTED - {What.LOST}
        )

    def _what(self, pod: PlacedPod) -> What:
        return what_happens(pod, self.situation.workload_of(pod))

    def fate(self, pod: PlacedPod) -> Fate:
        what = self._what(pod)
        if what not in EVICTED:
            return Fate(pod=pod, what=what, owner=owner_words(pod, None))
        workload = self.situation.workload_of(pod)
        is_placed = what != What.LOST and pod.uid not in self.nowhere
        return Fate(
            pod=pod,
            what=what,
            owner=owner_words(pod, workload),
            problems=tuple(self._problems(pod, what, workload)),
            doubts=self.room.doubts(pod) if is_placed else (),
        )

    def _problems(self, pod: PlacedPod, what: What, workload: Workload | None) -> Iterable[Problem]:
        if what == What.LOST:
            yield Problem(Code.BARE, Sentence("nothing makes it anew"))
        if data := local_data(pod):
            yield Problem(Code.LOCAL_DATA, data)
        if workload is not None and pod.is_ready and self.situation.copies[workload.uid] <= 1:
            yield Problem(
                Code.ONLY_COPY, Sentence("the only ready copy of %(owner)s", owner=workload.key)
            )
        if block := why_blocked(pod, self.situation.budgets):
            yield Problem(Code.BUDGET, block.reason, block)
        if why := self.nowhere.get(pod.uid):
            yield Problem(Code.NO_ROOM, Sentence("fits nowhere: %(why)s", why=why))


def what_happens(pod: PlacedPod, workload: Workload | None) -> What:
    if pod.is_mirror:
        return What.STATIC
    if pod.owner is not None and pod.owner.kind == "DaemonSet":
        return What.DAEMON_SET
    if pod.is_finished:
        return What.ENDED
    if pod.is_ending:
        return What.ENDING
    if pod.owner is None:
        return What.LOST
    if workload is not None:
        return What.MOVED
    if pod.owner.kind == "Job":
        return What.AGAIN
    # An owner of a known kind that is not there any more makes nothing anew.
    return What.LOST if pod.owner.kind in WORKLOAD_KINDS else What.PERHAPS


def owner_words(pod: PlacedPod, workload: Workload | None) -> str:
    if workload is not None:
        return workload.key
    return f"{pod.owner.kind} {pod.namespace}/{pod.owner.name}" if pod.owner else ""


def local_data(pod: PlacedPod) -> str:
    """What of the pod stays behind on the node, as half a sentence."""
    parts = []
    if pod.empty_dirs:
        parts.append(f"emptyDir {', '.join(pod.empty_dirs)}")
    if pod.host_paths:
        parts.append(f"hostPath {', '.join(pod.host_paths)}")
    if not parts:
        return ""
    return Sentence("keeps data on the node: %(data)s", data="; ".join(parts))


def why_control_plane(node: NodeInfo, pods: Iterable[PlacedPod]) -> str:
    """By its roles or by what runs there: taking it away would cost etcd its quorum."""
    roles = [role for role in node.roles if role in CONTROL_PLANE]
    if roles:
        return Sentence("its role is %(role)s", role=roles[0])
    for pod in pods:
        if pod.is_mirror and pod.namespace == "kube-system":
            program = next((name for name in ETCD_OR_API if pod.name.startswith(f"{name}-")), "")
            if program:
                return Sentence("%(program)s runs on it", program=program)
    return ""


# --- shares of zones and pools --------------------------------------------------------------------


def find_shares(nodes: Iterable[NodeInfo], leaving: set[str]) -> list[Share]:
    """Zones and pools of which nodes leave, counted among Ready nodes and those that leave."""
    total: Counter[str] = Counter()
    gone: Counter[str] = Counter()
    for node in nodes:
        is_leaving = node.name in leaving
        if node.is_ready is not True and not is_leaving:
            continue
        for label in _groups(node):
            total[label] += 1
            gone[label] += is_leaving
    return [Share(label, count, total[label]) for label, count in sorted(gone.items()) if count]


def _groups(node: NodeInfo) -> list[str]:
    groups = [f"role {role}" for role in node.roles]
    if node.labels.get(ZONE):
        groups.append(f"zone {node.labels[ZONE]}")
    return groups


def owners_of(situation: Situation, plan: NodePlan) -> Mapping[str, dict[str, int]]:
    """Workloads that lose pods, with what they have now: ``{key: {wanted, ready}}``."""
    copies = situation.copies
    found: dict[str, dict[str, int]] = {}
    for fate in plan.evicted:
        workload = situation.workload_of(fate.pod)
        if workload is not None:
            found[workload.key] = {"wanted": workload.wanted, "ready": copies[workload.uid]}
    return found
