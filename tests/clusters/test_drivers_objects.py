"""What is read of nodes and pods, and what odd JSON does to it."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from clusters.drivers.objects import (
    LAST_APPLIED_ANNOTATION,
    NODES,
    PODS,
    NodeInfo,
    PodInfo,
    Taint,
)
from tests.fakes import kube_api


def read_node(item: dict[str, Any]) -> NodeInfo:
    return NODES.decode_object(json.dumps(item).encode())


def read_pod(item: dict[str, Any]) -> PodInfo:
    return PODS.decode_object(json.dumps(item).encode())


def test_a_node_keeps_everything_the_inventory_needs():
    taint = {"key": "dedicated", "value": "db", "effect": "NoSchedule"}
    node = read_node(kube_api.node("n1", unschedulable=True, taints=[taint], providerID="x://1"))
    assert node.created_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert node.taints == (Taint("dedicated", "NoSchedule", "db"),)
    assert node.unschedulable
    assert node.capacity.cpu_millicores == 4000
    assert node.allocatable.cpu_millicores == 3800
    assert node.capacity.memory_bytes == 16 * 2**30
    assert node.capacity.pods == 110
    assert node.address() == "10.0.0.7"
    assert node.address("ExternalIP") == ""
    assert node.system_uuid == "4c4c4544-0000-0000-0000-000000000000"
    assert node.pod_cidrs == ("10.244.1.0/24",)
    assert (node.provider_id, node.kubelet_version) == ("x://1", "v1.36.3")


@pytest.mark.parametrize(
    ("status", "expected"), [("True", True), ("False", False), ("Unknown", None)]
)
def test_readiness_has_three_values(status: str, expected: bool | None):
    assert read_node(kube_api.node("n1", ready=status)).is_ready is expected


def test_a_node_that_never_reported_is_neither_ready_nor_not():
    node = read_node({"metadata": {"name": "new"}})
    assert node.is_ready is None
    assert node.capacity.cpu_millicores == 0


def annotated(**annotations: str) -> dict[str, Any]:
    item = kube_api.node("n1")
    item["metadata"]["annotations"] = annotations
    return item


def test_annotations_are_kept_without_the_copy_of_the_whole_object():
    item = annotated(**{"a/b": "c", LAST_APPLIED_ANNOTATION: "{…}"})
    assert read_node(item).annotations == {"a/b": "c"}


def test_a_node_without_annotations_has_none():
    assert read_node(kube_api.node("n1")).annotations == {}


def test_a_long_annotation_is_cut_and_says_so():
    kept = read_node(annotated(long="x" * 501, short="x" * 500)).annotations
    assert kept == {"long": "x" * 499 + "…", "short": "x" * 500}


def test_of_very_many_annotations_the_first_by_name_are_kept():
    kept = read_node(annotated(**{f"a-{number:03}": "" for number in range(250)})).annotations
    assert list(kept) == [f"a-{number:03}" for number in range(200)]


def test_roles_come_from_both_kinds_of_labels():
    item = kube_api.node("n1")
    item["metadata"]["labels"] = {
        "node-role.kubernetes.io/control-plane": "",
        "node-role.kubernetes.io/": "",
        "kubernetes.io/role": "ingress",
    }
    assert read_node(item).roles == ("control-plane", "ingress")


def test_devices_are_counted_by_their_name():
    item = kube_api.node("n1")
    item["status"]["capacity"]["nvidia.com/gpu"] = "8"
    assert read_node(item).capacity.extended == {"nvidia.com/gpu": 8}


def test_null_means_empty_everywhere():
    item = kube_api.node("n1", taints=None, unschedulable=None, podCIDRs=None)
    item["metadata"].update(labels=None, creationTimestamp=None)
    item["status"].update(conditions=None, addresses=None, capacity=None)
    node = read_node(item)
    assert (node.taints, node.labels, node.conditions, node.created_at) == ((), {}, (), None)


def test_a_pod_is_reduced_to_what_is_summed_up():
    pod = read_pod(kube_api.pod("web-1-a", namespace="shop"))
    assert (pod.namespace, pod.node_name, pod.phase) == ("shop", "n1", "Running")
    assert (pod.owner_kind, pod.owner_name) == ("ReplicaSet", "web-1")
    assert pod.is_ready
    assert not pod.is_finished
    assert pod.resources.cpu_request_millicores == 100
    assert pod.resources.memory_limit_bytes == 2**30


def test_an_owner_that_does_not_control_is_no_owner():
    item = kube_api.pod("a")
    item["metadata"]["ownerReferences"] = [{"kind": "Node", "name": "n", "controller": False}]
    assert read_pod(item).owner_kind == ""


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_finished_pod_occupies_nothing(phase: str):
    assert read_pod(kube_api.pod("job", phase=phase)).is_finished


def test_a_pod_on_its_way_out_says_so():
    item = kube_api.pod("a")
    item["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    assert read_pod(item).is_terminating


def test_one_unreadable_object_does_not_hide_the_others(caplog: pytest.LogCaptureFixture):
    bad = kube_api.node("bad")
    bad["status"]["capacity"]["cpu"] = "many"
    page = kube_api.list_reply([kube_api.node("n1"), bad, kube_api.node("n2")]).body
    nodes, metadata = NODES.decode_page(json.dumps(page).encode())
    assert [node.name for node in nodes] == ["n1", "n2"]
    assert metadata.resource_version == "100"
    assert "'many' is not a Kubernetes quantity" in caplog.text


@pytest.mark.parametrize("text", ["", "<html>", "[]", '{"items": 5}', '{"items": [{"meta'])
def test_what_is_no_list_is_refused(text: str):
    with pytest.raises(ValueError, match=r"JSON|Expected|truncated"):
        NODES.decode_page(text.encode())


def test_a_list_without_items_is_empty():
    assert NODES.decode_page(b'{"metadata": {"resourceVersion": "7"}, "items": null}')[0] == []
