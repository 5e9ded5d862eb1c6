"""Creating a cluster through the API."""

import pytest

from clusters.models import Cluster
from operations.models import Operation

pytestmark = pytest.mark.django_db
URL = "/api/v1/operations/create-cluster/"


@pytest.fixture
def body(free, makers):
    return {
        "name": "fresh",
        "team": makers.pk,
        "machines": [
            {"address": str(free[0].address), "role": "ControlPlane"},
            {"address": str(free[1].address)},
        ],
        "params": {"kubernetes_version": "v1.36.3"},
        "artifact_source": "https://files.example",
    }


def test_it_is_accepted_and_leads_to_its_operation(api, maker, body):
    answer = api(maker).post(URL, body, format="json")
    assert answer.status_code == 202, answer.json()
    operation = Operation.objects.get()
    assert answer["Location"].endswith(f"/api/v1/operations/{operation.pk}/")
    assert answer.json()["kind"] == "CreateCluster"
    assert operation.cluster.phase == "provisioning"
    assert dict(operation.machines.values_list("hostname", "role")) == {
        "free-1": "ControlPlane",
        "free-2": "Compute",
    }


def test_a_dry_run_answers_with_the_plan(api, maker, body):
    answer = api(maker).post(URL, {**body, "dry_run": True}, format="json")
    assert answer.status_code == 200
    steps = [step["name"] for step in answer.json()["steps"]]
    assert steps == ["preCheck", "createControlPlane", "join", "network", "postCheck", "adopt"]
    assert len(answer.json()["ready"]) == 2
    assert not Cluster.objects.filter(name="fresh").exists()


@pytest.mark.parametrize("who", ["operator", "viewer", "stranger"])
def test_others_are_refused_before_anything_is_read(api, cast, who):
    answer = api(cast[who]).post(URL, {}, format="json")
    assert answer.status_code == 403
    assert "permission to add clusters" in answer.json()["message"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"machines": []}, "machines"),
        ({"artifact_source": ""}, "artifact_source"),
        ({"dryrun": True}, "dryrun"),
        ({"name": "No Name"}, "name"),
        ({"params": {"kubernetes_version": "1"}}, "params.kubernetes_version"),
        ({"params": {}}, "params.kubernetes_version"),
        ({"overrides": {"ansible_connection": "local"}}, "overrides"),
        ({"team": 0}, "team"),
    ],
)
def test_what_is_wrong_is_named(api, maker, body, change, field):
    answer = api(maker).post(URL, {**body, **change}, format="json")
    assert answer.status_code == 400, answer.json()
    assert any(name.startswith(field) for name in answer.json()["fields"])
    assert not Cluster.objects.filter(name="fresh").exists()


def test_a_cluster_that_is_being_created_is_shown_as_such(api, maker, body):
    api(maker).post(URL, body, format="json")
    (row,) = api(maker).get("/api/v1/clusters/?search=fresh").json()["results"]
    assert row["phase"] == "provisioning"
    assert row["type"] == "native"
    assert row["is_stale"] is False
