"""Other nodes to test new ones against."""

import threading
import time

from beidou.base.errors import PermanentError
from beidou.base.sentences import Sentence
from clusters.drivers.errors import NotFound
from clusters.drivers.kubernetes import KubernetesClient
from clusters.models import Cluster
from operations.kinds.known_nodes import KnownNode, of_inventory

KEPT_SECONDS = 60


class Peers:
    """Finds another Ready node for each, for several threads.

    The collector's nodes come first, of which the chosen one is asked for by itself: with thousands
    of nodes a list is long.  The cluster is listed where these have no peer, and then once a
    minute.  The peers take turns, so that not one of them gets the test pods of all.
    """

    def __init__(self, client: KubernetesClient, cluster: Cluster) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._known = [node for node in of_inventory(cluster) or [] if node.is_ready]
        self._listed_at: float | None = None
        self._turn = 0

    def of(self, name: str) -> str:
        """The name of a peer of node ``name``: a worker that takes pods rather than one that is
        closed, and a control plane last.  ``PermanentError`` where there is none."""
        with self._lock:
            chosen = self._of_inventory(name) if self._listed_at is None else self._next(name)
            if chosen is None or self._is_old():
                self._known = [node for node in self._client.list_nodes() if node.is_ready]
                self._listed_at = time.monotonic()
                chosen = self._next(name)
            if chosen is None:
                raise PermanentError(
                    Sentence("There is no other Ready node to test %(node)s against.", node=name),
                    code="no_peer",
                )
            return chosen

    def _is_old(self) -> bool:
        return self._listed_at is not None and time.monotonic() - self._listed_at > KEPT_SECONDS

    def _of_inventory(self, name: str) -> str | None:
        while (chosen := self._next(name)) is not None:
            try:
                if self._client.get_node(chosen).is_ready:
                    return chosen
            except NotFound:
                pass  # it left a moment ago
            self._known = [node for node in self._known if node.name != chosen]
        return None

    def _next(self, name: str) -> str | None:
        """One of all others that are as good as the best one."""
        others = [(_rank(node), node.name) for node in self._known if node.name != name]
        if not others:
            return None
        best = min(rank for rank, _name in others)
        chosen = sorted(other for rank, other in others if rank == best)
        self._turn += 1
        return chosen[self._turn % len(chosen)]


def _rank(node: KnownNode) -> tuple[bool, bool]:
    return "control-plane" in node.roles, node.unschedulable
