"""Other nodes to test new ones against."""

import threading
import time

from beidou.base.errors import PermanentError
from beidou.base.sentences import Sentence
from clusters.drivers.kubernetes import KubernetesClient
from clusters.drivers.objects import NodeInfo

KEPT_SECONDS = 60


class Peers:
    """Finds another Ready node for each, for several threads.

    The cluster is listed once a minute, and when that list has no peer: with thousands of nodes it
    is long.  The peers take turns, so that not one of them gets the test pods of all.
    """

    def __init__(self, client: KubernetesClient) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._known: list[NodeInfo] = []
        self._known_until = 0.0
        self._turn = 0

    def of(self, name: str) -> str:
        """The name of a peer of node ``name``: a worker that takes pods rather than one that is
        closed, and a control plane last.  ``PermanentError`` where there is none."""
        with self._lock:
            chosen = self._best(name) if time.monotonic() < self._known_until else []
            if not chosen:
                self._known = [node for node in self._client.list_nodes() if node.is_ready]
                self._known_until = time.monotonic() + KEPT_SECONDS
                chosen = self._best(name)
            if not chosen:
                raise PermanentError(
                    Sentence("There is no other Ready node to test %(node)s against.", node=name),
                    code="no_peer",
                )
            self._turn += 1
            return chosen[self._turn % len(chosen)]

    def _best(self, name: str) -> list[str]:
        """All others that are as good as the best one."""
        others = [(_rank(node), node.name) for node in self._known if node.name != name]
        best = min((rank for rank, _name in others), default=None)
        return sorted(other for rank, other in others if rank == best)


def _rank(node: NodeInfo) -> tuple[bool, bool]:
    return "control-plane" in node.roles, node.unschedulable
