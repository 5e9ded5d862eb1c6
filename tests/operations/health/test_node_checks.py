"""What the cluster knows of a node, and what was found out between nodes, as checks."""

import json
from dataclasses import replace

import pytest

from clusters.drivers.objects import NODES, PODS
from operations.kinds.health import node_checks, pairs
from operations.kinds.health.changes import NOT_TRIED
from operations.kinds.health.pods import Answer
from tests.fakes import kube_objects

WELL = Answer(address="10.244.1.5", seconds=1.5, service=True, dns=True, is_gone=True)


def a_node(**conditions):
    item = kube_objects.node("n1")
    for kind, status in conditions.items():
        item["status"]["conditions"] = [
            c for c in item["status"]["conditions"] if c["type"] != kind
        ] + [{"type": kind, "status": status, "reason": "Because", "message": "so"}]
    return NODES.decode_object(json.dumps(item).encode())


def a_pod(name, *, namespace="kube-system", ready="True", owner="DaemonSet"):
    item = kube_objects.pod(name, namespace=namespace)
    item["metadata"]["ownerReferences"] = [{"kind": owner, "name": "x", "controller": True}]
    item["status"]["conditions"] = [{"type": "Ready", "status": ready}]
    return PODS.decode_object(json.dumps(item).encode())


def by_name(checks):
    return {each["check"]: each for each in checks}


def level(each):
    return "ok" if each["ok"] else each["severity"]


@pytest.mark.parametrize(
    ("kind", "status", "wanted"),
    [
        ("Ready", "True", "ok"),
        ("Ready", "False", "error"),
        ("Ready", "Unknown", "error"),
        ("DiskPressure", "False", "ok"),
        ("DiskPressure", "True", "error"),
        ("DiskPressure", "Unknown", "ok"),
        ("NetworkUnavailable", "True", "error"),
        ("KernelDeadlock", "False", "ok"),
        ("KernelDeadlock", "True", "warning"),
    ],
)
def test_ready_has_to_be_true_and_nothing_else_may_be(kind, status, wanted):
    found = by_name(node_checks.of_node(a_node(**{kind: status}), [], "v1.36.3"))
    each = found[f"condition:{kind}"]
    assert level(each) == wanted
    assert ("Because: so" in each["found"]) is (wanted != "ok")


def test_a_node_that_never_reported_is_not_ready():
    node = replace(a_node(), conditions=())
    assert level(by_name(node_checks.of_node(node, [], "v1.36.3"))["condition:Ready"]) == "error"


@pytest.mark.parametrize(
    ("server", "wanted"),
    [("v1.36.0", "ok"), ("v1.39.1", "ok"), ("v1.40.0", "error"), ("v1.35.9", "error")],
)
def test_the_kubelet_is_held_against_the_api_server(server, wanted):
    found = by_name(node_checks.of_node(a_node(), [], server))
    assert level(found["kubelet-version"]) == wanted


def test_a_version_that_is_none_is_a_warning():
    node = replace(a_node(), kubelet_version="nonsense")
    assert level(by_name(node_checks.of_node(node, [], "v1.36.3"))["kubelet-version"]) == "warning"


@pytest.mark.parametrize(
    ("pods", "wanted"),
    [
        ([], "ok"),
        ([a_pod("kube-proxy")], "ok"),
        ([a_pod("kube-proxy", ready="False")], "error"),
        ([a_pod("agent", namespace="shop", ready="False")], "warning"),
        ([a_pod("web", ready="False", owner="ReplicaSet")], "ok"),
    ],
)
def test_daemon_sets_of_kube_system_are_needed_others_are_somebodys_own(pods, wanted):
    found = by_name(node_checks.of_node(a_node(), pods, "v1.36.3"))["daemonset-pods"]
    assert level(found) == wanted
    if wanted != "ok":
        assert f"{pods[0].namespace}/{pods[0].name}" in found["found"]


def of(answer, image=""):
    return by_name(node_checks.of_answer(answer, dns_name="kubernetes.default", image=image))


def test_a_well_node_has_all_checks_of_its_pods():
    assert {name: each["ok"] for name, each in of(WELL).items()} == {
        "pod": True, "pod-service": True, "pod-dns": True, "pod-gone": True, "image-pull": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({"service": False}, "pod-service"),
        ({"dns": False}, "pod-dns"),
        ({"is_gone": False}, "pod-gone"),
        ({"ask_trouble": "evicted", "service": None, "dns": None}, "pod-asks"),
    ],
)
def test_each_failure_of_a_pod_is_a_check_of_its_own(change, failed):
    found = of(replace(WELL, **change))
    assert [name for name, each in found.items() if not each["ok"]] == [failed]
    assert found[failed]["advice"]


def test_without_a_pod_nothing_else_is_said_of_pods():
    found = of(Answer(trouble="no room"))
    assert list(found) == ["pod", "image-pull"]
    assert found["pod"]["found"] == "no room"


def test_a_pod_that_was_not_tried_is_not_in_order():
    assert not of(Answer())["pod"]["ok"]


@pytest.mark.parametrize(
    ("answer", "ok"),
    [
        (replace(WELL, pull_seconds=2.0), True),
        (replace(WELL, pull_trouble="no such host"), False),
        (WELL, False),
        (Answer(trouble="no room", pull_trouble="no such host"), False),
    ],
)
def test_a_pull_counts_only_when_there_is_an_image_for_it(answer, ok):
    tried = of(answer, image="app:2")["image-pull"]
    assert (tried["ok"], tried.get(NOT_TRIED)) == (ok, None)
    untried = of(answer)["image-pull"]
    assert (untried["ok"], untried[NOT_TRIED]) == (True, True)
    assert untried["found"].startswith("not tried: ")


def test_that_the_test_image_cannot_be_pulled_is_a_warning():
    answer = replace(WELL, pull_trouble="no such host")
    checks = node_checks.of_answer(answer, dns_name="", image="probe:1", is_image_named=False)
    found = by_name(checks)["image-pull"]
    assert level(found) == "warning"
    assert "pull_image" in found["advice"]


def network(node, rows, name="pod-network", problems=None):
    guilty = pairs.to_blame(pairs.failed(rows))
    return node_checks.of_network(name, node, rows, guilty, problems or {})


CUT = {
    "a": {"b": True, "c": False},
    "b": {"a": True, "c": False},
    "c": {"a": False, "b": False},
}


def test_the_node_that_is_cut_off_fails_and_the_others_are_warned_of_it():
    assert level(network("c", CUT)) == "error"
    assert "does not reach a, b" in network("c", CUT)["found"]
    assert "is not reached by a, b" in network("c", CUT)["found"]
    for other in ("a", "b"):
        each = network(other, CUT)
        assert level(each) == "warning"
        assert each["found"] == "does not reach c; is not reached by c"


def test_of_two_both_fail_since_nobody_can_tell():
    rows = {"a": {"b": False}, "b": {"a": True}}
    assert level(network("a", rows)) == level(network("b", rows)) == "error"


def test_who_reaches_all_and_is_reached_is_in_order():
    rows = {"a": {"b": True}, "b": {"a": True}}
    each = network("a", rows)
    assert each["ok"]
    assert each["found"] == "reaches 1 of 1, reached by 1"


def test_alone_there_is_nothing_to_fail():
    assert network("a", {"a": {}})["ok"]


def test_why_a_host_is_not_reached_is_told():
    rows = {"a": {"b": False}}
    each = network("a", rows, "node-network", {"b": "no answer within 3 s"})
    assert each["found"] == "does not reach b; no answer within 3 s"


def test_of_very_many_names_a_few_are_told_and_the_rest_is_counted():
    assert node_checks.named(f"n{at}" for at in range(7)) == "n0, n1, n2, n3, n4 and 2 more"
    assert node_checks.named(["n0"]) == "n0"
