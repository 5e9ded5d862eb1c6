"""ScaleDown through the engine: a fake cluster whose controllers answer, a fake host, real rows.

What is done on hosts is proved in the lab (tests/operations/lab/test_scale_down.py).
"""

import pytest
from django.urls import reverse

from clusters.models import Node
from machines.models import Machine
from operations.kinds import clean_up, lifecycle
from operations.kinds.scale_down import machines as machine_lives
from operations.models import Operation
from operations.services import asking, manifests
from operations.services import control as controls
from tests import factories
from tests.fakes.kube_api import status_reply
from tests.operations.scale_down.looking import blocked, cell_of, failed_checks

pytestmark = pytest.mark.django_db
State = Machine.State


# --- planning -------------------------------------------------------------------------------------


def test_a_node_s_machine_may_be_scaled_down(cluster, machine, operator):
    assert blocked(cluster, machine, operator) == []


def test_a_machine_of_another_cluster_is_blocked(cluster, cluster_b, machine, admin):
    Machine.objects.filter(pk=machine.pk).update(cluster=cluster_b)
    machine.refresh_from_db()
    assert blocked(cluster, machine, admin) == ["it is not in this cluster"]


def test_a_machine_without_a_node_is_blocked(cluster, machine, operator):
    machine.node = None
    assert blocked(cluster, machine, operator) == ["no node of the cluster is linked to it"]


def test_a_control_plane_is_blocked_before_anything_is_contacted(cluster, machine, operator):
    Node.objects.update(roles=["control-plane"])
    machine.refresh_from_db()
    assert "control plane" in blocked(cluster, machine, operator)[0]


def test_a_free_machine_is_blocked_by_its_state(cluster, machine, operator):
    Machine.objects.filter(pk=machine.pk).update(state=State.JOINING)
    machine.refresh_from_db()
    assert blocked(cluster, machine, operator) == ["it is Joining; must be Cordoned / In service"]


def test_a_machine_that_cannot_be_signed_in_to_is_blocked_unless_it_is_given_up(
    cluster, machine, operator
):
    machine.host_key = ""
    assert "host key" in blocked(cluster, machine, operator)[0]
    assert blocked(cluster, machine, operator, force_unreachable=True) == []


def test_nobody_starts_with_an_approval_of_their_own(cluster, machine, operator):
    (reason,) = blocked(cluster, machine, operator, delete_blocked=True)
    assert "approved by somebody else" in reason


def test_a_missing_right_blocks_the_whole(cluster, machine, operator):
    missing = {"key": "scale_down", "ok": False, "missing": ["delete nodes"], "trouble": ""}
    cluster.capabilities = [missing]
    assert "delete nodes" in blocked(cluster, machine, operator)[0]


# --- preCheck -------------------------------------------------------------------------------------


def test_what_blocks_fails_in_pre_check_and_nothing_has_changed(kube, scale_down, machine, work):
    kube.add_pod("debug", "n1")
    kube.deploy("web", on=["n1"])
    operation = scale_down(machine)
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.FAILED
    assert failed_checks(operation) == {"bare-pods", "only-copies"}
    assert not kube.nodes["n1"]["spec"].get("unschedulable")
    machine.refresh_from_db()
    assert machine.state == State.IN_SERVICE


def test_every_pod_and_its_fate_is_kept_as_evidence(kube, scale_down, machine, work):
    kube.deploy("web", on=["n1", "n2"])
    kube.add_pod("proxy", "n1", owner={"kind": "DaemonSet", "name": "proxy", "controller": True})
    operation = scale_down(machine)
    work(limit=2)
    evidence = cell_of(operation).evidence
    assert {row["pod"]: row["what"] for row in evidence["pods"]} == {
        "shop/web-1": "moved",
        "shop/proxy": "stays until the node is gone (DaemonSet)",
    }
    assert evidence["owners"] == {"Deployment shop/web": {"wanted": 2, "ready": 2}}


def test_the_evidence_page_shows_the_fates(kube, scale_down, machine, work, browser, operator):
    kube.add_pod("debug", "n1")
    operation = scale_down(machine)
    work()
    page = browser(operator).get(reverse("operations:evidence", args=[operation.pk]))
    text = page.content.decode()
    assert "shop/debug" in text
    assert "is lost" in text
    assert "nothing makes it anew" in text


def test_a_host_that_is_not_reached_fails_in_pre_check(scale_down, lost_machine, work):
    operation = scale_down(lost_machine)
    work()
    assert failed_checks(operation) == {"host"}
    assert "force_unreachable" in cell_of(operation).message


def test_a_node_that_is_gone_says_so(kube, scale_down, machine, work):
    del kube.nodes["n1"]
    operation = scale_down(machine)
    work()
    assert "There is no node n1" in cell_of(operation).message


def forbid(kube, path):
    original = kube._route
    kube._route = lambda request: (
        status_reply(403, "no") if request.path == path else original(request)
    )


def test_volumes_that_may_not_be_listed_are_no_failure(kube, scale_down, machine, work):
    forbid(kube, "/api/v1/persistentvolumes")
    operation = scale_down(machine)
    work(limit=2)
    assert cell_of(operation).status == "succeeded"


def test_what_cannot_be_worked_out_is_a_warning(kube, scale_down, machine, work):
    kube.deploy("web", on=["n1", "n2"])
    team = {"matchLabels": {"team": "blue"}}
    term = {"topologyKey": "zone", "labelSelector": {}, "namespaceSelector": team}
    for pod in kube.pods.values():
        pod["spec"] |= {
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
            "affinity": {
                "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
            },
        }
    forbid(kube, "/api/v1/persistentvolumes")
    forbid(kube, "/api/v1/namespaces")
    operation = scale_down(machine)
    work(limit=2)
    cell = cell_of(operation)
    rows = {row["check"]: row for row in cell.checks}
    assert cell.status == "succeeded"
    assert rows["room-unknown"]["severity"] == "warning"
    assert "where its volumes can be reached from may not be read" in rows["room-unknown"]["found"]
    assert "labels of namespaces, which may not be read" in rows["room-unknown"]["found"]


def test_labels_of_namespaces_are_read_only_if_a_pod_asks_for_them(kube, scale_down, machine, work):
    scale_down(machine)
    work(limit=2)
    assert not any(request.path == "/api/v1/namespaces" for request in kube.requests)


def test_the_plan_is_shown_before_anything_starts_where_that_was_asked_for(
    kube, scale_down, machine, work, control, operator
):
    kube.deploy("web", on=["n1", "n2"])
    operation = scale_down(machine, ask_first=True)
    work()
    operation.refresh_from_db()
    assert failed_checks(operation) == {"plan"}
    assert asking.question(operation).answers == {"ask_first"}
    assert "1 pods will move, 0 stay" in cell_of(operation).message
    assert [row["pod"] for row in cell_of(operation).evidence["pods"]] == ["shop/web-1"]
    assert not kube.nodes["n1"]["spec"].get("unschedulable")
    control(controls.retry, operation, acting_user=operator, answers={"ask_first": False})
    work(limit=3)
    assert cell_of(operation, "drain").status == "succeeded"


# --- answers and drain ----------------------------------------------------------------------------


def test_a_retry_with_the_answer_goes_on(kube, scale_down, machine, work, control, operator):
    kube.add_pod("debug", "n1")
    operation = scale_down(machine)
    work()
    operation.refresh_from_db()
    control(controls.retry, operation, acting_user=operator, answers={"delete_bare_pods": True})
    work(limit=3)
    assert cell_of(operation, "drain").status == "succeeded"
    assert kube.on_node("n1") == []
    assert kube.nodes["n1"]["spec"]["unschedulable"]


def test_a_drain_that_fails_leaves_the_machine_cordoned(kube, scale_down, machine, work):
    kube.deploy("web", on=["n1", "n2"])
    operation = scale_down(machine, on_blocked="wait")
    work(limit=2)
    original = kube._route

    def forbid(request):
        is_eviction = request.path.endswith("/eviction")
        return status_reply(403, "no") if is_eviction else original(request)

    kube._route = forbid
    work()
    machine.refresh_from_db()
    assert machine.state == State.CORDONED
    assert kube.nodes["n1"]["spec"]["unschedulable"]
    assert "could not evict pod" in cell_of(operation, "drain").message


def test_one_more_copy_is_taken_away_again_at_the_end(kube, scale_down, machine, work):
    kube.deploy("web", on=["n1", "n2"])
    kube.budget("web", minAvailable=2)
    operation = scale_down(machine, raise_owner=True)
    work(limit=3)
    assert cell_of(operation, "drain").status == "succeeded"
    assert kube.replicas("web") == 2


def test_a_machine_draining_is_draining(kube, scale_down, machine, work):
    scale_down(machine)
    work(limit=3)
    machine.refresh_from_db()
    assert machine.state == State.DRAINING


def test_the_owner_approves_on_the_operation_of_an_operator(
    kube, scale_down, machine, work, control, cluster
):
    team = factories.make_team("owners")
    factories.grant(team, cluster, "owner")
    owner = factories.make_user("owner", teams=(team,))
    kube.deploy("web", on=["n1", "n2"])
    kube.budget("web", minAvailable=2)
    operation = scale_down(machine)
    work()
    operation.refresh_from_db()
    assert failed_checks(operation) == {"budget:shop/web-budget"}
    control(controls.retry, operation, acting_user=owner, answers={"delete_blocked": True})
    work(limit=3)
    assert kube.deleted_past_budgets == ["web-1"]
    assert cell_of(operation, "drain").status == "succeeded"


# --- hosts that are lost --------------------------------------------------------------------------


def test_a_lost_host_s_node_is_deleted_and_the_residue_remembered(
    kube, scale_down, lost_machine, work
):
    kube.deploy("web", on=["n1", "n2"])
    operation = scale_down(lost_machine, force_unreachable=True)
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED, cell_of(operation, "postCheck").message
    assert "n1" not in kube.nodes
    lost_machine.refresh_from_db()
    assert lost_machine.state == State.FAULTY
    assert lost_machine.node is None
    assert lost_machine.labels == {lifecycle.RESIDUE: f"operation-{operation.pk}"}
    change = lost_machine.status_changes.latest("pk")
    assert "clean it up when it is back" in change.reason


def test_a_node_that_became_another_machine_is_left_alone(kube, scale_down, lost_machine, work):
    operation = scale_down(lost_machine, force_unreachable=True)
    work(limit=3)
    kube.nodes["n1"]["metadata"]["uid"] = "another"
    work()
    assert "another machine by now" in cell_of(operation, "scaleDown").message
    assert "n1" in kube.nodes


def test_a_reset_that_fails_leaves_node_and_machine_to_a_person(kube, scale_down, machine, work):
    """The fake host has no Python that Ansible could use with our modules' rights."""
    operation = scale_down(machine)
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.FAILED
    assert "n1" in kube.nodes
    machine.refresh_from_db()
    assert machine.state == State.FAULTY
    assert machine.cluster_id == operation.cluster_id


def test_workloads_that_are_not_whole_fail_the_post_check(
    kube, scale_down, lost_machine, work, monkeypatch
):
    monkeypatch.setattr("operations.kinds.scale_down.post_check.WHOLE_SECONDS", 0)
    kube.deploy("web", on=["n1", "n2"])
    operation = scale_down(lost_machine, force_unreachable=True)
    work(limit=4)
    kube.starts_after = 10_000
    for pod in kube.pods.values():
        pod["starts"] = 10_000 + kube.seconds
        kube._set_ready(pod, False)
    work()
    assert failed_checks(operation, "postCheck") == {"workloads"}
    assert "0 of 2 ready" in cell_of(operation, "postCheck").message


# --- the machine between --------------------------------------------------------------------------


def test_a_retry_takes_a_faulty_machine_on_from_where_it_stands(
    kube, scale_down, machine, work, control, operator
):
    operation = scale_down(machine)
    work()
    operation.refresh_from_db()
    control(controls.retry, operation, acting_user=operator, answers={"force_unreachable": True})
    machine.refresh_from_db()
    assert machine.state == State.CORDONED
    credential = machine.credential
    credential.port = 9
    credential.save()
    work()
    machine.refresh_from_db()
    assert machine.state == State.FAULTY
    assert "n1" not in kube.nodes


def test_a_cancel_before_the_drain_leaves_the_machine_in_service(
    scale_down, machine, work, control, operator
):
    operation = scale_down(machine)
    control(controls.cancel, operation, acting_user=operator)
    work()
    machine.refresh_from_db()
    assert machine.state == State.IN_SERVICE


def test_a_machine_that_was_cleaned_carries_no_residue_any_more(cluster, machine):
    operation = Operation.objects.create(name="cleanup-1", kind="CleanUp", cluster=cluster)
    member = operation.machines.create(machine=machine, address="10.0.0.1", state="succeeded")
    lifecycle.remember_residue(member)
    Machine.objects.filter(pk=machine.pk).update(state=State.FAULTY)
    move = clean_up.release(member, "cleanUp")
    assert move is not None
    lifecycle.move_all([move], operation=operation)
    machine.refresh_from_db()
    assert (machine.state, machine.labels) == (State.AVAILABLE, {})


def test_a_machine_nobody_saw_leave_is_not_called_available(scale_down, machine, work):
    operation = scale_down(machine)
    member = operation.machines.get()
    member.state = "succeeded"  # as when every step was skipped
    Machine.objects.filter(pk=machine.pk).update(state=State.CORDONED)
    move = machine_lives.release(member, None)
    lifecycle.move_all([move], operation=operation)
    machine.refresh_from_db()
    assert machine.state == State.FAULTY


# --- manifests ------------------------------------------------------------------------------------


def test_a_manifest_asks_for_a_scale_down(cluster, machine, operator):
    document = {
        "apiVersion": "vcluster.caas.beidou.io/v1alpha1",
        "kind": "Operation",
        "metadata": {"name": "scaledown-2024"},
        "spec": {
            "clusterName": cluster.name,
            "operationType": "ScaleDown",
            "operationFlow": ["preCheck", "drain", "scaleDown", "postCheck"],
            "operationMachines": [{"ip": machine.address, "role": "Compute"}],
            "params": {"on_blocked": "wait"},
        },
    }
    (first,) = manifests.apply([document], acting_user=operator)
    (second,) = manifests.apply([document], acting_user=operator)
    assert (first.is_new, second.is_new) == (True, False)
    assert first.row.params["on_blocked"] == "wait"


def test_answers_do_not_make_a_manifest_another_one(cluster, machine, operator):
    document = {
        "apiVersion": "vcluster.caas.beidou.io/v1alpha1",
        "kind": "Operation",
        "metadata": {"name": "scaledown-2025"},
        "spec": {
            "clusterName": cluster.name,
            "operationType": "ScaleDown",
            "operationFlow": ["preCheck"],
            "operationMachines": [{"ip": machine.address}],
        },
    }
    manifests.apply([document], acting_user=operator)
    Operation.objects.update(answers={"delete_bare_pods": True})
    (again,) = manifests.apply([document], acting_user=operator)
    assert not again.is_new


# --- pages ----------------------------------------------------------------------------------------


def test_chosen_machines_and_nodes_lead_to_the_start_form(browser, operator, cluster, machine):
    for model, chosen in (("machines_machine", machine), ("clusters_node", machine.node)):
        answer = browser(operator).post(
            reverse(f"admin:{model}_changelist"),
            {
                "action": "scale_down_chosen" if "machine" in model else "scale_down_nodes",
                "_selected_action": [chosen.pk],
            },
        )
        assert answer.status_code == 302
        assert (
            f"kind=ScaleDown&machines={machine.address}&cluster={cluster.pk}" in answer["Location"]
        )


def test_nodes_without_a_machine_are_said_to_need_one(browser, operator, cluster):
    node = factories.make_node(cluster, "n2")
    answer = browser(operator).post(
        reverse("admin:clusters_node_changelist"),
        {"action": "scale_down_nodes", "_selected_action": [node.pk]},
        follow=True,
    )
    assert "registered as no machine" in answer.content.decode()


def test_the_form_offers_machines_of_the_chosen_cluster_alone(
    browser, operator, cluster, cluster_b, machine, admin
):
    other = factories.make_machine("10.88.0.1", cluster=cluster_b, state=State.IN_SERVICE)
    address = reverse("operations:start") + f"?kind=ScaleDown&cluster={cluster.pk}"
    text = browser(admin).get(address).content.decode()
    assert machine.address in text
    assert other.address not in text


def test_the_form_offers_no_approval(browser, operator, cluster):
    address = reverse("operations:start") + f"?kind=ScaleDown&cluster={cluster.pk}"
    text = browser(operator).get(address).content.decode()
    assert "params-raise_owner" in text
    assert "params-delete_blocked" not in text
