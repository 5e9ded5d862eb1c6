"""Storing what the collector observed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from clusters.drivers.answers import ComponentHealth, WorkloadCounts
from clusters.drivers.objects import NODES
from clusters.models import VERSION_LENGTH, HealthChange, NamespaceUsage, Node
from clusters.services import inventory, leases
from clusters.services.inventory import Usage
from tests import factories
from tests.fakes import kube_api

pytestmark = pytest.mark.django_db
AT = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


@pytest.fixture
def cluster():
    cluster = factories.make_cluster()
    leases.beat("me")
    return cluster


def info(name, **values):
    return NODES.decode_object(msgspec.json.encode(kube_api.node(name, **values)))


def write(cluster, *nodes, **values):
    inventory.write_nodes(holder="me", cluster_id=cluster.pk, nodes=nodes, at=AT, **values)


def usage(cluster, changed, per_node=None, gone=(), *, fresh=False):
    inventory.write_usage(
        holder="me",
        cluster_id=cluster.pk,
        changed=changed,
        gone=gone,
        per_node=per_node or {},
        replace=fresh,
    )


def test_a_node_is_stored_with_all_that_kubernetes_says(cluster):
    write(cluster, info("n1", taints=[{"key": "a", "effect": "NoSchedule"}]))
    node = Node.objects.get()
    assert (node.internal_ip, node.is_ready, node.cpu_allocatable) == ("10.0.0.7", True, 3800)
    assert (node.kubelet_version, node.architecture) == ("v1.36.3", "amd64")
    assert node.taints == [{"key": "a", "effect": "NoSchedule", "value": ""}]
    assert node.conditions[0]["changed_at"] == "2026-01-02T03:05:05+00:00"
    assert node.observed_at == AT


def test_annotations_follow_the_node(cluster):
    node = info("n1")
    write(cluster, replace(node, annotations={"a": "1", "b": "2"}))
    write(cluster, replace(node, annotations={"a": "3"}))
    assert Node.objects.get().annotations == {"a": "3"}


def test_writing_again_keeps_the_row_and_what_hangs_on_it(cluster):
    write(cluster, info("n1"))
    machine = factories.make_machine(cluster=cluster, node=Node.objects.get())
    write(cluster, info("n1", version="2", unschedulable=True))
    machine.refresh_from_db()
    assert machine.node.unschedulable


def test_writing_a_node_leaves_its_sums_alone(cluster):
    write(cluster, info("n1"))
    usage(cluster, {}, {"n1": Usage(pods=3, cpu_requested=700)})
    write(cluster, info("n1", version="2"))
    node = Node.objects.get()
    assert (node.pods_count, node.cpu_requested) == (3, 700)


def test_a_node_that_is_not_ready_says_why(cluster):
    write(cluster, info("n1", ready="False"), replace(info("n2"), conditions=()))
    reasons = dict(Node.objects.values_list("name", "not_ready_reason"))
    assert reasons["n1"] == "KubeletReady: kubelet is posting ready status"
    assert reasons["n2"] == "The node has not reported yet."


def test_deleted_nodes_and_those_not_named_go(cluster):
    write(cluster, *(info(f"n{i}") for i in range(4)))
    write(cluster, deleted=["n0"])
    write(cluster, all_names=["n2", "n3"])
    assert sorted(Node.objects.values_list("name", flat=True)) == ["n2", "n3"]


def test_nodes_of_another_cluster_stay(cluster):
    other = factories.make_node(factories.make_cluster())
    write(cluster, all_names=[])
    assert Node.objects.get() == other


def test_sums_are_changed_removed_and_replaced(cluster):
    usage(cluster, {("n1", "a"): Usage(pods=1), ("n1", "b"): Usage(pods=2, phases={"Running": 2})})
    usage(cluster, {("n1", "a"): Usage(pods=5)}, gone=[("n1", "b")])
    assert [(row.namespace, row.pods) for row in NamespaceUsage.objects.all()] == [("a", 5)]
    usage(cluster, {("", "c"): Usage(pods=1)}, fresh=True)
    assert [(row.node, row.namespace) for row in NamespaceUsage.objects.all()] == [("", "c")]


def judge(cluster, health, reason="", since=AT):
    changed = inventory.write_health(
        holder="me", cluster_id=cluster.pk, health=health, reason=reason, since=since, at=AT
    )
    cluster.refresh_from_db()
    return changed


def test_a_change_of_health_leaves_a_row(cluster):
    assert judge(cluster, "healthy")
    assert judge(cluster, "unreachable", "silence", since=AT - timedelta(seconds=40))
    assert cluster.health_since == AT - timedelta(seconds=40)
    rows = list(HealthChange.objects.values_list("old", "new", "reason", "actor"))
    assert rows == [
        ("unknown", "healthy", "", "collector"),
        ("healthy", "unreachable", "silence", "collector"),
    ]


def test_the_same_health_with_another_reason_leaves_none(cluster):
    judge(cluster, "degraded", "a")
    assert not judge(cluster, "degraded", "b", since=AT + timedelta(seconds=9))
    assert (cluster.health_reason, cluster.health_since) == ("b", AT)
    assert HealthChange.objects.count() == 1


def test_what_a_look_at_the_components_could_not_read_is_left_as_it_was(cluster):
    item = ComponentHealth(name="etcd", is_healthy=None, message="Unknown: no rights.")
    figures = inventory.component_figures([item], None, None, "")
    assert figures.keys() == {"components"}
    counts = WorkloadCounts(counts={"jobs": 2}, unknown={"services": "forbidden"})
    figures = inventory.component_figures([item], counts, AT, "v1.36.3")
    inventory.write_figures(holder="me", cluster_id=cluster.pk, figures=figures)
    cluster.refresh_from_db()
    assert cluster.workloads["counts"] == {"jobs": 2}
    assert cluster.components[0]["healthy"] is None
    assert cluster.server_certificate_expires_at == AT


def test_a_version_longer_than_its_column_is_cut():
    figures = inventory.component_figures([], None, None, f"v1.33.4+{'0' * 60}")
    assert len(figures["version"]) == VERSION_LENGTH
