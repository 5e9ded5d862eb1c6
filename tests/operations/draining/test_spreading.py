"""Topology spread constraints: the same answers as the scheduler's."""

import itertools

import pytest

from clusters.drivers.objects import Taint
from clusters.drivers.placement import NodeTerm, Spread, Toleration
from clusters.drivers.selectors import Requirement, Selector
from operations.kinds.draining.fitting import Room
from tests.operations.draining.made_up import node, pod, selects

HOST = "kubernetes.io/hostname"
TOO_MANY = "with too many of its pods in the same zone"


def spread(key="zone", skew=1, selector=None, **values):
    return Spread(key, skew, selects(app="web") if selector is None else selector, **values)


def in_zones(*zones, **values):
    """One node in each of these zones: n2, n3, …"""
    return [
        node(f"n{number}", labels={"zone": zone} if zone else {}, **values)
        for number, zone in enumerate(zones, start=2)
    ]


def on_nodes(*counts, **values):
    """As many pods as said on n2, n3, …"""
    return [
        pod(f"web-{number}-{copy}", on=f"n{number}", **values)
        for number, count in enumerate(counts, start=2)
        for copy in range(count)
    ]


def why(nodes, pods=(), *constraints, leaving=(), **values):
    moving = pod("moving", spread=constraints or (spread(),), **values)
    return Room(nodes, pods, leaving=leaving).place(moving)


def fits(*arguments, **values):
    return why(*arguments, **values) == ""


def chosen(nodes, pods, *constraints, **values):
    """On which of the nodes the pod may run, each asked as if the others were full."""
    found = set()
    for each in nodes:
        full = [node_.name for node_ in nodes if node_ is not each]
        moving = pod("moving", spread=constraints, requests={"cpu": 3000}, **values)
        blocking = [
            pod(f"full-{name}", on=name, namespace="full", requests={"cpu": 2000}) for name in full
        ]
        if not Room(nodes, [*pods, *blocking]).place(moving):
            found.add(each.name)
    return found


# --- the skew -------------------------------------------------------------------------------------


@pytest.mark.parametrize("skew", [1, 2])
@pytest.mark.parametrize("min_domains", [1, 3, 4])
@pytest.mark.parametrize("app", ["web", "other"])
@pytest.mark.parametrize("counts", list(itertools.product(range(3), repeat=3)))
def test_a_pod_goes_where_the_skew_allows_it_and_nowhere_else(skew, min_domains, app, counts):
    nodes = in_zones("a", "b", "c")
    least = min(counts) if min_domains <= 3 else 0
    own = 1 if app == "web" else 0
    wanted = {
        each.name for each, count in zip(nodes, counts, strict=True) if count + own - least <= skew
    }
    constraint = spread(skew=skew, min_domains=min_domains)
    assert chosen(nodes, on_nodes(*counts), constraint, app=app) == wanted


def test_several_nodes_of_a_zone_count_together():
    nodes = in_zones("a", "a", "b")
    assert chosen(nodes, on_nodes(1, 0, 0), spread()) == {"n4"}


def test_every_constraint_must_hold():
    nodes = in_zones("a", "a", "b")
    pods = on_nodes(1, 0, 1)
    assert chosen(nodes, pods, spread(), spread(HOST)) == {"n3"}


def test_pods_that_are_placed_count_for_the_next():
    room = Room(in_zones("a", "b"), [])
    copies = [pod(f"web-{number}", spread=(spread(),)) for number in range(4)]
    assert [room.place(each) for each in copies] == [""] * 4
    found = [group.places for group in room._groups.values()]
    zones = [place.node.labels["zone"] for places in found for place in places]
    assert sorted(zones) == ["a", "a", "b", "b"]


def test_a_pod_that_waits_for_others_to_be_spread_is_tried_again():
    """The first finds zone a too full until the second is in zone b."""
    nodes = in_zones("a", "b")
    second = pod("second", node_selector={"zone": "b"})
    ignoring = spread(honors_affinity=False)
    first = pod("first", spread=(ignoring,), node_selector={"zone": "a"}, requests={"cpu": 2000})
    room = Room(nodes, on_nodes(1, 0))
    assert room.place_all([first, second]) == {}


# --- what is counted ------------------------------------------------------------------------------


def test_pods_of_another_namespace_do_not_count():
    assert chosen(in_zones("a", "b"), on_nodes(1, 0, namespace="else"), spread()) == {"n2", "n3"}


def test_pods_that_end_or_have_ended_do_not_count():
    ending = on_nodes(1, 0, deadline="soon")
    assert chosen(in_zones("a", "b"), ending, spread()) == {"n2", "n3"}
    ended = on_nodes(1, 0, phase="Succeeded")
    assert chosen(in_zones("a", "b"), ended, spread()) == {"n2", "n3"}


def test_pods_that_the_selector_does_not_mean_do_not_count():
    assert chosen(in_zones("a", "b"), on_nodes(1, 0, app="other"), spread()) == {"n2", "n3"}


def test_an_empty_selector_counts_none_and_none_selects_none():
    for selector in (Selector(), None):
        constraint = Spread("zone", 1, selector)
        assert chosen(in_zones("a", "b"), on_nodes(2, 0), constraint) == {"n2", "n3"}


def test_an_expression_selects_too():
    selector = Selector((Requirement("app", "NotIn", ("other",)),))
    assert chosen(in_zones("a", "b"), on_nodes(1, 0), spread(selector=selector)) == {"n3"}


# --- which nodes are domains ----------------------------------------------------------------------


def test_a_node_without_the_label_takes_none_and_says_so():
    assert why(in_zones("")) == "1 node without the label zone, by which its pods are spread"


def test_a_node_that_lacks_another_constraint_s_label_is_no_domain_of_any():
    """Zone c has no rack, so that the empty zone c makes the skew of a and b no larger."""
    nodes = [
        node("n2", labels={"zone": "a", "rack": "1"}),
        node("n3", labels={"zone": "b", "rack": "2"}),
        node("n4", labels={"zone": "c"}),
    ]
    assert fits(nodes, on_nodes(1, 1), spread(), spread("rack"))


def test_nodes_that_the_pod_may_not_choose_are_no_domains_unless_it_says_so():
    nodes = in_zones("a", "b")
    pods = on_nodes(1, 0)
    only_a = {"node_selector": {"zone": "a"}}
    assert fits(nodes, pods, **only_a)
    assert not fits(nodes, pods, spread(honors_affinity=False), **only_a)
    terms = (NodeTerm((Requirement("zone", "In", ("a",)),)),)
    assert fits(nodes, pods, node_terms=terms)
    assert not fits(nodes, pods, spread(honors_affinity=False), node_terms=terms)


def test_tainted_nodes_are_domains_unless_it_says_otherwise():
    tainted = node("n3", labels={"zone": "b"}, taints=[Taint("gpu", "NoSchedule", "yes")])
    nodes = [*in_zones("a"), tainted]
    pods = on_nodes(1, 0)
    assert not fits(nodes, pods)
    assert fits(nodes, pods, spread(honors_taints=True))
    tolerating = (Toleration("gpu", "Exists"),)
    full = [*pods, pod("full", on="n3", app="", requests={"cpu": 4000})]
    wanting = {"tolerations": tolerating, "requests": {"cpu": 100}}
    assert not fits(nodes, full, spread(honors_taints=True), **wanting)


@pytest.mark.parametrize("values", [{"unschedulable": True}, {"ready": "False"}])
def test_nodes_that_take_no_pods_are_domains_all_the_same(values):
    nodes = [*in_zones("a"), node("n3", labels={"zone": "b"}, **values)]
    assert TOO_MANY in why(nodes, on_nodes(1, 0))


def test_a_cordon_is_a_taint():
    nodes = [*in_zones("a"), node("n3", labels={"zone": "b"}, unschedulable=True)]
    assert fits(nodes, on_nodes(1, 0), spread(honors_taints=True))


# --- nodes that leave -----------------------------------------------------------------------------


def test_a_zone_that_is_left_empty_counts_until_its_node_is_gone():
    nodes = in_zones("a", "b", "c")
    found = why(nodes, on_nodes(0, 1, 1), leaving={"n2"})
    assert TOO_MANY in found
    assert "the leaving nodes count until they are gone" in found
    assert fits(nodes[1:], on_nodes(0, 1, 1))


def test_a_leaving_node_does_not_count_where_taints_are_honored():
    assert fits(
        in_zones("a", "b", "c"), on_nodes(0, 1, 1), spread(honors_taints=True), leaving={"n2"}
    )


def test_what_stays_on_a_leaving_node_counts_too():
    nodes = in_zones("a", "b", "c")
    assert fits(nodes, on_nodes(1, 1, 1), leaving={"n2"})


def test_a_zone_with_a_node_that_stays_takes_the_pods_of_the_one_that_leaves():
    nodes = in_zones("a", "a", "b")
    assert fits(nodes, on_nodes(0, 0, 1), leaving={"n2"})
