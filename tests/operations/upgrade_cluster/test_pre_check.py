"""preCheck: what keeps an upgrade from beginning is said, and nothing is changed."""

import pytest

from clusters.drivers.upgrading import DeprecatedUse
from operations.kinds.upgrade_cluster import pre_check
from operations.services import control as steering
from tests.fakes.upgrading import NEW, OLD
from tests.operations.upgrade_cluster.conftest import cells, failed_checks, host_check

pytestmark = pytest.mark.django_db
USED = (
    'apiserver_requested_deprecated_apis{group="shop.io",removed_release="1.36",'
    'resource="carts",subresource="",version="v1beta1"} 1\n'
)


def checks_of(operation, host="c1"):
    return {each["check"]: each for each in cells(operation, "preCheck")[host].checks}


def assert_nothing_was_begun(operation, kube, hosts):
    assert operation.status == "failed"
    assert hosts.of("upgrade_prepare") == []
    assert kube.cordoned() == kube.marked() == set()
    assert set(kube.kubelets().values()) == {OLD}


def test_what_concerns_the_whole_cluster_is_told_once(upgrade):
    operation = upgrade(limit=2)
    whole = {"version", "version-skew", "every-node", "nodes-ready", "kubeadm", "etcd-members"}
    assert whole <= checks_of(operation).keys()
    assert not whole & checks_of(operation, "c2").keys()
    assert not whole & checks_of(operation, "w1").keys()
    evidence = cells(operation, "preCheck")["w1"].evidence
    assert (evidence["kubelet"], evidence["control_plane"]) == (OLD, False)


# --- versions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "target", "words"),
    [
        ("v1.34.4", "v1.36.3", "one minor version at a time, so the next is 1.35"),
        ("v1.37.0", "v1.36.3", "versions do not go back"),
        ("v1.36.4", "v1.36.3", "versions do not go back"),
    ],
)
def test_a_version_that_cannot_be_the_next_is_refused(server, target, words):
    found = pre_check.version_check(target, server)
    assert not found["ok"]
    assert words in found["advice"]


@pytest.mark.parametrize("server", ["v1.35.4", "v1.36.1", "v1.36.3"])
def test_the_next_minor_and_a_later_patch_are_all_right(server):
    assert pre_check.version_check("v1.36.3", server)["ok"]


def test_a_kubelet_that_would_be_too_old_is_named(upgrade, kube, hosts):
    kube.add("old", version="v1.32.1")
    operation = upgrade()
    assert_nothing_was_begun(operation, kube, hosts) if "old" not in kube.nodes else None
    skew = failed_checks(operation, "c1")["version-skew"]
    assert "old" in skew["found"]


def test_a_kubelet_newer_than_its_server_is_named(upgrade, kube):
    kube.nodes["w1"]["status"]["nodeInfo"]["kubeletVersion"] = "v1.36.9"
    assert "w1" in failed_checks(upgrade(), "c1")["version-skew"]["found"]


# --- the cluster ---------------------------------------------------------------------------------


def test_a_node_that_came_meanwhile_takes_part_or_nothing_begins(upgrade, kube, hosts):
    kube.add("late")
    operation = upgrade()
    assert operation.status == "failed"
    assert failed_checks(operation, "c1")["every-node"]["found"] == "take no part: late"
    assert hosts.of("upgrade_prepare") == []


def test_a_node_that_is_not_ready_is_mended_first(upgrade, kube, hosts):
    kube.nodes["w2"]["status"]["conditions"][0]["status"] = "False"
    operation = upgrade()
    assert failed_checks(operation, "c1")["nodes-ready"]["found"] == "w2"
    assert_nothing_was_begun(operation, kube, hosts)


def test_a_part_of_the_cluster_that_is_ill_is_mended_first(upgrade, kube, hosts):
    kube.sick.add("etcd")
    operation = upgrade()
    assert {"component:kube-apiserver", "component:etcd"} & failed_checks(operation, "c1").keys()
    assert_nothing_was_begun(operation, kube, hosts)


def test_a_cluster_that_kubeadm_has_not_made_is_refused(upgrade, kube, monkeypatch):
    monkeypatch.setattr("tests.fakes.upgrading._KUBEADM", "/nowhere")
    assert "kubeadm" in failed_checks(upgrade(), "c1")


@pytest.mark.parametrize("sick", [{"is_healthy": False}, {"is_learner": True}])
def test_a_member_of_etcd_that_is_ill_is_named(upgrade, kube, hosts, sick):
    hosts.members[1] |= sick
    operation = upgrade()
    assert failed_checks(operation, "c1")["etcd-members"]["found"] == "not healthy: c2"
    assert_nothing_was_begun(operation, kube, hosts)


def test_an_etcd_that_does_not_answer_keeps_all_from_beginning(upgrade, kube, hosts):
    hosts.failing["etcd_members", "c1"] = "etcd refused the connection"
    operation = upgrade()
    found = failed_checks(operation, "c1")["etcd-members"]["found"]
    assert found == "etcd refused the connection"
    assert_nothing_was_begun(operation, kube, hosts)


def test_an_etcd_elsewhere_is_backed_up_by_its_owner(upgrade, hosts, control, work, operator):
    hosts.has_etcd = False
    operation = upgrade()
    assert "etcd-members" in failed_checks(operation, "c1")
    control(steering.retry, operation, acting_user=operator, answers={"snapshot": "skip"})
    work()
    operation.refresh_from_db()
    assert operation.status == "succeeded", operation.message
    assert hosts.of("etcd_snapshot") == []


# --- APIs ----------------------------------------------------------------------------------------


def test_an_api_that_goes_and_is_in_use_must_be_answered(
    upgrade, kube, hosts, control, work, operator
):
    kube.metrics = USED
    operation = upgrade()
    found = failed_checks(operation, "c1")["removed-apis"]
    assert found["found"] == "shop.io/v1beta1 carts (gone in 1.36)"
    assert_nothing_was_begun(operation, kube, hosts)
    control(steering.retry, operation, acting_user=operator, answers={"allow_removed_apis": True})
    work()
    operation.refresh_from_db()
    assert operation.status == "succeeded", operation.message


def test_what_will_go_later_is_a_warning():
    later = DeprecatedUse("shop.io/v1beta1", "carts", (1, 37))
    unknown = DeprecatedUse("shop.io/v1alpha1", "carts", (0, 0))
    removed, deprecated = pre_check.use_checks([later, unknown], (1, 36), allowed=False)
    assert removed["ok"]
    assert deprecated["severity"] == "warning"
    assert "gone in 1.37" in deprecated["found"]


def test_what_may_not_be_read_is_unknown_and_no_block(upgrade, kube):
    kube.metrics = None
    operation = upgrade(limit=2)
    found = checks_of(operation)["removed-apis"]
    assert found["found"].startswith("unknown, because")
    assert (found["ok"], found["severity"]) == (False, "warning")
    assert cells(operation, "preCheck")["c1"].status == "succeeded"


def test_an_api_that_is_switched_on_and_goes_is_a_warning():
    found = pre_check._served_check({"networking.k8s.io/v1beta1"}.__contains__, (1, 37))
    assert found["found"] == "networking.k8s.io/v1beta1"
    assert found["severity"] == "warning"
    assert pre_check._served_check(lambda _api: True, (1, 36))["ok"]


# --- each node -----------------------------------------------------------------------------------


def test_pods_that_would_be_lost_are_answered_before_anything_is_begun(
    upgrade, kube, hosts, control, work, operator
):
    kube.add_pod("bare", "w2")
    operation = upgrade()
    assert list(failed_checks(operation, "w2")) == ["bare-pods"]
    assert failed_checks(operation, "w1") == {}
    assert_nothing_was_begun(operation, kube, hosts)
    control(steering.retry, operation, acting_user=operator, answers={"delete_bare_pods": True})
    work()
    operation.refresh_from_db()
    assert operation.status == "succeeded", operation.message
    assert kube.evicted == ["bare"]


def test_a_budget_that_can_never_be_met_is_named(upgrade, kube, hosts):
    kube.deploy("web", on=["w1", "w2"])
    kube.budget("web", minAvailable=2)
    operation = upgrade()
    assert "budget:shop/web-budget" in failed_checks(operation, "w1")
    assert_nothing_was_begun(operation, kube, hosts)


def test_nodes_of_one_wave_are_judged_as_leaving_together(upgrade, kube, hosts):
    kube.deploy("web", on=["w1", "w2"])
    kube.budget("web", maxUnavailable=1)
    operation = upgrade(wave_size=2, limit=2)
    assert cells(operation, "preCheck")["w1"].status == "succeeded"
    assert "control-plane" not in checks_of(operation)
    assert not any(name.startswith("share:") for name in checks_of(operation, "w1"))


def test_what_a_host_lacks_stops_all(upgrade, kube, hosts):
    hosts.checks["w3"] = [host_check("disk:/var/lib/containerd", ok=False)]
    operation = upgrade()
    assert list(failed_checks(operation, "w3")) == ["disk:/var/lib/containerd"]
    assert "w3 failed" in operation.message
    assert_nothing_was_begun(operation, kube, hosts)


def test_a_host_that_is_not_reached_stops_all(upgrade, kube, hosts):
    hosts.failing["upgrade_check", "w3"] = "no route to host"
    operation = upgrade()
    assert cells(operation, "preCheck")["w3"].message == "no route to host"
    assert_nothing_was_begun(operation, kube, hosts)


def test_room_for_the_snapshot_is_looked_for_where_it_goes(upgrade, hosts):
    upgrade(limit=2, snapshot_folder="/srv/etcd/")
    own = hosts.values("upgrade_check")[0]["own"]
    assert own == {
        name: {"is_control_plane": True, "snapshot_folder": "/srv/etcd"} for name in ("c1", "c2")
    }


def test_the_new_version_is_what_was_asked_for(upgrade, hosts):
    upgrade(limit=2)
    assert NEW not in str(hosts.values("upgrade_check"))
