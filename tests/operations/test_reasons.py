"""All that keeps a machine out of an operation is told together, the cause of the rest first; and
which credential counts is one rule for visits and operations."""

import pytest
from django.urls import reverse

from beidou.base.errors import Forbidden, InvalidInput
from machines.models import Machine
from machines.services import credentials, edits, facts, host_keys, registration, signing
from operations.kinds import hosts
from operations.kinds.scale_down import ScaleDownParams, planning
from operations.models import ClusterSettings, MachineStep, Operation
from operations.services import control, plans, start
from tests import factories
from tests.fakes.ssh_server import new_key, public_line

pytestmark = pytest.mark.django_db
START = reverse("operations:start")


@pytest.fixture
def settings_of_a(cluster_a):
    return ClusterSettings.objects.create(
        cluster=cluster_a, artifact_source="https://files.example"
    )


@pytest.fixture
def with_fallback(settings_of_a):
    settings_of_a.credential = factories.make_credential("of-the-cluster")
    settings_of_a.save()
    return settings_of_a.credential


def plan(cluster, machines, user, kind="ScaleUp"):
    return start.plan_operation(
        kind=kind, cluster=cluster, machines=machines, params={}, acting_user=user
    )


# --- reasons --------------------------------------------------------------------------------------


def test_a_newcomer_without_a_credential_is_told_that_and_what_follows_from_it(
    cluster_a, settings_of_a, operators, operator
):
    machine = factories.make_machine(
        hostname="", state=Machine.State.DISCOVERED, owner_team=operators
    )
    (blocker,) = plan(cluster_a, [machine], operator).blockers
    assert blocker.reasons == (
        "no SSH credential is set for it",
        "its host key is not pinned yet",
        "its hostname is not known",
        "it is Discovered; must be Available",
    )


def test_one_with_a_credential_is_told_to_gather_its_facts(
    cluster_a, settings_of_a, operators, operator
):
    machine = factories.make_machine(
        hostname="", owner_team=operators, credential=factories.make_credential()
    )
    (blocker,) = plan(cluster_a, [machine], operator).blockers
    assert blocker.reasons == (
        "its host key is not pinned yet; gather its facts first",
        "its hostname is not known; gather its facts first",
    )


def test_another_state_is_told_before_what_the_kind_misses(
    cluster_a, settings_of_a, operators, operator
):
    machine = factories.make_machine(state=Machine.State.FAULTY, owner_team=operators)
    (blocker,) = plan(cluster_a, [machine], operator).blockers
    assert blocker.reasons[0] == "it is Faulty; must be Available"
    assert "no SSH credential is set for it" in blocker.further


def test_the_api_has_all_reasons_in_one_row_per_machine(
    cluster_a, settings_of_a, operators, operator
):
    machine = factories.make_machine(owner_team=operators)
    (row,) = plans.as_dict(plan(cluster_a, [machine], operator))["blocked"]
    assert row["reasons"] == ["no SSH credential is set for it", "its host key is not pinned yet"]
    assert row["reason"] == "; ".join(row["reasons"])


def test_a_refused_start_names_all_reasons(cluster_a, settings_of_a, operators, operator):
    machine = factories.make_machine(owner_team=operators)
    with pytest.raises(InvalidInput) as caught:
        start.start_operation(
            kind="ScaleUp", cluster=cluster_a, machines=[machine], acting_user=operator
        )
    assert "no SSH credential" in caught.value.fields[machine.address]
    assert "host key is not pinned" in caught.value.fields[machine.address]


def test_the_plan_on_the_page_lists_them(browser, cluster_a, settings_of_a, operators, operator):
    machine = factories.make_machine(owner_team=operators)
    asked = {
        "kind": "ScaleUp", "cluster": cluster_a.pk, "machines": machine.address,
        "max_failed_percent": 100, "forks": 10, "step": "plan",
    }  # fmt: skip
    text = browser(operator).post(START, asked).content.decode()
    assert "<li>no SSH credential is set for it</li>" in text
    assert "<li>its host key is not pinned yet</li>" in text


def test_a_scale_down_tells_what_is_wrong_with_the_node_and_with_the_way_to_it(cluster_a):
    machine = factories.make_machine(cluster=cluster_a, state=Machine.State.IN_SERVICE)
    found = planning.blockers(cluster_a, [machine], ScaleDownParams())
    assert [blocker.reason for blocker in found] == [
        "no node of the cluster is linked to it",
        "no SSH credential is set for it",
        "its host key is not pinned yet",
    ]


def test_the_form_shows_who_waits_for_a_first_visit_and_why(
    browser, cluster_a, operators, operator
):
    new = factories.make_machine(state=Machine.State.DISCOVERED, owner_team=operators)
    ready = factories.make_machine(owner_team=operators)
    answer = browser(operator).get(START, {"kind": "ScaleUp", "cluster": cluster_a.pk})
    shown = {machine.pk: machine.blocked_by for machine in answer.context["candidates"]}
    assert shown == {new.pk: "it is Discovered; must be Available", ready.pk: ""}
    assert answer.context["able"] == 1
    assert "Pick from 1 machine that could take part" in answer.content.decode()


# --- which credential counts ----------------------------------------------------------------------


def test_a_machine_of_the_cluster_without_its_own_credential_uses_the_clusters(
    cluster_a, with_fallback
):
    machine = factories.make_machine(cluster=cluster_a)
    assert signing.credential_of(machine) == with_fallback
    assert signing.by_machine([machine]) == {machine.pk: with_fallback}
    assert hosts.credential_of(machine, hosts.settings_of(cluster_a.pk)) == with_fallback


def test_its_own_credential_comes_first(cluster_a, with_fallback):
    own = factories.make_credential("own")
    machine = factories.make_machine(cluster=cluster_a, credential=own)
    assert signing.credential_of(machine) == own
    assert signing.by_machine([machine]) == {machine.pk: own}


def test_a_machine_in_no_cluster_has_its_own_or_none(with_fallback):
    machine = factories.make_machine()
    assert signing.credential_of(machine) is None
    assert signing.by_machine([machine]) == {}


def test_visits_are_asked_for_with_the_clusters_credential(cluster_a, with_fallback, operator):
    machine = factories.make_machine(cluster=cluster_a)
    outside = factories.make_machine(owner_team=operator.groups.get())
    asked = facts.request_gathering(machines=[machine, outside], acting_user=operator)
    assert asked.accepted == [machine]
    assert "has no SSH credential" in asked.refused[outside.pk]


def test_old_facts_are_looked_for_with_the_clusters_credential_too(cluster_a, with_fallback):
    factories.make_machine(cluster=cluster_a)
    factories.make_machine()
    assert facts.request_stale() == 1


def test_a_visit_signs_in_with_the_clusters_credential(cluster_a, settings_of_a, host):
    settings_of_a.credential = factories.make_credential(
        password="", private_key=host.text, port=host.port
    )
    settings_of_a.save()
    machine = factories.make_machine(host.address, cluster=cluster_a)
    facts.gather([machine.pk])
    machine.refresh_from_db()
    assert machine.host_key == host.host_key


def test_whoever_may_not_use_the_clusters_credential_leads_it_to_no_new_key(
    cluster_a, with_fallback, operator
):
    machine = factories.make_machine(
        cluster=cluster_a,
        host_key=public_line(new_key()),
        offered_host_key=public_line(new_key()),
    )
    with pytest.raises(Forbidden, match="may not use the credential of-the-cluster"):
        host_keys.accept(
            machine=machine,
            shown=host_keys.fingerprint(machine.offered_host_key),
            reason="new board",
            acting_user=operator,
        )


def test_nor_to_a_new_address(cluster_a, with_fallback, operators, operator):
    factories.grant(operators, cluster_a, "owner")
    machine = factories.make_machine("10.6.0.1", cluster=cluster_a)
    machine.address = "10.6.0.2"
    with pytest.raises(InvalidInput, match="of-the-cluster"):
        edits.change(machine=machine, fields=["address"], reason="moved", acting_user=operator)


def test_nor_to_a_machine_that_has_one_of_its_own(cluster_a, with_fallback, operators, operator):
    factories.grant(operators, cluster_a, "owner")
    own = factories.make_credential(team=operators)
    machine = factories.make_machine(cluster=cluster_a, credential=own)
    machine.credential = None
    with pytest.raises(InvalidInput, match="of-the-cluster") as caught:
        edits.change(machine=machine, fields=["credential"], reason="x", acting_user=operator)
    assert "credential" in caught.value.fields


def test_the_form_says_so_at_the_field(browser, cluster_a, with_fallback, operators, operator):
    factories.grant(operators, cluster_a, "owner")
    own = factories.make_credential(team=operators)
    machine = factories.make_machine(cluster=cluster_a, credential=own)
    page = reverse("admin:machines_machine_change", args=[machine.pk])
    asked = {"address": machine.address, "hostname": machine.hostname, "role": "Compute"}
    answer = browser(operator).post(page, {**asked, "labels": "{}", "credential": ""})
    assert "of-the-cluster" in str(answer.context["adminform"].form.errors["credential"])


def test_nor_to_a_machine_that_takes_the_system_uuid_of_a_node(
    cluster_a, with_fallback, operators, operator
):
    node = factories.make_node(cluster_a, internal_ip="10.8.3.1", system_uuid="u-1")
    machine = factories.make_machine("203.0.113.66", owner_team=operators, system_uuid="u-1")
    result = registration.register_nodes(cluster=cluster_a, nodes=[node], acting_user=operator)
    assert "of-the-cluster" in result.refused[node.name]
    machine.refresh_from_db()
    assert machine.cluster is None


# --- lending the cluster's credential to a machine from outside -----------------------------------

LENDING = "no SSH credential of its own"


@pytest.fixture
def outsider(operators):
    """Free, without a credential, and with the key its owner's host showed."""
    return factories.make_machine(owner_team=operators, host_key=public_line(new_key()))


def begin(cluster, machines, user, **values):
    return start.start_operation(
        kind="ScaleUp", cluster=cluster, machines=machines, acting_user=user, **values
    )


def test_a_plan_lends_the_clusters_credential_only_for_those_who_may_use_it(
    cluster_a, with_fallback, outsider, operator, admin
):
    (blocker,) = plan(cluster_a, [outsider], operator).blockers
    assert LENDING in blocker.reason
    assert plan(cluster_a, [outsider], admin).ready == (outsider,)


def test_members_of_the_credentials_team_may_lend_it(
    cluster_a, with_fallback, outsider, operators, operator
):
    with_fallback.team = operators
    with_fallback.save()
    assert plan(cluster_a, [outsider], operator).ready == (outsider,)


def test_a_start_does_not_lend_it(cluster_a, with_fallback, outsider, operator):
    with pytest.raises(InvalidInput, match=LENDING):
        begin(cluster_a, [outsider], operator)


def test_a_machine_that_lost_its_credential_since_the_plan_is_refused(
    cluster_a, with_fallback, outsider, operators, operator, monkeypatch
):
    Machine.objects.filter(pk=outsider.pk).update(credential=factories.make_credential())
    outsider.refresh_from_db()
    lock = start.lock

    def take_away(machines):
        Machine.objects.filter(pk=outsider.pk).update(credential=None)
        lock(machines)

    monkeypatch.setattr(start, "lock", take_away)
    with pytest.raises(InvalidInput, match=LENDING):
        begin(cluster_a, [outsider], operator)
    assert not Operation.objects.exists()


@pytest.fixture
def ended(cluster_a, with_fallback, outsider, admin):
    """An administrator's operation that failed before it touched the machine."""
    operation = begin(cluster_a, [outsider], admin)
    operation.machines.update(state="failed", holds_machine=False)
    Machine.objects.filter(pk=outsider.pk).update(state=Machine.State.AVAILABLE, cluster=None)
    operation.steps.filter(position=1).update(status="failed")
    MachineStep.objects.filter(step__operation=operation, step__position=1).update(status="failed")
    Operation.objects.filter(pk=operation.pk).update(status=Operation.Status.FAILED)
    operation.refresh_from_db()
    return operation


def test_a_retry_does_not_lend_it(ended, operator):
    with pytest.raises(InvalidInput, match=LENDING):
        control.retry(ended, acting_user=operator)


def test_nor_does_a_skip(ended, operator):
    failed = [ended.machines.get().pk]
    with pytest.raises(InvalidInput, match=LENDING):
        control.skip(ended, acting_user=operator, step="preCheck", machines=failed, reason="known")


def test_whoever_may_use_it_does_it_again(ended, admin):
    control.retry(ended, acting_user=admin)
    ended.refresh_from_db()
    assert ended.status == Operation.Status.WAITING


def test_a_test_with_ones_own_credential_pins_no_key_for_that_of_the_cluster(
    cluster_a, with_fallback, operators, operator, host
):
    machine = factories.make_machine(host.address, cluster=cluster_a)
    own = factories.make_credential(
        password="", private_key=host.text, port=host.port, team=operators
    )
    result = credentials.test(credential=own, machine=machine, acting_user=operator)
    assert result.is_ok
    assert result.fingerprint == host_keys.fingerprint(host.host_key)
    machine.refresh_from_db()
    assert (machine.host_key, machine.offered_host_key) == ("", "")
