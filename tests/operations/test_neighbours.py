"""What pages of machines and clusters show and refuse because of operations."""

import pytest
from django.urls import reverse

from beidou.base.errors import Conflict
from beidou.base.models import AuditEntry
from clusters.services import removal
from machines import timeline
from machines.services import lifecycle
from operations.services import neighbours
from tests import factories

pytestmark = pytest.mark.django_db


def test_a_machines_timeline_tells_its_operations(toy, begin, work, machines, operator):
    operation = begin()
    work()
    entries = timeline.entries(machines[0], operator, only=["operation"])
    assert [entry.title for entry in entries] == [f"{operation.name}: Succeeded"]
    assert entries[0].url == reverse("admin:operations_operation_change", args=[operation.pk])


def test_operations_one_may_not_see_are_not_told(toy, begin, machines, stranger):
    begin()
    assert timeline.entries(machines[0], stranger, only=["operation"]) == []


def test_an_available_machine_offers_the_kinds_that_can_begin(toy, machines, operator):
    labels = [button.label for button in timeline.buttons(machines[0], operator)]
    assert "Scale up …" in labels
    assert "Clean up …" in labels


def test_a_machine_under_change_offers_the_way_to_its_operation_alone(
    toy, begin, machines, operator
):
    operation = begin()
    buttons = timeline.buttons(machines[0], operator)
    assert [button.label for button in buttons] == [operation.name]


def test_who_may_not_operate_is_offered_nothing(toy, machines, stranger):
    assert timeline.buttons(machines[0], stranger) == []


def test_nobody_moves_a_machine_under_an_operations_hands(toy, begin, work, machines):
    operation = begin()
    assert operation.name in (lifecycle.held_by(machines[0]) or "")
    work()
    assert lifecycle.held_by(machines[0]) is None


def test_a_cluster_with_an_operation_under_way_is_not_un_adopted(toy, begin, cluster_a):
    operation = begin()
    with pytest.raises(Conflict, match=operation.name):
        removal.unadopt(cluster=cluster_a, confirmation=cluster_a.name)


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
