"""Templates over HTTP."""

import pytest

from operations.flows.library import content as contents
from operations.flows.library import saving
from operations.flows.library.models import TaskTemplate
from operations.flows.models import AutoOperationTask
from tests.operations.flows.test_library import raw, template, writer  # noqa: F401

pytestmark = pytest.mark.django_db
URL = "/api/v1/task-templates/"


def post(client, path, body):
    return client.post(f"{URL}{path}", body, format="json")


def test_it_is_listed_and_told_with_its_content(template, api, stranger):  # noqa: F811
    rows = {row["name"]: row for row in api(stranger).get(URL).json()}
    assert (rows["careful"]["ready_made"], rows["ScaleUp"]["ready_made"]) == (False, True)
    one = api(stranger).get(f"{URL}careful/").json()
    assert one["content"] == raw()
    assert contents.from_yaml(one["yaml"]) == raw()
    made = api(stranger).get(f"{URL}ScaleUp/").json()
    assert [step["key"] for step in made["content"]["steps"]][0] == "ScaleUpPreCheck"


@pytest.mark.parametrize("body", [{"content": raw()}, {"yaml": contents.as_yaml(raw())}])
def test_a_template_is_made_from_both_spellings(body, toy, writer, api):  # noqa: F811
    answer = post(api(writer), "", {"name": "mine", "comment": "first", **body})
    assert answer.status_code == 201, answer.content
    assert TaskTemplate.objects.get().versions.get().content == raw()


def test_versions_are_saved_and_compared(template, writer, api):  # noqa: F811
    client = api(writer)
    body = {"base": 1, "content": raw(title="New"), "comment": "why"}
    assert post(client, "careful/versions/", body).status_code == 201
    rows = client.get(f"{URL}careful/versions/").json()
    assert [(row["number"], row["comment"]) for row in rows] == [(2, "why"), (1, "")]
    assert client.get(f"{URL}careful/?version=1").json()["title"] == "Careful"
    lines = client.get(f"{URL}careful/difference/?from=1&to=2").json()
    assert {"sign": "+", "text": "title: New"} in lines


def test_a_version_on_top_of_another_is_409(template, writer, admin, api):  # noqa: F811
    saving.save_version(
        template, content=contents.read(raw(title="Theirs")), base=1, acting_user=admin
    )
    answer = post(api(writer), "careful/versions/", {"base": 1, "content": raw(title="Mine")})
    assert (answer.status_code, answer.json()["code"]) == (409, "changed_meanwhile")
    assert template.versions.count() == 2


def test_a_check_names_every_mistake_and_stores_nothing(toy, stranger, api):
    steps = [{"key": "a b", "step": "Wait", "params": {"seconds": 0}}]
    answer = post(api(stranger), "validate/", {"content": raw(steps=steps)})
    assert answer.status_code == 400
    assert set(answer.json()["fields"]) == {"steps[0].key", "steps[0].params.seconds"}
    assert post(api(stranger), "validate/", {"content": raw()}).json()["content"] == raw()
    assert not TaskTemplate.objects.exists()


def test_a_check_knows_the_template_that_it_would_be(toy, stranger, api, admin):
    saving.create(name="one", content=contents.read(raw()), acting_user=admin)
    wish = {"content": raw(steps=[{"key": "x", "step": "Task", "params": {"template": "one"}}])}
    assert post(api(stranger), "validate/", wish).status_code == 200
    answer = post(api(stranger), "validate/", {**wish, "name": "one"})
    assert list(answer.json()["fields"]) == ["steps[0].params.template"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "content"),
        ({"content": raw(), "yaml": "a: b"}, "content"),
        ({"content": "x"}, "content"),
        ({"content": raw(), "odd": 1}, "odd"),
        ({"content": raw(), "name": "ScaleUp"}, "name"),
        ({"content": raw(), "comment": "x" * 501}, "comment"),
    ],
)
def test_a_mistake_in_what_is_sent_names_its_field(body, field, toy, writer, api):  # noqa: F811
    answer = post(api(writer), "", {"name": "mine", **body})
    assert answer.status_code == 400
    assert field in answer.json()["fields"]
    assert not TaskTemplate.objects.exists()


WRITES = ["", "careful/versions/", "careful/withdraw/", "careful/offer/"]


@pytest.mark.parametrize("path", WRITES)
@pytest.mark.parametrize("who", ["viewer", "stranger"])
@pytest.mark.parametrize("body", [{}, {"name": "mine", "base": 1, "content": raw(title="New")}])
def test_who_may_not_write_is_refused_whatever_is_sent(path, who, body, cast, api, template):  # noqa: F811
    assert post(api(cast[who]), path, body).status_code == 403
    template.refresh_from_db()
    assert (template.version, template.is_offered, TaskTemplate.objects.count()) == (1, True, 1)


def test_a_ready_made_template_is_not_written(admin, api):
    for path in ("ScaleUp/versions/", "ScaleUp/withdraw/"):
        answer = post(api(admin), path, {"base": 1, "content": raw()})
        assert (answer.status_code, answer.json()["code"]) == (400, "ready_made")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("nothing/", 404),
        ("nothing/versions/", 404),
        ("careful/?version=9", 400),
        ("careful/?version=x", 400),
        ("careful/difference/", 400),
        ("careful/difference/?from=1&to=9", 400),
    ],
)
def test_what_is_not_there_is_told(path, code, template, admin, api):  # noqa: F811
    assert api(admin).get(f"{URL}{path}").status_code == code


def test_it_is_withdrawn_and_offered_again(template, writer, api):  # noqa: F811
    client = api(writer)
    assert post(client, "careful/withdraw/", {}).status_code == 200
    assert post(client, "careful/withdraw/", {}).status_code == 409
    assert "careful" not in [row["name"] for row in client.get(URL).json()]
    assert client.get(f"{URL}careful/").status_code == 200
    assert post(client, "careful/offer/", {}).status_code == 200


def test_the_types_of_steps_have_schemas(stranger, api):
    rows = {row["name"]: row for row in api(stranger).get(f"{URL}steps/").json()}
    assert rows["Wait"]["params"]["properties"]["seconds"]["minimum"] == 1
    assert "CreateCluster" not in rows


@pytest.fixture
def wish(template, machines):  # noqa: F811
    return {
        "cluster": "cluster-a",
        "machines": [machine.address for machine in machines],
        "template": "careful",
    }


TASKS = "/api/v1/auto-operation-tasks/"


def test_a_task_is_begun_with_a_version_and_choices(wish, api, operator):
    body = {**wish, "template_version": 1, "params": {"go": {"size": 4}}}
    answer = api(operator).post(TASKS, body, format="json")
    assert answer.status_code == 202, answer.content
    task = AutoOperationTask.objects.get()
    assert (task.template, task.template_version) == ("careful", 1)
    assert task.params == {"go": {"size": 4}}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"template_version": 9}, "template_version"),
        ({"steps": ["Toy"]}, "steps"),
        ({"graph": [{"key": "a", "step": "Toy"}]}, "graph"),
        ({"params": {"go": {"odd": 1}}}, "params.go.odd"),
        ({"params": {"go": {"size": "x"}}}, "size"),
    ],
)
def test_a_wish_that_the_template_does_not_allow_is_refused(change, field, wish, api, operator):
    answer = api(operator).post(TASKS, {**wish, **change}, format="json")
    assert answer.status_code == 400
    assert any(field in name for name in answer.json()["fields"])
    assert not AutoOperationTask.objects.exists()


def manifest(machines, **spec):
    return {
        "apiVersion": "vcluster.caas.beidou.io/v1alpha1",
        "kind": "AutoOperationTask",
        "metadata": {"name": "by-manifest"},
        "spec": {
            "cluster": "cluster-a",
            "operationTaskMachines": [{"name": machine.address} for machine in machines],
            "operationTaskStep": [{"step": "WorkOrder"}, {"step": "Toy"}],
            "operationTaskType": "careful",
            **spec,
        },
    }


def test_a_manifest_begins_it_and_comes_back_the_same(template, machines, api, operator):  # noqa: F811
    client = api(operator)
    assert client.post("/api/v1/manifests/", manifest(machines), format="json").status_code < 300
    task = AutoOperationTask.objects.get()
    text = client.get(f"/tasks/{task.pk}/manifest/")
    assert task.template_version == 1
    assert text.status_code in (200, 302)
    again = client.post("/api/v1/manifests/", manifest(machines, templateVersion=1), format="json")
    assert again.status_code == 200


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ({"operationTaskStep": [{"step": "Toy"}]}, "spec.operationTaskStep"),
        ({"templateVersion": 7}, "spec.templateVersion"),
        ({"operationTaskType": "nothing"}, "spec.operationTaskType"),
        ({"operationIds": ["scale-up"]}, "spec.operationIds[0]"),
    ],
)
def test_a_manifest_that_says_otherwise_is_refused(spec, place, template, machines, api, operator):  # noqa: F811
    answer = api(operator).post("/api/v1/manifests/", manifest(machines, **spec), format="json")
    assert answer.status_code == 400
    assert place in answer.json()["fields"]
