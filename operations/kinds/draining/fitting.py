"""Whether the nodes that stay have room for the pods of those that leave.

An estimate of what the scheduler will do, from what it must respect: readiness, cordons, taints,
node selectors and affinity, requests, host ports, pod affinity and anti-affinity, volumes that are
bound to nodes.  Preferences, topology spread constraints and other schedulers are not looked at.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from clusters.drivers.objects import NodeInfo, Taint
from clusters.drivers.placed_pods import NodeTerm, PlacedPod, PodTerm, Toleration

UNSCHEDULABLE = Taint("node.kubernetes.io/unschedulable", "NoSchedule")
ENOUGH = 50
_HARD = ("NoSchedule", "NoExecute")
Volumes = Mapping[tuple[str, str], Sequence[NodeTerm]]


@dataclass
class _Place:
    """A node and what is free on it."""

    node: NodeInfo
    free: dict[str, int]
    ports: set[tuple[str, int]] = field(default_factory=set)

    def take(self, pod: PlacedPod) -> None:
        for name, amount in pod.requests.items():
            self.free[name] = self.free.get(name, 0) - amount
        self.free["pods"] = self.free.get("pods", 0) - 1
        self.ports |= pod.host_ports


class Room:
    """The nodes that stay, filled with the pods that are on them; ``place`` adds one more."""

    def __init__(
        self,
        nodes: Iterable[NodeInfo],
        pods: Iterable[PlacedPod],
        volumes: Volumes | None = None,
    ) -> None:
        self._places = {node.name: _Place(node, _allocatable(node)) for node in nodes}
        self._order = list(self._places.values())
        self._begin = 0
        self._volumes = volumes or {}
        # Copies of one workload have the same labels and terms, so each is looked at once.
        self._groups: dict[tuple[str, frozenset[tuple[str, str]]], list[_Place]] = defaultdict(list)
        self._keeping_off: dict[PodTerm, set[str]] = defaultdict(set)
        for pod in pods:
            if not pod.is_finished and pod.node_name in self._places:
                self._put(pod, self._places[pod.node_name])

    def _put(self, pod: PlacedPod, place: _Place) -> None:
        place.take(pod)
        self._groups[pod.namespace, frozenset(pod.labels.items())].append(place)
        for term in pod.anti_affinity:
            if term.topology_key in place.node.labels:
                self._keeping_off[term].add(place.node.labels[term.topology_key])

    def place(self, pod: PlacedPod) -> str:
        """Put the pod where much is free; the sentence says why it fits nowhere, empty if it
        does."""
        rules = _Rules(self, pod)
        obstacles: Counter[str] = Counter()
        shortest: dict[str, int] = defaultdict(int)
        best: _Place | None = None
        good = 0
        # As the scheduler does it: the best of enough nodes, beginning behind the last ones.
        places = self._order[self._begin :] + self._order[: self._begin]
        for number, place in enumerate(places):
            obstacle = rules.obstacle(place)
            if not obstacle:
                good += 1
                if best is None or _freedom(place) > _freedom(best):
                    best = place
                if good >= ENOUGH:
                    self._begin = (self._begin + number + 1) % len(places)
                    break
                continue
            obstacles[obstacle] += 1
            if obstacle in pod.requests or obstacle == "pods":
                shortest[obstacle] = max(shortest[obstacle], place.free.get(obstacle, 0))
        if best is not None:
            self._put(pod, best)
            return ""
        if not obstacles:
            return "there is no other node"
        parts = [
            f"{_nodes(count)} {_words(obstacle, pod, shortest)}"
            for obstacle, count in obstacles.most_common()
        ]
        return "; ".join(parts)

    def domains(self, term: PodTerm) -> set[str]:
        """Where pods are that the term means, as values of its topology key."""
        return {
            place.node.labels[term.topology_key]
            for (namespace, labels), places in self._groups.items()
            if term.means(namespace, dict(labels))
            for place in places
            if term.topology_key in place.node.labels
        }

    def kept_off(self, pod: PlacedPod) -> list[tuple[str, str]]:
        """(topology key, value) from which pods that run there keep ``pod`` away."""
        return [
            (term.topology_key, value)
            for term, values in self._keeping_off.items()
            if term.means(pod.namespace, pod.labels)
            for value in values
        ]

    def volume_terms(self, pod: PlacedPod) -> list[Sequence[NodeTerm]]:
        found = (self._volumes.get((pod.namespace, claim), ()) for claim in pod.claims)
        return [terms for terms in found if terms]


class _Rules:
    """Everything about one pod that does not depend on the node, worked out once."""

    def __init__(self, room: Room, pod: PlacedPod) -> None:
        self.pod = pod
        self.volume_terms = room.volume_terms(pod)
        self.apart = [(term.topology_key, room.domains(term)) for term in pod.anti_affinity]
        self.kept_off = set(room.kept_off(pod))
        self.together = []
        for term in pod.affinity:
            domains = room.domains(term)
            # The first of a group that wants to be together may go anywhere.
            is_first = not domains and term.means(pod.namespace, pod.labels)
            self.together.append((term.topology_key, None if is_first else domains))

    def obstacle(self, place: _Place) -> str:
        """What keeps the pod from this node: a word for it, or the name of a resource."""
        node, labels, pod = place.node, place.node.labels, self.pod
        if node.is_ready is not True:
            return "not-ready"
        if node.unschedulable and not tolerates(pod.tolerations, UNSCHEDULABLE):
            return "cordoned"
        for taint in node.taints:
            is_hard = taint.effect in _HARD and taint.key != UNSCHEDULABLE.key
            if is_hard and not tolerates(pod.tolerations, taint):
                return f"taint {taint.key}"
        if any(labels.get(key) != value for key, value in pod.node_selector.items()):
            return "selector"
        if pod.node_terms and not _any_matches(pod.node_terms, node):
            return "node-affinity"
        if any(not _any_matches(terms, node) for terms in self.volume_terms):
            return "volume"
        if any(labels.get(key) in domains for key, domains in self.apart if key in labels):
            return "anti-affinity"
        if any((key, labels[key]) in self.kept_off for key in labels):
            return "anti-affinity"
        for key, wanted in self.together:
            if key not in labels or (wanted is not None and labels[key] not in wanted):
                return "affinity"
        if pod.host_ports & place.ports:
            return "host-port"
        for name, amount in {**pod.requests, "pods": 1}.items():
            if amount > place.free.get(name, 0):
                return name
        return ""


def tolerates(tolerations: Iterable[Toleration], taint: Taint) -> bool:
    return any(
        (not item.effect or item.effect == taint.effect)
        and (
            (item.operator == "Exists" and item.key in ("", taint.key))
            or (item.key == taint.key and item.operator != "Exists" and item.value == taint.value)
        )
        for item in tolerations
    )


def _any_matches(terms: Iterable[NodeTerm], node: NodeInfo) -> bool:
    return any(term.matches(node.name, node.labels) for term in terms)


def _allocatable(node: NodeInfo) -> dict[str, int]:
    found = node.allocatable
    return {
        "cpu": found.cpu_millicores,
        "memory": found.memory_bytes,
        "ephemeral-storage": found.ephemeral_storage_bytes,
        "pods": found.pods,
        **found.extended,
    }


def _freedom(place: _Place) -> float:
    """The smaller of the free shares of CPU and memory: pods spread as the scheduler does it."""
    whole = place.node.allocatable
    return min(
        place.free["cpu"] / max(whole.cpu_millicores, 1),
        place.free["memory"] / max(whole.memory_bytes, 1),
    )


_SENTENCES = {
    "not-ready": "not Ready",
    "cordoned": "cordoned",
    "selector": "without the labels of its node selector",
    "node-affinity": "outside its node affinity",
    "volume": "without access to its volume",
    "anti-affinity": "with a pod it must not share a place with",
    "affinity": "without the pods it must be with",
    "host-port": "with its host port taken",
}


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"


def _words(obstacle: str, pod: PlacedPod, most: Mapping[str, int]) -> str:
    if obstacle.startswith("taint "):
        return f"with the {obstacle}"
    if obstacle in _SENTENCES:
        return _SENTENCES[obstacle]
    wanted = 1 if obstacle == "pods" else pod.requests[obstacle]
    free = max(most[obstacle], 0)
    return (
        f"with too little {obstacle} ({amount(obstacle, wanted)} wanted, "
        f"at most {amount(obstacle, free)} free)"
    )


def amount(resource: str, value: int) -> str:
    """A quantity for people."""
    if resource == "cpu":
        return f"{value}m" if value % 1000 else str(value // 1000)
    if resource in ("memory", "ephemeral-storage") or resource.startswith("hugepages-"):
        return f"{value / 2**20:.0f} MiB"
    return str(value)
