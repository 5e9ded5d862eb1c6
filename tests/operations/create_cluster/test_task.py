"""A new cluster as a one-click task: looked at, approved by somebody else, made, proved."""

import pytest
from django.urls import reverse

from beidou.base.errors import InvalidInput
from clusters.models import Cluster
from operations.flows import catalog, creating, nesting
from operations.flows.library import finding, steps
from operations.flows.models import AutoOperationTask
from operations.models import Operation
from operations.services import create_cluster, start
from tests import factories
from tests.operations.create_cluster.test_api import body  # noqa: F401  a fixture
from tests.operations.create_cluster.test_page import form, visit  # noqa: F401  likewise

pytestmark = pytest.mark.django_db
URL = "/api/v1/auto-operation-tasks/create-cluster/"
STEPS = ["CreateClusterPreCheck", "CreateClusterWorkprocess", "CreateCluster", "HealthGate"]


def begin(wish, maker, **values):
    return creating.begin(wish=wish(**values), acting_user=maker, reason="a new site")


def test_cluster_and_task_come_together(wish, maker, free):
    task = begin(wish, maker)
    assert (task.cluster.name, task.cluster.phase) == ("fresh", "provisioning")
    assert list(task.steps.order_by("position").values_list("name", flat=True)) == STEPS
    assert (task.template, task.template_version) == ("CreateCluster", 1)
    roles = dict(task.machines.values_list("hostname", "role"))
    assert roles["free-1"] == "ControlPlane"
    assert not Operation.objects.exists()


def test_the_parameters_are_those_of_the_operation_and_of_the_look(wish, maker):
    task = begin(wish, maker)
    asked = {step.name: step.params for step in task.steps.all()}
    for name in ("CreateClusterPreCheck", "CreateCluster"):
        assert asked[name]["kind"] == "CreateCluster"
        assert asked[name]["params"]["kubernetes_version"] == "v1.36.3"
    assert asked["CreateClusterPreCheck"]["steps"] == ["preCheck"]
    assert not asked["CreateCluster"].get("steps")


def test_a_machine_that_is_blocked_leaves_neither_cluster_nor_task(wish, maker, free):
    free[1].host_key = ""
    free[1].save()
    with pytest.raises(InvalidInput, match="its host key is not pinned yet"):
        begin(wish, maker)
    assert not Cluster.objects.filter(name="fresh").exists()
    assert not AutoOperationTask.objects.exists()


def test_the_look_leaves_the_machines_as_they_are(wish, maker, free):
    asked = wish()
    start.start_operation(
        kind="CreateCluster", cluster=create_cluster.make(asked, maker), machines=asked.machines,
        roles=asked.roles, params=asked.params, steps=["preCheck"], acting_user=maker,
    )  # fmt: skip
    free[0].refresh_from_db()
    assert (free[0].state, free[0].cluster_id) == ("available", None)


def test_over_the_api(api, maker, body):  # noqa: F811
    del body["params"]["kubernetes_version"]
    wrong = api(maker).post(URL, body, format="json")
    assert (wrong.status_code, list(wrong.json()["fields"])) == (
        400,
        ["params.kubernetes_version"],
    )
    body["params"]["kubernetes_version"] = "v1.36.3"
    plan = api(maker).post(URL, {**body, "dry_run": True}, format="json")
    assert (plan.status_code, len(plan.json()["ready"])) == (200, 2)
    assert not Cluster.objects.filter(name="fresh").exists()
    answer = api(maker).post(URL, body, format="json")
    assert answer.status_code == 202, answer.json()
    task = AutoOperationTask.objects.get()
    assert answer["Location"].endswith(f"/api/v1/auto-operation-tasks/{task.pk}/")


def test_what_is_of_an_operation_alone_is_no_field_of_the_task(api, maker, body):  # noqa: F811
    answer = api(maker).post(URL, {**body, "forks": 5}, format="json")
    assert (answer.status_code, list(answer.json()["fields"])) == (400, ["forks"])


@pytest.mark.parametrize("who", ["operator", "viewer", "stranger"])
def test_others_are_refused_before_anything_is_read(api, cast, who):
    answer = api(cast[who]).post(URL, {}, format="json")
    assert answer.status_code == 403
    assert "permission to add clusters" in answer.json()["message"]


def test_the_page_begins_a_task_where_an_approval_is_wanted(visit, form):  # noqa: F811
    wanted = {**form, "approval": "on"}
    planned = visit.post("/operations/create-cluster/", wanted).context["page"].planned
    answer = visit.post(
        "/operations/create-cluster/", {**wanted, "step": "start", "planned": planned}
    )
    task = AutoOperationTask.objects.get()
    assert answer["Location"] == reverse(
        "admin:operations_autooperationtask_change", args=[task.pk]
    )
    assert visit.get(answer["Location"]).status_code == 200


def test_what_is_to_be_approved_is_another_plan(visit, form):  # noqa: F811
    planned = visit.post("/operations/create-cluster/", form).context["page"].planned
    changed = {**form, "approval": "on", "step": "start", "planned": planned}
    assert visit.post("/operations/create-cluster/", changed).status_code == 409


# --- where it is offered --------------------------------------------------------------------------


def test_no_task_on_a_cluster_that_is_there_begins_with_it(api, operator, cluster_a):
    machine = factories.make_machine(cluster=cluster_a)
    wish = {"template": "CreateCluster", "cluster": cluster_a.name, "machines": [machine.address]}
    answer = api(operator).post("/api/v1/auto-operation-tasks/", wish, format="json")
    assert (answer.status_code, list(answer.json()["fields"])) == (400, ["template"])
    assert "Create a cluster" in answer.json()["message"]
    assert "CreateCluster" not in [each.name for each in finding.offered()]


def test_it_is_no_step_of_another_template():
    assert nesting.why_not_below("CreateCluster", ()) == ""
    spec = catalog.spec("Task", {"template": "CreateCluster"})
    with pytest.raises(InvalidInput, match="together with its cluster"):
        nesting.expand([spec])
    offered = {named.name for named in steps.names()}
    assert not {name for name in offered if name.startswith("CreateCluster")}


def test_its_page_leads_to_where_it_begins_for_whoever_may(browser, maker, operator, admin):
    page, link = "/tasks/templates/CreateCluster/", "/operations/create-cluster/?approval=on"
    assert link in browser(maker).get(page).content.decode()
    assert link not in browser(operator).get(page).content.decode()
    chosen = browser(maker).get(link).content.decode()
    assert 'name="approval"' in chosen
    assert browser(admin).get("/tasks/templates/new/?copy=CreateCluster").status_code == 404


def test_the_api_lists_it_with_the_ready_made_ones(api, operator):
    rows = api(operator).get("/api/v1/task-templates/").json()
    assert {"CreateCluster", "ReplaceMachine", "ScaleDown", "ScaleUp"} <= {
        row["name"] for row in rows
    }
    one = api(operator).get("/api/v1/task-templates/CreateCluster/")
    assert one.status_code == 200
