"""Adopting, watching and cordoning a real kubeadm cluster, and losing it."""

import time
from datetime import timedelta

import pytest
from django.utils import timezone

from clusters.models import Cluster, HealthChange, NamespaceUsage, Node
from clusters.services import adoption, nodes
from clusters.services.adoption import AlreadyAdopted, Details
from clusters.services.checking import Source
from tests.clusters.collecting import Running

pytestmark = [pytest.mark.lab, pytest.mark.django_db]
NODE_SECONDS = 5
SUMS_SECONDS = 60
UNREACHABLE_SECONDS = 60


@pytest.fixture
def source(lab_cluster):
    return Source(kubeconfig=lab_cluster.kubeconfig)


@pytest.fixture
def cluster(source):
    return adoption.adopt(source=source, details=Details(name="lab"))


@pytest.fixture
def worker(lab_cluster):
    return next(name for name in lab_cluster.ready_nodes() if "worker" in name)


def seen(cluster):
    """The cluster's row as it is now."""
    return Cluster.objects.get(pk=cluster.pk)


def test_a_real_cluster_passes_every_step_and_may_be_used_for_everything(cluster, lab_cluster):
    assert cluster.version == lab_cluster.version
    assert [row["key"] for row in cluster.capabilities if not row["ok"]] == []
    assert cluster.credential.expires_at > timezone.now() + timedelta(days=300)


def test_a_real_cluster_is_adopted_once(cluster, source):
    with pytest.raises(AlreadyAdopted):
        adoption.adopt(source=source, details=Details(name="again"))


def test_the_inventory_is_what_kubernetes_says(cluster, lab_cluster, worker):
    with Running() as collector:
        collector.until(NamespaceUsage.objects.exists, SUMS_SECONDS)
        collector.until(lambda: seen(cluster).components, SUMS_SECONDS)
        collector.until(lambda: seen(cluster).pods_count > 0, SUMS_SECONDS)
    row = Node.objects.get(name=worker)
    assert row.is_ready
    assert row.kubelet_version == lab_cluster.version
    assert row.internal_ip == lab_cluster.kubectl(
        f"get node {worker} -o jsonpath={{.status.addresses[0].address}}"
    )
    counted = len(lab_cluster.kubectl("get pods -A --no-headers").splitlines())
    assert seen(cluster).pods_count == counted
    names = {item["name"] for item in seen(cluster).components}
    assert {"kube-apiserver", "etcd", "kube-scheduler", "coredns", "kube-proxy"} <= names
    assert seen(cluster).server_certificate_expires_at > timezone.now()


def test_a_changed_label_is_in_the_inventory_within_five_seconds(cluster, lab_cluster, worker):
    with Running() as collector:
        collector.until(lambda: Node.objects.filter(name=worker).exists(), SUMS_SECONDS)
        lab_cluster.kubectl(f"label node {worker} beidou-test=fresh --overwrite")
        begun = time.monotonic()
        try:
            collector.until(
                lambda: Node.objects.get(name=worker).labels.get("beidou-test") == "fresh"
            )
        finally:
            lab_cluster.kubectl(f"label node {worker} beidou-test-")
    assert time.monotonic() - begun < NODE_SECONDS


def test_cordoning_reaches_the_real_node_and_back(cluster, lab_cluster, worker, admin):
    with Running() as collector:
        collector.until(lambda: Node.objects.filter(name=worker).exists(), SUMS_SECONDS)
    row = Node.objects.get(name=worker)
    read = f"get node {worker} -o jsonpath={{.spec.unschedulable}}"
    nodes.set_cordoned(node=row, cordoned=True, reason="test", acting_user=admin)
    assert lab_cluster.kubectl(read) == "true"
    nodes.set_cordoned(node=row, cordoned=False, reason="test over", acting_user=admin)
    assert lab_cluster.kubectl(read) in ("", "false")


def test_a_frozen_control_plane_is_unreachable_within_a_minute_and_recovers(cluster, lab_cluster):
    control = next(host for host in lab_cluster.nodes if "control" in host.name)
    with Running() as collector:
        collector.until(lambda: seen(cluster).health in ("healthy", "degraded"), SUMS_SECONDS)
        collector.until(lambda: seen(cluster).pods_count > 0, SUMS_SECONDS)
        figures = seen(cluster).nodes_total, seen(cluster).pods_count
        control.pause()
        begun = time.monotonic()
        try:
            collector.until(lambda: seen(cluster).health == "unreachable", 2 * UNREACHABLE_SECONDS)
            took = time.monotonic() - begun
            lost = seen(cluster)
        finally:
            control.unpause()
        collector.until(lambda: seen(cluster).health != "unreachable", 3 * UNREACHABLE_SECONDS)
    assert took < UNREACHABLE_SECONDS
    assert (lost.nodes_total, lost.pods_count) == figures
    assert HealthChange.objects.filter(new="unreachable").count() == 1
