"""Pods with what decides their place, budgets, evictions and replicas, as an API server answers."""

import pytest

from clusters.drivers import errors
from clusters.drivers.kubernetes import KubernetesClient
from clusters.drivers.placed_pods import Owner, PlacedPod
from clusters.drivers.workloads import Evicted
from tests.fakes import kube_api
from tests.fakes.kube_api import FakeKubeApi, Reply, list_reply, status_reply

PODS = "/api/v1/pods"
WEB = "/apis/apps/v1/namespaces/shop/deployments/web"
EVICTION = "/api/v1/namespaces/shop/pods/web-1/eviction"
POD = PlacedPod(namespace="shop", name="web-1", uid="u-1")


@pytest.fixture
def api():
    with FakeKubeApi() as server:
        yield server


@pytest.fixture
def workloads(api):
    with KubernetesClient(api.connection(), cluster_name="prod-1", timeout=5) as client:
        yield client.workloads


def refused(code, message, cause=""):
    body = status_reply(code, message).body
    if cause:
        body["details"] = {"causes": [{"reason": "DisruptionBudget", "message": cause}]}
    return Reply(body=body, status=code)


# --- pods -----------------------------------------------------------------------------------------


def test_a_pod_says_where_it_may_run(api, workloads):
    raw = kube_api.pod(
        "web-1",
        nodeSelector={"disk": "ssd"},
        tolerations=[{"key": "gpu", "operator": "Exists"}, {"key": "a", "value": "b"}],
        affinity={
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
                    ]
                }
            },
            "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "topologyKey": "kubernetes.io/hostname",
                        "labelSelector": {"matchLabels": {"app": "web"}},
                    }
                ]
            },
        },
    )
    api.on("GET", PODS, list_reply([raw]))
    (pod,) = workloads.pods()
    assert pod.node_selector == {"disk": "ssd"}
    assert [(item.key, item.operator) for item in pod.tolerations] == [
        ("gpu", "Exists"),
        ("a", "Equal"),
    ]
    assert pod.node_terms[0].matches("n1", {"zone": "a"})
    assert not pod.node_terms[0].matches("n1", {"zone": "b"})
    assert pod.anti_affinity[0].means("default", {"app": "web"}, {})
    assert not pod.anti_affinity[0].means("other", {"app": "web"}, {})


def test_requests_of_every_kind_are_summed_up(api, workloads):
    raw = kube_api.pod("web-1")
    raw["spec"]["containers"] = [
        {"resources": {"requests": {"cpu": "250m", "memory": "1Gi", "nvidia.com/gpu": "1"}}},
        {"resources": {"requests": {"cpu": "250m"}}},
    ]
    raw["spec"]["overhead"] = {"cpu": "100m"}
    api.on("GET", PODS, list_reply([raw]))
    (pod,) = workloads.pods()
    assert pod.requests == {"cpu": 600, "memory": 2**30, "nvidia.com/gpu": 1}


def test_what_a_pod_keeps_on_its_node_is_seen(api, workloads):
    raw = kube_api.pod(
        "web-1",
        volumes=[
            {"name": "cache", "emptyDir": {}},
            {"name": "host", "hostPath": {"path": "/srv"}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "data-0"}},
            {"name": "scratch", "ephemeral": {}},
            {"name": "config", "configMap": {"name": "c"}},
        ],
    )
    api.on("GET", PODS, list_reply([raw]))
    (pod,) = workloads.pods()
    assert pod.empty_dirs == ("cache",)
    assert pod.host_paths == ("/srv",)
    assert pod.claims == ("data-0",)
    assert pod.own_claims == ("scratch",)


def test_a_static_pod_and_one_that_ends_are_told_apart(api, workloads):
    static, ending = kube_api.pod("etcd"), kube_api.pod("web-1")
    static["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "hash"}
    ending["metadata"] |= {"deletionTimestamp": "2026-01-02T03:04:05Z", "finalizers": ["a/b"]}
    api.on("GET", PODS, list_reply([static, ending]))
    first, second = workloads.pods()
    assert (first.is_mirror, first.is_ending) == (True, False)
    assert (second.is_mirror, second.is_ending) == (False, True)
    assert second.finalizers == ("a/b",)
    assert second.owner == Owner("ReplicaSet", "web-1")


def test_pods_are_asked_for_by_node_and_selector(api, workloads):
    api.on("GET", "/apis/apps/v1/namespaces/shop/deployments/web", Reply(body={
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"replicas": 3, "selector": {
            "matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "old", "operator": "DoesNotExist"}]}},
    }))  # fmt: skip
    api.on("GET", "/api/v1/namespaces/shop/pods", list_reply([]))
    workload = workloads.get("Deployment", "shop", "web")
    list(workloads.pods(namespace="shop", selector=workload.selector))
    asked = api.asked("GET", "/api/v1/namespaces/shop/pods")[0]
    assert asked.query["labelSelector"] == "app in (web),!old"


# --- owners ---------------------------------------------------------------------------------------


def test_replicas_that_are_not_given_are_one(api, workloads):
    api.on("GET", WEB, Reply(body={"metadata": {"name": "web", "namespace": "shop"}, "spec": {}}))
    assert workloads.get("Deployment", "shop", "web").wanted == 1


def test_a_replication_controller_has_plain_labels_as_selector(api, workloads):
    path = "/api/v1/namespaces/shop/replicationcontrollers/old"
    body = {"metadata": {"name": "old", "namespace": "shop"}, "spec": {"selector": {"app": "old"}}}
    api.on("GET", path, Reply(body=body))
    found = workloads.get("ReplicationController", "shop", "old")
    assert found.selector.matches({"app": "old"})


def test_replicas_are_changed_only_in_the_version_that_was_read(api, workloads):
    body = {
        "metadata": {"name": "web", "namespace": "shop", "resourceVersion": "7"},
        "spec": {"replicas": 2},
    }
    api.on("GET", WEB, Reply(body=body))
    api.on("PATCH", WEB, Reply(body=body), status_reply(409, "changed"))
    workload = workloads.get("Deployment", "shop", "web")
    workloads.set_replicas(workload, 3, annotations={"beidou.io/raised-by": "17"})
    sent = api.asked("PATCH", WEB)[0].body
    assert sent["metadata"]["resourceVersion"] == "7"
    assert sent["spec"] == {"replicas": 3}
    with pytest.raises(errors.Conflict409):
        workloads.set_replicas(workload, 3, annotations={})


# --- budgets --------------------------------------------------------------------------------------


def test_a_budget_is_read_with_its_status(api, workloads):
    item = {
        "metadata": {"name": "web", "namespace": "shop", "generation": 2},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "minAvailable": "50%",
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
        "status": {
            "disruptionsAllowed": 1,
            "currentHealthy": 3,
            "desiredHealthy": 2,
            "expectedPods": 3,
            "observedGeneration": 1,
        },
    }
    api.on("GET", "/apis/policy/v1/poddisruptionbudgets", list_reply([item]))
    (budget,) = workloads.budgets()
    assert (budget.allowed, budget.healthy, budget.desired, budget.expected) == (1, 3, 2, 3)
    assert budget.min_available == "50%"
    assert budget.unhealthy_policy == "AlwaysAllow"
    assert not budget.is_current


# --- evictions ------------------------------------------------------------------------------------


def test_an_eviction_means_exactly_one_pod(api, workloads):
    api.on("POST", EVICTION, Reply(status=201, body={"kind": "Status", "status": "Success"}))
    assert workloads.evict(POD).outcome == Evicted.ACCEPTED
    sent = api.asked("POST", EVICTION)[0].body
    assert sent["apiVersion"] == "policy/v1"
    assert sent["deleteOptions"] == {"preconditions": {"uid": "u-1"}}


@pytest.mark.parametrize("status", [404, 409])
def test_a_pod_that_is_another_one_by_now_is_gone(api, workloads, status):
    api.on("POST", EVICTION, status_reply(status, "not this one"))
    assert workloads.evict(POD).outcome == Evicted.GONE


def test_a_budget_that_refuses_is_quoted(api, workloads):
    cause = "The disruption budget web needs 2 healthy pods and has 2 currently"
    api.on("POST", EVICTION, refused(429, "Cannot evict pod as it would violate …", cause))
    found = workloads.evict(POD)
    assert found.outcome == Evicted.BLOCKED
    assert found.message == cause


def test_a_busy_server_is_not_a_budget(api, workloads):
    api.on("POST", EVICTION, refused(429, "Too many requests, please try again later."))
    assert workloads.evict(POD).outcome == Evicted.BUSY


def test_two_budgets_for_one_pod_refuse_for_good(api, workloads):
    text = (
        "This pod has more than one PodDisruptionBudget, "
        "which the eviction subresource does not support."
    )
    api.on("POST", EVICTION, refused(500, text))
    assert workloads.evict(POD).outcome == Evicted.NEVER


def test_a_proxy_s_page_is_no_answer_about_the_pod(api, workloads):
    api.on("POST", EVICTION, Reply(status=500, body="<html>Bad gateway</html>"))
    assert workloads.evict(POD).outcome == Evicted.BUSY


def test_a_missing_right_is_an_error(api, workloads):
    api.on("POST", EVICTION, status_reply(403, "no"))
    with pytest.raises(errors.Forbidden):
        workloads.evict(POD)


def test_deleting_past_a_budget_means_exactly_one_pod(api, workloads):
    path = "/api/v1/namespaces/shop/pods/web-1"
    api.on("DELETE", path, Reply(), status_reply(404, "gone"))
    assert workloads.delete(POD, grace_seconds=0)
    assert not workloads.delete(POD)
    first, second = (item.body for item in api.asked("DELETE", path))
    assert first == {"preconditions": {"uid": "u-1"}, "gracePeriodSeconds": 0}
    assert second == {"preconditions": {"uid": "u-1"}}


# --- volumes --------------------------------------------------------------------------------------


def test_a_local_volume_names_the_nodes_it_can_be_reached_from(api, workloads):
    term = {"matchExpressions": [{"key": "host", "operator": "In", "values": ["n1"]}]}
    item = {
        "spec": {
            "claimRef": {"namespace": "shop", "name": "data-0"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
        }
    }
    api.on("GET", "/api/v1/persistentvolumes", list_reply([item, {"spec": {}}]))
    local, anywhere = workloads.volumes()
    assert (local.namespace, local.claim) == ("shop", "data-0")
    assert not local.node_terms[0].matches("n2", {"host": "n2"})
    assert anywhere.node_terms == ()
