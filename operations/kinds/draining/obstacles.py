"""What keeps a pod from a node: words to count by, and what they mean in a sentence.

The name of a resource is the obstacle that there is too little of it.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from beidou.base.sentences import Sentence, joined
from clusters.drivers.objects import Taint
from clusters.drivers.placed_pods import PlacedPod
from operations.kinds.draining.spreading import UNSCHEDULABLE

NOT_READY: Final = "not-ready"
CORDONED: Final = "cordoned"
SELECTOR: Final = "selector"
NODE_AFFINITY: Final = "node-affinity"
VOLUME: Final = "volume"
ANTI_AFFINITY: Final = "anti-affinity"
AFFINITY: Final = "affinity"
HOST_PORT: Final = "host-port"
_TAINT, _SPREAD, _MISSING = "taint ", "spread ", "missing "

_SENTENCES: Final = {
    NOT_READY: Sentence("not Ready"),
    CORDONED: Sentence("cordoned"),
    SELECTOR: Sentence("without the labels of its node selector"),
    NODE_AFFINITY: Sentence("outside its node affinity"),
    VOLUME: Sentence("without access to its volume"),
    ANTI_AFFINITY: Sentence("with a pod it must not share a place with"),
    AFFINITY: Sentence("without the pods it must be with"),
    HOST_PORT: Sentence("with its host port taken"),
}


def of_taint(taint: Taint) -> str:
    return CORDONED if taint is UNSCHEDULABLE else f"{_TAINT}{taint.key}"


def of_spread(key: str) -> str:
    return f"{_SPREAD}{key}"


def of_missing_label(key: str) -> str:
    return f"{_MISSING}{key}"


def told(found: Counter[str], pod: PlacedPod, most_free: Mapping[str, int]) -> str:
    """Nodes by what keeps the pod from them, the most frequent first."""
    if not found:
        return Sentence("there is no other node")
    return joined(
        (
            Sentence("1 node %(why)s", why=_words(obstacle, pod, most_free))
            if count == 1
            else Sentence(
                "%(count)s nodes %(why)s", count=count, why=_words(obstacle, pod, most_free)
            )
            for obstacle, count in found.most_common()
        ),
        "; ",
    )


def _words(obstacle: str, pod: PlacedPod, most_free: Mapping[str, int]) -> Sentence:
    if obstacle in _SENTENCES:
        return _SENTENCES[obstacle]
    if obstacle.startswith(_TAINT):
        return Sentence("with the taint %(key)s", key=obstacle.removeprefix(_TAINT))
    if obstacle.startswith(_MISSING):
        return Sentence(
            "without the label %(key)s, by which its pods are spread",
            key=obstacle.removeprefix(_MISSING),
        )
    if obstacle.startswith(_SPREAD):
        return Sentence(
            "with too many of its pods in the same %(key)s (they are spread, and the leaving nodes "
            "count until they are gone)",
            key=obstacle.removeprefix(_SPREAD),
        )
    wanted = 1 if obstacle == "pods" else pod.requests[obstacle]
    return Sentence(
        "with too little %(resource)s (%(wanted)s wanted, at most %(free)s free)",
        resource=obstacle,
        wanted=amount(obstacle, wanted),
        free=amount(obstacle, max(most_free[obstacle], 0)),
    )


def amount(resource: str, value: int) -> str:
    """A quantity for people."""
    if resource == "cpu":
        return f"{value}m" if value % 1000 else str(value // 1000)
    if resource in ("memory", "ephemeral-storage") or resource.startswith("hugepages-"):
        return f"{value / 2**20:.0f} MiB"
    return str(value)
