"""Whether other nodes have room, by everything a scheduler must respect."""

import pytest

from clusters.drivers.objects import Taint
from clusters.drivers.placement import HostPort, NodeTerm, PodTerm, Toleration
from clusters.drivers.selectors import Requirement
from clusters.drivers.volumes import BoundVolume
from operations.kinds.draining.fitting import Room
from operations.kinds.draining.obstacles import amount
from tests.operations.draining.made_up import GIB, node, pod, selects

OTHER = pod("other", on="n2", app="other")


def why(moving, *nodes, pods=(), volumes=(), **values):
    return Room(nodes, pods, volumes, **values).place(moving)


def test_an_empty_node_has_room():
    assert why(pod(requests={"cpu": 4000}), node("n2")) == ""


def test_without_other_nodes_there_is_no_room():
    assert why(pod()) == "there is no other node"


def test_what_runs_already_takes_room():
    full = pod("full", on="n2", requests={"cpu": 3800})
    found = why(pod(requests={"cpu": 500}), node("n2"), pods=[full])
    assert found == "1 node with too little cpu (500m wanted, at most 200m free)"


def test_pods_that_have_ended_take_no_room():
    ended = pod("ended", on="n2", phase="Succeeded", requests={"cpu": 4000})
    assert why(pod(requests={"cpu": 500}), node("n2"), pods=[ended]) == ""


def test_pods_placed_before_take_room_too():
    room = Room([node("n2", cpu=1000)], [])
    assert room.place(pod("a", requests={"cpu": 600})) == ""
    assert "too little cpu" in room.place(pod("b", requests={"cpu": 600}))


def test_pods_spread_over_the_nodes():
    room = Room([node("n2", cpu=1000), node("n3", cpu=1000)], [])
    assert [room.place(pod(name, requests={"cpu": 600})) for name in "ab"] == ["", ""]


def test_the_number_of_pods_of_a_node_is_a_limit():
    assert "too little pods (1 wanted, at most 0 free)" in why(
        pod(), node("n2", pods=1), pods=[OTHER]
    )


def test_a_device_that_no_other_node_has_is_named():
    found = why(pod(requests={"nvidia.com/gpu": 1}), node("n2"), node("n3"))
    assert found == "2 nodes with too little nvidia.com/gpu (1 wanted, at most 0 free)"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"ready": "False"}, "1 node not Ready"),
        ({"ready": "Unknown"}, "1 node not Ready"),
        ({"unschedulable": True}, "1 node cordoned"),
        ({"taints": [Taint("gpu", "NoSchedule", "yes")]}, "1 node with the taint gpu"),
        ({"taints": [Taint("gpu", "NoExecute", "yes")]}, "1 node with the taint gpu"),
    ],
)
def test_a_node_that_takes_no_pods_says_why(values, reason):
    assert why(pod(), node("n2", **values)) == reason


def test_a_preference_against_a_node_is_no_obstacle():
    assert why(pod(), node("n2", taints=[Taint("gpu", "PreferNoSchedule")])) == ""


@pytest.mark.parametrize(
    ("toleration", "fits"),
    [
        (Toleration("gpu", "Exists"), True),
        (Toleration(operator="Exists"), True),
        (Toleration("gpu", "Equal", "yes"), True),
        (Toleration("gpu", "Equal", "no"), False),
        (Toleration("gpu", "Exists", effect="NoExecute"), False),
        (Toleration("disk", "Exists"), False),
    ],
)
def test_taints_are_tolerated_as_in_kubernetes(toleration, fits):
    tainted = node("n2", taints=[Taint("gpu", "NoSchedule", "yes")])
    assert (why(pod(tolerations=(toleration,)), tainted) == "") is fits


def test_a_node_selector_wants_every_label():
    wants = pod(node_selector={"disk": "ssd"})
    assert "node selector" in why(wants, node("n2"))
    assert why(wants, node("n2", labels={"disk": "ssd"})) == ""


def test_one_of_the_alternatives_of_a_node_affinity_must_hold():
    terms = (
        NodeTerm((Requirement("zone", "In", ("a",)),)),
        NodeTerm(fields=(Requirement("metadata.name", "In", ("n9",)),)),
    )
    wants = pod(node_terms=terms)
    assert why(wants, node("n2", labels={"zone": "a"})) == ""
    assert why(wants, node("n9")) == ""
    assert "node affinity" in why(wants, node("n2", labels={"zone": "b"}))
    assert "node affinity" in why(pod(node_terms=(NodeTerm(),)), node("n2"))


def test_a_local_volume_keeps_its_pod_on_its_node():
    terms = (NodeTerm((Requirement("kubernetes.io/hostname", "In", ("n1",)),)),)
    found = why(pod(claims=("data-0",)), node("n2"), volumes=[BoundVolume("shop", "data-0", terms)])
    assert found == "1 node without access to its volume"


def test_copies_that_must_not_share_a_node_need_one_each():
    apart = (PodTerm("kubernetes.io/hostname", selects(app="web"), frozenset({"shop"})),)
    there = pod("web-2", on="n2")
    assert "must not share" in why(pod(anti_affinity=apart), node("n2"), pods=[there])
    assert why(pod(anti_affinity=apart), node("n2"), node("n3"), pods=[there]) == ""


def test_a_pod_there_may_keep_others_off():
    apart = (PodTerm("kubernetes.io/hostname", selects(app="web"), frozenset({"shop"})),)
    there = pod("lonely", on="n2", app="lonely", anti_affinity=apart)
    assert "must not share" in why(pod(), node("n2"), pods=[there])


def test_anti_affinity_means_a_whole_zone_when_it_says_so():
    apart = (PodTerm("zone", selects(app="web"), frozenset({"shop"})),)
    nodes = [node("n2", labels={"zone": "a"}), node("n3", labels={"zone": "a"})]
    found = why(pod(anti_affinity=apart), *nodes, pods=[pod("web-2", on="n2")])
    assert found == "2 nodes with a pod it must not share a place with"


def test_affinity_wants_to_be_where_the_others_are():
    together = (PodTerm("kubernetes.io/hostname", selects(app="other"), frozenset({"shop"})),)
    wants = pod(affinity=together)
    assert why(wants, node("n2"), pods=[OTHER]) == ""
    assert "must be with" in why(wants, node("n3"), pods=[OTHER])


def test_the_first_of_a_group_may_go_anywhere():
    together = (PodTerm("kubernetes.io/hostname", selects(app="web"), frozenset({"shop"})),)
    assert why(pod(affinity=together), node("n2")) == ""


@pytest.mark.parametrize(
    ("taken", "wanted", "fits"),
    [
        (HostPort("TCP", 80), HostPort("TCP", 80), False),
        (HostPort("TCP", 80), HostPort("UDP", 80), True),
        (HostPort("TCP", 80), HostPort("TCP", 81), True),
        (HostPort("TCP", 80, "10.0.0.1"), HostPort("TCP", 80), False),
        (HostPort("TCP", 80), HostPort("TCP", 80, "10.0.0.1"), False),
        (HostPort("TCP", 80, "10.0.0.1"), HostPort("TCP", 80, "10.0.0.1"), False),
        (HostPort("TCP", 80, "10.0.0.1"), HostPort("TCP", 80, "10.0.0.2"), True),
    ],
)
def test_a_host_port_is_taken_once_per_address(taken, wanted, fits):
    there = pod("there", on="n2", host_ports=frozenset({taken}))
    found = why(pod(host_ports=frozenset({wanted})), node("n2"), pods=[there])
    assert found == ("" if fits else "1 node with its host port taken")


def test_two_pods_that_move_with_one_host_port_need_two_nodes():
    room = Room([node("n2"), node("n3")], [])
    port = frozenset({HostPort("TCP", 80)})
    assert [bool(room.place(pod(name, host_ports=port))) for name in "abc"] == [False, False, True]


def test_every_reason_is_counted():
    nodes = [node("n2", ready="False"), node("n3", cpu=100), node("n4", cpu=300)]
    found = why(pod(requests={"cpu": 500}), *nodes)
    assert found == (
        "2 nodes with too little cpu (500m wanted, at most 300m free); 1 node not Ready"
    )


def test_amounts_are_written_for_people():
    assert amount("cpu", 2000) == "2"
    assert amount("memory", GIB) == "1024 MiB"
    assert amount("pods", 3) == "3"
