"""Manifests applied by the server."""

import pytest

from beidou.base.errors import InvalidInput
from clusters.drivers import applying, errors
from clusters.drivers.applying import UnknownKind
from clusters.drivers.kubernetes import KubernetesClient
from tests.fakes.kube_api import FakeKubeApi, Reply

CORE = {
    "resources": [
        {"name": "configmaps", "kind": "ConfigMap", "namespaced": True},
        {"name": "nodes", "kind": "Node", "namespaced": False},
        {"name": "pods/log", "kind": "Pod", "namespaced": True},
    ]
}


def item(kind="ConfigMap", version="v1", **metadata):
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "x", **metadata}}


@pytest.fixture
def api():
    with FakeKubeApi() as api:
        api.on("GET", "/api/v1", Reply(body=CORE))
        yield api


@pytest.fixture
def applier(api):
    with KubernetesClient(api.connection(), cluster_name="prod-1") as client:
        yield client.applier


def test_an_object_is_sent_where_its_kind_lives(api, applier):
    path = "/api/v1/namespaces/kube-system/configmaps/x"
    api.on("PATCH", path, Reply(body={}))
    applier.apply(item(namespace="kube-system"))
    (request,) = api.asked("PATCH", path)
    assert request.headers["Content-Type"] == applying.APPLY_PATCH
    assert request.query == {"fieldManager": "beidou", "force": "true"}
    assert request.body == item(namespace="kube-system")


def test_what_has_no_namespace_goes_to_the_default_one_or_to_none(api, applier):
    api.on("PATCH", "/api/v1/namespaces/default/configmaps/x", Reply(body={}))
    api.on("PATCH", "/api/v1/nodes/x", Reply(body={}))
    applier.apply(item())
    applier.apply(item("Node"))
    assert len(api.asked("GET", "/api/v1")) == 1  # kinds are listed once


@pytest.mark.parametrize("wanted", [item("Pod"), item("Widget"), item("Widget", "example.com/v1")])
def test_a_kind_that_is_not_known_is_said(api, applier, wanted):
    api.on("GET", "/apis/example.com/v1", Reply({"message": "no"}, 404))
    with pytest.raises(UnknownKind, match=f"knows no {wanted['kind']}"):
        applier.apply(wanted)


def test_a_kind_that_comes_later_is_found_then(api, applier):
    with pytest.raises(UnknownKind):
        applier.apply(item("Widget"))
    more = [*CORE["resources"], {"name": "widgets", "kind": "Widget", "namespaced": False}]
    api.on("GET", "/api/v1", Reply(body={"resources": more}))
    api.on("PATCH", "/api/v1/widgets/x", Reply(body={}))
    applier.apply(item("Widget"))
    assert len(api.asked("PATCH", "/api/v1/widgets/x")) == 1


def test_a_refusal_names_the_object(api, applier):
    path = "/api/v1/namespaces/default/configmaps/x"
    api.on("PATCH", path, Reply({"message": "no"}, 403))
    with pytest.raises(errors.Forbidden, match="apply ConfigMap x"):
        applier.apply(item())


def test_lists_and_documents_are_taken_apart():
    text = (
        "apiVersion: v1\nkind: List\nitems:\n"
        "- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n"
        "---\n---\n"
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: b}}\n"
    )
    assert [each["metadata"]["name"] for each in applying.parse(text)] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "empty"),
        ("a: [", "not_yaml"),
        ("!!python/object:x {}", "not_yaml"),
        ("hello", "no_object"),
        ("{apiVersion: v1, kind: X}", "no_object"),
        ("{apiVersion: v1, kind: X, metadata: {generateName: a}}", "no_object"),
        ("kind: List", "empty"),
    ],
)
def test_what_cannot_be_applied_is_refused(text, code):
    with pytest.raises(InvalidInput) as refused:
        applying.parse(text)
    assert refused.value.code == code


def test_too_many_objects_are_refused():
    text = "---\n".join(["{apiVersion: v1, kind: X, metadata: {name: a}}\n"] * 501)
    with pytest.raises(InvalidInput, match="At most 500"):
        applying.parse(text)
