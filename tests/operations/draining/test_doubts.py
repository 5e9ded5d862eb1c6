"""Where a pod's volumes let it run, and what cannot be worked out and is said."""

import pytest

from clusters.drivers.placement import NAMESPACE_NAME, NodeTerm, PodTerm
from clusters.drivers.selectors import Requirement, Selector
from clusters.drivers.volumes import BoundVolume
from operations.kinds.draining.checks import make_checks
from operations.kinds.draining.fitting import Room
from operations.kinds.draining.plan import Code, Situation, make_plan
from tests.operations.draining.made_up import WEB, answers, node, pod, selects

ZONE, REGION = "topology.kubernetes.io/zone", "topology.kubernetes.io/region"
OLD_ZONE = "failure-domain.beta.kubernetes.io/zone"
HOST = "kubernetes.io/hostname"


def only_on(*names):
    return (NodeTerm((Requirement(HOST, "In", names),)),)


def volume(claim="data", *, terms=(), **zones):
    placed = tuple((key, frozenset(values)) for key, values in zones.items())
    return BoundVolume("shop", claim, terms, placed)


def zoned(key=ZONE, *values):
    return BoundVolume("shop", "data", (), ((key, frozenset(values)),))


def fits(volumes, *nodes, **values):
    moving = pod(claims=("data",), **values)
    return Room(nodes or [node("n2")], [], volumes).place(moving) == ""


# --- volumes --------------------------------------------------------------------------------------


def test_a_local_volume_is_where_it_is():
    assert not fits([volume(terms=only_on("n1"))], node("n2"))
    assert fits([volume(terms=only_on("n2"))], node("n2"))


def test_one_of_two_volumes_is_enough_to_keep_a_pod():
    volumes = [volume("data"), volume("log", terms=only_on("n1"))]
    moving = pod(claims=("data", "log"))
    assert "without access to its volume" in Room([node("n2")], [], volumes).place(moving)


def test_a_volume_of_another_namespace_is_another_one():
    volumes = [BoundVolume("else", "data", only_on("n1"))]
    assert fits(volumes, node("n2"))


@pytest.mark.parametrize(
    ("bound", "labels", "reaches"),
    [
        (zoned(ZONE, "a"), {ZONE: "a"}, True),
        (zoned(ZONE, "a"), {ZONE: "b"}, False),
        (zoned(ZONE, "a", "b"), {ZONE: "b"}, True),
        (zoned(OLD_ZONE, "a"), {ZONE: "a"}, True),
        (zoned(OLD_ZONE, "a"), {ZONE: "b"}, False),
        (zoned(OLD_ZONE, "a"), {OLD_ZONE: "a"}, True),
        (zoned(REGION, "north"), {ZONE: "a"}, False),
        (zoned(REGION, "north"), {REGION: "north", ZONE: "a"}, True),
        (zoned(ZONE, "a"), {}, True),  # a node without any zone is in each
    ],
)
def test_a_volume_of_a_zone_is_reached_from_there(bound, labels, reaches):
    assert fits([bound], node("n2", labels=labels)) is reaches


# --- what is not known ----------------------------------------------------------------------------


def doubts(moving, *there, volumes=(), namespaces=None):
    room = Room([node("n2")], there, volumes, namespaces=namespaces)
    assert room.place(moving) == ""
    return list(room.doubts(moving))


def test_an_ordinary_pod_leaves_no_doubt():
    assert doubts(pod()) == []
    assert doubts(pod(claims=("data",)), volumes=[volume()]) == []


def test_another_scheduler_is_named():
    (doubt,) = doubts(pod(scheduler="volcano"))
    assert doubt == "scheduler volcano decides, whose rules are not known here"


def test_claimed_devices_are_named():
    assert doubts(pod(devices=("gpu",))) == ["it claims devices: gpu"]


def test_volumes_that_are_made_with_the_pod_are_named():
    (doubt,) = doubts(pod(own_claims=("scratch",)))
    assert "new volumes are made for it" in doubt


def test_volumes_that_may_not_be_read_are_a_doubt_only_of_pods_that_have_some():
    (doubt,) = doubts(pod(claims=("data",)), volumes=None)
    assert doubt == "where its volumes can be reached from may not be read"
    assert doubts(pod(), volumes=None) == []


def test_a_claim_without_a_volume_is_named():
    assert doubts(pod(claims=("data",))) == ["claims without a volume: data"]


BLUE = PodTerm(HOST, selects(app="web"), frozenset(), Selector((Requirement("team", "Exists"),)))
BY_NAME = PodTerm(
    HOST, selects(app="web"), frozenset(), Selector((Requirement(NAMESPACE_NAME, "Exists"),))
)


def test_labels_of_namespaces_that_may_not_be_read_are_a_doubt():
    apart = pod(anti_affinity=(BLUE,))
    assert doubts(apart) == ["its affinity asks for labels of namespaces, which may not be read"]
    assert doubts(apart, namespaces={}) == []


def test_a_pod_there_that_may_keep_this_one_off_is_a_doubt_too():
    there = pod("there", on="n2", app="there", anti_affinity=(BLUE,))
    assert len(doubts(pod(), there)) == 1
    assert doubts(pod(app="another"), there) == []


def test_names_of_namespaces_are_known_without_reading_them():
    assert doubts(pod(anti_affinity=(BY_NAME,))) == []
    there = pod("there", on="n2", app="web")
    room = Room([node("n2")], [there])
    assert "must not share" in room.place(pod(anti_affinity=(BY_NAME,)))


# --- in a plan ------------------------------------------------------------------------------------


def plan_of(*pods, **values):
    nodes = (node("n1"), node("n2"))
    return make_plan(Situation(nodes, pods, WEB, **values), ["n1"])["n1"]


def test_a_doubt_is_a_warning_and_no_block():
    plan = plan_of(pod(scheduler="volcano"), pod("web-2", on="n2"))
    rows = {row["check"]: row for row in make_checks(plan, answers())}
    assert rows["room-unknown"]["severity"] == "warning"
    assert not rows["room-unknown"]["ok"]
    assert "1: shop/web-1 (scheduler volcano decides" in rows["room-unknown"]["found"]
    assert rows[Code.NO_ROOM]["ok"]
    assert plan.fates[0].as_dict()["doubts"] == list(plan.fates[0].doubts)


def test_without_a_doubt_there_is_no_such_check():
    plan = plan_of(pod(), pod("web-2", on="n2"))
    assert "room-unknown" not in {row["check"] for row in make_checks(plan, answers())}


def test_a_pod_that_fits_nowhere_is_beyond_doubt():
    plan = plan_of(pod(scheduler="volcano", requests={"cpu": 99000}), pod("web-2", on="n2"))
    assert plan.fates[0].doubts == ()
    assert plan.problems(Code.NO_ROOM)


def test_a_pod_that_is_lost_needs_no_room_and_leaves_no_doubt():
    assert plan_of(pod(owner="", scheduler="volcano")).fates[0].doubts == ()


def test_pods_that_stay_leave_no_doubt():
    assert plan_of(pod(owner="DaemonSet:proxy", scheduler="volcano")).fates[0].doubts == ()
