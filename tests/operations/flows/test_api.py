"""Tasks over HTTP: start, steer, decide."""

import pytest

from machines.models import Machine
from operations.flows.models import AutoOperationTask, WorkOrder
from operations.models import Operation

pytestmark = pytest.mark.django_db
URL = "/api/v1/auto-operation-tasks/"


@pytest.fixture
def wish(toy, cluster_a, machines):
    return {
        "cluster": "cluster-a",
        "machines": [machine.address for machine in machines],
        "graph": [
            {"key": "ask", "step": "WorkOrder"},
            {"key": "go", "step": "Toy", "params": {"size": 3}, "needs": ["ask"]},
        ],
        "reason": "new rack",
    }


@pytest.fixture
def started(api, operator, wish, work, control):
    answer = control(api(operator).post, URL, wish, format="json")
    assert answer.status_code == 202, answer.content
    work()
    return answer.json()


def test_a_graph_of_ones_own_is_started(started, api, viewer):
    row = api(viewer).get(started["url"]).json()
    assert [(step["key"], step["status"]) for step in row["steps"]] == [
        ("ask", "running"),
        ("go", "waiting"),
    ]
    assert row["machines_total"] == 3
    assert row["steps"][0]["orders"][0]["status"] == "open"
    assert row["waiting_for"] == "an approval: Approval"


def test_an_approval_lets_it_go_on(started, api, approver, work, control):
    order = WorkOrder.objects.get()
    answer = control(
        api(approver).post,
        f"{started['url']}approve/",
        {"order": order.pk, "digest": order.digest, "reason": "ok"},
        format="json",
    )
    assert answer.status_code == 202
    work()
    assert Operation.objects.get().params == {"size": 3}
    assert api(approver).get(started["url"]).json()["status"] == "succeeded"


@pytest.mark.parametrize("verb", ["approve", "reject"])
@pytest.mark.parametrize(("who", "code"), [("operator", 403), ("viewer", 403), ("stranger", 404)])
def test_who_may_not_decide_is_refused(verb, who, code, started, api, cast):
    answer = api(cast[who]).post(f"{started['url']}{verb}/", {"reason": "x"}, format="json")
    assert answer.status_code == code


def test_an_approval_of_something_else_is_409(started, api, approver):
    answer = api(approver).post(f"{started['url']}approve/", {"digest": "other"}, format="json")
    assert answer.status_code == 409


@pytest.mark.parametrize("body", [{}, {"digest": ""}, {"reason": "looks fine"}])
def test_an_approval_of_what_nobody_says_to_have_seen_names_the_field(body, started, api, approver):
    answer = api(approver).post(f"{started['url']}approve/", body, format="json")
    assert answer.status_code == 400
    assert list(answer.json()["fields"]) == ["digest"]
    assert WorkOrder.objects.get().status == "open"


def test_a_rejection_needs_no_digest(started, api, approver):
    answer = api(approver).post(f"{started['url']}reject/", {"reason": "no"}, format="json")
    assert answer.status_code == 202
    assert WorkOrder.objects.get().status == "rejected"


def test_a_rejection_without_a_reason_names_the_field(started, api, approver):
    answer = api(approver).post(f"{started['url']}reject/", {}, format="json")
    assert answer.status_code == 400
    assert list(answer.json()["fields"]) == ["reason"]


def test_a_work_order_of_another_task_is_none(started, api, approver):
    answer = api(approver).post(
        f"{started['url']}approve/", {"order": 4711, "digest": "x"}, format="json"
    )
    assert answer.status_code == 400
    assert list(answer.json()["fields"]) == ["order"]


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_a_viewer_steers_nothing(verb, started, api, viewer):
    assert api(viewer).post(f"{started['url']}{verb}/", {}, format="json").status_code == 403


def test_it_is_paused_resumed_canceled_and_retried(started, api, operator, work, control):
    client = api(operator)
    for verb, status in (
        ("pause", "paused"),
        ("resume", "running"),
        ("cancel", "canceled"),
        ("retry", "running"),
    ):
        assert control(client.post, f"{started['url']}{verb}/", {}).status_code == 202
        work()
        assert client.get(started["url"]).json()["status"] == status


def test_a_dry_run_shows_the_plan_and_starts_nothing(api, operator, wish):
    answer = api(operator).post(URL, {**wish, "dry_run": True}, format="json")
    assert answer.status_code == 200
    assert [step["key"] for step in answer.json()["steps"]] == ["ask", "go"]
    assert len(answer.json()["first"]["ready"]) == 3
    assert not AutoOperationTask.objects.exists()


MISTAKES = [
    ({"cluster": "nowhere"}, "cluster"),
    ({"machines": ["10.9.9.9"]}, "machines[0]"),
    ({"graph": [{"key": "a", "step": "Odd"}]}, "graph[0].step"),
    ({"graph": [{"key": "a", "step": "Toy", "needs": ["b"]}]}, "steps[0]"),
    (
        {"graph": [{"key": "a", "step": "Toy"}, {"key": "a", "step": "Toy"}]},
        "steps[1]",
    ),
    ({"graph": [{"key": "a", "step": "Toy", "on_failure": "compensate"}]}, "steps[0]"),
    ({"graph": [{"key": "a", "step": "WorkOrder", "on_failure": "continue"}]}, "steps[0]"),
    (
        {"graph": [{"key": "a", "step": "Wait", "params": {"seconds": 0}}]},
        "steps[0].params.seconds",
    ),
    ({"graph": [{"key": "a b", "step": "Toy"}]}, "steps[0]"),
    ({"dryrun": True}, "dryrun"),
]


@pytest.mark.parametrize(("change", "field"), MISTAKES)
def test_a_mistake_names_its_field_and_starts_nothing(change, field, api, operator, wish):
    answer = api(operator).post(URL, {**wish, **change}, format="json")
    assert answer.status_code == 400
    assert field in answer.json()["fields"]
    assert not AutoOperationTask.objects.exists()


def test_an_unknown_template_is_400(api, operator, wish):
    del wish["graph"]
    answer = api(operator).post(URL, {**wish, "template": "Odd"}, format="json")
    assert answer.status_code == 400
    assert list(answer.json()["fields"]) == ["template"]


def test_a_viewer_starts_nothing(api, viewer, viewers, wish):
    Machine.objects.update(owner_team=viewers)  # so that they are seen
    assert api(viewer).post(URL, wish, format="json").status_code == 403


def test_a_machine_of_another_task_is_refused_by_name(started, api, operator, wish, machines):
    answer = api(operator).post(URL, wish, format="json")
    assert answer.status_code == 400
    assert set(answer.json()["fields"]) == {machine.address for machine in machines}
    assert started["name"] in answer.json()["message"]


def test_the_templates_are_told(api, viewer):
    rows = api(viewer).get("/api/v1/task-templates/").json()
    assert [row["name"] for row in rows] == [
        "CreateCluster",
        "ReplaceMachine",
        "ScaleDown",
        "ScaleUp",
    ]


def test_tasks_are_found_by_cluster_state_and_template(started, api, viewer, cluster_a):
    client = api(viewer)
    for query, count in (
        ("cluster=cluster-a", 1),
        ("cluster=other", 0),
        ("active=true", 1),
        ("status=failed", 0),
        ("template=ScaleUp", 0),
    ):
        assert len(client.get(f"{URL}?{query}").json()["results"]) == count
