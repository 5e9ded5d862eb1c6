"""What a plan refuses before anything is contacted, and who may ask."""

import pytest

from beidou.base.errors import Forbidden, InvalidInput
from clusters.models import Cluster
from operations.kinds import base as kinds
from operations.kinds.scale_up import ScaleUpParams
from operations.models import Operation
from operations.services import control as steering
from operations.services import start
from tests import factories
from tests.fakes.upgrading import NEW
from tests.operations.upgrade_cluster.conftest import PLANES

pytestmark = pytest.mark.django_db


@pytest.fixture
def reasons(cluster, machines, operator):
    """Why the whole cannot begin."""

    def ask(*chosen, **params):
        plan = start.plan_operation(
            kind="UpgradeCluster",
            cluster=Cluster.objects.get(pk=cluster.pk),
            machines=chosen or list(machines.values()),
            params={"kubernetes_version": NEW, **params},
            acting_user=operator,
        )
        return [blocker.reason for blocker in plan.whole_blockers]

    return ask


def test_a_cluster_in_order_is_not_blocked(reasons):
    assert reasons() == []


def test_without_machines_all_of_the_cluster_are_meant(cluster, machines, operator):
    found = start.machines_of("UpgradeCluster", cluster, user=operator)
    assert {machine.hostname for machine in found} == set(machines)


def test_nodes_that_are_no_machines_are_refused_by_name(reasons, cluster):
    factories.make_node(cluster, "stranger")
    (reason,) = reasons()
    assert "stranger" in reason
    assert "register them first" in reason


def test_nodes_whose_machines_were_not_chosen_are_named(reasons, machines):
    chosen = [machine for name, machine in machines.items() if name != "w2"]
    (reason,) = reasons(*chosen)
    assert reason.endswith("w2")


def test_a_machine_that_cannot_be_signed_in_to_keeps_all_from_beginning(reasons, machines):
    machines["w3"].host_key = ""
    machines["w3"].save()
    (reason,) = reasons()
    assert "w3" in reason
    assert "host key is not pinned" in reason


def test_without_a_control_plane_nothing_can_be_upgraded(reasons, machines):
    for name in PLANES:
        machines[name].node.roles = []
        machines[name].node.save()
    assert any("control plane" in reason for reason in reasons())


def test_a_cluster_without_an_artifact_source_is_refused(reasons, cluster):
    cluster.operation_settings.artifact_source = ""
    cluster.operation_settings.save()
    assert reasons() == ["no artifact source is given"]


def test_a_cluster_that_is_away_is_refused(reasons, cluster):
    Cluster.objects.filter(pk=cluster.pk).update(health="unreachable", health_reason="no route")
    assert reasons() == ["the cluster is unreachable: no route"]


def test_a_credential_that_may_not_upgrade_is_refused(reasons, cluster):
    rows = [{"key": "upgrade", "ok": False, "missing": [], "reason": "no"}]
    Cluster.objects.filter(pk=cluster.pk).update(capabilities=rows)
    assert any("our credential does not suffice" in reason for reason in reasons())


def test_while_another_operation_changes_control_planes_nothing_is_begun(reasons, other):
    other("running")
    assert reasons() == ["operation other changes its control planes; let it end first"]


def test_while_another_operation_changes_control_planes_nothing_is_retried(
    upgrade, hosts, control, operator, other
):
    hosts.failing["upgrade_check", "w1"] = "away"
    operation = upgrade()
    other("running")
    with pytest.raises(InvalidInput, match="operation other changes its control planes"):
        control(steering.retry, operation, acting_user=operator)


@pytest.mark.parametrize(
    ("version", "words"),
    [("v1.34.1", "so the next is 1.35"), ("v1.37.2", "versions do not go back")],
)
def test_a_version_out_of_turn_is_refused(reasons, cluster, version, words):
    Cluster.objects.filter(pk=cluster.pk).update(version=version)
    (reason,) = reasons()
    assert words in reason


def test_a_cluster_that_has_the_version_is_not_upgraded_again(reasons, cluster):
    Cluster.objects.filter(pk=cluster.pk).update(version=NEW)
    assert reasons() == []  # nodes lag behind
    cluster.nodes.update(kubelet_version=NEW)
    assert reasons() == [f"every node has {NEW} already"]


def test_past_a_budget_is_approved_by_somebody_else_later(reasons):
    (reason,) = reasons(delete_blocked=True)
    assert reason.startswith("delete_blocked is approved by somebody else")


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"kubernetes_version": "1.40.0"}, "clusters are not upgraded to v1.40.0 here"),
        ({"kubernetes_version": "latest"}, "is no Kubernetes version"),
        ({"snapshot_folder": "backups"}, "is no folder for snapshots"),
        ({"snapshot_folder": "/"}, "is no folder for snapshots"),
        ({"snapshot_folder": "/var/../etc"}, "is no folder for snapshots"),
        ({"wave_size": 0}, "must be at least 1"),
        ({"gate_minutes": 61}, "must be at most 60"),
        ({"surprise": 1}, "is not known here"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(params, words):
    kind = kinds.get("UpgradeCluster")
    with pytest.raises(InvalidInput, match=words):
        start.parse_params(kind, {"kubernetes_version": NEW, **params})


def test_the_version_is_needed_and_may_lack_its_v():
    kind = kinds.get("UpgradeCluster")
    with pytest.raises(InvalidInput, match="is missing"):
        start.parse_params(kind, {})
    assert start.parse_params(kind, {"kubernetes_version": "1.36.3"}).kubernetes_version == NEW


def test_a_retry_may_change_everything_but_the_version(upgrade, hosts, control, operator):
    hosts.failing["upgrade_check", "w1"] = "away"
    operation = upgrade()
    with pytest.raises(InvalidInput, match="cannot change kubernetes_version"):
        control(
            steering.retry,
            operation,
            acting_user=operator,
            answers={"kubernetes_version": "v1.36.4"},
        )


def test_who_may_only_see_the_cluster_upgrades_nothing(cluster, machines, viewer, stranger):
    for user in (viewer, stranger):
        with pytest.raises(Forbidden):
            start.start_operation(
                kind="UpgradeCluster",
                cluster=cluster,
                machines=list(machines.values()),
                params={"kubernetes_version": NEW},
                acting_user=user,
            )
    assert not Operation.objects.exists()


def test_it_is_asked_for_by_the_api_for_the_whole_cluster(cluster, machines, api, operator):
    wish = {
        "kind": "UpgradeCluster", "cluster": cluster.pk, "params": {"kubernetes_version": NEW},
    }  # fmt: skip
    answer = api(operator).post("/api/v1/operations/", {**wish, "dry_run": True}, format="json")
    assert answer.status_code == 200, answer.json()
    assert len(answer.json()["ready"]) == len(machines)
    answer = api(operator).post("/api/v1/operations/", wish, format="json")
    assert answer.status_code == 202, answer.json()
    steps = [step["name"] for step in api(operator).get(answer["Location"]).json()["steps"]]
    assert steps == ["preCheck", "prepare", "snapshot", "controlPlanes", "workers", "postCheck"]


def test_it_is_asked_for_by_a_manifest(cluster, machines, api, operator):
    manifest = {
        "apiVersion": "vcluster.caas.beidou.io/v1alpha1",
        "kind": "Operation",
        "metadata": {"name": "to-136"},
        "spec": {
            "clusterName": cluster.name,
            "operationType": "UpgradeCluster",
            "operationFlow": ["preCheck", "prepare"],
            "params": {"kubernetes_version": NEW, "wave_size": 3},
            "user": "operator",
        },
    }
    answer = api(operator).post("/api/v1/manifests/", manifest, format="json")
    assert answer.status_code in (200, 201, 202), answer.json()
    operation = Operation.objects.get(name="to-136")
    assert operation.params["wave_size"] == 3
    assert operation.machines.count() == len(machines)


def test_its_form_asks_for_the_version_and_says_what_the_rest_means(cluster, browser, operator):
    page = browser(operator).get(
        "/operations/start/", {"kind": "UpgradeCluster", "cluster": cluster.pk}
    )
    assert page.status_code == 200
    text = page.content.decode()
    for words in ("Kubernetes version", "Workers at once", "Snapshot of etcd", "take none"):
        assert words in text


def test_while_nodes_are_brought_in_nothing_is_upgraded(reasons, other):
    other("waiting", kind="ScaleUp")
    assert reasons() == ["operation other brings nodes in; let it end first"]


@pytest.mark.parametrize("kind", ["UpgradeCluster", "DeleteCluster"])
def test_while_a_cluster_is_upgraded_or_taken_apart_no_node_is_brought_in(cluster, other, kind):
    other("running", kind=kind)
    whole = [b.reason for b in kinds.KINDS["ScaleUp"].blockers(cluster, [], ScaleUpParams())]
    assert "operation other wants no new nodes meanwhile; let it end first" in whole
    other("succeeded")
    whole = [b.reason for b in kinds.KINDS["ScaleUp"].blockers(cluster, [], ScaleUpParams())]
    assert not any("wants no new nodes" in reason for reason in whole)


def test_one_that_waits_in_the_queue_says_so_and_that_it_can_be_canceled(cluster, other):
    other("waiting", kind="UpgradeCluster")
    (reason,) = [
        each.reason
        for each in kinds.KINDS["ScaleUp"].blockers(cluster, [], ScaleUpParams())
        if "wants no new nodes" in each.reason
    ]
    assert reason.startswith("operation other waits in the queue")
    assert reason.endswith("or cancel it")


def test_its_plan_says_that_no_node_comes_until_it_has_ended(cluster, machines, operator):
    plan = start.plan_operation(
        kind="UpgradeCluster",
        cluster=cluster,
        machines=list(machines.values()),
        params={"kubernetes_version": NEW},
        acting_user=operator,
    )
    assert any("no node is brought in" in each.text for each in plan.remarks)


def test_a_plan_says_of_each_machine_what_is_done_with_it(cluster, machines, operator):
    steps = planned_steps(cluster, machines, operator)
    common = ["preCheck", "prepare", "postCheck"]
    assert steps["c1"] == ["preCheck", "prepare", "snapshot", "controlPlanes", "postCheck"]
    assert [name for name in steps["c2"] if name not in common] == ["controlPlanes"]
    assert [name for name in steps["w1"] if name not in common] == ["workers"]


def test_a_plan_without_a_snapshot_names_none(cluster, machines, operator):
    steps = planned_steps(cluster, machines, operator, snapshot="skip")
    assert "snapshot" not in steps["c1"]


def planned_steps(cluster, machines, operator, **params):
    plan = start.plan_operation(
        kind="UpgradeCluster",
        cluster=Cluster.objects.get(pk=cluster.pk),
        machines=list(machines.values()),
        params={"kubernetes_version": NEW, **params},
        acting_user=operator,
    )
    return {
        machine.hostname: [step.name for step in steps]
        for machine, steps, _texts in plan.ready_with_steps
    }
