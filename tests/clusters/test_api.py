"""Clusters, nodes and grants over HTTP."""

import pytest

from beidou.base.models import AuditEntry
from beidou.base.permissions import may
from clusters.models import Cluster, ClusterGrant
from operations.models import Freeze
from tests import factories
from tests.api_cases import ROUTES
from tests.clusters.conftest import ACCESS_REVIEWS, allow_all_but
from tests.fakes.kube_api import Reply, node, status_reply
from tests.rows import make_row

pytestmark = pytest.mark.django_db
CLUSTERS = "/api/v1/clusters/"
NODES = "/api/v1/nodes/"
GRANTS = "/api/v1/grants/"


@pytest.fixture
def root(api, admin):
    return api(admin)


def adopt(root, kube, **values):
    return root.post(CLUSTERS, {"name": "prod-1", "kubeconfig": kube.kubeconfig(), **values})


def test_adopting_answers_with_the_cluster_and_the_report(root, kube):
    answer = adopt(root, kube, environment="production", labels={"tier": "gold"})
    assert answer.status_code == 201, answer.json()
    body = answer.json()
    assert body["cluster"]["name"] == "prod-1"
    assert body["cluster"]["credential_subject"] == "kubernetes-admin"
    assert all(row["ok"] for row in body["report"])
    assert answer["Location"] == body["cluster"]["url"]


def test_no_answer_ever_holds_the_credential(root, kube):
    text = adopt(root, kube).content.decode()
    pk = Cluster.objects.get().pk
    text += root.get(f"{CLUSTERS}{pk}/").content.decode()
    assert "kubeconfig" not in text
    assert "PRIVATE KEY" not in text


def test_a_dry_run_shows_every_step_and_writes_nothing(root, kube):
    answer = root.post(CLUSTERS, {"kubeconfig": kube.kubeconfig(), "dry_run": True})
    assert answer.status_code == 200
    assert answer.json()["ok"]
    assert [step["status"] for step in answer.json()["steps"]] == ["ok"] * 7
    assert not Cluster.objects.exists()


def test_a_body_that_is_too_large_is_no_mistake_of_the_portal(root):
    answer = root.post(CLUSTERS, {"name": "prod-1", "kubeconfig": "a" * 3 * 2**20})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_a_dry_run_tells_what_is_wrong(root, kube):
    text = kube.kubeconfig(user={"exec": {"command": "id"}})
    body = root.post(CLUSTERS, {"kubeconfig": text, "dry_run": True}).json()
    assert not body["ok"]
    assert (body["steps"][0]["status"], body["steps"][0]["code"]) == ("failed", "kubeconfig_exec")


def test_a_refusal_has_the_code_of_its_reason(root, kube):
    answer = adopt(root, kube, kubeconfig="nonsense")
    assert answer.status_code == 400
    assert answer.json()["code"] == "kubeconfig_not_mapping"
    assert "kubeconfig" in answer.json()["fields"]


def test_the_same_cluster_is_a_conflict_that_leads_to_the_first(root, kube):
    adopt(root, kube)
    answer = adopt(root, kube, name="again")
    assert (answer.status_code, answer.json()["code"]) == (409, "already_adopted")
    pk = Cluster.objects.get().pk
    assert answer.json()["fields"]["cluster"] == f"/clusters/cluster/{pk}/change/"


def test_a_name_is_needed(root, kube):
    assert "name" in adopt(root, kube, name="").json()["fields"]


@pytest.mark.parametrize("who", ["operator", "viewer", "stranger"])
def test_adopting_needs_the_permission(api, cast, kube, who):
    assert adopt(api(cast[who]), kube).status_code == 403
    assert not kube.requests


@pytest.fixture
def adopters():
    team = factories.make_team("adopters")
    factories.give(team, "clusters.add_cluster")
    return team


def test_an_adopter_s_own_team_owns_the_new_cluster(api, kube, adopters):
    user = factories.make_user(teams=(adopters,))
    answer = adopt(api(user), kube, team=adopters.pk)
    assert answer.status_code == 201, answer.json()
    assert may(user, Cluster.objects.get(), "change")


@pytest.mark.parametrize("choice", ["none", "foreign"])
def test_an_adopter_without_an_own_team_is_refused_at_the_field(api, kube, adopters, choice):
    client = api(factories.make_user(teams=(adopters,)))
    values = {"team": factories.make_team().pk} if choice == "foreign" else {}
    answer = adopt(client, kube, **values)
    assert (answer.status_code, list(answer.json()["fields"])) == (400, ["team"])
    assert not kube.requests


def test_what_people_say_about_a_cluster_can_be_changed(root, adopted):
    answer = root.patch(f"{CLUSTERS}{adopted.pk}/", {"region": "gz", "labels": {"a": "b"}})
    assert (answer.status_code, answer.json()["region"]) == (200, "gz")
    assert AuditEntry.objects.get().after == {"region": "gz", "labels": {"a": "b"}}


@pytest.mark.parametrize("field", ["uid", "server", "health", "phase", "version"])
def test_what_is_observed_cannot_be_changed(root, adopted, field):
    root.patch(f"{CLUSTERS}{adopted.pk}/", {field: "other"})
    assert getattr(Cluster.objects.get(), field) == getattr(adopted, field)


def test_a_bad_name_is_refused_at_its_field(root, adopted):
    answer = root.patch(f"{CLUSTERS}{adopted.pk}/", {"name": "Not Good"})
    assert answer.status_code == 400
    assert "name" in answer.json()["fields"]


def test_unadopting_needs_the_name(root, adopted):
    url = f"{CLUSTERS}{adopted.pk}/"
    assert root.delete(url).status_code == 400
    assert root.delete(url + "?confirm=adopted&reason=gone").status_code == 204
    assert not Cluster.objects.exists()
    assert AuditEntry.objects.get().reason == "gone"


def test_an_owner_without_the_permission_does_not_unadopt(api, adopted):
    team = factories.make_team()
    factories.grant(team, adopted, "owner")
    owner = api(factories.make_user(teams=(team,)))
    assert owner.delete(f"{CLUSTERS}{adopted.pk}/?confirm=adopted").status_code == 403


def test_capabilities_are_read_and_asked_again(root, kube, adopted):
    kube.on("POST", ACCESS_REVIEWS, allow_all_but(("delete", "nodes")))
    url = f"{CLUSTERS}{adopted.pk}/capabilities/"
    assert root.get(url).json() == []
    rows = {row["key"]: row for row in root.post(url + "refresh/").json()}
    assert not rows["delete_nodes"]["ok"]
    assert root.get(url).json()[0]["key"] == "inventory"


def test_a_credential_of_another_cluster_is_refused(root, kube, adopted):
    url = f"{CLUSTERS}{adopted.pk}/credential/"
    answer = root.post(url, {"kubeconfig": kube.kubeconfig()})
    assert (answer.status_code, answer.json()["code"]) == (409, "another_cluster")


def test_a_label_may_be_called_by_a_number(root):
    factories.make_cluster("a", labels={"1": "x", "-1": "y", "a.b/c": "z"})
    for label in ("1", "1=x", "-1=y", "a.b/c=z"):
        answer = root.get(CLUSTERS, {"label": label})
        assert [row["name"] for row in answer.json()["results"]] == ["a"], label


@pytest.mark.parametrize("label", ["-1", "0", "=", "=x", '"', "$", "[0]", "#-1", "a\\", "é=1"])
def test_a_label_that_nothing_has_finds_nothing(label, root):
    factories.make_cluster("a", labels={"tier": "gold"})
    for url in (CLUSTERS, "/api/v1/nodes/"):
        answer = root.get(url, {"label": label})
        assert answer.status_code == 200
        assert answer.json()["results"] == []


def test_clusters_are_filtered_by_label_and_health(root):
    factories.make_cluster("a", labels={"tier": "gold"}, health="healthy")
    factories.make_cluster("b", labels={"tier": "iron"}, health="unreachable")

    def names(query):
        return [row["name"] for row in root.get(f"{CLUSTERS}?{query}").json()["results"]]

    assert names("label=tier=gold") == ["a"]
    assert names("label=tier") == ["a", "b"]
    assert names("label=none=x") == []
    assert names("health=unreachable") == ["b"]


# --- nodes ----------------------------------------------------------------------------------------


@pytest.fixture
def row(adopted, operators):
    factories.grant(operators, adopted, "operator")
    return factories.make_node(adopted, "n1")


def test_nodes_are_filtered_by_role_and_state(root, cluster_a):
    factories.make_node(cluster_a, "cp", roles=["control-plane"])
    factories.make_node(cluster_a, "w", is_ready=False, unschedulable=True)

    def names(query):
        return [item["name"] for item in root.get(f"{NODES}?{query}").json()["results"]]

    assert names("role=control-plane") == ["cp"]
    assert names("role=none") == ["w"]
    assert names("is_ready=false") == ["w"]
    assert names("unschedulable=true&cluster__name=cluster-a") == ["w"]


def test_an_operator_cordons_with_a_reason(api, operator, kube, row):
    kube.on("PATCH", "/api/v1/nodes/n1", Reply(node("n1", unschedulable=True)))
    answer = api(operator).post(f"{NODES}{row.pk}/cordon/", {"reason": "noisy fan"})
    assert (answer.status_code, answer.json()["unschedulable"]) == (200, True)
    assert AuditEntry.objects.get().actor == "operator" or AuditEntry.objects.exists()


def test_one_node_has_its_labels_and_annotations(api, viewer, viewers, row):
    factories.grant(viewers, row.cluster, "viewer")
    type(row).objects.update(labels={"tier": "gold"}, annotations={"a": "b"})
    answer = api(viewer).get(f"{NODES}{row.pk}/").json()
    assert (answer["labels"], answer["annotations"]) == ({"tier": "gold"}, {"a": "b"})


def test_cordoning_without_a_reason_is_refused(api, operator, kube, row):
    answer = api(operator).post(f"{NODES}{row.pk}/cordon/", {})
    assert (answer.status_code, list(answer.json()["fields"])) == (400, ["reason"])
    assert not kube.requests


def test_a_freeze_keeps_nodes_as_they_are_until_the_glass_is_broken(api, root, operator, kube, row):
    Freeze.objects.create(cluster=row.cluster, reason="year's end")
    page, wish = f"{NODES}{row.pk}/cordon/", {"reason": "noisy fan"}
    answer = api(operator).post(page, wish)
    assert (answer.status_code, answer.json()["code"]) == (409, "held")
    assert "the freeze “year's end”" in answer.json()["message"]
    assert api(operator).post(page, {**wish, "break_glass": True}).status_code == 403
    assert not kube.requests
    kube.on("PATCH", "/api/v1/nodes/n1", Reply(node("n1", unschedulable=True)))
    assert root.post(page, {**wish, "break_glass": True}).json()["unschedulable"]


def test_a_viewer_cordons_nothing(api, viewer, viewers, kube, row):
    factories.grant(viewers, row.cluster, "viewer")
    answer = api(viewer).post(f"{NODES}{row.pk}/cordon/", {"reason": "x"})
    assert answer.status_code == 403
    assert not kube.requests


def test_a_cluster_that_refuses_is_a_bad_gateway(api, operator, kube, row):
    kube.on("PATCH", "/api/v1/nodes/n1", status_reply(403, "no"))
    answer = api(operator).post(f"{NODES}{row.pk}/uncordon/", {"reason": "x"})
    assert (answer.status_code, answer.json()["code"]) == (502, "forbidden_by_cluster")


def test_a_node_knows_its_machine(root, row):
    machine = factories.make_machine(node=row, cluster=row.cluster)
    assert root.get(f"{NODES}{row.pk}/").json()["machine"] == machine.pk


# --- grants ---------------------------------------------------------------------------------------


def test_an_owner_grants_and_takes_back(api, cluster_a):
    owners, team = factories.make_team(), factories.make_team()
    factories.grant(owners, cluster_a, "owner")
    owner = api(factories.make_user(teams=(owners,)))
    wish = {"team": team.pk, "role": "viewer", "cluster": cluster_a.pk}
    answer = owner.post(GRANTS, wish)
    assert answer.status_code == 201, answer.json()
    assert owner.post(GRANTS, wish).status_code == 409
    assert owner.delete(f"{GRANTS}{answer.json()['id']}/").status_code == 204
    assert ClusterGrant.objects.filter(team=team).count() == 0


def test_who_grants_everywhere_takes_back_where_they_only_see(api, cluster_a):
    granters = factories.make_team()
    factories.give(granters, "clusters.add_clustergrant")
    factories.grant(granters, cluster_a, "viewer")
    row = factories.grant(factories.make_team(), cluster_a, "operator")
    granter = api(factories.make_user(teams=(granters,)))
    assert granter.delete(f"{GRANTS}{row.pk}/").status_code == 204


def test_who_only_sees_takes_nothing_back(api, viewer, cluster_a):
    row = factories.grant(factories.make_team(), cluster_a, "operator")
    assert api(viewer).delete(f"{GRANTS}{row.pk}/").status_code == 403
    assert ClusterGrant.objects.filter(pk=row.pk).exists()


def test_an_operator_grants_nothing(api, operator, cluster_a):
    wish = {"team": factories.make_team().pk, "role": "viewer", "cluster": cluster_a.pk}
    assert api(operator).post(GRANTS, wish).status_code == 403


def test_an_operator_learns_no_teams_by_granting(api, operator, cluster_a):
    wish = {"team": factories.make_team().pk, "role": "viewer", "cluster": cluster_a.pk}
    unknown = {**wish, "team": wish["team"] + 1}
    client = api(operator)
    assert client.post(GRANTS, wish).json() == client.post(GRANTS, unknown).json()


def test_an_owner_learns_of_no_other_cluster_by_granting(api, cluster_a, cluster_b):
    team = factories.make_team()
    factories.grant(team, cluster_a, "owner")
    owner = factories.make_user(teams=(team,))
    wish = {"team": team.pk, "role": "viewer", "cluster": cluster_b.pk}
    hidden = api(owner).post(GRANTS, wish)
    unknown = api(owner).post(GRANTS, {**wish, "cluster": cluster_b.pk + 1})
    assert (hidden.status_code, unknown.status_code) == (400, 400)
    assert told(hidden, cluster_b.pk) == told(unknown, cluster_b.pk + 1)


def told(answer, key):
    """What was answered, without the key that was asked about."""
    return answer.content.decode().replace(str(key), "KEY")


def test_an_unknown_role_is_refused_at_its_field(root, cluster_a):
    wish = {"team": factories.make_team().pk, "role": "king", "cluster": cluster_a.pk}
    answer = root.post(GRANTS, wish)
    assert (answer.status_code, list(answer.json()["fields"])) == (400, ["role"])


# --- cost -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", [CLUSTERS, NODES, GRANTS])
def test_a_list_costs_the_same_for_many_rows(root, url, django_assert_max_num_queries):
    for _ in range(20):
        cluster = factories.make_cluster()
        factories.make_node(cluster)
        factories.grant(factories.make_team(), cluster, "viewer")
    with django_assert_max_num_queries(6):
        assert root.get(url).json()["count"] == 20


@pytest.mark.parametrize("route", [each for each in ROUTES if each.is_of_clusters], ids=str)
def test_whatever_names_a_cluster_says_whether_its_tls_is_verified(route, root):
    cluster = factories.make_cluster(insecure_tls=True)
    make_row(route.model, cluster)
    answer = root.get(route.url("list"))
    rows = answer.json()["results"] if answer.status_code == 200 else []
    unsaid = [row for row in rows if row.get("cluster_name") and not row["cluster_insecure_tls"]]
    assert not unsaid
