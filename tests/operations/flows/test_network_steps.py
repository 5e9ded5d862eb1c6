# ruff: noqa: F811
"""The network steps of a task: which machines they are done on, and what they fail."""

import json

import pytest
from django.urls import reverse

from beidou.base.errors import InvalidInput
from machines.models import Machine
from operations.flows import advance, catalog, forms, graph
from operations.flows.models import AutoOperationTask
from operations.models import Operation
from tests import factories
from tests.operations.flows.test_pages import task_form
from tests.operations.network.conftest import (
    cluster,  # noqa: F401
    kube,  # noqa: F401
    members,  # noqa: F401
    network_system,  # noqa: F401
    site,  # noqa: F401
)
from tests.operations.network.test_routes import played  # noqa: F401

pytestmark = pytest.mark.django_db


@pytest.fixture
def toy():
    """Nothing of these tests is a toy."""


@pytest.fixture
def machines(members):
    """The first one is the task's, the second one a node beside it."""
    return members[:1]


def of_network(task):
    return Operation.objects.get(task_part__step__task=task, kind="Network")


def test_routes_are_kept_on_the_other_nodes_too(begin_task, work, steps_of, played):
    task = begin_task("PodRoutes")
    work()
    assert steps_of(task) == {"PodRoutes": "succeeded"}
    assert set(played.own) == {"10.0.0.1", "10.0.0.2"}


def test_another_node_that_fails_is_named_and_stops_nothing(
    begin_task,
    work,
    steps_of,
    played,
):
    played.failed["10.0.0.2"] = "no route to host"
    task = begin_task("PodRoutes")
    work()
    assert steps_of(task) == {"PodRoutes": "succeeded"}
    assert task.steps.get().message == "Not done on other machines of the cluster: 10.0.0.2"
    task.refresh_from_db()
    assert task.status == "succeeded"


def test_another_node_with_which_it_cannot_even_begin_is_named(
    begin_task, work, steps_of, played, members
):
    Machine.objects.filter(pk=members[1].pk).update(host_key="")
    task = begin_task("PodRoutes")
    work()
    assert steps_of(task) == {"PodRoutes": "succeeded"}
    assert set(played.own) == {"10.0.0.1"}
    assert task.steps.get().message == "Not done on other machines of the cluster: 10.0.0.2"


def test_of_a_step_that_failed_in_part_the_other_nodes_are_named_too(
    begin_task, work, steps_of, played, members, cluster
):
    third = factories.make_machine(
        "10.0.0.3",
        cluster=cluster,
        hostname="n3",
        node=factories.make_node(cluster, "n3"),
        state=Machine.State.CORDONED,
        host_key="ssh-ed25519 AAAA",
    )
    played.shown["10.0.0.3"] = ""
    task = begin_task("PodRoutes", machines=[members[0], third])
    played.failed["10.0.0.2"] = "no route to host"
    work()
    assert steps_of(task) == {"PodRoutes": "partial"}
    assert task.steps.get().message == (
        "1 of 2 machines failed. Not done on other machines of the cluster: 10.0.0.2"
    )


def test_without_a_network_system_no_task_is_made_that_would_ask_it(begin_task, machines):
    with pytest.raises(InvalidInput, match="has no network system") as caught:
        begin_task("Wait", "SiteNetworkRemoval")
    assert list(caught.value.fields) == ["steps[1]"]
    assert not AutoOperationTask.objects.exists()


def test_the_form_says_at_the_field_that_there_is_no_network_system(operator, cluster, machines):
    form = forms.StartTaskForm(task_form(cluster, machines, network="webhook"), user=operator)
    assert list(form.errors) == ["network"]
    assert "has no network system" in form.errors["network"][0]


def test_a_machine_of_the_task_that_fails_is_failed(
    begin_task,
    work,
    steps_of,
    played,
):
    played.failed["10.0.0.1"] = "disk full"
    task = begin_task("PodRoutes")
    work()
    assert steps_of(task) == {"PodRoutes": "failed"}
    assert task.machines.get().message == "disk full"


def test_a_task_whose_own_machine_is_blocked_does_nothing_elsewhere(
    begin_task,
    work,
    steps_of,
    played,
    machines,
):
    task = begin_task(
        *graph.in_order([catalog.spec("Wait", {"seconds": 60}), catalog.spec("PodRoutes")])
    )
    work()
    Machine.objects.filter(pk=machines[0].pk).update(host_key="")
    task.steps.filter(key="Wait").update(due_at=task.created_at)

    advance.advance(task.pk)
    work()
    assert steps_of(task)["PodRoutes"] == "failed"
    assert played.own == {}


def test_the_site_is_asked_about_the_machines_of_the_task_alone(
    begin_task,
    work,
    steps_of,
    site,
    network_system,
):
    site.status = 200
    site.answer = json.dumps({"machines": {"10.0.0.1": {"ok": True}}}).encode()
    task = begin_task("SiteNetwork")
    work()
    assert steps_of(task) == {"SiteNetwork": "succeeded"}
    asked = json.loads(site.requests[0].body)["machines"]
    assert [each["address"] for each in asked] == ["10.0.0.1"]


def test_parameters_of_a_named_step_add_to_what_the_name_means():
    spec = catalog.spec("SiteNetwork", {"minutes": 3})
    assert spec.params["params"] == {"driver": "webhook", "action": "add", "minutes": 3}


@pytest.mark.parametrize(
    ("template", "choice", "steps"),
    [
        ("ScaleUp", "", ["ScaleUpPreCheck", "ScaleUp", "UncordonNodes"]),
        ("ScaleUp", "routes", ["ScaleUpPreCheck", "ScaleUp", "PodRoutes", "UncordonNodes"]),
        ("ScaleUp", "webhook", ["ScaleUpPreCheck", "ScaleUp", "SiteNetwork", "UncordonNodes"]),
        ("ScaleDown", "routes", ["ScaleDownPreCheck", "ScaleDown"]),
        ("ScaleDown", "webhook", ["ScaleDownPreCheck", "ScaleDown", "SiteNetworkRemoval"]),
    ],
)
def test_the_form_puts_the_network_behind_the_change(
    template,
    choice,
    steps,
    operator,
    cluster,
    machines,
    network_system,
):
    values = task_form(cluster, machines, kind=template, network=choice)
    form = forms.StartTaskForm(values, user=operator)
    assert form.is_valid(), form.errors
    assert form.steps() == steps


def test_the_page_offers_it(browser, operator, cluster):
    page = browser(operator).get(reverse("operations:start_task")).content.decode()
    assert 'name="network"' in page
    assert "ask the network system of the site" in page


def test_the_page_starts_it(browser, operator, cluster, operators):
    free = factories.make_machine(
        owner_team=operators,
        host_key="ssh-ed25519 AAAA",
        credential=factories.make_credential(),
    )
    browser(operator).post(
        reverse("operations:start_task"),
        task_form(cluster, [free], network="routes", step="start"),
    )
    task = AutoOperationTask.objects.get()
    assert "PodRoutes" in task.steps.values_list("key", flat=True)
