"""The priority of a task is that of its operations, on every way in."""

import pytest
from django.urls import reverse

from beidou.base.errors import Forbidden, InvalidInput
from beidou.base.models import AuditEntry
from operations.flows import control as controls
from operations.flows.models import AutoOperationTask
from operations.flows.start import Batches
from operations.models import Operation
from tests import factories

pytestmark = pytest.mark.django_db
URL = "/api/v1/auto-operation-tasks/"


@pytest.fixture
def owner(cluster_a, operators):
    """May approve, and operate the machines."""
    team = factories.make_team("owning")
    factories.grant(team, cluster_a, "owner")
    return factories.make_user("owner", teams=(team, operators))


def priorities():
    return set(Operation.objects.values_list("priority", flat=True))


def test_each_batch_begins_with_the_priority_of_the_task(begin_task, work):
    begin_task("Toy", "Toy", priority="low", batches=Batches(size=1))
    work()
    assert (Operation.objects.count(), priorities()) == (6, {"low"})


def test_the_check_of_a_gate_has_it_too(begin_task, work, admin, cluster_a, machines):
    for machine in machines:
        machine.cluster, machine.state, machine.host_key = cluster_a, "in_service", "ssh-ed25519 A"
        machine.node = factories.make_node(cluster_a)
        machine.credential = factories.make_credential()
        machine.save()
    begin_task("HealthGate", priority="high", acting_user=admin)
    work(1)
    assert Operation.objects.get(kind="HealthCheck").priority == "high"


def test_high_needs_the_right_to_approve(begin_task, owner):
    with pytest.raises(Forbidden):
        begin_task("Toy", priority="high")
    assert begin_task("Toy", priority="high", acting_user=owner).priority == "high"


def test_an_unknown_priority_is_refused_at_its_field(begin_task):
    with pytest.raises(InvalidInput) as caught:
        begin_task("Toy", priority="urgent")
    assert set(caught.value.fields) == {"priority"}


def test_another_priority_stands_in_the_audit_trail_of_the_start(begin_task):
    begin_task("Toy", priority="low")
    assert AuditEntry.objects.get(verb="start flow").after["priority"] == "low"


def test_carried_on_by_somebody_who_may_not_have_it_high_it_is_normal(
    begin_task, work, toy, control, owner, operator, machines
):
    toy.failing = {("first", machine.address) for machine in machines}
    task = begin_task("Toy", "Toy", priority="high", acting_user=owner)
    work()
    toy.failing = set()
    control(controls.retry, AutoOperationTask.objects.get(pk=task.pk), acting_user=operator)
    work()
    begun = Operation.objects.order_by("pk").values_list("priority", flat=True)
    assert list(begun) == ["high", "normal"]


def test_the_form_and_the_page_have_it(browser, owner, begin_task):
    task = begin_task("Toy", priority="low", acting_user=owner)
    page = reverse("admin:operations_autooperationtask_change", args=[task.pk])
    assert "priority: Low" in browser(owner).get(page).content.decode()
    assert (
        'name="priority"' in browser(owner).get(reverse("operations:start_task")).content.decode()
    )


def test_the_api_takes_it_and_tells_it(api, operator, toy, machines, cluster_a):
    wish = {
        "cluster": cluster_a.name,
        "machines": [machines[0].address],
        "graph": [{"key": "go", "step": "Toy"}],
        "priority": "low",
    }
    answer = api(operator).post(URL, wish)
    assert answer.status_code == 202, answer.json()
    assert answer.json()["priority"] == "low"
    assert api(operator).post(URL, {**wish, "priority": "high"}).status_code == 403
    assert api(operator).post(URL, {**wish, "priority": "urgent"}).status_code == 400
