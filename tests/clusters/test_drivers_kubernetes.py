"""The client against an API server that answers as told."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from beidou.base.errors import PermanentError
from clusters.drivers import errors
from clusters.drivers.answers import Access
from clusters.drivers.kubernetes import KubernetesClient
from clusters.drivers.objects import Taint
from tests.fakes import kube_api
from tests.fakes.kube_api import (
    FakeKubeApi,
    Hang,
    Reply,
    Request,
    list_reply,
    status_reply,
)

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
WHOAMI = "/apis/authentication.k8s.io/{}/selfsubjectreviews"
SECRETS = "/api/v1/namespaces/kube-system/secrets"
PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture
def api() -> Iterator[FakeKubeApi]:
    with FakeKubeApi() as server:
        yield server


@pytest.fixture
def client(api: FakeKubeApi) -> Iterator[KubernetesClient]:
    with KubernetesClient(api.connection(), cluster_name="prod-1", timeout=5) as made:
        yield made


def impatient(api: FakeKubeApi) -> KubernetesClient:
    return KubernetesClient(api.connection(), cluster_name="prod-1", timeout=0.4)


# --- who and what ---------------------------------------------------------------------------------


def test_the_client_certificate_is_shown(api: FakeKubeApi):
    api.on("GET", "/version", Reply(body={"gitVersion": "v1.36.3", "major": "1", "minor": "36"}))
    with KubernetesClient(api.connection(token=None), cluster_name="prod-1") as client:
        client.version()
    assert api.requests[0].client == "admin"
    assert "Authorization" not in api.requests[0].headers


def test_the_token_is_sent(api: FakeKubeApi, client: KubernetesClient):
    api.on("GET", "/version", Reply(body={"gitVersion": "v1.28.9", "major": "1", "minor": "28+"}))
    version = client.version()
    assert api.requests[0].headers["Authorization"] == "Bearer test-token"
    assert (version.git_version, version.major, version.minor) == ("v1.28.9", 1, 28)


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_the_server_tells_who_we_are(api: FakeKubeApi, client: KubernetesClient, version: str):
    user = {"username": "admin", "uid": "7", "groups": ["system:masters"]}
    api.on("POST", WHOAMI.format(version), Reply(body={"status": {"userInfo": user}}))
    identity = client.whoami()
    assert (identity.username, identity.uid) == ("admin", "7")
    assert identity.groups == ("system:masters",)
    assert identity.is_confirmed


@pytest.mark.parametrize("status", [403, 404])
def test_an_old_server_leaves_the_name_unconfirmed(api: FakeKubeApi, status: int):
    api.on("POST", WHOAMI.format("v1"), status_reply(status, "no such review"))
    api.on("POST", REVIEWS, Reply(status=201, body={"status": {"allowed": False}}))
    with KubernetesClient(api.connection(token=None), cluster_name="prod-1") as client:
        identity = client.whoami()
    assert identity.username == "admin"
    assert not identity.is_confirmed


def test_an_old_server_still_refuses_a_bad_credential(api: FakeKubeApi, client: KubernetesClient):
    api.on("POST", REVIEWS, status_reply(401, "Unauthorized"))
    with pytest.raises(errors.Unauthorized):
        client.whoami()


def test_rights_are_answered_in_the_order_of_the_questions(
    api: FakeKubeApi, client: KubernetesClient
):
    def review(request: Request) -> Reply:
        asked = request.body["spec"]["resourceAttributes"]
        allowed = asked["verb"] == "get"
        return Reply(status=201, body={"status": {"allowed": allowed, "reason": asked["resource"]}})

    api.on("POST", REVIEWS, review)
    accesses = [Access(verb=verb, resource=f"r{n}") for n, verb in enumerate(["get", "put"] * 6)]
    answers = client.can_i(accesses)
    assert [answer.access for answer in answers] == accesses
    assert [answer.is_allowed for answer in answers] == [True, False] * 6
    assert [answer.reason for answer in answers] == [f"r{n}" for n in range(12)]


def test_a_question_about_rights_is_asked_in_full(api: FakeKubeApi, client: KubernetesClient):
    api.on("POST", REVIEWS, Reply(status=201, body={"status": {"allowed": True}}))
    access = Access(verb="create", resource="pods", subresource="eviction", namespace="a")
    client.can_i([access])
    assert str(access) == "create pods/eviction in a"
    assert api.requests[0].body["spec"]["resourceAttributes"] == {
        "verb": "create",
        "group": "",
        "resource": "pods",
        "subresource": "eviction",
        "namespace": "a",
        "name": "",
    }


def test_a_question_that_cannot_be_asked_names_itself(api: FakeKubeApi, client: KubernetesClient):
    api.on("POST", REVIEWS, status_reply(403, "no"))
    with pytest.raises(errors.Forbidden, match=r"could not ask whether we may list jobs\.batch"):
        client.can_i([Access(verb="list", resource="jobs", group="batch")])


def test_the_cluster_is_known_by_the_uid_of_kube_system(api: FakeKubeApi, client: KubernetesClient):
    api.on("GET", "/api/v1/namespaces/kube-system", Reply(body={"metadata": {"uid": "u-1"}}))
    assert client.kube_system_uid() == "u-1"


# --- inventory ------------------------------------------------------------------------------------


def test_nodes_are_listed_over_all_pages(api: FakeKubeApi, client: KubernetesClient):
    api.on(
        "GET",
        "/api/v1/nodes",
        list_reply([kube_api.node("n1")], continue_="abc"),
        list_reply([kube_api.node("n2")]),
    )
    assert [node.name for node in client.list_nodes()] == ["n1", "n2"]
    assert [request.query for request in api.requests] == [
        {"limit": "500"},
        {"limit": "500", "continue": "abc"},
    ]


def test_a_position_that_is_too_old_is_gone(api: FakeKubeApi, client: KubernetesClient):
    first = list_reply([kube_api.pod("a")], continue_="abc")
    api.on("GET", "/api/v1/pods", first, status_reply(410, "expired"))
    pods = client.iter_pods(page=1)
    assert next(pods).name == "a"
    with pytest.raises(errors.Gone, match="could not list the pods"):
        next(pods)


def test_pods_of_one_node_are_selected_by_the_server(api: FakeKubeApi, client: KubernetesClient):
    api.on("GET", "/api/v1/pods", list_reply([]))
    assert list(client.iter_pods(node_name="n1")) == []
    assert api.requests[0].query["fieldSelector"] == "spec.nodeName=n1"


def test_workloads_are_counted_without_reading_them(api: FakeKubeApi, client: KubernetesClient):
    api.on("GET", "/api/v1/namespaces", list_reply([{}], remaining=41, continue_="x"))
    api.on("GET", "/apis/apps/v1/deployments", list_reply([]))
    api.on("GET", "/apis/batch/v1/jobs", status_reply(403, "jobs is forbidden"))
    counted = client.workload_counts()
    assert counted.counts == {"namespaces": 42, "deployments": 0}
    assert "jobs is forbidden" in counted.unknown["jobs"]
    assert set(counted.unknown) == {"jobs", "statefulsets", "daemonsets", "services"}
    assert api.requests[0].query == {"limit": "1"}
    assert "PartialObjectMetadataList" in api.requests[0].headers["Accept"]


def test_counting_does_not_hide_that_the_cluster_is_away(api: FakeKubeApi):
    api.on("GET", "/api/v1/namespaces", Hang())
    with impatient(api) as client, pytest.raises(errors.Unreachable):
        client.workload_counts()


# --- nodes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("unschedulable", [True, False])
def test_cordoning_patches_one_field(
    api: FakeKubeApi, client: KubernetesClient, unschedulable: bool
):
    node = kube_api.node("n1", unschedulable=unschedulable)
    api.on("PATCH", "/api/v1/nodes/n1", Reply(body=node))
    assert client.set_unschedulable("n1", unschedulable).unschedulable is unschedulable
    assert api.requests[0].body == {"spec": {"unschedulable": unschedulable}}
    assert api.requests[0].headers["Content-Type"] == "application/merge-patch+json"


def test_the_action_is_named_when_cordoning_fails(api: FakeKubeApi, client: KubernetesClient):
    with pytest.raises(errors.NotFound, match="Cluster prod-1: could not cordon node n1: "):
        client.set_unschedulable("n1", True)


def test_taints_are_changed_for_the_version_that_was_read(
    api: FakeKubeApi, client: KubernetesClient
):
    taints = [
        {"key": "old", "effect": "NoSchedule"},
        {"key": "kept", "effect": "NoExecute", "value": "1"},
        {"key": "set", "effect": "NoSchedule", "value": "before"},
    ]
    api.on("GET", "/api/v1/nodes/n1", Reply(body=kube_api.node("n1", version="77", taints=taints)))
    api.on("PATCH", "/api/v1/nodes/n1", Reply(body=kube_api.node("n1")))
    client.patch_node(
        "n1",
        labels={"a": "b", "c": None},
        taints=[Taint("set", "NoSchedule", "after")],
        remove_taints=["old"],
    )
    assert api.requests[1].body == {
        "metadata": {"labels": {"a": "b", "c": None}, "resourceVersion": "77"},
        "spec": {
            "taints": [
                {"key": "kept", "value": "1", "effect": "NoExecute"},
                {"key": "set", "value": "after", "effect": "NoSchedule"},
            ]
        },
    }


def test_taints_are_read_again_after_a_collision(api: FakeKubeApi, client: KubernetesClient):
    versions = [Reply(body=kube_api.node("n1", version=version)) for version in ("1", "2")]
    api.on("GET", "/api/v1/nodes/n1", *versions)
    collision = status_reply(409, "the object has been modified", "Conflict")
    api.on("PATCH", "/api/v1/nodes/n1", collision, Reply(body=kube_api.node("n1")))
    client.patch_node("n1", taints=[Taint("a", "NoSchedule")])
    patches = api.asked("PATCH", "/api/v1/nodes/n1")
    assert [patch.body["metadata"]["resourceVersion"] for patch in patches] == ["1", "2"]


def test_endless_collisions_end_with_a_conflict(api: FakeKubeApi, client: KubernetesClient):
    api.on("GET", "/api/v1/nodes/n1", Reply(body=kube_api.node("n1")))
    api.on("PATCH", "/api/v1/nodes/n1", status_reply(409, "modified", "Conflict"))
    with pytest.raises(errors.Conflict409) as caught:
        client.patch_node("n1", remove_taints=["a"])
    assert caught.value.code == "changed_meanwhile"
    assert len(api.asked("PATCH", "/api/v1/nodes/n1")) == 5


def test_a_name_cannot_leave_its_place_in_the_path(api: FakeKubeApi, client: KubernetesClient):
    with pytest.raises(errors.NotFound):
        client.delete_node("../pods?x=")
    assert api.requests[0].path == "/api/v1/nodes/..%2Fpods%3Fx%3D"


# --- bootstrap tokens -----------------------------------------------------------------------------


def test_a_bootstrap_token_is_a_secret_that_ends_by_itself(
    api: FakeKubeApi, client: KubernetesClient
):
    api.on("POST", SECRETS, Reply(status=201))
    before = datetime.now(UTC)
    token = client.create_bootstrap_token(ttl=timedelta(hours=1), description="operation 7")
    secret = api.requests[0].body
    token_id, _, token_secret = token.token.partition(".")
    assert (len(token_id), len(token_secret)) == (6, 16)
    assert secret["metadata"]["name"] == f"bootstrap-token-{token.token_id}"
    assert secret["type"] == "bootstrap.kubernetes.io/token"
    assert secret["stringData"] == {
        "description": "operation 7",
        "token-id": token_id,
        "token-secret": token_secret,
        "expiration": token.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "usage-bootstrap-authentication": "true",
        "usage-bootstrap-signing": "true",
        "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
    }
    assert timedelta(minutes=59) < token.expires_at - before <= timedelta(hours=1)
    assert token.token not in repr(token)


def test_a_refused_bootstrap_token_is_not_told(api: FakeKubeApi, client: KubernetesClient):
    def refuse(request: Request) -> Reply:
        return status_reply(422, f"bad {request.body['stringData']['token-secret']}")

    api.on("POST", SECRETS, refuse)
    with pytest.raises(PermanentError, match=r"could not create a bootstrap token.*bad \*\*\*"):
        client.create_bootstrap_token(ttl=timedelta(hours=1), description="x")


def test_revoking_a_token_twice_is_harmless(api: FakeKubeApi, client: KubernetesClient):
    path = f"{SECRETS}/bootstrap-token-abcdef"
    api.on("DELETE", path, Reply(), status_reply(404, "not found"))
    assert client.delete_bootstrap_token("abcdef") is True
    assert client.delete_bootstrap_token("abcdef") is False


# --- pods and services ----------------------------------------------------------------------------


def test_a_pod_that_cannot_start_says_why(api: FakeKubeApi, client: KubernetesClient):
    waiting = {"reason": "ErrImageNeverPull", "message": "image is not present"}
    pod = kube_api.pod("probe", phase="Pending")
    pod["status"]["containerStatuses"] = [{"name": "main", "state": {"waiting": waiting}}]
    api.on("GET", f"{PODS}/probe", Reply(body=pod))
    assert client.get_pod("default", "probe").waiting == (
        "main: ErrImageNeverPull (image is not present)",
    )


def test_a_pod_that_finds_no_node_says_why(api: FakeKubeApi, client: KubernetesClient):
    pod = kube_api.pod("probe", phase="Pending", node_name="")
    pod["status"]["conditions"] = [
        {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
    ]
    api.on("GET", f"{PODS}/probe", Reply(body=pod))
    found = client.get_pod("default", "probe")
    assert (found.message, found.node_name) == ("0/3 nodes are available", "")


@pytest.mark.parametrize(
    ("codes", "expected"), [([0, 0], 0), ([0, 3], 3), ([None, 3], 3), ([0, None], None), ([], None)]
)
def test_the_exit_code_is_the_first_bad_one(
    api: FakeKubeApi, client: KubernetesClient, codes: list[int | None], expected: int | None
):
    pod = kube_api.pod("probe")
    pod["status"]["containerStatuses"] = [
        {
            "name": f"c{n}",
            "state": {"running": {}} if code is None else {"terminated": {"exitCode": code}},
        }
        for n, code in enumerate(codes)
    ]
    api.on("GET", f"{PODS}/probe", Reply(body=pod))
    assert client.get_pod("default", "probe").exit_code == expected


def test_a_pod_of_that_name_exists_already(api: FakeKubeApi, client: KubernetesClient):
    api.on("POST", PODS, status_reply(409, 'pods "probe" already exists', "AlreadyExists"))
    with pytest.raises(errors.Conflict409) as caught:
        client.create_pod("default", {"metadata": {"name": "probe"}})
    assert caught.value.code == "already_exists"


def test_deleting_a_pod_twice_is_harmless(api: FakeKubeApi, client: KubernetesClient):
    api.on("DELETE", f"{PODS}/probe", Reply(), status_reply(404, "not found"))
    assert client.delete_pod("default", "probe", grace_seconds=0) is True
    assert client.delete_pod("default", "probe") is False
    assert api.requests[0].query == {"gracePeriodSeconds": "0"}


def test_a_log_is_read_as_text_even_if_it_is_none(api: FakeKubeApi, client: KubernetesClient):
    api.on("GET", f"{PODS}/probe/log", Reply(body=b"hello\n\xff\n"))
    assert client.pod_log("default", "probe", container="main") == "hello\n\ufffd\n"
    assert api.requests[0].query == {
        "tailLines": "1000",
        "limitBytes": "1048576",
        "container": "main",
    }


def test_a_service_has_an_address_and_ports(api: FakeKubeApi, client: KubernetesClient):
    spec = {"clusterIP": "10.96.0.1", "ports": [{"port": 443}]}
    api.on("GET", "/api/v1/namespaces/default/services/kubernetes", Reply(body={"spec": spec}))
    service = client.get_service()
    assert (service.cluster_ip, service.ports) == ("10.96.0.1", (443,))


def test_pods_are_found_by_all_of_their_labels(api: FakeKubeApi, client: KubernetesClient):
    api.on("GET", PODS, list_reply([kube_api.pod("a")]))
    (found,) = client.find_pods("default", {"beidou.io/step": "x", "beidou.io/attempt": "2"})
    assert (found.name, found.is_ready) == ("a", True)
    (request,) = api.asked("GET", PODS)
    assert request.query["labelSelector"] == "beidou.io/step=x,beidou.io/attempt=2"


@pytest.mark.parametrize(("answer", "there"), [(Reply(), True), (status_reply(404, "no"), False)])
def test_a_daemon_set_is_there_or_not(api: FakeKubeApi, client: KubernetesClient, answer, there):
    api.on("GET", "/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy", answer)
    assert client.has_daemon_set("kube-system", "kube-proxy") is there


def test_a_daemon_set_one_may_not_read_is_no_missing_one(
    api: FakeKubeApi, client: KubernetesClient
):
    path = "/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy"
    api.on("GET", path, status_reply(403, "forbidden"))
    with pytest.raises(errors.Forbidden):
        client.has_daemon_set("kube-system", "kube-proxy")
