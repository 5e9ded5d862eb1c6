"""Un-adopting a cluster."""

import pytest

from beidou.base.errors import Conflict, InvalidInput
from beidou.base.models import AuditEntry
from clusters.models import Cluster, ClusterCredential, ClusterGroupObjectPermission, Node
from clusters.services import removal
from operations.models import Operation
from tests import factories
from tests.rows import make_row

pytestmark = pytest.mark.django_db


def test_every_row_goes_and_the_audit_stays(adopted, kube):
    factories.make_node(adopted)
    factories.grant(factories.make_team(), adopted, "owner")
    removal.unadopt(cluster=adopted, confirmation="adopted", reason="returned to its provider")
    for model in (Cluster, Node, ClusterCredential, ClusterGroupObjectPermission):
        assert not model._default_manager.exists()
    assert not Cluster.history.exists()
    entry = AuditEntry.objects.get()
    assert (entry.verb, entry.object_name) == ("unadopt", "adopted")
    assert not kube.requests


def test_a_machine_of_the_cluster_is_kept(adopted):
    machine = factories.make_machine(cluster=adopted, node=factories.make_node(adopted))
    removal.unadopt(cluster=adopted, confirmation="adopted")
    machine.refresh_from_db()
    assert (machine.cluster, machine.node) == (None, None)


def test_the_page_is_told_what_other_apps_say_and_their_rows_are_mended(adopted, monkeypatch):
    seen = []
    monkeypatch.setattr(removal, "CONSEQUENCES", [])
    monkeypatch.setattr(removal, "FOLLOWERS", [])
    removal.register_consequence(lambda cluster: [f"Two apps go with {cluster}."])
    removal.register_follower(lambda cluster, reason: seen.append((str(cluster), reason)))
    assert removal.consequences_of(adopted) == ["Two apps go with adopted."]
    removal.unadopt(cluster=adopted, confirmation="adopted", reason="sold")
    assert seen == [("adopted", "sold")]


@pytest.mark.parametrize("typed", ["", "Adopted", "adopted ", "other"])
def test_the_name_must_be_typed(adopted, typed):
    with pytest.raises(InvalidInput, match="Type the cluster's name"):
        removal.unadopt(cluster=adopted, confirmation=typed)
    assert Cluster.objects.exists()


def test_a_running_operation_keeps_the_cluster_and_an_ended_one_does_not(adopted):
    operation = make_row(Operation, adopted)
    named = f"Operations are active on the cluster: {operation.name}."
    sentence = f"{named} Let them end, or cancel them."
    assert removal.blockers_of(adopted) == [sentence]
    with pytest.raises(Conflict, match=operation.name):
        removal.unadopt(cluster=adopted, confirmation="adopted")
    Operation.objects.update(status="succeeded")
    removal.unadopt(cluster=adopted, confirmation="adopted")
    assert not Cluster.objects.exists()


def test_reasons_of_other_apps_keep_the_cluster(adopted, monkeypatch):
    monkeypatch.setattr(removal, "BLOCKERS", [])
    removal.register_blocker(lambda cluster: [f"Operation 7 runs on {cluster}."])
    with pytest.raises(Conflict, match="Operation 7 runs on adopted"):
        removal.unadopt(cluster=adopted, confirmation="adopted")
    assert Cluster.objects.exists()
    assert not AuditEntry.objects.exists()


def test_a_blocker_is_registered_once(monkeypatch):
    monkeypatch.setattr(removal, "BLOCKERS", [])

    def blocker(cluster):
        return []

    removal.register_blocker(blocker)
    removal.register_blocker(blocker)
    assert len(removal.BLOCKERS) == 1
