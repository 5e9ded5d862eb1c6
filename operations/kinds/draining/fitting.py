"""Whether the nodes that stay have room for the pods of those that leave.

An estimate of what the scheduler will do, from what it must respect: readiness, cordons, taints,
node selectors and affinity, requests, host ports, pod affinity and anti-affinity, topology spread
constraints, volumes that are bound to nodes or zones.  Preferences are not looked at, nor is room
that the scheduler could make by ending pods of less importance.  What cannot be worked out (another
scheduler, say) is a doubt, see ``doubts``.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from beidou.base.sentences import Sentence
from clusters.drivers.objects import NodeInfo
from clusters.drivers.placed_pods import DEFAULT_SCHEDULER, PlacedPod
from clusters.drivers.placement import NAMESPACE_NAME, HostPort, PodTerm
from clusters.drivers.selectors import Selector
from clusters.drivers.volumes import BoundVolume
from operations.kinds.draining import obstacles
from operations.kinds.draining.spreading import (
    SpreadCounts,
    any_matches,
    untolerated,
)

ENOUGH = 50
Label = tuple[str, str]


@dataclass
class _Place:
    """A node and what is free on it."""

    node: NodeInfo
    free: dict[str, int]
    is_leaving: bool = False
    ports: set[HostPort] = field(default_factory=set)

    def take(self, pod: PlacedPod) -> None:
        for name, amount in pod.requests.items():
            self.free[name] = self.free.get(name, 0) - amount
        self.free["pods"] = self.free.get("pods", 0) - 1
        self.ports |= pod.host_ports


@dataclass
class _Group:
    """Pods that are alike for the affinity of others."""

    namespace: str
    labels: Mapping[str, str]
    is_ending: bool
    places: list[_Place] = field(default_factory=list)


class Room:
    """The nodes that stay, filled with the pods that are on them; ``place`` adds one more.

    ``leaving`` nodes take no pods, but what stays on them and the zones that they are in count
    until they are gone.  ``volumes`` and ``namespaces`` (name → labels) are None when they could
    not be read.
    """

    def __init__(
        self,
        nodes: Iterable[NodeInfo],
        pods: Iterable[PlacedPod],
        volumes: Iterable[BoundVolume] | None = (),
        *,
        leaving: Collection[str] = (),
        namespaces: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self._places = {
            node.name: _Place(node, _allocatable(node), node.name in leaving) for node in nodes
        }
        self._order = [place for place in self._places.values() if not place.is_leaving]
        self._begin = 0
        self._are_volumes_known = volumes is not None
        self._volumes = {(each.namespace, each.claim): each for each in volumes or ()}
        self._namespaces = namespaces
        # Copies of one workload have the same labels and terms, so each is looked at once; and most
        # selectors ask for a label with one value, so that few need to be looked at.
        self._groups: dict[object, _Group] = {}
        self._groups_by_label: dict[Label, list[_Group]] = defaultdict(list)
        self._keeping_off: dict[Label | None, dict[PodTerm, set[str]]] = defaultdict(
            lambda: defaultdict(set)
        )
        self._spreads: dict[object, SpreadCounts] = {}
        for pod in pods:
            if not pod.is_finished and pod.node_name in self._places:
                self._put(pod, self._places[pod.node_name])

    def _put(self, pod: PlacedPod, place: _Place) -> None:
        place.take(pod)
        key = pod.namespace, frozenset(pod.labels.items()), pod.is_ending
        if key not in self._groups:
            self._groups[key] = group = _Group(pod.namespace, pod.labels, pod.is_ending)
            for label in pod.labels.items():
                self._groups_by_label[label].append(group)
        self._groups[key].places.append(place)
        for term in pod.anti_affinity:
            if term.topology_key in place.node.labels:
                value = place.node.labels[term.topology_key]
                self._keeping_off[_one_label(term.selector)][term].add(value)

    # --- placing ----------------------------------------------------------------------------------

    def place_all(self, pods: Iterable[PlacedPod]) -> dict[str, str]:
        """Uid → why, of those that fit nowhere.

        What waits for others (to be with them, or for them to be spread) is tried again as long as
        more of them find a place, as the scheduler does it.
        """
        failed: dict[str, str] = {}
        waiting = list(pods)
        while waiting:
            again = []
            for pod in waiting:
                failed.pop(pod.uid, None)
                if why := self.place(pod):
                    failed[pod.uid] = why
                    if pod.affinity or pod.spread:
                        again.append(pod)
            if len(again) == len(waiting):
                break
            waiting = again
        return failed

    def place(self, pod: PlacedPod) -> str:
        """Put the pod where much is free; the sentence says why it fits nowhere, empty if it
        does."""
        rules = _Rules(self, pod)
        found: Counter[str] = Counter()
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
            found[obstacle] += 1
            if obstacle in pod.requests or obstacle == "pods":
                shortest[obstacle] = max(shortest[obstacle], place.free.get(obstacle, 0))
        if best is None:
            return obstacles.told(found, pod, shortest)
        self._put(pod, best)
        for counts in self._spreads.values():
            counts.add(pod, best.node.name)
        return ""

    # --- what other pods mean for one -------------------------------------------------------------

    def labels_of(self, namespace: str) -> Mapping[str, str]:
        if self._namespaces is None:
            return {NAMESPACE_NAME: namespace}
        return self._namespaces.get(namespace, {NAMESPACE_NAME: namespace})

    def means(self, term: PodTerm, namespace: str, labels: Mapping[str, str]) -> bool:
        return term.means(namespace, labels, self.labels_of(namespace))

    def domains(self, *terms: PodTerm) -> dict[PodTerm, set[str]]:
        """Where pods are that all of the terms mean, as values of each term's topology key."""
        found: dict[PodTerm, set[str]] = {term: set() for term in terms}
        for group in self._meant_by(terms[0].selector):
            if all(self.means(term, group.namespace, group.labels) for term in terms):
                for term, values in found.items():
                    values.update(
                        place.node.labels[term.topology_key]
                        for place in group.places
                        if term.topology_key in place.node.labels
                    )
        return found

    def kept_off(self, pod: PlacedPod) -> set[tuple[str, str]]:
        """(topology key, value) from which pods that run there keep ``pod`` away."""
        return {
            (term.topology_key, value)
            for term, values in self._terms_about(pod)
            if self.means(term, pod.namespace, pod.labels)
            for value in values
        }

    def _terms_about(self, pod: PlacedPod) -> Iterator[tuple[PodTerm, set[str]]]:
        """Anti-affinity of pods that run, as far as it may mean ``pod``."""
        for label in (None, *pod.labels.items()):
            yield from self._keeping_off.get(label, {}).items()

    def _meant_by(self, selector: Selector | None) -> Iterable[_Group]:
        """All groups that ``selector`` may mean."""
        label = _one_label(selector)
        return self._groups.values() if label is None else self._groups_by_label.get(label, ())

    def spread(self, pod: PlacedPod) -> SpreadCounts:
        key = SpreadCounts.kind_of(pod)
        if key not in self._spreads:
            places = self._places.values()
            counts = SpreadCounts(pod, ((place.node, place.is_leaving) for place in places))
            for number, each in enumerate(pod.spread):
                for group in self._meant_by(each.selector):
                    if group.namespace == pod.namespace and not group.is_ending:
                        names = [place.node.name for place in group.places]
                        counts.add_to(number, group.labels, names)
            self._spreads[key] = counts
        return self._spreads[key]

    def volumes_of(self, pod: PlacedPod) -> list[BoundVolume]:
        found = (self._volumes.get((pod.namespace, claim)) for claim in pod.claims)
        return [volume for volume in found if volume is not None]

    # --- what nobody knows here -------------------------------------------------------------------

    def doubts(self, pod: PlacedPod) -> tuple[str, ...]:
        """Why it may fit nowhere although nothing that is known here speaks against it."""
        found: list[str] = []
        if pod.scheduler != DEFAULT_SCHEDULER:
            found.append(
                Sentence(
                    "scheduler %(scheduler)s decides, whose rules are not known here",
                    scheduler=pod.scheduler,
                )
            )
        if pod.devices:
            found.append(Sentence("it claims devices: %(names)s", names=", ".join(pod.devices)))
        if pod.own_claims:
            found.append(
                Sentence(
                    "new volumes are made for it, wherever their class allows it: %(names)s",
                    names=", ".join(pod.own_claims),
                )
            )
        found += self._doubts_about_volumes(pod)
        found += self._doubts_about_namespaces(pod)
        return tuple(found)

    def _doubts_about_volumes(self, pod: PlacedPod) -> list[Sentence]:
        if not pod.claims:
            return []
        if not self._are_volumes_known:
            return [Sentence("where its volumes can be reached from may not be read")]
        missing = [name for name in pod.claims if (pod.namespace, name) not in self._volumes]
        if not missing:
            return []
        return [Sentence("claims without a volume: %(names)s", names=", ".join(missing))]

    def _doubts_about_namespaces(self, pod: PlacedPod) -> list[Sentence]:
        if self._namespaces is not None:
            return []
        others = (
            term
            for term, _values in self._terms_about(pod)
            if term.selector is not None and term.selector.matches(pod.labels)
        )
        if any(term.asks_for_labels for term in (*pod.affinity, *pod.anti_affinity, *others)):
            return [Sentence("its affinity asks for labels of namespaces, which may not be read")]
        return []


class _Rules:
    """Everything about one pod that does not depend on the node, worked out once."""

    def __init__(self, room: Room, pod: PlacedPod) -> None:
        self.pod = pod
        self.volumes = room.volumes_of(pod)
        self.kept_off = room.kept_off(pod)
        for term in pod.anti_affinity:
            self.kept_off |= {(term.topology_key, each) for each in room.domains(term)[term]}
        self.together = room.domains(*pod.affinity) if pod.affinity else {}
        # The first of a group that wants to be together may go anywhere.
        self.is_first = not any(self.together.values()) and all(
            room.means(term, pod.namespace, pod.labels) for term in pod.affinity
        )
        self.spread = room.spread(pod).most(pod.labels) if pod.spread else []

    def obstacle(self, place: _Place) -> str:
        """What keeps the pod from this node: a word for it, or the name of a resource."""
        return (
            self._of_the_node(place.node)
            or self._of_other_pods(place.node.labels)
            or self._of_what_is_free(place)
        )

    def _of_the_node(self, node: NodeInfo) -> str:
        pod = self.pod
        if node.is_ready is not True:
            return obstacles.NOT_READY
        if taint := untolerated(pod, node):
            return obstacles.of_taint(taint)
        if any(node.labels.get(key) != value for key, value in pod.node_selector.items()):
            return obstacles.SELECTOR
        if pod.node_terms and not any_matches(pod.node_terms, node):
            return obstacles.NODE_AFFINITY
        if any(not each.is_reached_from(node.name, node.labels) for each in self.volumes):
            return obstacles.VOLUME
        return ""

    def _of_other_pods(self, labels: Mapping[str, str]) -> str:
        if any((key, value) in self.kept_off for key, value in labels.items()):
            return obstacles.ANTI_AFFINITY
        for term, domains in self.together.items():
            there = labels.get(term.topology_key)
            if there is None or (there not in domains and not self.is_first):
                return obstacles.AFFINITY
        for key, counts, most in self.spread:
            if key not in labels:
                return obstacles.of_missing_label(key)
            if counts.get(labels[key], 0) > most:
                return obstacles.of_spread(key)
        return ""

    def _of_what_is_free(self, place: _Place) -> str:
        if self.pod.host_ports and any(
            port.clashes(taken) for port in self.pod.host_ports for taken in place.ports
        ):
            return obstacles.HOST_PORT
        for name, amount in {**self.pod.requests, "pods": 1}.items():
            if amount > place.free.get(name, 0):
                return name
        return ""


def _one_label(selector: Selector | None) -> Label | None:
    """A label that whatever ``selector`` means must have."""
    for item in selector.requirements if selector is not None else ():
        if item.operator == "In" and len(item.values) == 1:
            return item.key, item.values[0]
    return None


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
