"""What the API says to a body that means something else than its sender thinks."""

from datetime import UTC, datetime

import pytest

from beidou.base.models import ApiToken, AuditEntry
from operations.models import Freeze, Operation, TaskTemplate
from tests import rows
from tests.api_cases import VERBS

pytestmark = pytest.mark.django_db

# Actions whose body nobody reads, and one that takes a form with a file.
READ_NO_BODY = {
    "clusters:post:refresh",
    "machines:post:gather_facts",
    "machines:post:import_file",
    "playbook-sources:post:read",
    "notification-receivers:post:test",
    "notification-deliveries:post:again",
}
STEERING = [verb for verb in VERBS if verb.method == "post" and str(verb) not in READ_NO_BODY]


def test_a_misspelt_name_is_refused_and_not_taken_for_none(admin, api):
    body = {"reason": "x", "starts_at": str(datetime.now(UTC))}
    answer = api(admin).post("/api/v1/freezes/", body)
    assert answer.status_code == 400
    assert answer.json()["fields"] == {"starts_at": "There is no such field."}
    assert not Freeze.objects.exists()


def test_a_misspelt_name_is_refused_in_a_change_too(admin, api, cluster_a):
    answer = api(admin).patch(f"/api/v1/clusters/{cluster_a.pk}/", {"descripton": "x"})
    assert answer.status_code == 400
    assert set(answer.json()["fields"]) == {"descripton"}


@pytest.mark.parametrize("verb", STEERING, ids=str)
def test_no_action_overlooks_a_misspelt_name(verb, admin, api, cluster_a):
    model = verb.route.model or TaskTemplate  # the viewset of templates has no rows of its own
    row = rows.make_row(model, cluster_a)
    url = verb.url(row.name if model is TaskTemplate else row.pk)
    body = {"mashines": [1], "reason": "a test"}
    known = AuditEntry.objects.count()
    answer = api(admin).post(url, [body] if verb.action.__name__ == "bulk" else body)
    assert answer.status_code == 400
    assert set(answer.json()["fields"].values()) == {"There is no such field."}
    assert "mashines" in {name.split(".")[-1] for name in answer.json()["fields"]}
    assert AuditEntry.objects.count() == known


def test_a_retry_with_misspelt_machines_does_not_retry_all(admin, api, cluster_a):
    operation = rows.make_row(Operation, cluster_a)
    Operation.objects.update(status=Operation.Status.FAILED)
    answer = api(admin).post(f"/api/v1/operations/{operation.pk}/retry/", {"mashines": [1]})
    assert answer.json()["fields"] == {"mashines": "There is no such field."}
    operation.refresh_from_db()
    assert operation.status == Operation.Status.FAILED


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"batches": {"size": 1, "max_failed": 0}}, "batches.max_failed"),
        ({"graph": [{"key": "a", "step": "ScaleUp", "on_failur": "stop"}]}, "graph.0.on_failur"),
    ],
)
def test_a_misspelt_name_further_down_is_refused_too(body, field, admin, api, cluster_a):
    wish = {"cluster": "cluster-a", "machines": ["10.0.0.1"], **body}
    answer = api(admin).post("/api/v1/auto-operation-tasks/", wish)
    assert answer.status_code == 400
    assert answer.json()["fields"] == {field: "There is no such field."}


def test_a_row_as_it_was_read_may_be_sent_back(admin, api, cluster_a):
    page = f"/api/v1/clusters/{cluster_a.pk}/"
    row = api(admin).get(page).json()
    assert api(admin).patch(page, row).status_code == 200


def test_a_token_is_not_made_for_ever_when_an_end_was_named(admin, api):
    answer = api(admin).post("/api/v1/tokens/", {"name": "a", "expires_at": "2020-01-01"})
    assert answer.status_code == 400
    assert set(answer.json()["fields"]) == {"expires_at"}
    assert not ApiToken.objects.filter(name="a").exists()


@pytest.mark.parametrize("body", [5, True, "x", []])
def test_a_body_that_is_no_mapping_is_refused(admin, api, body):
    assert api(admin).post("/api/v1/tokens/", body).status_code == 400


@pytest.mark.parametrize("body", ["[" * 990 + "]" * 990, "[" * 100_000, '{"a":' * 100_000])
def test_json_that_is_nested_too_deeply_is_refused(admin, api, body):
    answer = api(admin).post("/api/v1/machines/", body, content_type="application/json")
    assert answer.status_code == 400
    assert "nested too deeply" in str(answer.json())


def test_a_manifest_that_is_nested_too_deeply_is_refused(admin, api):
    answer = api(admin).post("/api/v1/manifests/", "[" * 5000, content_type="application/yaml")
    assert answer.status_code == 400
    assert "nested too deeply" in str(answer.json())
