"""Pods that must be, or must not be, with others: of their own and of other namespaces."""

import pytest

from clusters.drivers.placement import NAMESPACE_NAME, PodTerm
from clusters.drivers.selectors import Requirement, Selector
from operations.kinds.draining.fitting import Room
from tests.operations.draining.made_up import node, pod, selects

HOST = "kubernetes.io/hostname"
TEAM = Selector((Requirement("team", "In", ("blue",)),))
NAMESPACES = {
    "shop": {NAMESPACE_NAME: "shop", "team": "red"},
    "blue": {NAMESPACE_NAME: "blue", "team": "blue"},
    "green": {NAMESPACE_NAME: "green", "team": "green"},
}


def term(*namespaces, chosen=None, key=HOST, app="other"):
    return PodTerm(key, selects(app=app), frozenset(namespaces), chosen)


def fits(moving, *there, nodes=None, namespaces=NAMESPACES, **values):
    room = Room(nodes or [node("n2")], there, namespaces=namespaces, **values)
    return room.place(moving) == ""


def other(namespace="shop", on="n2", **values):
    return pod("other", on=on, app="other", namespace=namespace, **values)


# --- which namespaces are meant -------------------------------------------------------------------

MEANT = [
    (term("shop"), {"shop"}),
    (term("blue", "green"), {"blue", "green"}),
    (term(chosen=TEAM), {"blue"}),
    (term("green", chosen=TEAM), {"blue", "green"}),
    (term(chosen=Selector()), {"shop", "blue", "green"}),
    (term(chosen=Selector((Requirement("team", "Exists"),))), {"shop", "blue", "green"}),
    (term(chosen=Selector((Requirement(NAMESPACE_NAME, "In", ("green",)),))), {"green"}),
]


@pytest.mark.parametrize(("meant", "namespaces"), MEANT)
@pytest.mark.parametrize("namespace", sorted(NAMESPACES))
def test_anti_affinity_keeps_away_from_the_namespaces_that_are_meant(meant, namespaces, namespace):
    assert fits(pod(anti_affinity=(meant,)), other(namespace)) is (namespace not in namespaces)


@pytest.mark.parametrize(("meant", "namespaces"), MEANT)
@pytest.mark.parametrize("namespace", sorted(NAMESPACES))
def test_affinity_wants_pods_of_the_namespaces_that_are_meant(meant, namespaces, namespace):
    assert fits(pod(affinity=(meant,)), other(namespace)) is (namespace in namespaces)


@pytest.mark.parametrize(("meant", "namespaces"), MEANT)
@pytest.mark.parametrize("namespace", sorted(NAMESPACES))
def test_a_pod_there_keeps_off_those_of_the_namespaces_that_it_means(meant, namespaces, namespace):
    lonely = pod("lonely", on="n2", app="lonely", anti_affinity=(meant,))
    assert fits(other(namespace, on="n1"), lonely) is (namespace not in namespaces)


def test_a_namespace_that_came_meanwhile_has_its_name_at_least():
    meant = term(chosen=Selector((Requirement(NAMESPACE_NAME, "In", ("new",)),)))
    assert not fits(pod(anti_affinity=(meant,)), other("new"))


# --- several terms --------------------------------------------------------------------------------


def test_affinity_wants_one_pod_that_all_terms_mean():
    both = (term("shop"), term("shop", key="zone", app="other"))
    nodes = [node("n2", labels={"zone": "a"})]
    assert fits(pod(affinity=both), other(), nodes=nodes)
    third = (term("shop"), PodTerm("zone", selects(app="third"), frozenset({"shop"})))
    assert not fits(pod(affinity=third), other(), pod("third", on="n2", app="third"), nodes=nodes)


def test_the_first_of_a_group_needs_the_label_of_the_place_all_the_same():
    own = (term("shop", key="zone", app="web"),)
    assert not fits(pod(affinity=own))
    assert fits(pod(affinity=own), nodes=[node("n2", labels={"zone": "a"})])


def test_the_first_of_a_group_must_be_meant_by_each_of_its_terms():
    terms = (term("shop", app="web"), term("shop", app="other"))
    assert not fits(pod(affinity=terms))


def test_anti_affinity_keeps_away_from_what_any_of_the_terms_means():
    apart = (term("shop", app="third"), term("shop", app="other"))
    assert not fits(pod(anti_affinity=apart), other())


def test_pods_that_are_ending_still_keep_others_away():
    assert not fits(pod(anti_affinity=(term("shop"),)), other(deadline="soon"))


def test_without_the_label_of_the_place_nothing_is_shared():
    assert fits(pod(anti_affinity=(term("shop", key="zone"),)), other())


# --- nodes that leave, and pods that follow each other --------------------------------------------


def test_what_stays_on_a_leaving_node_of_the_zone_counts_until_it_is_gone():
    nodes = [node("n1", labels={"zone": "a"}), node("n2", labels={"zone": "a"})]
    apart = pod(anti_affinity=(term("shop", key="zone"),))
    assert not fits(apart, other(on="n1"), nodes=nodes, leaving={"n1"})


def test_a_pod_that_follows_another_waits_until_that_has_its_place():
    follower = pod("a-follower", affinity=(term("shop"),), priority=9)
    leader = pod("leader", app="other")
    room = Room([node("n2")], [], namespaces=NAMESPACES)
    assert room.place_all([follower, leader]) == {}


def test_a_pod_whose_leader_fits_nowhere_fits_nowhere():
    follower = pod("follower", affinity=(term("shop"),))
    leader = pod("leader", app="other", requests={"cpu": 99000})
    room = Room([node("n2")], [], namespaces=NAMESPACES)
    assert set(room.place_all([follower, leader])) == {follower.uid, leader.uid}


def test_two_that_wait_for_each_other_wait_for_ever():
    first = pod("first", app="first", affinity=(term("shop", app="second"),))
    second = pod("second", app="second", affinity=(term("shop", app="first"),))
    room = Room([node("n2")], [], namespaces=NAMESPACES)
    assert set(room.place_all([first, second])) == {first.uid, second.uid}
