"""A cluster that is made here: from its row to one like others."""

import pytest

from beidou.base.errors import Conflict, InvalidInput
from beidou.overview.attention import needs
from clusters.models import Cluster, ClusterCredential, CollectorLease
from clusters.services import adoption, connections, creation, leases
from clusters.services.adoption import Details
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def cluster(admin):
    return creation.begin(
        details=Details(name="fresh"),
        version="v1.36.3",
        server="https://10.0.0.1:6443",
        pod_cidr="10.244.0.0/16",
        service_cidr="10.96.0.0/16",
        user=admin,
    )


def test_nobody_watches_it_before_it_is_there(cluster, kube):
    leases.beat("collector-1")
    assert not CollectorLease.objects.exists()
    creation.store_access(cluster=cluster, text=kube.kubeconfig())
    leases.beat("collector-1")
    assert not CollectorLease.objects.exists()
    creation.finish(cluster=cluster, reason="created")
    (held,) = leases.beat("collector-1")
    assert held.cluster_id == cluster.pk


def test_that_nothing_is_known_of_it_is_no_trouble(cluster, admin):
    Cluster.objects.filter(pk=cluster.pk).update(created_at="2020-01-01T00:00:00Z")
    assert [need.kind for need in needs(admin)] == []
    Cluster.objects.filter(pk=cluster.pk).update(checked_at="2020-01-01T00:00:00Z")
    assert [need.kind for need in needs(admin)] == []


def test_access_brings_its_identity_its_version_and_what_may_be_done(cluster, kube):
    creation.store_access(cluster=cluster, text=kube.kubeconfig())
    cluster.refresh_from_db()
    assert cluster.uid.startswith("fake-uid-")
    assert cluster.server == kube.server
    assert cluster.can("scale_up")
    assert cluster.phase == Cluster.Phase.PROVISIONING
    credential = ClusterCredential.objects.get(cluster=cluster)
    assert credential.subject == "kubernetes-admin"
    with connections.client_for(cluster) as client:
        assert client.kube_system_uid() == cluster.uid


def test_a_creation_that_was_begun_anew_is_another_cluster(cluster, kube):
    cluster.uid = "of the first try"
    cluster.save()
    creation.store_access(cluster=cluster, text=kube.kubeconfig())
    assert cluster.uid.startswith("fake-uid-")


def test_a_cluster_that_is_known_under_another_name_is_refused(cluster, kube):
    uid = adoption.check(adoption.Source(kubeconfig=kube.kubeconfig())).uid
    factories.make_cluster("known", uid=uid)
    with pytest.raises(adoption.AlreadyAdopted, match="under the name known"):
        creation.store_access(cluster=cluster, text=kube.kubeconfig())
    assert not ClusterCredential.objects.exists()


def test_once_it_is_there_it_stays_the_same_cluster(cluster, kube):
    creation.store_access(cluster=cluster, text=kube.kubeconfig())
    creation.finish(cluster=cluster, reason="created")
    cluster.uid = "another"
    with pytest.raises(Conflict, match="leads to another cluster"):
        creation.store_access(cluster=cluster, text=kube.kubeconfig())


def test_finishing_is_noted_and_may_be_repeated(cluster, kube):
    creation.store_access(cluster=cluster, text=kube.kubeconfig())
    creation.finish(cluster=cluster, reason="by an operation")
    creation.finish(cluster=cluster, reason="once more")
    changes = [(change.old, change.new) for change in cluster.status_changes.all()]
    assert changes == [("", "provisioning"), ("provisioning", "running")]
    assert cluster.status_changes.last().reason == "by an operation"


def test_a_cluster_without_a_credential_cannot_be_finished(cluster):
    with pytest.raises(InvalidInput, match="no credential yet"):
        creation.finish(cluster=cluster, reason="")
    assert cluster.is_unmade
