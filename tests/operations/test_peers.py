"""Which node a new one is tested against."""

import pytest

from beidou.base.errors import PermanentError
from clusters.drivers.kubernetes import KubernetesClient
from operations.kinds.peers import Peers
from tests.operations.draining.made_up import node


class Lists(KubernetesClient):
    """A cluster that counts how often it is listed."""

    def __init__(self, *nodes):  # without a connection
        self.nodes, self.asked = list(nodes), 0

    def list_nodes(self):
        self.asked += 1
        return list(self.nodes)


def test_a_worker_that_takes_pods_comes_first_and_a_control_plane_last():
    worker, closed = node("w1"), node("w2", unschedulable=True)
    plane = node("a1", roles=["control-plane"])
    assert Peers(Lists(plane, closed, worker)).of("new") == "w1"
    assert Peers(Lists(plane, closed)).of("new") == "w2"
    assert Peers(Lists(plane)).of("new") == "a1"


def test_a_node_is_never_its_own_peer():
    with pytest.raises(PermanentError, match="There is no other Ready node to test new against"):
        Peers(Lists(node("new"), node("w1", ready="False"))).of("new")


def test_workers_take_turns():
    peers = Peers(Lists(node("w1"), node("w2"), node("new1"), node("new2")))
    assert {peers.of("new1") for _ in range(3)} == {"w1", "w2", "new2"}


def test_many_nodes_are_tested_with_one_list_of_the_cluster():
    cluster = Lists(node("w1"), node("w2"))
    peers = Peers(cluster)
    for number in range(20):
        peers.of(f"new{number}")
    assert cluster.asked == 1


def test_a_list_in_which_there_was_no_peer_is_asked_for_again():
    cluster = Lists(node("first"))
    peers = Peers(cluster)
    with pytest.raises(PermanentError):
        peers.of("first")
    cluster.nodes.append(node("second"))
    assert peers.of("first") == "second"
