"""RemoveControlPlane through the engine: a fake cluster, the real guard of etcd, real rows.

What is done on hosts is proved in the lab (tests/operations/lab/test_create_cluster.py).
"""

import pytest
from django.urls import reverse

from beidou.base.errors import Conflict
from clusters.models import Cluster, Node
from machines.models import Machine
from operations.kinds import lifecycle
from operations.models import Operation
from operations.services import control as controls
from operations.services import start
from tests.operations.scale_down.looking import cell_of, failed_checks

pytestmark = pytest.mark.django_db
State = Machine.State


# --- planning -------------------------------------------------------------------------------------


def test_a_control_plane_may_be_removed(planes, blocked):
    assert blocked("RemoveControlPlane", planes[0]) == []


def test_scale_down_refuses_it_and_says_what_takes_it(planes, blocked):
    (reason,) = blocked("ScaleDown", planes[0])
    assert "RemoveControlPlane" in reason


def test_a_worker_is_refused(planes, blocked):
    Node.objects.filter(name="n1").update(roles=["worker"])
    planes[0].refresh_from_db()
    assert blocked("RemoveControlPlane", planes[0]) == ["it is a worker; ScaleDown takes such out"]


def test_the_last_one_is_refused(planes, blocked):
    Node.objects.exclude(name="n1").delete()
    assert blocked("RemoveControlPlane", planes[0]) == [
        "it is the last control plane; DeleteCluster takes a whole cluster down"
    ]


def test_two_at_once_are_refused(planes, blocked):
    assert "one at a time" in blocked("RemoveControlPlane", *planes[:2])[0]


def test_without_another_one_to_ask_nothing_is_begun(planes, blocked):
    Machine.objects.filter(pk__in=[each.pk for each in planes[1:]]).update(host_key="")
    assert "etcd is asked there" in blocked("RemoveControlPlane", planes[0])[0]


def test_while_another_operation_changes_control_planes_nothing_is_begun(
    planes, blocked, remove, cluster
):
    remove(planes[1])
    (reason,) = blocked("RemoveControlPlane", planes[0])
    assert "let it end first" in reason


def test_of_two_that_began_at_once_the_older_goes_on(planes, remove, work, cluster):
    older = Operation.objects.create(name="older", kind="AddControlPlane", cluster=cluster)
    Operation.objects.filter(pk=older.pk).update(status="succeeded")
    operation = remove(planes[0])
    Operation.objects.filter(pk=older.pk).update(status="running")
    work()
    assert "Operation older changes the control planes" in cell_of(operation).message


def test_a_faulty_machine_that_joined_half_way_may_be_removed(planes, blocked):
    Machine.objects.filter(pk=planes[0].pk).update(state=State.FAULTY, node=None)
    planes[0].refresh_from_db()
    assert blocked("RemoveControlPlane", planes[0]) == []


# --- preCheck -------------------------------------------------------------------------------------


def look_at(remove, work, machine, **params):
    operation = remove(machine, **params)
    work(limit=2)
    return operation


def test_what_would_cost_etcd_its_majority_is_refused(planes, remove, work, etcd):
    etcd.health["n3"] = False
    operation = look_at(remove, work, planes[0])
    assert failed_checks(operation) == {"etcd-quorum"}
    assert "1 of 2 members" in cell_of(operation).message
    planes[0].refresh_from_db()
    assert planes[0].state == State.IN_SERVICE
    assert etcd.removed == []


def test_the_dead_one_may_go(planes, remove, work, etcd, lost):
    etcd.health["n1"] = False
    operation = look_at(remove, work, lost, force_unreachable=True)
    assert failed_checks(operation) == set()
    rows = {row["check"]: row for row in cell_of(operation).checks}
    assert rows["etcd-quorum"]["severity"] == "warning"  # two are left
    assert rows["host"]["severity"] == "warning"


def test_a_learner_that_leaves_was_no_voter(planes, remove, work, etcd):
    etcd.learners.add("n1")
    etcd.health["n4"] = True
    operation = look_at(remove, work, planes[0])
    rows = {row["check"]: row for row in cell_of(operation).checks}
    assert "3 members afterwards" in rows["etcd-quorum"]["found"]
    assert rows["etcd-quorum"]["ok"]


def test_an_etcd_that_does_not_answer_is_told(planes, remove, work, etcd):
    etcd.down = "no answer"
    operation = look_at(remove, work, planes[0])
    assert failed_checks(operation) == {"etcd-quorum"}


def test_the_node_that_holds_the_endpoint_is_refused_with_advice(
    planes, remove, work, kubeadm, kube
):
    kubeadm(controlPlaneEndpoint=f"{planes[0].address}:6443")
    operation = look_at(remove, work, planes[0])
    assert failed_checks(operation) == {"endpoint"}
    assert "move its address" in cell_of(operation).message


def test_the_node_by_which_the_portal_reaches_the_cluster_is_refused(planes, remove, work, cluster):
    Cluster.objects.filter(pk=cluster.pk).update(server=f"https://{planes[0].address}:6443")
    operation = look_at(remove, work, planes[0])
    assert failed_checks(operation) == {"portal-connection"}
    assert "replace the cluster's credential" in cell_of(operation).message


def test_an_etcd_outside_the_cluster_is_refused(planes, remove, work, kubeadm, etcd):
    kubeadm(etcd={"external": {"endpoints": ["https://10.0.0.9:2379"]}})
    operation = look_at(remove, work, planes[0])
    assert failed_checks(operation) == {"etcd"}
    assert etcd.asked == []


def test_without_another_that_is_ready_it_is_refused(planes, remove, work, kube):
    for name in ("n2", "n3"):
        kube.nodes[name]["status"]["conditions"][0]["status"] = "False"
    operation = look_at(remove, work, planes[0])
    assert "other-control-planes" in failed_checks(operation)


def test_pods_are_looked_at_as_by_scale_down(planes, remove, work, kube):
    kube.add_pod("debug", "n1")
    operation = look_at(remove, work, planes[0])
    assert failed_checks(operation) == {"bare-pods"}


# --- the lost host --------------------------------------------------------------------------------


def test_a_lost_control_plane_leaves_etcd_and_the_cluster(kube, etcd, remove, work, lost):
    etcd.health["n1"] = False
    operation = remove(lost, force_unreachable=True)
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED, [
        (cell.step.name, cell.message) for cell in operation.machines.get().cells.all()
    ]
    assert etcd.removed == ["n1"]
    assert "n1" not in kube.nodes
    lost.refresh_from_db()
    assert (lost.state, lost.node) == (State.FAULTY, None)
    assert lost.labels == {lifecycle.RESIDUE: f"operation-{operation.pk}"}
    assert cell_of(operation, "leaveEtcd").evidence["members"] == ["n2", "n3"]


def test_etcd_is_left_before_the_node_goes(kube, etcd, remove, work, lost):
    remove(lost, force_unreachable=True)
    work(limit=4)  # dispatch, preCheck, drain, leaveEtcd
    assert etcd.removed == ["n1"]
    assert "n1" in kube.nodes
    lost.refresh_from_db()
    assert lost.state == State.LEAVING


def test_a_member_that_is_needed_by_now_stays(kube, etcd, remove, work, lost):
    operation = remove(lost, force_unreachable=True)
    work(limit=3)
    etcd.health["n3"] = False
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.FAILED
    assert "Nothing was removed" in cell_of(operation, "leaveEtcd").message
    assert etcd.removed == []
    assert "n1" in kube.nodes


def test_a_node_that_takes_pods_again_keeps_its_member_of_etcd(kube, etcd, remove, work, planes):
    operation = remove(planes[0])
    work(limit=3)
    kube.nodes["n1"]["spec"]["unschedulable"] = False
    work()
    assert "takes pods again" in cell_of(operation, "leaveEtcd").message
    assert etcd.removed == []
    planes[0].refresh_from_db()
    assert planes[0].state == State.CORDONED


def test_the_guard_of_etcd_is_not_skipped(kube, etcd, remove, work, planes, control, operator):
    operation = remove(planes[0])
    work(limit=3)
    etcd.health["n3"] = False
    work()
    keys = [operation.machines.get().pk]
    with pytest.raises(Conflict, match="leaveEtcd cannot be skipped"):
        controls.skip(
            operation, acting_user=operator, step="leaveEtcd", machines=keys, reason="hurry"
        )
    assert cell_of(operation, "leaveEtcd").status == "failed"


def test_the_page_offers_no_skip_of_it(planes, remove, browser, operator):
    operation = remove(planes[0])
    address = reverse("admin:operations_operation_change", args=[operation.pk])
    text = browser(operator).get(address).content.decode()
    assert '"never_skipped": ["leaveEtcd"]' in text


def test_who_is_a_member_of_etcd_is_not_reset(
    kube, etcd, remove, work, lost, cluster, operator, django_capture_on_commit_callbacks
):
    """A manifest may leave a step out."""
    with django_capture_on_commit_callbacks(execute=True):
        operation = start.start_operation(
            kind="RemoveControlPlane", cluster=cluster, machines=[lost], acting_user=operator,
            params={"force_unreachable": True},
            steps=["preCheck", "drain", "removeControlPlane", "postCheck"],
        )  # fmt: skip
    work()
    assert "n1 is a member of etcd" in cell_of(operation, "removeControlPlane").message
    assert "n1" in kube.nodes


def test_a_member_that_came_back_leaves_once_more_with_the_retry(
    kube, etcd, remove, work, lost, control, operator
):
    operation = remove(lost, force_unreachable=True)
    work(limit=4)
    etcd.health["n1"] = True
    work()
    assert "n1 is a member of etcd" in cell_of(operation, "removeControlPlane").message
    operation.refresh_from_db()
    control(controls.retry, operation, acting_user=operator)
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED
    assert etcd.removed == ["n1", "n1"]


def test_nobody_is_reset_while_etcd_does_not_answer(kube, etcd, remove, work, lost):
    operation = remove(lost, force_unreachable=True)
    work(limit=4)
    etcd.down = "no answer"
    work()
    assert cell_of(operation, "removeControlPlane").message == "no answer"
    assert "n1" in kube.nodes


def test_a_last_control_plane_stays_also_when_the_pre_check_was_skipped(
    kube, etcd, remove, work, lost, control, operator
):
    operation = remove(lost, force_unreachable=True)
    del etcd.health["n2"], etcd.health["n3"]
    work()
    operation.refresh_from_db()
    keys = [operation.machines.get().pk]
    control(
        controls.skip, operation, acting_user=operator, step="preCheck", machines=keys, reason="x"
    )
    work()
    assert "the last member of etcd" in cell_of(operation, "leaveEtcd").message
    assert etcd.removed == []
    assert "n1" in kube.nodes


def test_a_retry_after_the_member_has_left_goes_on_and_removes_nobody_else(
    kube, etcd, remove, work, planes, control, operator
):
    """The reset fails: the fake host has no Python that Ansible could use with our modules."""
    operation = remove(planes[0])
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.FAILED
    assert cell_of(operation, "leaveEtcd").status == "succeeded"
    assert "n1" in kube.nodes
    planes[0].refresh_from_db()
    assert planes[0].state == State.FAULTY
    credential = planes[0].credential
    credential.port = 9
    credential.save()
    control(controls.retry, operation, acting_user=operator, answers={"force_unreachable": True})
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED
    assert etcd.removed == ["n1"]
    assert "n1" not in kube.nodes


def test_a_step_that_is_done_again_after_its_worker_was_lost_finds_the_member_gone(
    etcd, remove, work, lost
):
    operation = remove(lost, force_unreachable=True)
    work(limit=3)
    etcd.health.pop("n1")  # the lost attempt came that far
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED
    assert etcd.removed == []


def test_what_joined_half_way_and_has_no_node_is_taken_out_of_etcd(kube, etcd, remove, work, lost):
    etcd.learners.add("n1")
    etcd.health["n1"] = False
    del kube.nodes["n1"]
    Machine.objects.filter(pk=lost.pk).update(state=State.FAULTY, node=None)
    lost.refresh_from_db()
    operation = remove(lost, force_unreachable=True)
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED
    assert etcd.removed == ["n1"]
