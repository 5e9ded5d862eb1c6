"""Which node a new one is tested against."""

from datetime import timedelta

import pytest
from django.utils import timezone

from beidou.base.errors import PermanentError
from clusters.drivers.errors import NotFound
from clusters.drivers.kubernetes import KubernetesClient
from clusters.models import Cluster
from operations.kinds import known_nodes
from operations.kinds.peers import Peers
from tests import factories
from tests.operations.draining.made_up import node

pytestmark = pytest.mark.django_db


class Lists(KubernetesClient):
    """A cluster that counts how often it is listed."""

    def __init__(self, *nodes):  # without a connection
        self.nodes, self.asked = list(nodes), 0

    def list_nodes(self):
        self.asked += 1
        return list(self.nodes)

    def get_node(self, name):
        for each in self.nodes:
            if each.name == name:
                return each
        raise NotFound(f"no node {name}")


@pytest.fixture
def peers_in(cluster_a):
    """Peers of a cluster of which the collector knows nothing."""
    return lambda lists: Peers(lists, cluster_a)


@pytest.fixture
def confirmed(cluster_a):
    """The collector confirmed the inventory of the cluster so many seconds ago."""

    def confirm(seconds=5, **values):
        at = timezone.now() - timedelta(seconds=seconds)
        Cluster.objects.filter(pk=cluster_a.pk).update(observed_at=at, **values)
        return cluster_a

    return confirm


def test_a_worker_that_takes_pods_comes_first_and_a_control_plane_last(peers_in):
    worker, closed = node("w1"), node("w2", unschedulable=True)
    plane = node("a1", roles=["control-plane"])
    assert peers_in(Lists(plane, closed, worker)).of("new") == "w1"
    assert peers_in(Lists(plane, closed)).of("new") == "w2"
    assert peers_in(Lists(plane)).of("new") == "a1"


def test_a_node_is_never_its_own_peer(peers_in):
    with pytest.raises(PermanentError, match="There is no other Ready node to test new against"):
        peers_in(Lists(node("new"), node("w1", ready="False"))).of("new")


def test_workers_take_turns(peers_in):
    peers = peers_in(Lists(node("w1"), node("w2"), node("new1"), node("new2")))
    assert {peers.of("new1") for _ in range(3)} == {"w1", "w2", "new2"}


def test_many_nodes_are_tested_with_one_list_of_the_cluster(peers_in):
    cluster = Lists(node("w1"), node("w2"))
    peers = peers_in(cluster)
    for number in range(20):
        peers.of(f"new{number}")
    assert cluster.asked == 1


def test_a_list_in_which_there_was_no_peer_is_asked_for_again(peers_in):
    cluster = Lists(node("first"))
    peers = peers_in(cluster)
    with pytest.raises(PermanentError):
        peers.of("first")
    cluster.nodes.append(node("second"))
    assert peers.of("first") == "second"


def test_where_the_collector_knows_the_nodes_the_cluster_is_not_listed(confirmed, cluster_a):
    cluster = Lists(node("w1"), node("w2"))
    for name in ("w1", "w2", "new"):
        factories.make_node(cluster_a, name, is_ready=name != "new")
    peers = Peers(cluster, confirmed())
    assert {peers.of("new") for _ in range(2)} == {"w1", "w2"}
    assert cluster.asked == 0


def test_a_peer_that_the_collector_knows_is_asked_for_before_it_is_one(confirmed, cluster_a):
    cluster = Lists(node("w2", ready="False"), node("w3"))
    for name in ("w1", "w2"):  # one has left, the other is not Ready any more
        factories.make_node(cluster_a, name, is_ready=True)
    assert Peers(cluster, confirmed()).of("new") == "w3"
    assert cluster.asked == 1


@pytest.mark.parametrize(
    "values", [{"seconds": 61}, {"health": Cluster.Health.UNREACHABLE}], ids=["old", "unreachable"]
)
def test_what_was_not_confirmed_lately_is_not_believed(values, confirmed, cluster_a):
    factories.make_node(cluster_a, "gone", is_ready=True)
    cluster = confirmed(**values)
    assert known_nodes.of_inventory(cluster) is None
    (found,) = known_nodes.of_cluster(cluster, Lists(node("w1")))
    assert found.name == "w1"


def test_the_nodes_of_the_inventory_are_read_by_one_query_beside_that_for_its_age(
    confirmed, cluster_a, django_assert_num_queries
):
    factories.make_node(cluster_a, "w1", system_uuid="u-1", addresses=[["InternalIP", "10.0.0.1"]])
    cluster = confirmed()
    with django_assert_num_queries(2):
        (found,) = known_nodes.of_inventory(cluster)
        assert (found.name, found.system_uuid) == ("w1", "u-1")
        assert (list(found.addresses), found.roles) == ([["InternalIP", "10.0.0.1"]], [])
