"""The capability report: what will work, why not, and what would mend it."""

import pytest
import yaml
from django.utils import translation

from clusters.drivers.answers import Access, Identity
from clusters.drivers.kubernetes import KubernetesClient
from clusters.services import capabilities
from tests.clusters.conftest import ACCESS_REVIEWS, KUBE_SYSTEM, allow_all_but
from tests.fakes.kube_api import status_reply

ADMIN = Identity(username="kubernetes-admin")
ROBOT = Identity(username="system:serviceaccount:ops:portal")


@pytest.fixture
def client(kube):
    with KubernetesClient(kube.connection(), cluster_name="fake") as client:
        yield client


def rows_of(client, identity=ADMIN):
    return {row["key"]: row for row in capabilities.report(client, identity)}


def test_an_administrator_may_do_everything(client):
    assert all(row["ok"] for row in rows_of(client).values())


def test_the_same_question_is_asked_once(kube, client):
    capabilities.report(client, ADMIN)
    asked = [str(request.body) for request in kube.asked("POST", ACCESS_REVIEWS)]
    assert len(asked) == len(set(asked))


def test_a_missing_right_names_the_features_that_need_it(kube, client):
    kube.on("POST", ACCESS_REVIEWS, allow_all_but(("patch", "nodes")))
    rows = rows_of(client)
    broken = {key for key, row in rows.items() if not row["ok"]}
    assert broken == {"cordon", "scale_up", "drain", "scale_down", "upgrade"}
    assert capabilities.why(rows["cordon"]) == "The credential may not patch nodes."


def test_the_sentence_is_in_the_reader_s_language_whoever_asked_the_cluster(kube, client):
    kube.on("POST", ACCESS_REVIEWS, allow_all_but(("patch", "nodes")))
    with translation.override("zh-hans"):
        row = rows_of(client)["cordon"]
        chinese = capabilities.why(row)
    assert "patch nodes" in chinese
    assert not chinese.isascii()
    with translation.override("en"):
        assert capabilities.shown([row])[0]["why"] == "The credential may not patch nodes."


def test_the_snippet_grants_what_the_feature_needs(kube, client):
    kube.on("POST", ACCESS_REVIEWS, allow_all_but(("patch", "nodes")))
    role, binding = yaml.safe_load_all(rows_of(client, ROBOT)["cordon"]["rbac"])
    assert role["kind"] == "ClusterRole"
    verbs = ["get", "patch"]
    assert role["rules"] == [{"apiGroups": [""], "resources": ["nodes"], "verbs": verbs}]
    assert role["metadata"] == binding["metadata"] == {"name": "beidou-cordon"}
    assert binding["roleRef"]["name"] == "beidou-cordon"
    subject = {"kind": "ServiceAccount", "namespace": "ops", "name": "portal"}
    assert binding["subjects"] == [subject]


def granted_by(snippets):
    """As ``kubectl apply`` leaves them behind, one after the other."""
    there = {}
    for document in (each for text in snippets for each in yaml.safe_load_all(text)):
        metadata = document["metadata"]
        there[document["kind"], metadata.get("namespace", ""), metadata["name"]] = document
    return {
        (namespace, rule["apiGroups"][0], resource, verb)
        for (_kind, namespace, _name), document in there.items()
        for rule in document.get("rules", ())
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def needed_by(*keys):
    return {
        (a.namespace, a.group, "/".join(filter(None, (a.resource, a.subresource))), a.verb)
        for item in capabilities.CAPABILITIES
        if item.key in keys
        for a in item.accesses
    }


def test_what_mends_one_feature_takes_nothing_away_from_another(kube, client):
    lost = (("patch", "nodes"), ("delete", "nodes"), ("list", "poddisruptionbudgets"))
    kube.on("POST", ACCESS_REVIEWS, allow_all_but(*lost))
    rows = rows_of(client)
    granted = granted_by([rows["scale_down"]["rbac"], rows["cordon"]["rbac"]])
    assert granted == needed_by("scale_down", "cordon")


def test_what_mends_a_feature_again_takes_nothing_away_that_mended_it_before(kube, client):
    snippets = []
    for lost in (("patch", "nodes"), ("list", "pods")):
        kube.on("POST", ACCESS_REVIEWS, allow_all_but(lost))
        snippets.append(rows_of(client)["drain"]["rbac"])
    assert granted_by(snippets) == needed_by("drain")


def test_rights_in_a_namespace_become_a_role_there():
    missing = [
        Access(verb="create", resource="secrets", namespace="kube-system"),
        Access(verb="create", resource="pods", subresource="eviction"),
    ]
    documents = list(yaml.safe_load_all(capabilities.rbac_snippet(missing, ADMIN)))
    kinds = [(item["kind"], item["metadata"].get("namespace")) for item in documents]
    assert kinds == [
        ("Role", "kube-system"),
        ("RoleBinding", "kube-system"),
        ("ClusterRole", None),
        ("ClusterRoleBinding", None),
    ]
    assert documents[2]["rules"][0]["resources"] == ["pods/eviction"]
    assert documents[3]["subjects"][0]["kind"] == "User"


def test_a_cluster_that_kubeadm_did_not_make_cannot_be_scaled(kube, client):
    kube.on("GET", f"{KUBE_SYSTEM}/configmaps/kubelet-config", status_reply(404, "not found"))
    row = rows_of(client)["scale_up"]
    assert not row["ok"]
    assert "kubeadm" in capabilities.why(row)
    assert row["rbac"] == ""


def test_scaling_down_works_without_the_rights_to_get_past_budgets(kube, client):
    kube.on("POST", ACCESS_REVIEWS, allow_all_but(("delete", "pods"), ("patch", "deployments")))
    rows = rows_of(client)
    assert rows["scale_down"]["ok"]
    assert "delete pods" in capabilities.why(rows["past_budgets"])


@pytest.mark.parametrize(
    "access",
    [
        ("get", "nodes"), ("list", "nodes"), ("get", "pods"), ("create", "pods"),
        ("list", "poddisruptionbudgets"), ("list", "statefulsets"), ("get", "daemonsets"),
        ("get", "configmaps"),
    ],
)  # fmt: skip
def test_an_upgrade_needs_more_than_to_drain(kube, client, access):
    kube.on("POST", ACCESS_REVIEWS, allow_all_but(access))
    row = rows_of(client)["upgrade"]
    assert " ".join(access) in capabilities.why(row)


def test_an_upgrade_makes_no_test_pods_and_deletes_nothing(kube, client):
    denied = [("create", "secrets"), ("delete", "pods"), ("delete", "nodes")]
    kube.on("POST", ACCESS_REVIEWS, allow_all_but(*denied))
    assert rows_of(client)["upgrade"]["ok"]


def test_the_summary_counts_and_names(kube, client):
    kube.on("POST", ACCESS_REVIEWS, allow_all_but(("delete", "nodes")))
    text = capabilities.summary(capabilities.report(client, ADMIN))
    assert text == "9 of 11 features will work; not: Take machines out (ScaleDown), Remove nodes."


def test_what_this_version_does_not_have_is_told_apart_and_counts_for_nothing(kube, client):
    kube.on(
        "POST",
        ACCESS_REVIEWS,
        allow_all_but(("list", "persistentvolumes"), ("create", "namespaces")),
    )
    rows = capabilities.report(client, ADMIN)
    assert capabilities.summary(rows) == "11 of 11 features will work."
    told = capabilities.shown(rows)
    assert [row["key"] for row in told if row["planned"]] == ["inspection", "deploy"]
    assert [row["planned"] for row in told] == [False] * 11 + [True] * 2
