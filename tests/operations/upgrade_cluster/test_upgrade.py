"""The whole upgrade through the engine: its order, what stops it, and how it goes on."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.utils import timezone

from beidou.base.errors import PermanentError
from beidou.base.models import AuditEntry
from machines.models import Machine
from operations.kinds.upgrade_cluster import facts, freshness, gate, node
from operations.models import MachineStep, Operation, OperationMachine, Step
from operations.services import control as steering
from operations.services import recovery
from tests.fakes.upgrading import NEW, OLD
from tests.operations.upgrade_cluster.conftest import PLANES, WORKERS, cells, failed_checks
from tests.operations.upgrade_cluster.test_pre_check import USED

pytestmark = pytest.mark.django_db


def again(control, work, operation, user, **answers):
    """Retry all and work."""
    control(steering.retry, operation, acting_user=user, answers=answers)
    work()
    operation.refresh_from_db()


def test_control_planes_go_one_by_one_and_then_the_workers_in_waves(upgrade, kube, hosts):
    operation = upgrade(wave_size=2)
    assert operation.status == "succeeded", operation.message
    assert hosts.of("upgrade_node") == [["c1"], ["c2"], ["w1", "w2"], ["w3"]]
    verbs = [values["upgrade_verb"] for values in hosts.values("upgrade_node")]
    assert verbs == ["apply", "node", "node", "node"]
    assert set(kube.kubelets().values()) == {NEW}
    assert kube.cordoned() == set()
    assert kube.marked() == set()


def test_everything_is_brought_to_the_nodes_and_kept_safe_before_the_first_is_touched(
    upgrade, hosts
):
    upgrade()
    order = [name for name, _nodes, _values in hosts.runs]
    assert (
        order.index("upgrade_prepare") < order.index("etcd_snapshot") < order.index("upgrade_node")
    )
    (own,) = [values["own"] for values in hosts.values("upgrade_prepare")]
    assert [each["name"] for each in own["w1"]["artifacts"]] == [
        "kubelet", "kubeadm", "kubectl", "images.tar",
    ]  # fmt: skip
    assert own["c1"]["artifacts"][-1]["name"] == "control-plane-images.tar"
    programs = hosts.values("upgrade_node")[0]["programs"]
    assert {"name": "kubelet", "sha256": "a" * 64} in programs


def test_pods_move_before_their_node_is_upgraded_and_come_back_to_none_that_is_not_ready(
    upgrade, kube, hosts
):
    kube.deploy("web", on=["w1", "w2"])
    kube.budget("web", minAvailable=1)
    seen = []
    hosts.during = lambda name, nodes: (
        seen.append((nodes, [pod for each in nodes for pod in kube.on_node(each) if "web" in pod]))
        if name == "upgrade_node"
        else None
    )
    operation = upgrade()
    assert operation.status == "succeeded", operation.message
    assert all(pods == [] for _nodes, pods in seen)
    assert kube.most_away["web"] == 1


def test_a_node_that_was_cordoned_before_stays_cordoned(upgrade, kube):
    kube.nodes["w2"]["spec"]["unschedulable"] = True
    operation = upgrade()
    assert operation.status == "succeeded", operation.message
    assert kube.cordoned() == {"w2"}
    assert cells(operation, "workers")["w2"].evidence["schedulable"] is False


def test_what_a_node_has_had_before_is_only_proved(upgrade, kube, hosts):
    kube.upgrade("c1", apply=True)
    kube.upgrade("w1")
    operation = upgrade()
    assert operation.status == "succeeded", operation.message
    assert hosts.of("upgrade_node") == [["c2"], ["w2"], ["w3"]]


def test_an_apply_that_ended_before_the_last_of_it_is_done_again(upgrade, kube, hosts):
    kube.upgrade("c1", apply=True, kubelet=False)
    kube.proxy_version = OLD
    upgrade()
    assert hosts.values("upgrade_node")[0]["upgrade_verb"] == "apply"


def test_a_control_plane_without_a_pre_check_is_upgraded_as_one_all_the_same(
    upgrade, kube, hosts, skip
):
    """Else its kubelet would be newer than its API server."""
    hosts.failing["upgrade_check", "c1"] = "no route to host"
    operation = upgrade()
    hosts.failing.clear()
    skip(operation, "c1")
    assert operation.status == "succeeded", operation.message
    assert hosts.of("upgrade_node")[:2] == [["c1"], ["c2"]]
    verbs = [values["upgrade_verb"] for values in hosts.values("upgrade_node")]
    assert verbs == ["apply", "node", "node", "node", "node"]
    alone, others = [values["own"] for values in hosts.values("upgrade_prepare")]
    assert alone["c1"] == others["c2"] != others["w1"]


@pytest.mark.parametrize("has_etcd", [True, False])
def test_without_a_pre_check_etcd_is_looked_after_all_the_same(
    upgrade, kube, hosts, skip, has_etcd
):
    hosts.failing["upgrade_check", "c1"] = hosts.failing["upgrade_check", "c2"] = "no route to host"
    if not has_etcd:
        kube.pods.pop(("kube-system", "etcd-c1"))
        kube.pods.pop(("kube-system", "etcd-c2"))
    operation = upgrade(snapshot="take" if has_etcd else "skip")
    hosts.failing.clear()
    skip(operation, *PLANES)
    assert operation.status == "succeeded", operation.message
    assert len(hosts.of("etcd_snapshot")) == has_etcd
    evidence = cells(operation, "controlPlanes")["c1"].evidence
    assert evidence.get("etcd_members") == (2 if has_etcd else None)


def test_an_etcd_that_does_not_answer_afterwards_keeps_the_next_from_beginning(upgrade, hosts):
    def lose(name, nodes):
        if name == "upgrade_node":
            hosts.failing["etcd_members", "c1"] = "refused"

    hosts.during = lose
    operation = upgrade()
    message = cells(operation, "controlPlanes")["c1"].message
    assert message == "etcd does not answer after the upgrade: refused"
    assert hosts.of("upgrade_node") == [["c1"]]


def test_what_kubeadm_was_told_to_do_is_said_again_after_a_lost_worker(
    upgrade, kube, hosts, control, work
):
    """It may be at work still, although the cluster already looks as if it were through."""

    class Killed(BaseException):
        pass

    def die(name, nodes):
        if name == "upgrade_node":
            hosts.during = lambda *_: None
            kube.version = kube.kubeadm_version = kube.proxy_version = NEW
            raise Killed

    hosts.during = die
    with pytest.raises(Killed):
        upgrade()
    Step.objects.filter(status="running").update(lease_until="2020-01-01T00:00Z")
    control(recovery.reap)
    work()
    assert Operation.objects.get().status == "succeeded"
    verbs = [values["upgrade_verb"] for values in hosts.values("upgrade_node")]
    assert verbs[:3] == ["apply", "apply", "node"]
    assert kube.marked() == set()


def test_an_api_server_that_is_away_while_kubeadm_works_costs_time_only(upgrade, kube, monkeypatch):
    """The first question of the step meets it, as after a lost worker."""
    asked = []
    real = facts.planes_and_workers

    def away_at_first(run, client):
        asked.append(run.step_name)
        kube.down = len(asked) == 2
        sleeps = iter(range(3))

        def come_back(_seconds):
            kube.down = kube.down and next(sleeps) < 1

        monkeypatch.setattr("operations.kinds.patience.time.sleep", come_back)
        return real(run, client)

    monkeypatch.setattr(facts, "planes_and_workers", away_at_first)
    operation = upgrade()
    assert operation.status == "succeeded", operation.message
    assert len(asked) > 2


def test_where_a_site_keeps_its_programs_is_where_they_are_replaced(upgrade, hosts, cluster):
    cluster.operation_settings.overrides = {"artifacts_bin_dir": "/usr/bin"}
    cluster.operation_settings.save()
    upgrade()
    places = {name: values.get("artifacts_bin_dir") for name, _nodes, values in hosts.runs}
    assert places["upgrade_prepare"] == "/var/lib/beidou/upgrade"
    for name in ("upgrade_check", "upgrade_node", "upgrade_done"):
        assert places[name] == "/usr/bin"


@pytest.mark.parametrize("step", ["preCheck", "controlPlanes"])
def test_of_two_that_change_control_planes_the_older_goes_on(upgrade, work, hosts, other, step):
    other("succeeded")
    operation = upgrade(limit={"preCheck": 0, "controlPlanes": 3}[step])
    other("running")
    work()
    message = cells(operation, step)["w1"].message  # workers pass first
    assert message.startswith("Operation other changes the control planes of this cluster")
    assert hosts.of("upgrade_node") == []


def test_an_upgrade_and_who_brings_nodes_in_do_not_go_together(upgrade, work, hosts, other):
    other("succeeded", kind="ScaleUp")
    operation = upgrade(limit=0)
    other("running", kind="ScaleUp")
    work()
    assert cells(operation, "preCheck")["w1"].message.startswith("Operation other began first")
    assert hosts.of("upgrade_node") == []


# --- the snapshot --------------------------------------------------------------------------------


def test_the_snapshot_is_kept_as_evidence_of_its_control_plane(upgrade):
    operation = upgrade()
    found = cells(operation, "snapshot")
    assert found["c1"].evidence["sha256"] == "ab"
    assert found["c1"].message == "/var/backups/x.db: 300 keys, 1.0 MiB, verified"
    assert found["w1"].message == "kept on c1"


def test_nothing_is_begun_without_the_snapshot(upgrade, hosts, kube):
    hosts.failing["etcd_snapshot", "c1"] = "etcdctl failed: no space left"
    operation = upgrade()
    assert operation.status == "failed"
    assert hosts.of("upgrade_node") == []
    assert "no space left" in cells(operation, "snapshot")["w3"].message
    assert kube.cordoned() == set()


def test_a_snapshot_is_taken_once(upgrade, hosts, control, work, operator):
    hosts.failing["upgrade_node", "w1"] = "disk full"
    operation = upgrade()
    hosts.failing.clear()
    again(control, work, operation, operator)
    assert operation.status == "succeeded", operation.message
    assert len(hosts.of("etcd_snapshot")) == 1


def grow_old(operation):
    MachineStep.objects.filter(step__operation=operation, finished_at__isnull=False).update(
        finished_at=timezone.now() - timedelta(days=30)
    )


def outcome(hosts):
    return len(hosts.of("upgrade_check")), len(hosts.of("etcd_snapshot"))


def test_a_retry_after_a_month_looks_again_and_takes_another_snapshot(
    upgrade, hosts, control, work, operator, kube
):
    hosts.failing["upgrade_node", "c2"] = "disk full"
    operation = upgrade()
    grow_old(operation)
    kube.metrics = USED
    hosts.failing.clear()
    again(control, work, operation, operator)
    assert "removed-apis" in failed_checks(operation, "c1")
    assert hosts.of("upgrade_node") == [["c1"], ["c2"]]
    assert AuditEntry.objects.get(verb="retry").after["done_again"] == ["preCheck", "snapshot"]
    kube.metrics = ""
    again(control, work, operation, operator)
    assert operation.status == "succeeded", operation.message
    assert outcome(hosts) == (3, 2)
    assert hosts.of("upgrade_node")[:3] == [["c1"], ["c2"], ["c2"]]


def test_a_worker_is_retried_after_a_month_without_another_snapshot(
    upgrade, hosts, control, work, operator
):
    hosts.failing["upgrade_node", "w1"] = "disk full"
    operation = upgrade()
    grow_old(operation)
    hosts.failing.clear()
    again(control, work, operation, operator)
    assert operation.status == "succeeded", operation.message
    assert outcome(hosts) == (1, 1)


def test_an_upgrade_that_was_paused_for_long_looks_again_before_the_next_control_plane(
    upgrade, hosts, control, work, operator
):
    def pause(name, nodes):
        if name == "upgrade_node" and nodes == ["c1"]:
            control(steering.pause, Operation.objects.get(), acting_user=operator)

    hosts.during = pause
    operation = upgrade()
    grow_old(operation)
    control(steering.resume, operation, acting_user=operator)
    work()
    operation.refresh_from_db()
    assert operation.status == "succeeded", operation.message
    assert outcome(hosts) == (2, 2)
    assert hosts.of("upgrade_node")[:2] == [["c1"], ["c2"]]


def test_a_retry_that_has_waited_long_for_its_turn_looks_again_when_it_begins(
    upgrade, hosts, control, work, operator
):
    hosts.failing["upgrade_node", "c1"] = "disk full"
    operation = upgrade()
    hosts.failing.clear()
    control(steering.retry, operation, acting_user=operator)
    grow_old(operation)
    work()
    operation.refresh_from_db()
    assert operation.status == "succeeded", operation.message
    assert outcome(hosts) == (2, 2)


def test_no_control_plane_is_upgraded_with_what_is_old(upgrade, hosts):
    hosts.failing["upgrade_node", "c1"] = "disk full"
    operation = upgrade()
    grow_old(operation)
    operation.machines.update(state=OperationMachine.State.WAITING)
    with pytest.raises(PermanentError, match="older than an hour by now"):
        freshness.require_fresh(SimpleNamespace(operation=operation))


def test_one_control_plane_is_retried_alone_after_a_month(upgrade, hosts, control, work, operator):
    hosts.failing["upgrade_node", "c2"] = "disk full"
    operation = upgrade()
    grow_old(operation)
    hosts.failing.clear()
    chosen = operation.machines.get(hostname="c2").pk
    control(steering.retry, operation, acting_user=operator, machines=[chosen])
    work()
    cell = cells(operation, "controlPlanes")["c2"]
    assert cell.status == "succeeded", cell.message
    assert outcome(hosts) == (2, 2)


def test_a_machine_that_was_deleted_meanwhile_keeps_nothing_old(
    upgrade, hosts, control, work, operator
):
    hosts.failing["upgrade_node", "c2"] = "disk full"
    operation = upgrade()
    grow_old(operation)
    hosts.failing.clear()
    Machine.objects.filter(hostname="w3").delete()
    again(control, work, operation, operator)
    assert cells(operation, "controlPlanes")["c2"].status == "succeeded"


def test_a_drain_of_hours_makes_no_snapshot_old(upgrade, hosts):
    def last_long(name, nodes):
        if name == "upgrade_node" and nodes == ["c1"]:
            operation = Operation.objects.get()
            hours_ago = timezone.now() - timedelta(hours=5)
            operation.status_changes.update(at=hours_ago)
            MachineStep.objects.filter(step__operation=operation).exclude(finished_at=None).update(
                finished_at=hours_ago
            )

    hosts.during = last_long
    operation = upgrade()
    assert operation.status == "succeeded", operation.message
    assert outcome(hosts) == (1, 1)


def test_no_snapshot_is_taken_when_none_is_wanted(upgrade, hosts):
    operation = upgrade(snapshot="skip")
    assert operation.status == "succeeded", operation.message
    assert hosts.of("etcd_snapshot") == []
    assert cells(operation, "snapshot")["c1"].message == "none was wanted"


# --- the first bad node --------------------------------------------------------------------------


def test_the_first_bad_node_stops_all_that_was_not_begun(upgrade, hosts, kube):
    hosts.failing["upgrade_node", "w1"] = "kubeadm upgrade failed: exit code 1"
    operation = upgrade(wave_size=1)
    assert operation.status == "failed"
    assert "w1 failed" in operation.message
    assert kube.kubelets()["w2"] == kube.kubelets()["w3"] == OLD
    assert kube.cordoned() == {"w1"}
    assert cells(operation, "workers")["w2"].status == "waiting"
    states = dict(Machine.objects.values_list("hostname", "state"))
    assert set(states.values()) == {"in_service"}


def test_a_retry_goes_on_from_the_bad_node_and_does_nothing_twice(
    upgrade, hosts, kube, control, work, operator
):
    hosts.failing["upgrade_node", "w1"] = "disk full"
    operation = upgrade()
    hosts.failing.clear()
    again(control, work, operation, operator)
    assert operation.status == "succeeded", operation.message
    assert hosts.of("upgrade_node") == [["c1"], ["c2"], ["w1"], ["w1"], ["w2"], ["w3"]]
    assert kube.cordoned() == set()


def test_a_control_plane_that_fails_keeps_the_others_and_all_workers_from_beginning(
    upgrade, hosts, kube
):
    hosts.failing["upgrade_node", "c1"] = "etcd did not come up"
    operation = upgrade()
    assert operation.status == "failed"
    assert hosts.of("upgrade_node") == [["c1"]]
    assert set(kube.kubelets().values()) == {OLD}


def test_a_node_that_does_not_come_back_stays_cordoned(upgrade, kube, hosts, monkeypatch):
    monkeypatch.setattr(node, "READY_SECONDS", -1)

    def never_ready(name, nodes):
        if name == "upgrade_node" and nodes == ["w1"]:
            kube.nodes["w1"]["status"]["conditions"][0]["status"] = "False"

    hosts.during = never_ready
    operation = upgrade()
    assert operation.status == "failed"
    message = cells(operation, "workers")["w1"].message
    assert "stays cordoned" in message
    assert message.endswith("Last seen: it is not Ready")
    assert kube.cordoned() == {"w1"}


def test_a_cluster_that_is_not_well_after_a_wave_is_not_upgraded_further(
    upgrade, kube, hosts, monkeypatch
):
    monkeypatch.setattr(gate, "MINUTE", 0.01)

    def break_another(name, nodes):
        if name == "upgrade_node" and nodes == ["w1"]:
            kube.nodes["w3"]["status"]["conditions"][0]["status"] = "False"

    hosts.during = break_another
    operation = upgrade()
    assert operation.status == "failed"
    assert "not Ready: w3" in cells(operation, "workers")["w1"].message
    assert kube.kubelets()["w2"] == OLD


def test_workloads_that_were_not_whole_before_hold_nothing_up(upgrade, kube):
    kube.deploy("sick", on=["w1"])
    kube.workloads["Deployment", "sick"]["spec"]["replicas"] = 2
    kube.starts_after = 10**9
    operation = upgrade(allow_single_copy=True, allow_pending=True, limit=8)
    assert cells(operation, "preCheck")["c1"].evidence["not_whole"] == ["Deployment shop/sick"]
    assert "w1" not in kube.cordoned()


# --- interruptions -------------------------------------------------------------------------------


def test_a_pause_waits_between_two_nodes(upgrade, kube, hosts, control, work, operator):
    def pause(name, nodes):
        if name == "upgrade_node" and nodes == ["w1"]:
            control(steering.pause, Operation.objects.get(), acting_user=operator)

    hosts.during = pause
    operation = upgrade()
    assert operation.status == "paused"
    assert kube.kubelets()["w1"] == NEW
    assert kube.kubelets()["w2"] == OLD
    assert kube.cordoned() == set()
    control(steering.resume, operation, acting_user=operator)
    work()
    operation.refresh_from_db()
    assert operation.status == "succeeded"


@pytest.mark.parametrize("host", [*PLANES, *WORKERS])
@pytest.mark.parametrize("moment", ["before the host", "after the host"])
def test_a_worker_that_dies_at_any_node_costs_nothing_but_time(
    upgrade, kube, hosts, work, control, host, moment
):
    """As after kill -9: whatever was settled by nobody is done again."""

    class Killed(BaseException):
        pass

    def die(name, nodes):
        if name == "upgrade_node" and nodes == [host]:
            hosts.during = lambda *_: None
            if moment == "after the host":
                kube.upgrade(host, apply=kube.version == OLD)
            raise Killed

    hosts.during = die
    with pytest.raises(Killed):
        upgrade()
    operation = Operation.objects.get()
    assert kube.marked() == {host}
    Step.objects.filter(status="running").update(lease_until="2020-01-01T00:00Z")
    assert control(recovery.reap) == 1
    work()
    operation.refresh_from_db()
    assert operation.status == "succeeded", operation.message
    assert set(kube.kubelets().values()) == {NEW}
    assert kube.cordoned() == kube.marked() == set()
    done_again = moment == "before the host"
    assert len([nodes for nodes in hosts.of("upgrade_node") if nodes == [host]]) == 1 + done_again
