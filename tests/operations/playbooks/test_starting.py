"""Beginning a run: who may, with what, and that exactly what was released is held."""

from datetime import timedelta

import pytest
import yaml
from django.urls import reverse

from beidou.base.errors import BeidouError, Conflict, Forbidden, InvalidInput
from beidou.base.models import AuditEntry
from machines.models import Machine
from operations.kinds import base as kinds
from operations.models import Attempt, Operation, PlaybookRun, PlaybookSource, SourceRevision
from operations.services import control, dispatch, manifests, plans, playbook_sources, start
from tests import factories

pytestmark = pytest.mark.django_db
SECRET = "very-secret-1"


def plan(cluster, machines, user, **params):
    return start.plan_operation(
        kind="RunPlaybook", cluster=cluster, machines=machines,
        params={"playbook": "ops/greet", **params}, acting_user=user,
    )  # fmt: skip


def reasons(found):
    return [each.reason for each in found.blockers]


def test_an_operation_holds_the_content_it_was_begun_with(site, begin):
    revision = site.release()
    operation = begin()
    assert operation.params["revision"] == revision.revision
    assert operation.params["content"] == revision.digest
    assert operation.params["variables"] == {"greeting": "hello"}
    site.write("greet.yml", "[]")
    newer = site.release()
    run = PlaybookRun.objects.get(operation=operation)
    assert run.revision == revision != newer


def test_content_that_an_operation_holds_is_not_forgotten(site, begin, admin, monkeypatch):
    monkeypatch.setattr(playbook_sources, "KEPT", 0)
    held = site.release()
    begin()
    site.write("greet.yml", "[]")
    site.release()
    site.read()
    assert SourceRevision.objects.filter(pk=held.pk).exists()
    with pytest.raises(Conflict, match="switch the source off"):
        playbook_sources.refuse_deletion(PlaybookSource.objects.all())


def test_a_plan_says_which_revision_it_is_about(site, cluster_a, machine, operator):
    revision = site.release()
    found = plan(cluster_a, [machine], operator)
    assert plans.as_dict(found)["params"]["revision"] == revision.revision
    told = dict(kinds.get("RunPlaybook").about(found.params.model_dump(mode="json")))
    assert told["Revision"] == revision.revision
    assert "Greet – ops/greet" in told["Playbook"]


def test_what_was_planned_is_refused_once_another_revision_was_released(site, begin):
    revision = site.release()
    site.write("greet.yml", "[]")
    site.release()
    with pytest.raises(Conflict, match="Another revision"):
        begin(revision=revision.revision)
    with pytest.raises(Conflict, match="Another revision"):
        begin(content=revision.digest)
    assert not Operation.objects.exists()


@pytest.mark.parametrize("playbook", ["ops/none", "none/greet"])
def test_a_playbook_that_is_not_there_is_refused(site, begin, playbook):
    site.release()
    with pytest.raises(InvalidInput) as caught:
        begin(playbook=playbook)
    assert set(caught.value.fields) == {"params.playbook"}


def test_a_playbook_that_nobody_released_is_not_there(site, begin):
    site.read()
    with pytest.raises(InvalidInput, match="no playbook"):
        begin()


@pytest.mark.parametrize(("right", "allowed"), [("operate", True), ("change", False)])
def test_the_right_that_the_playbook_names_is_needed(site, begin, right, allowed):
    site.release(permission=right)
    if allowed:
        begin()
    else:
        with pytest.raises(Forbidden, match="change"):
            begin()


def test_a_viewer_runs_nothing(site, begin, viewer):
    site.release()
    with pytest.raises(Forbidden):
        begin(user=viewer)


def test_a_source_for_other_teams_is_not_there(site, begin, operators, admin):
    site.release()
    team = factories.make_team()
    site.source.teams.set([team])
    with pytest.raises(InvalidInput, match="no playbook"):
        begin()
    site.source.teams.add(operators)
    begin()


def test_wrong_variables_are_named_by_path(site, begin):
    site.release()
    with pytest.raises(InvalidInput) as caught:
        begin(variables={"count": 9, "strange": 1})
    assert set(caught.value.fields) == {"params.variables.count", "params.variables.strange"}


def test_a_destructive_one_asks_for_the_name_of_the_cluster(site, begin):
    site.release(destructive=True)
    for confirm in ("", "cluster-b"):
        with pytest.raises(InvalidInput) as caught:
            begin(confirm=confirm)
        assert set(caught.value.fields) == {"params.confirm"}
    begin(confirm="cluster-a")


@pytest.mark.parametrize("state", ["available", "maintenance", "faulty"])
def test_machines_in_other_states_than_declared_are_left_out(
    site, cluster_a, machine, operator, state
):
    site.release()
    Machine.objects.update(state=state)
    machine.refresh_from_db()
    found = plan(cluster_a, [machine], operator)
    assert "the playbook is for machines that are In service / Cordoned" in reasons(found)[0]
    site.release(states=[state])
    assert plan(cluster_a, [machine], operator).blockers == ()


def test_a_machine_of_another_cluster_or_without_a_way_in_is_left_out(
    site, cluster_a, cluster_b, admin
):
    site.release()
    foreign = factories.make_machine(cluster=cluster_b, state="in_service")
    assert reasons(plan(cluster_a, [foreign], admin))[0] == "it belongs to cluster cluster-b"
    assert "no SSH credential" in str(plan(cluster_a, [foreign], admin).blockers[0])


def test_without_machines_it_is_all_of_the_cluster(site, cluster_a, machine, operator):
    site.release()
    factories.make_machine(cluster=cluster_a, state="joining")
    assert start.machines_of("RunPlaybook", cluster_a, user=operator) == [machine]


def test_only_runs_of_the_same_playbook_tell_how_long_it_takes(
    site, begin, cluster_a, machine, operator, work
):
    other = {"name": "other", "playbook": "greet.yml", "title": "Other"}
    site.release({"name": "greet", "playbook": "greet.yml", "title": "Greet"}, other)
    operation = begin()
    for step in operation.steps.all():
        attempt = Attempt.objects.create(step=step, number=1, holder="x", machines=1)
        Attempt.objects.filter(pk=attempt.pk).update(
            outcome="done", finished_at=attempt.started_at + timedelta(seconds=5)
        )
    Operation.objects.update(status="succeeded")
    operation.machines.update(holds_machine=False)
    assert plan(cluster_a, [machine], operator).seconds == (10.0, 10.0)
    assert plan(cluster_a, [machine], operator, playbook="ops/other").seconds is None


# --- one that only looks ---------------------------------------------------------------------


def test_one_that_changes_nothing_runs_beside_others(site, begin, machine):
    site.release(changes_machines=False)
    for _number in range(5):
        operation = begin()
        assert not operation.machines.filter(holds_machine=True).exists()
    dispatch.dispatch()
    assert Operation.objects.filter(status="running", slot=None).count() == 5


def test_one_that_changes_machines_holds_them(site, begin, machine):
    site.release()
    operation = begin()
    assert operation.machines.filter(holds_machine=True).exists()
    with pytest.raises(InvalidInput, match="is working on it"):
        begin()
    dispatch.dispatch()
    operation.refresh_from_db()
    assert operation.slot is not None


# --- secrets ---------------------------------------------------------------------------------


def test_a_secret_is_stored_encrypted_and_nowhere_else(site, begin, db):
    site.release()
    operation = begin(variables={"token": SECRET})
    assert operation.params["variables"]["token"].startswith("(not shown) #")
    run = PlaybookRun.objects.get(operation=operation)
    assert run.given_secrets == {"token": SECRET}
    raw = PlaybookRun.objects.extra(select={"raw": "secrets"}).values_list("raw", flat=True)
    everything = [
        raw.get(), str(operation.params), manifests.as_manifest(operation),
        *(f"{entry.before}{entry.after}" for entry in AuditEntry.objects.all()),
    ]  # fmt: skip
    assert SECRET not in "".join(everything)


@pytest.fixture
def unreadable(site, begin):
    """An operation whose content another version of the portal declared."""
    site.release()
    operation = begin()
    revision = SourceRevision.objects.get()
    (playbook,) = revision.declaration["playbooks"]
    revision.declaration = {"version": 1, "playbooks": [{**playbook, "colour": "red"}]}
    revision.save()
    return operation


def test_a_declaration_that_cannot_be_read_is_said_to_be_so(unreadable, cluster_a, machine):
    params = kinds.get("RunPlaybook").params.model_validate(unreadable.params)
    found = kinds.get("RunPlaybook").blockers(cluster_a, [machine], params)
    assert "cannot read what the source declares" in found[0].reason


def test_an_operation_whose_declaration_cannot_be_read_is_shown(unreadable, browser, viewer):
    url = reverse("admin:operations_operation_change", args=[unreadable.pk])
    assert browser(viewer).get(url).status_code == 200


# --- manifests -------------------------------------------------------------------------------


def manifest(cluster, machine, name="greet-1", **spec):
    document = {
        "apiVersion": "vcluster.caas.beidou.io/v1alpha1",
        "kind": "Operation",
        "metadata": {"name": name},
        "spec": {
            "clusterName": cluster.name,
            "operationType": "RunPlaybook",
            "operationFlow": ["preCheck", "run"],
            "operationMachines": [{"ip": machine.address}],
            "params": {"playbook": "ops/greet", "variables": {"token": SECRET}},
            **spec,
        },
    }
    return manifests.parse(yaml.safe_dump(document))


def test_a_manifest_twice_is_one_operation(site, cluster_a, machine, operator):
    site.release()
    first, again = (
        manifests.apply(manifest(cluster_a, machine), acting_user=operator)[0] for _ in range(2)
    )
    assert (first.is_new, again.is_new) == (True, False)


def test_a_manifest_stays_satisfied_when_the_source_has_moved_on(
    site, cluster_a, machine, operator
):
    site.release()
    manifests.apply(manifest(cluster_a, machine), acting_user=operator)
    site.release(description="other")
    (again,) = manifests.apply(manifest(cluster_a, machine), acting_user=operator)
    assert not again.is_new


def test_the_manifest_of_an_operation_asks_for_the_same(site, begin, operator):
    site.release()
    operation = begin(variables={"token": SECRET, "count": 2})
    documents = manifests.parse(manifests.as_manifest(operation))
    assert not manifests.apply(documents, acting_user=operator)[0].is_new
    documents[0]["metadata"]["name"] = "another"
    with pytest.raises(InvalidInput, match=r"is working on it|give the secret itself"):
        manifests.apply(documents, acting_user=operator)


@pytest.mark.parametrize("variables", [{"token": "other-secret"}, {"token": SECRET, "count": 1}])
def test_another_wish_under_the_same_name_is_refused(site, cluster_a, machine, operator, variables):
    site.release()
    manifests.apply(manifest(cluster_a, machine), acting_user=operator)
    other = manifest(cluster_a, machine, params={"playbook": "ops/greet", "variables": variables})
    with pytest.raises(Conflict, match=r"spec\.params"):
        manifests.apply(other, acting_user=operator)


def test_a_mistake_in_a_manifest_names_its_path(site, cluster_a, machine, operator):
    site.release()
    wrong = manifest(
        cluster_a, machine, params={"playbook": "ops/greet", "variables": {"count": 9}}
    )
    with pytest.raises(InvalidInput) as caught:
        manifests.apply(wrong, acting_user=operator)
    assert set(caught.value.fields) == {"spec.params.variables.count"}


# --- doing it again --------------------------------------------------------------------------


@pytest.fixture
def failed(site, begin):
    """An operation that was canceled before it began."""
    site.release(permission="operate")
    operation = begin(variables={"token": SECRET})
    Operation.objects.filter(pk=operation.pk).update(status="canceled")
    operation.machines.update(state="canceled", holds_machine=False)
    operation.refresh_from_db()
    return operation


def test_a_retry_holds_the_same_content_although_the_source_moved_on(failed, site, operator):
    before = PlaybookRun.objects.get(operation=failed)
    site.write("greet.yml", "[]")
    site.release()
    control.retry(failed, acting_user=operator)
    failed.refresh_from_db()
    assert failed.status == "waiting"
    after = PlaybookRun.objects.get(operation=failed)
    assert (after.revision, after.given_secrets) == (before.revision, {"token": SECRET})


def test_a_retry_needs_the_right_that_the_playbook_names(failed, operator):
    run = PlaybookRun.objects.get(operation=failed)
    PlaybookRun.objects.update(declaration={**run.declaration, "permission": "approve"})
    with pytest.raises(Forbidden, match="approve"):
        control.retry(failed, acting_user=operator)


def test_a_retry_is_for_the_teams_of_the_source(failed, site, operator):
    site.source.teams.set([factories.make_team()])
    with pytest.raises(Forbidden, match="for other teams"):
        control.retry(failed, acting_user=operator)


def test_a_retry_of_a_source_that_is_switched_off_is_refused(failed, operator):
    PlaybookSource.objects.update(enabled=False)
    with pytest.raises(BeidouError, match="switched off"):
        control.retry(failed, acting_user=operator)
