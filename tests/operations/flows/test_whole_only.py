"""What needs all machines together is refused in batches before anybody approves it."""

from dataclasses import replace

import pytest
from django.urls import reverse

from beidou.base.errors import InvalidInput
from operations.flows.library import content as contents
from operations.flows.library import saving
from operations.flows.models import AutoOperationTask
from operations.flows.schedules import storing
from operations.flows.schedules.models import TaskSchedule
from operations.kinds import base as kinds
from tests.operations.flows.test_manifest import URL as MANIFESTS
from tests.operations.flows.test_pages import task_form

pytestmark = pytest.mark.django_db
URL = "/api/v1/auto-operation-tasks/"
REFUSED = "Toy is done with all of its machines together, never in batches"


@pytest.fixture
def whole(toy, monkeypatch):
    monkeypatch.setitem(kinds.KINDS, "Toy", replace(kinds.KINDS["Toy"], whole_only=True))


@pytest.fixture
def template(whole, admin):
    steps = [{"key": "ask", "step": "WorkOrder"}, {"key": "go", "step": "Toy", "needs": ["ask"]}]
    content = contents.read({"title": "All", "steps": steps})
    return saving.create(name="all-of-it", content=content, acting_user=admin)


@pytest.fixture
def wish(cluster_a, machines):
    def make(**values):
        return {
            "cluster": cluster_a.name,
            "machines": [machine.address for machine in machines],
            "graph": [{"key": "go", "step": "Toy"}],
            **values,
        }

    return make


@pytest.mark.parametrize(
    "name", ["UpgradeCluster", "RenewCertificates", "DeleteCluster", "CreateCluster"]
)
def test_what_is_about_a_whole_cluster_is_such_a_kind(name):
    assert kinds.get(name).whole_only


@pytest.mark.parametrize("dry_run", [True, False])
def test_the_api_refuses_it_at_its_field(dry_run, whole, api, operator, wish):
    asked = wish(batches={"size": 1}, dry_run=dry_run)
    answer = api(operator).post(URL, asked, format="json")
    assert answer.status_code == 400
    assert answer.json()["fields"]["batches"].startswith(REFUSED)
    assert "leave the machines per batch at 0" in answer.json()["message"]
    assert not AutoOperationTask.objects.exists()


def test_without_batches_it_begins(whole, api, operator, wish):
    asked = wish(batches={"size": 0, "max_failed_percent": 20})
    assert api(operator).post(URL, asked, format="json").status_code == 202


def test_it_is_refused_in_a_task_below_as_well(template, api, operator, wish):
    graph = [{"key": "down", "step": "Task", "params": {"template": "all-of-it"}}]
    asked = wish(batches={"size": 1}, graph=graph)
    answer = api(operator).post(URL, asked, format="json")
    assert (answer.status_code, list(answer.json()["fields"])) == (400, ["batches"])


def test_the_page_tells_it_at_its_field_with_the_plan(
    template, browser, operator, cluster_a, machines
):
    form = task_form(cluster_a, machines, kind="all-of-it", batch_size=1)
    answer = browser(operator).post(reverse("operations:start_task"), form)
    page = answer.context["page"]
    assert page.form.errors["batch_size"][0].startswith(REFUSED)
    assert page.plan is None


def test_a_manifest_is_refused_at_its_field(template, api, admin, cluster_a, machines):
    manifest = {
        "apiVersion": "vcluster.caas.beidou.io/v1alpha1",
        "kind": "AutoOperationTask",
        "metadata": {"name": "all"},
        "spec": {
            "cluster": cluster_a.name,
            "operationTaskType": "all-of-it",
            "operationTaskMachines": [{"name": machine.address} for machine in machines],
            "operationTaskStep": [{"step": "WorkOrder"}, {"step": "Toy"}],
            "batch": {"size": 1},
        },
    }
    answer = api(admin).post(MANIFESTS, manifest, format="json")
    assert (answer.status_code, list(answer.json()["fields"])) == (400, ["spec.batch"])


def test_a_schedule_of_it_is_not_saved(template, cluster_a, machines, operator):
    row = TaskSchedule(
        name="nightly",
        cluster=cluster_a,
        template="all-of-it",
        machines=machines[0].address,
        cron="30 2 * * *",
        batch_size=1,
    )
    with pytest.raises(InvalidInput) as refused:
        storing.store(row, acting_user=operator)
    assert refused.value.fields["batch_size"].startswith(REFUSED)
    row.batch_size = 0
    storing.store(row, acting_user=operator)
    assert row.pk
