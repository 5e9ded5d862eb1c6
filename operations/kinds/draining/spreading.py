"""Topology spread constraints that are required, counted as the scheduler counts them.

The nodes that leave count as well: they are there until their Node objects are deleted, and a zone
that they leave empty makes the skew of the others larger.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from clusters.drivers.objects import NodeInfo, Taint
from clusters.drivers.placed_pods import PlacedPod
from clusters.drivers.placement import NodeTerm, Spread, Toleration

UNSCHEDULABLE: Final = Taint("node.kubernetes.io/unschedulable", "NoSchedule")
HARD: Final = ("NoSchedule", "NoExecute")


def tolerates(tolerations: Iterable[Toleration], taint: Taint) -> bool:
    return any(
        (not item.effect or item.effect == taint.effect)
        and (
            (item.operator == "Exists" and item.key in ("", taint.key))
            or (item.key == taint.key and item.operator != "Exists" and item.value == taint.value)
        )
        for item in tolerations
    )


def is_chosen(pod: PlacedPod, node: NodeInfo) -> bool:
    """Whether the pod's node selector and required node affinity mean this node."""
    if any(node.labels.get(key) != value for key, value in pod.node_selector.items()):
        return False
    return not pod.node_terms or any_matches(pod.node_terms, node)


def any_matches(terms: Iterable[NodeTerm], node: NodeInfo) -> bool:
    return any(term.matches(node.name, node.labels) for term in terms)


def untolerated(pod: PlacedPod, node: NodeInfo, *, is_leaving: bool = False) -> Taint | None:
    """The first taint that keeps the pod away; a cordon is one."""
    is_closed = node.unschedulable or is_leaving
    if is_closed and not tolerates(pod.tolerations, UNSCHEDULABLE):
        return UNSCHEDULABLE
    for taint in node.taints:
        is_hard = taint.effect in HARD and taint.key != UNSCHEDULABLE.key
        if is_hard and not tolerates(pod.tolerations, taint):
            return taint
    return None


class SpreadCounts:
    """Of the constraints of pods that are alike: matching pods per domain."""

    def __init__(self, pod: PlacedPod, nodes: Iterable[tuple[NodeInfo, bool]]) -> None:
        """``nodes`` with whether they leave."""
        self._namespace = pod.namespace
        self._spread = pod.spread
        keys = {each.topology_key for each in pod.spread}
        self._domains: list[dict[str, str]] = [{} for _ in pod.spread]  # node → domain
        self._counts: list[dict[str, int]] = [{} for _ in pod.spread]  # domain → pods
        for node, is_leaving in nodes:
            if not keys <= node.labels.keys():
                continue  # with one of them missing it counts for none
            for number, each in enumerate(pod.spread):
                if _is_counted(each, pod, node, is_leaving):
                    domain = node.labels[each.topology_key]
                    self._domains[number][node.name] = domain
                    self._counts[number].setdefault(domain, 0)

    @staticmethod
    def kind_of(pod: PlacedPod) -> object:
        """Pods of which this is the same share their counts."""
        return (
            pod.namespace,
            pod.spread,
            tuple(sorted(pod.node_selector.items())),
            pod.node_terms,
            pod.tolerations,
        )

    def add(self, pod: PlacedPod, node: str) -> None:
        """Count one more pod."""
        if pod.namespace == self._namespace:
            for number in range(len(self._spread)):
                self.add_to(number, pod.labels, [node])

    def add_to(self, number: int, labels: Mapping[str, str], nodes: Sequence[str]) -> None:
        """Count pods of the namespace, with these labels and on these nodes, for one constraint."""
        if not self._spread[number].counts(labels):
            return
        for name in nodes:
            domain = self._domains[number].get(name)
            if domain is not None:
                self._counts[number][domain] += 1

    def most(self, labels: Mapping[str, str]) -> list[tuple[str, Mapping[str, int], int]]:
        """Per constraint: key, pods per domain, and how many may be there before a pod with these
        labels comes."""
        found: list[tuple[str, Mapping[str, int], int]] = []
        for each, counts in zip(self._spread, self._counts, strict=True):
            least = min(counts.values()) if len(counts) >= max(each.min_domains, 1) else 0
            own = 1 if each.means(labels) else 0
            found.append((each.topology_key, counts, least + each.max_skew - own))
        return found


def _is_counted(each: Spread, pod: PlacedPod, node: NodeInfo, is_leaving: bool) -> bool:
    if each.honors_affinity and not is_chosen(pod, node):
        return False
    return not each.honors_taints or untolerated(pod, node, is_leaving=is_leaving) is None
