"""The collector at work on real sockets: followed, lost, recovered, shared, stopped."""

from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import pytest

from beidou.base.errors import PermanentError
from clusters.collector import follow, process
from clusters.collector.follow import Rhythm
from clusters.collector.process import store
from clusters.collector.state import ClusterState
from clusters.drivers.objects import NODES
from clusters.drivers.watch import Listed, Pace
from clusters.models import Cluster, CollectorLease, HealthChange, NamespaceUsage, Node
from clusters.services import inventory, leases
from tests import factories
from tests.clusters.collecting import Running
from tests.clusters.conftest import connect, prepare
from tests.fakes.kube_api import (
    FakeKubeApi,
    Hang,
    Reply,
    Stream,
    event,
    list_reply,
    node,
    pod,
    status_reply,
)

pytestmark = pytest.mark.django_db
FAST = Rhythm(
    look=0.2,
    beat=0.05,
    flush=0.02,
    pace=Pace(
        answer_seconds=0.5,
        page_seconds=1,
        watch_seconds=1,
        grace_seconds=0.5,
        first_delay_seconds=0.05,
        largest_delay_seconds=0.2,
    ),
)


def health(cluster):
    return Cluster.objects.values_list("health", flat=True).get(pk=cluster.pk)


def names():
    return sorted(Node.objects.values_list("name", flat=True))


@pytest.fixture
def nodes():
    return Stream()


@pytest.fixture
def watched(kube, adopted, nodes):
    """The adopted cluster with one node, one pod and open watches."""
    serve(kube, nodes)
    return adopted


def serve(kube, nodes):
    def answer(listed, watch):
        return lambda request: watch if "watch" in request.query else listed

    kube.on("GET", "/api/v1/nodes", answer(list_reply([node("n1")]), nodes))
    kube.on("GET", "/api/v1/pods", answer(list_reply([pod("web")]), Stream()))
    kube.on("GET", "/readyz", Reply("[+]ping ok\n[+]etcd ok\nreadyz check passed"))
    kube.on("GET", "/livez", Reply("[+]ping ok\nlivez check passed"))


def test_a_cluster_is_listed_summed_and_judged(watched):
    with Running(rhythm=FAST) as collector:
        collector.until(NamespaceUsage.objects.exists)
        collector.until(lambda: health(watched) == "healthy")
        collector.until(lambda: Cluster.objects.get(pk=watched.pk).components)
        collector.until(lambda: Cluster.objects.get(pk=watched.pk).pods_count)
    watched.refresh_from_db()
    assert (watched.nodes_total, watched.nodes_ready, watched.pods_count) == (1, 1, 1)
    assert Node.objects.get().cpu_requested == 100
    assert watched.components[0]["name"] == "kube-apiserver"
    assert watched.server_certificate_expires_at is not None


def test_changes_come_through_the_watch(watched, nodes):
    with Running(rhythm=FAST) as collector:
        collector.until(lambda: names() == ["n1"])
        nodes.send(event("ADDED", node("n2", version="101")))
        collector.until(lambda: names() == ["n1", "n2"])
        nodes.send(event("MODIFIED", node("n1", version="102", unschedulable=True)))
        collector.until(lambda: Node.objects.get(name="n1").unschedulable)
        nodes.send(event("DELETED", node("n2", version="103")))
        collector.until(lambda: names() == ["n1"])


def test_a_nul_in_a_node_s_texts_is_replaced_and_freezes_nothing(kube, watched, nodes):
    odd = node("n2", version="101")
    odd["metadata"]["labels"]["a\0"] = "b\0"
    odd["status"]["conditions"][0]["message"] = "c\0"
    with Running(rhythm=FAST) as collector:
        collector.until(lambda: names() == ["n1"])
        nodes.send(event("ADDED", odd))
        collector.until(lambda: names() == ["n1", "n2"])
    stored = Node.objects.get(name="n2")
    assert stored.labels["a�"] == "b�"
    assert stored.conditions[0]["message"] == "c�"


def test_a_nul_in_the_first_list_is_replaced_too(kube, watched):
    odd = node("n1")
    odd["metadata"]["annotations"] = {"a": "b\0"}
    kube.on("GET", "/api/v1/nodes", list_reply([odd]))
    with Running(rhythm=FAST) as collector:
        collector.until(lambda: names() == ["n1"])
    assert Node.objects.get().annotations == {"a": "b�"}


def test_a_mistake_in_the_look_at_the_components_does_not_end_the_streams(
    watched, nodes, monkeypatch
):
    def mistaken(connection, cluster_name):
        raise TypeError("ours")

    monkeypatch.setattr(follow, "look_at", mistaken)
    with Running(rhythm=FAST) as collector:
        collector.until(lambda: health(watched) == "degraded")
        state = collector.process._watched[watched.pk].state
        nodes.send(event("ADDED", node("n2", version="101")))
        collector.until(lambda: names() == ["n1", "n2"])
        assert collector.process._watched[watched.pk].state is state
    watched.refresh_from_db()
    assert "could not be looked at because of an error of the portal" in watched.health_reason


def batch_with_a_node_that_cannot_be_stored():
    state = ClusterState()
    info = NODES.decode_object(msgspec.json.encode(node("n1")))
    state.on_nodes(Listed([replace(info, uid=None)], "1"), datetime.now(UTC))
    return state.take(datetime.now(UTC))


def test_what_cannot_be_stored_of_nodes_does_not_keep_the_health_from_being_written():
    cluster = factories.make_cluster()
    leases.beat("me")
    rest = store("me", cluster.pk, batch_with_a_node_that_cannot_be_stored())
    assert health(cluster) == "healthy"
    assert [info.name for info in rest.nodes] == ["n1"]
    assert rest.verdict is None


def test_nothing_at_all_is_written_without_the_lease():
    cluster = factories.make_cluster()
    with pytest.raises(inventory.LeaseLost):
        store("me", cluster.pk, batch_with_a_node_that_cannot_be_stored())
    assert health(cluster) == "unknown"


def test_a_cluster_that_falls_silent_is_unreachable_keeps_its_figures_and_recovers(kube, watched):
    with Running(rhythm=FAST) as collector:
        collector.until(lambda: Cluster.objects.get(pk=watched.pk).pods_count == 1)
        kube.on("GET", "/api/v1/nodes", Hang())
        kube.drop_connections()
        collector.until(lambda: health(watched) == "unreachable")
        lost = Cluster.objects.get(pk=watched.pk)
        serve(kube, Stream())
        collector.until(lambda: health(watched) == "healthy")
    assert (lost.nodes_total, lost.pods_count) == (1, 1)
    assert "did not answer" in lost.health_reason
    assert lost.is_stale
    words = list(HealthChange.objects.order_by("id").values_list("new", flat=True))
    assert words == ["healthy", "unreachable", "healthy"]


def test_a_refusing_cluster_is_unreachable_with_the_reason(kube, watched):
    kube.on("GET", "/api/v1/nodes", status_reply(401, "Unauthorized"))
    with Running(rhythm=FAST) as collector:
        collector.until(lambda: health(watched) == "unreachable")
    watched.refresh_from_db()
    assert "401" in watched.health_reason


def test_a_hanging_cluster_delays_no_other(watched):
    with FakeKubeApi(speaks="nothing") as silent:
        hung = connect(factories.make_cluster("a-hung", server=silent.server), silent)
        with Running(rhythm=FAST) as collector:
            collector.until(lambda: health(watched) == "healthy")
            collector.until(lambda: health(hung) == "unreachable")
    assert health(watched) == "healthy"


def test_a_cluster_adopted_meanwhile_is_picked_up_and_a_removed_one_dropped(kube, nodes):
    with Running(rhythm=FAST) as collector:
        collector.until(lambda: leases.living_collectors())
        serve(kube, nodes)
        cluster = connect(factories.make_cluster("late", server=kube.server), kube)
        collector.until(lambda: names() == ["n1"])
        cluster.delete()
        collector.until(lambda: not collector.process._watched)
    assert not Node.objects.exists()


def test_a_replaced_credential_is_used_without_a_restart(kube, watched):
    kube.on("GET", "/api/v1/nodes", status_reply(401, "Unauthorized"))
    with FakeKubeApi() as moved, Running(rhythm=FAST) as collector:
        prepare(moved, uid=watched.uid)
        serve(moved, Stream())
        collector.until(lambda: health(watched) == "unreachable")
        watched.credential.kubeconfig = moved.kubeconfig()
        watched.credential.save()
        collector.until(lambda: health(watched) == "healthy")


def test_an_unusable_credential_is_told_and_stops_nothing(watched):
    broken = factories.make_cluster("broken")
    with Running(rhythm=FAST) as collector:
        collector.until(lambda: health(broken) == "unreachable")
        collector.until(lambda: health(watched) == "healthy")
    broken.refresh_from_db()
    assert "has no credential" in broken.health_reason


def test_a_credential_that_becomes_usable_by_itself_is_used_without_a_restart(watched, monkeypatch):
    load = process._load_connection
    unusable = [PermanentError("not yet valid")]

    def not_yet(cluster_id):
        if unusable:
            raise unusable[0]
        return load(cluster_id)

    monkeypatch.setattr(process, "_load_connection", not_yet)
    with Running(rhythm=FAST) as collector:
        collector.until(lambda: health(watched) == "unreachable")
        unusable.clear()
        collector.until(lambda: health(watched) == "healthy")


def test_a_stopped_collector_gives_its_clusters_back(watched):
    with Running(rhythm=FAST) as collector:
        collector.until(lambda: names() == ["n1"])
    assert CollectorLease.objects.get().holder == ""
    assert leases.living_collectors() == []


def test_a_collector_whose_lease_was_taken_stops_watching(watched):
    with Running(rhythm=FAST) as collector:
        collector.until(lambda: names() == ["n1"])
        CollectorLease.objects.update(holder="other")
        collector.until(lambda: not collector.process._watched)
    assert CollectorLease.objects.get().holder == "other"
