"""The article's AutoOperationTask, as it stands, from the API and the command line."""

from io import StringIO
from pathlib import Path

import pytest
import yaml
from django.core.management import call_command

from operations.flows import manifest
from operations.flows.library import content as contents
from operations.flows.library import saving
from operations.flows.models import AutoOperationTask
from operations.models import ClusterSettings
from tests import factories

pytestmark = pytest.mark.django_db
FOLDER = Path(__file__).parent.parent.parent / "manifests"
URL = "/api/v1/manifests/"
STEPS = [
    "ScaleUpPreCheck",
    "ScaleUpWorkprocess",
    "ScaleUp",
    "UncordonNodes",
    "ScaleUpSubWorkprocess",
]


@pytest.fixture
def product_cluster(db):
    cluster = factories.make_cluster("product-cluster")
    ClusterSettings.objects.create(
        cluster=cluster,
        artifact_source="/srv/artifacts",
        credential=factories.make_credential(),
    )
    return cluster


@pytest.fixture
def machines(product_cluster):
    return [
        factories.make_machine(address, host_key="ssh-ed25519 AAAA")
        for address in ("10.99.0.21", "10.99.0.22")
    ]


@pytest.fixture
def text():
    return (FOLDER / "autooperationtask.yaml").read_text()


def changed(text, path, value):
    document = yaml.safe_load(text)
    place = document
    *way, last = path
    for part in way:
        place = place[part]
    place[last] = value
    return yaml.safe_dump(document)


def post(client, text):
    return client.generic("POST", URL, text, content_type="application/yaml")


def test_the_articles_manifest_starts_the_task_as_it_stands(api, admin, machines, text):
    answer = post(api(admin), text)
    assert answer.status_code == 202, answer.content
    task = AutoOperationTask.objects.get(name="scaleup-batch-1")
    assert (task.cluster.name, task.template) == ("product-cluster", "ScaleUp")
    assert list(task.steps.order_by("position").values_list("key", flat=True)) == STEPS
    assert [row.address for row in task.machines.order_by("pk")] == ["10.99.0.21", "10.99.0.22"]
    assert answer["Location"].endswith(f"/auto-operation-tasks/{task.pk}/")


def test_a_priority_may_be_given_and_is_no_content(api, admin, machines, text):
    low = changed(text, ["spec", "priority"], "low")
    assert post(api(admin), low).status_code == 202
    task = AutoOperationTask.objects.get()
    assert task.priority == "low"
    assert yaml.safe_load(manifest.as_manifest(task))["spec"]["priority"] == "low"
    assert post(api(admin), text).status_code == 200


def test_who_asks_in_the_name_of_somebody_else_is_kept(api, admin, machines, text):
    factories.make_user("bob", is_superuser=True)
    document = yaml.safe_load(text)
    document["spec"]["user"] = "bob"
    assert post(api(admin), yaml.safe_dump(document)).status_code == 202
    task = AutoOperationTask.objects.get()
    assert (task.requested_by_name, task.sent_by) == ("bob", admin)


def test_its_work_orders_are_approvals_and_its_node_stays_cordoned_at_first(
    api, admin, machines, text
):
    post(api(admin), text)
    steps = {step.key: step for step in AutoOperationTask.objects.get().steps.all()}
    assert steps["ScaleUpWorkprocess"].kind == steps["ScaleUpSubWorkprocess"].kind == "workOrder"
    assert steps["ScaleUpPreCheck"].params["steps"] == ["preCheck"]
    assert steps["ScaleUp"].params["steps"] == ["preCheck", "scaleUp", "postCheck"]
    assert steps["UncordonNodes"].params["kind"] == "UncordonNodes"


def test_the_same_manifest_twice_changes_nothing(api, admin, machines, text):
    first = post(api(admin), text)
    second = post(api(admin), text)
    assert second.status_code == 200
    assert second.json()[0]["created"] is False
    assert first.json()[0]["url"] == second.json()[0]["url"]
    assert AutoOperationTask.objects.count() == 1


@pytest.fixture
def of_the_site(text, admin):
    """The manifest of a task with a template of the site, and the template."""
    raw = {"title": "Wait", "steps": [{"key": "wait", "step": "Wait"}]}
    row = saving.create(name="patience", content=contents.read(raw), acting_user=admin)
    document = yaml.safe_load(text)
    document["spec"] |= {
        "operationTaskType": "patience",
        "operationIds": ["patience"],
        "operationTaskStep": [{"step": "Wait"}],
    }
    return yaml.safe_dump(document), row


@pytest.mark.parametrize("what", ["another version", "withdrawn"])
def test_whatever_becomes_of_its_template_the_same_manifest_changes_nothing(
    what, of_the_site, api, admin, machines
):
    text, template = of_the_site
    assert post(api(admin), text).status_code == 202
    if what == "withdrawn":
        saving.offer(template, is_offered=False, acting_user=admin)
    else:
        step = {"key": "tell", "step": "Notify", "params": {"text": "x"}}
        raw = {"title": "Tell", "steps": [step]}
        saving.save_version(template, content=contents.read(raw), base=1, acting_user=admin)
    answer = post(api(admin), text)
    assert answer.status_code == 200, answer.content
    assert answer.json()[0]["created"] is False
    other = changed(text, ["spec", "operationTaskStep"], [{"step": "Notify"}])
    assert post(api(admin), other).status_code == 409
    odd = changed(text, ["spec", "operationIds"], ["odd"])
    assert list(post(api(admin), odd).json()["fields"]) == ["spec.operationIds[0]"]
    anew = changed(text, ["metadata", "name"], "another")
    assert post(api(admin), anew).status_code == 400


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["spec", "operationTaskStep"], [{"step": "ScaleUpPreCheck"}]),
        (["spec", "operationTaskMachines"], [{"name": "10.99.0.21"}]),
        (["spec", "params"], {"labels": {"a": "b"}}),
        (["spec", "batch"], {"size": 1}),
    ],
)
def test_the_same_name_with_other_content_is_409(path, value, api, admin, machines, text):
    post(api(admin), text)
    answer = post(api(admin), changed(text, path, value))
    assert answer.status_code == 409
    assert ".".join(path) in answer.json()["message"]


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (["spec", "cluster"], "nowhere", "spec.cluster"),
        (["spec", "clusterType"], "odd", "spec.clusterType"),
        (["spec", "operationIds"], ["scale-down"], "spec.operationIds[0]"),
        (["spec", "operationTaskType"], "Odd", "spec.operationTaskType"),
        (
            ["spec", "operationTaskMachines", 1, "name"],
            "10.99.0.99",
            "spec.operationTaskMachines[1].name",
        ),
        (
            ["spec", "operationTaskMachines", 1, "name"],
            "10.99.0.21",
            "spec.operationTaskMachines[1].name",
        ),
        (["spec", "operationTaskStep", 2, "step"], "Odd", "spec.operationTaskStep[2].step"),
        (["spec", "operationTaskStep"], [], "spec.operationTaskStep"),
        (["spec", "odd"], 1, "spec.odd"),
        (["spec", "batch"], {"size": -1}, "spec.batch.size"),
        (["spec", "priority"], "urgent", "spec.priority"),
        (["metadata", "name"], "Not A Name", "metadata.name"),
    ],
)
def test_a_mistake_is_400_and_names_the_field(path, value, field, api, admin, machines, text):
    answer = post(api(admin), changed(text, path, value))
    assert answer.status_code == 400
    assert list(answer.json()["fields"]) == [field]
    assert not AutoOperationTask.objects.exists()


def test_a_machine_that_cannot_take_part_is_named(api, admin, machines, text):
    machines[1].hostname = ""
    machines[1].save()
    answer = post(api(admin), text)
    assert answer.status_code == 400
    assert list(answer.json()["fields"]) == ["spec.operationTaskMachines[1].name"]


def test_a_cluster_that_one_may_not_see_is_no_cluster(api, stranger, machines, text):
    answer = post(api(stranger), text)
    assert answer.status_code == 400
    assert list(answer.json()["fields"]) == ["spec.cluster"]


def test_the_command_takes_it_too(admin, machines):
    out = StringIO()
    path = str(FOLDER / "autooperationtask.yaml")
    call_command("apply", "-f", path, "--user", "admin", stdout=out)
    call_command("apply", "-f", path, "--user", "admin", stdout=out)
    assert out.getvalue().splitlines() == [
        "autooperationtask/scaleup-batch-1 created",
        "autooperationtask/scaleup-batch-1 unchanged",
    ]


def test_a_task_is_saved_as_the_manifest_that_asks_for_it(browser, api, admin, machines, text):
    post(api(admin), text)
    task = AutoOperationTask.objects.get()
    saved = browser(admin).get(f"/tasks/{task.pk}/manifest/").content.decode()
    assert post(api(admin), saved).status_code == 200
