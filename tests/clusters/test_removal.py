"""Un-adopting a cluster."""

import pytest
from django.apps import apps
from django_q.models import OrmQ

from beidou.base.errors import Conflict, InvalidInput
from beidou.base.models import AuditEntry
from clusters.models import Cluster, ClusterCredential, ClusterGroupObjectPermission, Node
from clusters.services import removal
from events import tasks as event_tasks
from events.models import Event
from machines.models import Machine
from operations.models import Operation
from tests import factories
from tests.admin_cases import CASES
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


KEPT = {AuditEntry, Machine.history.model, Event}
"""The audit trail, and the past of machines, which stay; events go in portions right afterwards."""


def references(model):
    """The fields by which rows of ``model`` say that they are about a cluster."""
    if model is Cluster.history.model:
        return ["id"]
    return [
        field.attname
        for field in model._meta.concrete_fields
        if field.related_model is Cluster or field.attname == "cluster_id"
    ]


def test_no_model_keeps_a_row_about_the_cluster(adopted):
    """Also none that is added later: every model is asked, histories among them."""
    for case in CASES:
        make_row(case.model, adopted)
    Operation.objects.update(status="succeeded")
    key = adopted.pk
    removal.unadopt(cluster=adopted, confirmation="adopted")
    left = [
        f"{model._meta.label}.{name}"
        for model in apps.get_models()
        if model not in KEPT
        for name in references(model)
        if model._default_manager.filter(**{name: key}).exists()
    ]
    assert left == []


def test_events_go_right_afterwards(adopted, django_capture_on_commit_callbacks):
    make_row(Event, adopted)
    with django_capture_on_commit_callbacks(execute=True):
        removal.unadopt(cluster=adopted, confirmation="adopted")
    (queued,) = [each for each in OrmQ.objects.all() if "forget_clusters" in each.func()]
    assert queued.func() == "events.tasks.forget_clusters"
    event_tasks.forget_clusters()
    assert not Event.objects.exists()


def test_no_history_ends_with_the_removal(adopted):
    """What the cascade deletes writes a last version, of rows that no longer exist."""
    for case in CASES:
        make_row(case.model, adopted)
    Operation.objects.update(status="succeeded")
    removal.unadopt(cluster=adopted, confirmation="adopted")
    histories = [model for model in apps.get_models() if hasattr(model, "history_type")]
    assert histories
    assert not [model for model in histories if model.objects.filter(history_type="-").exists()]


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
