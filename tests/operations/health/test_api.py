"""HealthCheck by API and manifest."""

import pytest

from machines.models import Machine
from operations.models import Operation
from operations.services import start
from tests import factories

pytestmark = pytest.mark.django_db
URL = "/api/v1/operations/"


def post(api, user, cluster, **values):
    body = {"kind": "HealthCheck", "cluster": cluster.name, **values}
    return api(user).post(URL, body, format="json")


def test_without_machines_the_whole_cluster_is_checked(api, operator, cluster, machines):
    answer = post(api, operator, cluster)
    assert answer.status_code == 202
    assert answer.json()["machines_total"] == 3


def test_some_machines_are_checked_alone(api, operator, cluster, machines):
    answer = post(api, operator, cluster, machines=["10.0.0.1"], params={"log_minutes": 5})
    assert answer.status_code == 202
    assert answer.json()["machines_total"] == 1


def test_the_plan_tells_of_nodes_that_are_left_out(api, operator, cluster, machines):
    factories.make_node(cluster, "unknown-1")
    plan = post(api, operator, cluster, dry_run=True).json()
    assert (len(plan["ready"]), plan["blockers"]) == (3, [])
    assert "unknown-1" in plan["notes"][0]


def test_a_viewer_may_not_start_one_and_a_stranger_knows_no_such_cluster(
    api, viewer, stranger, cluster, machines
):
    assert post(api, viewer, cluster).status_code == 403
    assert post(api, stranger, cluster).status_code == 400
    assert not Operation.objects.exists()


def test_a_cluster_without_machines_is_refused_with_the_field(api, operator, cluster):
    answer = post(api, operator, cluster)
    assert answer.status_code == 400
    assert "machines" in answer.json()["fields"]


def test_other_kinds_still_need_machines(api, operator, cluster, machines):
    answer = api(operator).post(URL, {"kind": "CleanUp", "cluster": cluster.name}, format="json")
    assert answer.status_code == 400
    assert answer.json()["fields"] == {"machines": "Name at least one machine."}


@pytest.mark.parametrize(
    "params",
    [
        {"log_minutes": 0},
        {"log_minutes": 1441},
        {"pull_image": "two words"},
        {"pull_image": "x" * 501},
        {"strange": 1},
    ],
)
def test_wrong_parameters_are_named(api, operator, cluster, machines, params):
    answer = post(api, operator, cluster, params=params)
    assert answer.status_code == 400
    assert list(answer.json()["fields"]) == [f"params.{name}" for name in params]


def test_very_many_machines_have_to_be_named(api, operator, cluster, machines, monkeypatch):
    monkeypatch.setattr(start, "MACHINES_MAX", 2)
    assert "at most 2 machines" in post(api, operator, cluster).json()["message"]


def test_each_check_tells_its_change_and_since_when(api, viewer, check, hosts):
    check()
    operation = check()
    row = api(viewer).get(f"{URL}{operation.pk}/").json()
    found = row["machines"][0]["steps"][0]["checks"][0]
    assert {"check", "ok", "found", "wanted", "advice", "severity", "change", "since"} <= set(found)


def test_the_kind_says_that_it_changes_nothing_and_takes_whole_clusters(api, viewer):
    kinds = {each["name"]: each for each in api(viewer).get("/api/v1/operation-kinds/").json()}
    kind = kinds["HealthCheck"]
    assert (kind["changes_machines"], kind["whole_cluster"]) == (False, True)
    assert [step["name"] for step in kind["steps"]] == ["healthCheck"]
    assert not kinds["ScaleUp"]["whole_cluster"]


def manifest(cluster, **spec):
    return {
        "apiVersion": "vcluster.caas.beidou.io/v1alpha1",
        "kind": "Operation",
        "metadata": {"name": "health-1"},
        "spec": {
            "clusterName": cluster.name,
            "operationType": "HealthCheck",
            "operationFlow": ["healthCheck"],
            **spec,
        },
    }


def apply(api, user, document):
    return api(user).post("/api/v1/manifests/", document, format="json")


def test_a_manifest_without_machines_is_about_the_whole_cluster(api, operator, cluster, machines):
    answer = apply(api, operator, manifest(cluster))
    assert answer.json()[0]["created"]
    assert Operation.objects.get(name="health-1").machines.count() == 3


def test_the_same_manifest_again_changes_nothing_even_if_machines_came(
    api, operator, cluster, machines
):
    apply(api, operator, manifest(cluster))
    Machine.objects.filter(pk=machines[0].pk).update(state=Machine.State.LEAVING)
    answer = apply(api, operator, manifest(cluster))
    assert not answer.json()[0]["created"]
    assert Operation.objects.count() == 1


def test_a_manifest_of_another_kind_still_names_machines(api, operator, cluster, machines):
    document = manifest(cluster, operationType="CleanUp", operationFlow=["cleanUp"])
    answer = apply(api, operator, document)
    assert answer.status_code == 400
    assert list(answer.json()["fields"]) == ["spec.operationMachines"]
