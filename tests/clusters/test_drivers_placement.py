"""Where pods may run, read from what the API server answers."""

from typing import Any

import pytest

from clusters.drivers.errors import Forbidden
from clusters.drivers.kubernetes import KubernetesClient
from clusters.drivers.placement import HostPort, Spread
from clusters.drivers.selectors import Requirement, Selector
from clusters.drivers.volumes import BoundVolume
from tests.fakes import kube_objects as kube_api
from tests.fakes.kube_api import FakeKubeApi, list_reply, status_reply

PODS, NAMESPACES = "/api/v1/pods", "/api/v1/namespaces"
VOLUMES = "/api/v1/persistentvolumes"
WEB = Requirement("app", "In", ("web",))
ZONE = "topology.kubernetes.io/zone"


@pytest.fixture
def api():
    with FakeKubeApi() as server:
        yield server


@pytest.fixture
def workloads(api):
    with KubernetesClient(api.connection(), cluster_name="prod-1", timeout=5) as client:
        yield client.workloads


@pytest.fixture
def read(api, workloads):
    """The pod as the product sees it."""

    def reading(labels=None, **spec):
        raw = kube_api.pod("web-1", **spec)
        raw["metadata"]["labels"] = labels or {"app": "web"}
        api.on("GET", PODS, list_reply([raw]))
        (pod,) = workloads.pods()
        return pod

    return reading


# --- topology spread ------------------------------------------------------------------------------


def constraint(**values):
    selector = {"matchLabels": {"app": "web"}}
    return {
        "maxSkew": 1,
        "topologyKey": ZONE,
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": selector,
        **values,
    }


def test_a_constraint_has_the_defaults_of_kubernetes(read):
    pod = read(topologySpreadConstraints=[constraint()])
    assert pod.spread == (
        Spread(ZONE, 1, Selector((WEB,)), 1, honors_affinity=True, honors_taints=False),
    )


def test_a_constraint_that_says_everything_is_read(read):
    pod = read(
        topologySpreadConstraints=[
            constraint(
                maxSkew=3, minDomains=4, nodeAffinityPolicy="Ignore", nodeTaintsPolicy="Honor"
            )
        ]
    )
    assert pod.spread == (
        Spread(ZONE, 3, Selector((WEB,)), 4, honors_affinity=False, honors_taints=True),
    )


def test_a_constraint_that_is_only_preferred_keeps_nothing_away(read):
    pod = read(topologySpreadConstraints=[constraint(whenUnsatisfiable="ScheduleAnyway")])
    assert pod.spread == ()


def test_the_pod_s_own_labels_are_filled_in(read):
    wish = constraint(matchLabelKeys=["pod-template-hash", "missing"])
    pod = read({"app": "web", "pod-template-hash": "abc"}, topologySpreadConstraints=[wish])
    own = Requirement("pod-template-hash", "In", ("abc",))
    assert pod.spread[0].selector == Selector((WEB, own))


def test_without_a_selector_nothing_is_counted(read):
    pod = read(topologySpreadConstraints=[constraint(labelSelector=None)])
    assert not pod.spread[0].counts({"app": "web"})
    assert not pod.spread[0].means({"app": "web"})


# --- other pods -----------------------------------------------------------------------------------


def anti_affinity(**values):
    term = {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": {"app": "web"}},
        **values,
    }
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


@pytest.mark.parametrize(
    ("values", "own", "blue", "green"),
    [
        ({}, True, False, False),
        ({"namespaces": ["green"]}, False, False, True),
        ({"namespaceSelector": {}}, True, True, True),
        ({"namespaceSelector": {"matchLabels": {"team": "blue"}}}, False, True, False),
        (
            {"namespaces": ["green"], "namespaceSelector": {"matchLabels": {"team": "blue"}}},
            False,
            True,
            True,
        ),
    ],
)
def test_namespaces_are_meant_by_name_and_by_label(read, values, own, blue, green):
    (term,) = read(affinity=anti_affinity(**values)).anti_affinity
    assert term.means("default", {"app": "web"}, {}) is own
    assert term.means("blue", {"app": "web"}, {"team": "blue"}) is blue
    assert term.means("green", {"app": "web"}, {"team": "green"}) is green
    assert not term.means("blue", {"app": "other"}, {"team": "blue"})


@pytest.mark.parametrize(
    ("selector", "asks"),
    [
        (None, False),
        ({}, False),
        ({"matchLabels": {"kubernetes.io/metadata.name": "shop"}}, False),
        ({"matchLabels": {"team": "blue"}}, True),
    ],
)
def test_labels_of_namespaces_are_read_only_where_they_decide(read, selector, asks):
    (term,) = read(affinity=anti_affinity(namespaceSelector=selector)).anti_affinity
    assert term.asks_for_labels is asks


def test_namespaces_are_read_with_their_labels(api, workloads):
    raw: list[dict[str, Any]] = [
        {"metadata": {"name": "blue", "labels": {"team": "blue"}}},
        {"metadata": {"name": "x"}},
    ]
    api.on("GET", NAMESPACES, list_reply(raw))
    assert workloads.namespaces() == {"blue": {"team": "blue"}, "x": {}}


def test_namespaces_that_may_not_be_read_are_refused(api, workloads):
    api.on("GET", NAMESPACES, status_reply(403, "no"))
    with pytest.raises(Forbidden, match="list the namespaces"):
        workloads.namespaces()


# --- ports, schedulers, devices -------------------------------------------------------------------


def test_host_ports_of_containers_and_sidecars_are_taken(read):
    ports = [{"containerPort": 1, "hostPort": 80}, {"containerPort": 2}]
    pod = read(
        containers=[{"ports": ports}],
        initContainers=[
            {"restartPolicy": "Always", "ports": [{"hostPort": 81, "hostIP": "10.0.0.1"}]},
            {"ports": [{"hostPort": 82}]},
        ],
    )
    assert pod.host_ports == {HostPort("TCP", 80), HostPort("TCP", 81, "10.0.0.1")}


def test_who_schedules_the_pod_and_what_devices_it_claims_is_read(read):
    pod = read(schedulerName="volcano", resourceClaims=[{"name": "gpu"}])
    assert (pod.scheduler, pod.devices) == ("volcano", ("gpu",))
    assert read().scheduler == "default-scheduler"


# --- volumes --------------------------------------------------------------------------------------


def test_volumes_are_read_with_their_claim_and_their_zones(api, workloads):
    labels = {ZONE: "a__b", "team": "blue"}
    claim = {"namespace": "shop", "name": "data"}
    raw = [{"metadata": {"name": "v1", "labels": labels}, "spec": {"claimRef": claim}}]
    api.on("GET", VOLUMES, list_reply(raw))
    zones = ((ZONE, frozenset({"a", "b"})),)
    assert workloads.volumes() == [BoundVolume("shop", "data", (), zones)]
