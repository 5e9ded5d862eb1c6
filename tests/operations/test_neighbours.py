"""What pages of machines and clusters show and refuse because of operations."""

from dataclasses import replace
from importlib import import_module

import pytest
from django.apps import apps
from django.db import transaction
from django.forms import modelform_factory
from django.urls import reverse
from django.utils import timezone

from beidou.base.errors import Conflict
from beidou.base.models import AuditEntry
from beidou.base.page_head import buttons
from clusters.models import Cluster
from clusters.services import removal
from machines import timeline
from machines.admin.forms import MachineForm
from machines.files import reading, report
from machines.files.resource import MachineResource
from machines.models import Drift, Machine
from machines.services import drift, edits, lifecycle
from machines.services import removal as machine_removal
from operations.kinds import base as kinds
from operations.kinds.lifecycle import Move
from operations.models import ClusterSettings
from operations.services import neighbours
from tests import factories
from tests.operations.toy import toy_kind

pytestmark = pytest.mark.django_db


def test_a_machines_timeline_tells_its_operations(toy, begin, work, machines, operator):
    operation = begin()
    work()
    entries = timeline.entries(machines[0], operator, only=["operation"])
    assert [entry.title for entry in entries] == [
        f"{operation.name}: Succeeded",
        f"{operation.name} was asked for",
    ]
    address = reverse("admin:operations_operation_change", args=[operation.pk])
    assert [entry.url for entry in entries] == [address, address]


def test_what_an_operation_does_stands_between_its_beginning_and_its_end(
    toy, begin, work, machines, operator, monkeypatch
):
    kind = replace(
        kinds.KINDS["Toy"],
        reserve=lambda operation, machine: Move(machine, Machine.State.RESERVED, "taken"),
        release=lambda member, reached: Move(member.machine, Machine.State.AVAILABLE, "let go"),
    )
    monkeypatch.setitem(kinds.KINDS, "Toy", kind)
    operation = begin()
    work()
    entries = timeline.entries(machines[0], operator, only=["operation", "transition"])
    assert [entry.title for entry in reversed(entries)] == [
        f"{operation.name} was asked for",
        "Available → Reserved",
        "Reserved → Available",
        f"{operation.name}: Succeeded",
    ]


def test_an_operation_that_goes_on_is_told_once_with_its_state(toy, begin, machines, operator):
    operation = begin()
    entries = timeline.entries(machines[0], operator, only=["operation"])
    assert [entry.title for entry in entries] == [f"{operation.name}: Waiting"]


def test_operations_one_may_not_see_are_not_told(toy, begin, machines, stranger):
    begin()
    assert timeline.entries(machines[0], stranger, only=["operation"]) == []


def labels_of(row, user):
    found = buttons.of(row, user)
    return [each.label for each in (*found.everyday, *found.others)]


def test_an_available_machine_offers_the_kinds_that_can_begin(toy, machines, operator):
    labels = labels_of(machines[0], operator)
    assert "Scale up" in labels
    assert "Clean up" in labels


def test_a_machine_under_change_offers_the_way_to_its_operation_alone(
    toy, begin, machines, operator
):
    operation = begin()
    assert labels_of(machines[0], operator) == [operation.name]


def test_who_may_not_operate_is_offered_nothing(toy, machines, stranger):
    assert labels_of(machines[0], stranger) == []


def test_a_cluster_offers_the_everyday_kinds_first_and_all_that_it_can_begin(cluster_a, operator):
    labels = labels_of(cluster_a, operator)
    assert labels[:2] == ["Scale up", "Scale down"]
    assert {"Upgrade cluster", "Renew certificates"} < set(labels)
    assert "Create a cluster" not in labels


def test_a_cluster_that_is_being_made_offers_no_change_of_it(cluster_a, operator):
    cluster_a.phase = Cluster.Phase.PROVISIONING
    assert "Scale up" not in labels_of(cluster_a, operator)


def test_whoever_may_only_look_at_a_cluster_is_offered_nothing(cluster_a, viewer):
    assert labels_of(cluster_a, viewer) == []


def test_nobody_moves_a_machine_under_an_operations_hands(toy, begin, work, machines):
    operation = begin()
    assert operation.name in (lifecycle.held_by(machines[0]) or "")
    work()
    assert lifecycle.held_by(machines[0]) is None


def test_a_cluster_with_an_operation_under_way_is_not_un_adopted(toy, begin, cluster_a):
    operation = begin()
    with pytest.raises(Conflict, match=operation.name):
        removal.unadopt(cluster=cluster_a, confirmation=cluster_a.name)
    assert len(removal.blockers_of(cluster_a)) == 1


@pytest.fixture
def held(toy, begin, machines):
    """The machine of an operation that has not ended, and the operation's name."""
    return machines[0], begin(machines=machines[:1]).name


def test_the_api_refuses_to_delete_a_machine_in_an_operation(held, admin, api):
    machine, name = held
    answer = api(admin).delete(f"/api/v1/machines/{machine.pk}/")
    assert answer.status_code == 409
    assert name in answer.json()["message"]
    assert Machine.objects.filter(pk=machine.pk).exists()


@pytest.mark.parametrize("method", ["get", "post"])
def test_the_page_refuses_to_delete_a_machine_in_an_operation(method, held, admin, browser):
    machine, name = held
    address = reverse("admin:machines_machine_delete", args=[machine.pk])
    answer = getattr(browser(admin), method)(address, {"post": "yes"}, follow=True)
    assert f"cannot be deleted while operation {name}" in answer.content.decode()
    assert Machine.objects.filter(pk=machine.pk).exists()


@pytest.mark.parametrize("confirmed", [{}, {"post": "yes"}])
def test_the_list_refuses_to_delete_chosen_machines_of_which_one_is_in_an_operation(
    confirmed, held, machines, admin, browser
):
    keys = [each.pk for each in machines]
    answer = browser(admin).post(
        reverse("admin:machines_machine_changelist"),
        {"action": "delete_selected", "_selected_action": keys, **confirmed},
        follow=True,
    )
    assert f"cannot be deleted while operation {held[1]}" in answer.content.decode()
    assert Machine.objects.filter(pk__in=keys).count() == 3


@pytest.mark.parametrize(
    "change",
    [
        {"address": "203.0.113.66"},
        {"hostname": "elsewhere"},
        {"credential": None},
        {"owner_team": None},
        {"system_uuid": "4c4c4544-0000-0000-0000-000000000000"},
        {"rack": "r9", "address": "203.0.113.66"},
    ],
)
def test_what_an_operation_reaches_its_machine_by_cannot_be_edited(change, held, admin, api):
    machine, name = held
    Machine.objects.filter(pk=machine.pk).update(credential=factories.make_credential())
    before = Machine.objects.get(pk=machine.pk)
    answer = api(admin).patch(f"/api/v1/machines/{machine.pk}/", change)
    assert (answer.status_code, answer.json()["code"]) == (409, "machine_held")
    assert name in answer.json()["message"]
    after = Machine.objects.get(pk=machine.pk)
    assert [getattr(after, field) for field in change] == [
        getattr(before, field) for field in change
    ]


def test_other_fields_of_a_machine_in_an_operation_can_be_edited(held, admin, api):
    machine, _name = held
    answer = api(admin).patch(
        f"/api/v1/machines/{machine.pk}/", {"rack": "r9", "address": machine.address}
    )
    assert answer.status_code == 200


def test_the_form_says_that_an_operation_works_on_the_machine(held, admin):
    machine, name = held
    own = type("Form", (MachineForm,), {"user": admin})
    form = modelform_factory(Machine, form=own, fields=["address", "owner_team"])(
        {"address": "203.0.113.66", "owner_team": machine.owner_team_id}, instance=machine
    )
    assert name in str(form.non_field_errors())


def test_a_bulk_edit_leaves_out_machines_in_an_operation(held, machines, admin):
    credential = factories.make_credential()
    result = edits.edit_many(
        machines=machines[:2],
        values={"credential": credential},
        add_labels={},
        reason="",
        acting_user=admin,
    )
    assert [machine.pk for machine in result.changed] == [machines[1].pk]
    assert held[1] in result.refused[machines[0].pk]


def test_an_import_names_the_machine_that_an_operation_works_on(held, admin):
    machine, name = held
    text = f"address,hostname\n{machine.address},elsewhere\n"
    dataset = reading.read("fleet.csv", text.encode())
    result = MachineResource(user=admin).import_data(dataset)
    (mistake,) = report.mistakes_of(result, dataset.headers)
    assert (mistake.column, name in mistake.message) == ("hostname", True)
    assert Machine.objects.get(pk=machine.pk).hostname == machine.hostname


def test_an_operation_that_begins_while_a_file_is_read_keeps_its_machine(
    toy, begin, machines, admin, monkeypatch
):
    machine = machines[0]
    text = f"address,hostname\n{machine.address},elsewhere\n"
    dataset = reading.read("fleet.csv", text.encode())
    resource = MachineResource(user=admin)
    write = resource._write

    def begin_before(result):
        begin(machines=[machine])
        write(result)

    monkeypatch.setattr(resource, "_write", begin_before)
    with pytest.raises(Conflict, match="is working on"):
        resource.import_data(dataset)
    assert Machine.objects.get(pk=machine.pk).hostname == machine.hostname


def test_an_observed_hostname_is_not_accepted_during_an_operation(held, admin):
    machine, name = held
    row = Drift.objects.create(
        machine=machine,
        field="hostname",
        intended=machine.hostname,
        observed="elsewhere",
        first_seen=timezone.now(),
        last_seen=timezone.now(),
    )
    with pytest.raises(Conflict, match=name):
        drift.accept(rows=[row], reason="", acting_user=admin)
    assert Machine.objects.get(pk=machine.pk).hostname == machine.hostname


def test_an_operation_that_begins_during_the_question_still_keeps_its_machine(held):
    with pytest.raises(Conflict, match=held[1]), transaction.atomic():
        machine_removal.lock_for_deletion([held[0].pk])


def test_a_check_that_only_looks_keeps_its_machines_too(begin, machines):
    with toy_kind(mutating=False):
        begin(machines=machines[:1])
        assert len(machine_removal.blockers_of([machines[0].pk])) == 1


def test_a_machine_whose_operation_has_ended_is_deleted(held, work, admin, api, browser, machines):
    work()
    assert api(admin).delete(f"/api/v1/machines/{held[0].pk}/").status_code == 204
    address = reverse("admin:machines_machine_delete", args=[machines[1].pk])
    browser(admin).post(address, {"post": "yes"})
    assert Machine.objects.filter(pk__in=[each.pk for each in machines]).count() == 1


def test_an_ended_operation_does_not_keep_the_cluster(toy, begin, work, cluster_a):
    begin()
    work()
    removal.unadopt(cluster=cluster_a, confirmation=cluster_a.name)


def test_the_page_of_un_adopting_says_how_many_operations_go(
    toy, begin, work, cluster_a, admin, browser
):
    assert neighbours.what_goes_with_cluster(cluster_a) == []
    begin()
    work()
    page = browser(admin).get(f"/clusters/cluster/{cluster_a.pk}/delete/").content.decode()
    assert "1 operation is removed with its steps and output" in page


def test_what_an_operation_did_stays_in_the_audit_trail_when_its_cluster_goes(
    toy, begin, work, cluster_a
):
    operation, key = begin(), cluster_a.pk
    work()
    removal.unadopt(cluster=cluster_a, confirmation=cluster_a.name)
    entries = AuditEntry.objects.filter(object_name=operation.name, cluster_id=key)
    assert list(entries.values_list("verb", flat=True).order_by("id")) == [
        f"start {operation.kind}",
        "operation succeeded",
    ]


def test_chosen_machines_lead_to_the_start_form(browser, operator, machines):
    answer = browser(operator).post(
        reverse("admin:machines_machine_changelist"),
        {"action": "scale_up_chosen", "_selected_action": [each.pk for each in machines]},
    )
    assert answer.status_code == 302
    assert answer["Location"].startswith("/operations/start/?kind=ScaleUp&machines=10.")


def test_machines_one_may_not_operate_are_left_out(browser, operator, machines):
    foreign = factories.make_machine("10.77.0.1")
    answer = browser(operator).post(
        reverse("admin:machines_machine_changelist"),
        {
            "action": "scale_up_chosen",
            "_selected_action": [machines[0].pk, foreign.pk],
        },
    )
    assert "10.77.0.1" not in answer["Location"]


def test_versions_of_settings_of_clusters_gone_before_are_swept_by_the_migration(
    cluster_a, cluster_b
):
    for cluster in (cluster_a, cluster_b):
        ClusterSettings.objects.create(cluster=cluster)
    cluster_b.delete()  # as un-adopting once did it: the versions stay
    assert ClusterSettings.history.filter(cluster_id__isnull=False).count() == 3
    migration = import_module("operations.migrations.0005_history_of_clusters_gone")
    migration.sweep(apps, None)
    assert list(ClusterSettings.history.values_list("cluster_id", flat=True)) == [cluster_a.pk]


# --- opening a node by hand -----------------------------------------------------------------------


def uncordon(api, user, node):
    return api(user).post(f"/api/v1/nodes/{node.pk}/uncordon/", {"reason": "by hand"})


def test_nobody_opens_the_node_of_a_machine_under_an_operations_hands(
    toy, begin, machines, operator, api, cluster_a
):
    node = factories.make_node(cluster_a, unschedulable=True)
    Machine.objects.filter(pk=machines[0].pk).update(node=node)
    operation = begin()
    answer = uncordon(api, operator, node)
    assert (answer.status_code, answer.json()["code"]) == (409, "node_held")
    assert operation.name in answer.json()["message"]


def test_nor_one_that_has_just_joined_and_is_linked_to_no_machine_yet(
    toy, begin, machines, operator, api, cluster_a
):
    node = factories.make_node(cluster_a, machines[0].hostname, unschedulable=True)
    begin()
    assert uncordon(api, operator, node).status_code == 409


def test_other_nodes_and_those_of_operations_that_have_ended_are_not_kept_closed(
    toy, begin, work, machines, cluster_a
):
    other = factories.make_node(cluster_a)
    node = factories.make_node(cluster_a, machines[0].hostname)
    begin()
    assert neighbours.why_node_stays_closed(other) is None
    work()
    assert neighbours.why_node_stays_closed(node) is None
