"""DeleteCluster through the engine: typed, approved, workers first, and what stays of it.

What is done on hosts is proved in the lab (tests/operations/lab/test_create_cluster.py).
"""

from typing import Any

import pytest
from django.urls import reverse

from beidou.base import context
from beidou.base.errors import Conflict, Forbidden, InvalidInput
from beidou.base.models import AuditEntry
from clusters.models import Cluster, ClusterCredential, CollectorLease, Node
from clusters.services import deletion, leases, removal
from machines.models import Machine
from operations.kinds import clean_up, lifecycle
from operations.kinds.delete_cluster import pre_check
from operations.models import MachineStep, Operation
from operations.services import asking, start
from operations.services import control as controls
from tests import factories

pytestmark = pytest.mark.django_db
State = Machine.State
APPROVED = {"approved": True}


def states(*machines):
    keys = [machine.pk for machine in machines]
    return [Machine.objects.get(pk=key).state for key in keys]


def cell(operation, hostname, step):
    return MachineStep.objects.get(
        step__operation=operation, step__name=step, machine__hostname=hostname
    )


def failed(operation, hostname="n1"):
    return {
        row["check"]
        for row in cell(operation, hostname, "preCheck").checks
        if not row["ok"] and row["severity"] == "error"
    }


@pytest.fixture
def approve(control, other_owner):
    def retry(operation, **answers):
        operation.refresh_from_db()
        chosen = {**APPROVED, **answers}
        with context.acting(actor_id=other_owner.pk, actor_name=str(other_owner)):
            control(controls.retry, operation, acting_user=other_owner, answers=chosen)

    return retry


# --- planning -------------------------------------------------------------------------------------


@pytest.fixture
def blocked(cluster, machines, owner):
    def ask(*chosen, user=owner, **params):
        plan = start.plan_operation(
            kind="DeleteCluster",
            cluster=cluster,
            machines=chosen or machines,
            params={"confirm": cluster.name, **params},
            acting_user=user,
        )
        return [reason for blocker in plan.blockers for reason in blocker.reasons]

    return ask


def test_an_owner_may_ask_for_it(blocked):
    assert blocked() == []


def test_an_operator_may_not(blocked, operator):
    with pytest.raises(Forbidden):
        blocked(user=operator)


@pytest.mark.parametrize("text", ["", "other", "CLUSTER-A"])
def test_the_name_must_be_typed(blocked, text):
    (reason,) = blocked(confirm=text)
    assert "type the cluster's name, cluster-a" in reason


def test_without_a_name_it_is_no_wish(cluster, machines, owner):
    with pytest.raises(InvalidInput, match="confirm"):
        start.plan_operation(
            kind="DeleteCluster", cluster=cluster, machines=machines, params={}, acting_user=owner
        )


def test_no_machine_may_be_left_out(blocked, machines):
    (reason,) = blocked(*machines[:2])
    assert "1 machine of the cluster does not take part: n3" in reason


def test_a_machine_in_maintenance_is_named(blocked, machines):
    Machine.objects.filter(pk=machines[2].pk).update(state=State.MAINTENANCE)
    reasons = blocked(*machines[:2])
    assert any("n3" in reason and "aintenance" in reason for reason in reasons), reasons


def test_all_machines_are_meant_where_none_is_named(cluster, machines, owner):
    found = start.machines_of("DeleteCluster", cluster, user=owner)
    assert {each.pk for each in found} == {each.pk for each in machines}


def test_an_active_operation_is_in_the_way(blocked, cluster):
    Operation.objects.create(name="busy", kind="ScaleUp", cluster=cluster)
    (reason,) = blocked()
    assert "operations are active on it: busy" in reason


def test_nobody_starts_with_an_approval_of_their_own(blocked):
    (reason,) = blocked(approved=True)
    assert "approved by somebody else" in reason


def test_a_host_that_is_not_pinned_is_blocked_unless_it_is_given_up(blocked, machines):
    Machine.objects.filter(pk=machines[2].pk).update(host_key="")
    machines[2].refresh_from_db()
    assert "host key" in blocked()[0]
    assert blocked(give_up="x, N3") == []


# --- preCheck and approval ------------------------------------------------------------------------


def test_it_waits_for_an_approval_and_says_what_would_be_lost(
    kube, delete, work, reached, played, machines, cluster
):
    kube.deploy("web", on=["n2", "n3"])
    operation = delete()
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.FAILED
    assert failed(operation) == {"approval"}
    assert asking.question(operation).is_approval
    rows = {row["check"]: row for row in cell(operation, "n1", "preCheck").checks}
    assert "3 nodes" in rows["losses"]["found"]
    assert "1 deployments" in rows["losses"]["found"]
    assert "2 pods" in rows["losses"]["found"]
    assert "0 persistentvolumes" in rows["losses"]["found"]
    assert played.runs == []
    assert states(*machines) == [State.IN_SERVICE] * 3
    cluster.refresh_from_db()
    assert cluster.phase == Cluster.Phase.RUNNING


def test_whoever_asked_cannot_approve(delete, work, reached, played, control, owner):
    operation = delete()
    work()
    operation.refresh_from_db()
    with pytest.raises(Forbidden, match="somebody else"):
        control(controls.retry, operation, acting_user=owner, answers=APPROVED)


def test_an_operator_cannot_approve(delete, work, reached, played, control, operator):
    operation = delete()
    work()
    operation.refresh_from_db()
    with pytest.raises(Forbidden):
        control(controls.retry, operation, acting_user=operator, answers=APPROVED)


def test_a_retry_without_an_approval_waits_again(delete, work, reached, played, control, owner):
    operation = delete()
    work()
    operation.refresh_from_db()
    control(controls.retry, operation, acting_user=owner)
    work()
    assert failed(operation) == {"approval"}
    assert played.runs == []


def test_skipping_the_check_approves_nothing(
    delete, work, reached, played, control, owner, cluster
):
    operation = delete()
    work()
    operation.refresh_from_db()
    members = list(operation.machines.values_list("pk", flat=True))
    control(
        controls.skip, operation, acting_user=owner, step="preCheck", machines=members, reason="me"
    )
    work()
    assert "Nobody has approved" in cell(operation, "n1", "reset").message
    assert played.runs == []
    cluster.refresh_from_db()
    assert cluster.phase == Cluster.Phase.RUNNING


def test_an_approval_by_which_no_authority_was_found_resets_nothing(
    kube, delete, work, reached, played, approve, control, owner, cluster, monkeypatch
):
    """Without it hosts of another cluster would be reset like those of this one."""
    operation = delete()
    work()
    monkeypatch.setattr(pre_check, "pins", lambda _connection: [])
    kube.down = True
    approve(operation)
    work()
    assert failed(operation) == {"authority"}
    operation.refresh_from_db()
    members = list(operation.machines.values_list("pk", flat=True))
    control(
        controls.skip, operation, acting_user=owner, step="preCheck", machines=members, reason="me"
    )
    work()
    assert "authority" in cell(operation, "n1", "reset").message
    assert played.runs == []
    cluster.refresh_from_db()
    assert cluster.phase == Cluster.Phase.RUNNING


def test_nodes_that_are_no_machines_are_given_up_by_name(
    kube, delete, work, reached, played, approve
):
    kube.add_node("stranger")
    operation = delete()
    work()
    assert failed(operation) == {"nodes", "approval"}
    operation.refresh_from_db()
    assert asking.question(operation).answers == {"give_up", "approved"}
    assert "stranger" in cell(operation, "n1", "preCheck").message
    approve(operation, give_up="stranger")
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED


def test_a_cluster_whose_api_is_gone_can_be_deleted(
    kube, delete, work, reached, played, approve, cluster
):
    kube.down = True
    operation = delete()
    work()
    assert failed(operation) == {"approval"}
    rows = {row["check"]: row for row in cell(operation, "n1", "preCheck").checks}
    assert "not all is known" in rows["losses"]["found"]
    approve(operation)
    work()
    cluster.refresh_from_db()
    assert cluster.is_deleted
    assert played.variables["ca_cert_hashes"] != []


def test_without_the_authority_of_the_cluster_nothing_is_reset():
    assert pre_check.authority_check([])["severity"] == "error"
    assert not pre_check.authority_check([])["ok"]
    assert pre_check.authority_check(["sha256:ab"])["ok"]


def test_nothing_that_is_no_stranger_is_asked_about():
    assert pre_check.strangers_check([], frozenset())["ok"]


def test_nodes_whose_hosts_an_earlier_deletion_has_reset_are_no_strangers(
    delete, work, reached, played, approve, machines, cluster
):
    played.failing |= {"n1": "disk full", "n2": "disk full"}
    first = delete()
    work()
    approve(first)
    work()
    assert states(*machines) == [State.FAULTY, State.FAULTY, State.AVAILABLE]
    machines[0].refresh_from_db()
    second = delete(*Machine.objects.filter(cluster=cluster))
    work()
    assert failed(second) == {"approval"}


def test_a_node_that_an_earlier_deletion_gave_up_has_to_be_given_up_again(
    delete, work, reached, played, approve, machines, cluster
):
    played.failing["n2"] = "disk full"
    first = delete(give_up="n3")
    reached["n3"] = "no answer"
    work()
    approve(first, give_up="n3")
    work()
    Machine.objects.get(pk=machines[2].pk).delete()
    second = delete(*Machine.objects.filter(cluster=cluster))
    work()
    assert failed(second) == {"approval", "nodes"}
    assert "n3" in cell(second, "n1", "preCheck").message


# --- reset ----------------------------------------------------------------------------------------


def test_workers_go_first_and_everything_ends_free(
    delete, work, reached, played, approve, machines, cluster
):
    CollectorLease.objects.create(cluster=cluster, holder="me")
    operation = delete()
    work()
    approve(operation)
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED, operation.message
    assert played.runs == [["n2", "n3"], ["n1"]]
    assert played.variables["is_control_plane"] is True
    assert played.variables["pod_networks"] == ["10.244.0.0/16"]
    assert states(*machines) == [State.AVAILABLE] * 3
    assert not Machine.objects.filter(cluster=cluster).exists()
    cluster.refresh_from_db()
    assert cluster.phase == Cluster.Phase.DELETED
    assert not ClusterCredential.objects.filter(cluster=cluster).exists()
    assert not Node.objects.filter(cluster=cluster).exists()
    assert not CollectorLease.objects.filter(cluster=cluster).exists()
    assert [each.new for each in cluster.status_changes.order_by("pk")][-2:] == [
        "deleting", "deleted",
    ]  # fmt: skip


def test_who_approved_is_kept(delete, work, reached, played, approve):
    operation = delete()
    work()
    approve(operation)
    work()
    assert cell(operation, "n1", "preCheck").evidence["approved_by"] == "other-owner"
    verbs = set(AuditEntry.objects.values_list("verb", flat=True))
    assert {"delete cluster", "cluster deleted"} <= verbs


def test_control_planes_wait_for_a_worker_that_fails_and_a_retry_goes_on(
    delete, work, reached, played, approve, machines, cluster, control, owner
):
    played.failing["n2"] = "disk full"
    operation = delete()
    work()
    approve(operation)
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.PARTIAL
    assert played.runs == [["n2", "n3"]]
    assert "Worker n2 is not reset yet" in cell(operation, "n1", "reset").message
    assert states(*machines) == [State.FAULTY, State.FAULTY, State.AVAILABLE]
    cluster.refresh_from_db()
    assert cluster.phase == Cluster.Phase.DELETING

    played.failing.clear()
    control(controls.retry, operation, acting_user=owner, reason="disk emptied")
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED, operation.message
    assert played.runs[1:] == [["n2"], ["n1"]]
    assert states(*machines) == [State.AVAILABLE] * 3
    cluster.refresh_from_db()
    assert cluster.is_deleted


def test_a_worker_that_failed_and_is_no_machine_here_any_more_holds_nobody_up(
    delete, work, reached, played, approve, machines, cluster, control, owner
):
    played.failing["n2"] = "disk full"
    operation = delete()
    work()
    approve(operation)
    work()
    Machine.objects.get(pk=machines[1].pk).delete()
    control(controls.retry, operation, acting_user=owner)
    work()
    operation.refresh_from_db()
    assert played.runs[1:] == [["n1"]]
    assert "waits for" not in cell(operation, "n1", "forget").message
    cluster.refresh_from_db()
    assert cluster.is_deleted


def test_what_came_meanwhile_is_seen_also_when_a_machine_was_deleted_here(
    delete, work, reached, played, approve, machines, cluster, control, owner
):
    played.failing |= {"n2": "disk full", "n3": "disk full"}
    operation = delete()
    work()
    approve(operation)
    work()
    Machine.objects.get(pk=machines[1].pk).delete()
    factories.make_machine(cluster=cluster, hostname="late", state=State.IN_SERVICE)
    control(controls.retry, operation, acting_user=owner)
    work()
    assert "has come to the cluster meanwhile" in cell(operation, "n1", "reset").message
    assert len(played.runs) == 1


def test_the_node_of_a_machine_that_was_deleted_here_has_to_be_given_up(
    delete, work, reached, played, approve, machines
):
    operation = delete()
    work()
    Machine.objects.get(pk=machines[1].pk).delete()
    approve(operation)
    work()
    assert failed(operation) == {"nodes"}
    assert "n2" in cell(operation, "n1", "preCheck").message
    assert played.runs == []


def test_a_host_that_is_not_reset_is_given_up_by_its_name_and_never_skipped(
    delete, work, reached, played, approve, control, owner, cluster
):
    operation = delete()
    work()
    approve(operation)
    work(limit=2)
    reached["n3"] = "no answer"
    work()
    operation.refresh_from_db()
    with pytest.raises(Conflict, match="reset cannot be skipped"):
        control(
            controls.skip, operation, acting_user=owner, step="reset", machines=None, reason="lost"
        )
    cluster.refresh_from_db()
    assert cluster.phase == Cluster.Phase.DELETING


def test_a_host_that_is_lost_in_between_is_named_and_can_be_given_up(
    delete, work, reached, played, approve, machines, control, owner, cluster
):
    operation = delete()
    work()
    approve(operation)
    work(limit=2)
    reached["n3"] = "no answer"
    work()
    operation.refresh_from_db()
    assert "name it in give_up" in cell(operation, "n3", "reset").message
    control(controls.retry, operation, acting_user=owner, answers={"give_up": "n3"})
    work()
    operation.refresh_from_db()
    assert "nobody has approved that it is given up" in cell(operation, "n3", "reset").message
    assert list(asking.unanswered(operation).values()) == [{"approved"}]
    approve(operation)
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED
    machines[2].refresh_from_db()
    assert (machines[2].state, machines[2].cluster) == (State.FAULTY, cluster)
    assert machines[2].labels == {lifecycle.RESIDUE: f"operation-{operation.pk}"}


def test_what_stood_in_give_up_when_it_was_approved_asks_nobody_once_more(
    delete, work, reached, played, approve, machines
):
    operation = delete(give_up="n3")
    work()
    approve(operation)
    work(limit=2)
    reached["n3"] = "no answer"
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED
    assert cell(operation, "n3", "reset").evidence["unreached"] == "no answer"


def test_an_approval_of_what_somebody_changed_meanwhile_is_refused(
    delete, work, reached, played, control, owner, other_owner, api
):
    """A gives up a host between B's look and B's word."""
    operation = delete()
    work()
    url = reverse("operation-detail", args=[operation.pk])
    seen = api(other_owner).get(url).json()["seen"]
    control(controls.retry, operation, acting_user=owner, answers={"give_up": "n3"})
    work()
    approval = {"answers": APPROVED, "seen": seen}
    answer = api(other_owner).post(f"{url}retry/", approval, format="json")
    assert (answer.status_code, answer.json()["code"]) == (409, "changed_meanwhile")
    operation.refresh_from_db()
    assert (operation.status, played.runs) == ("failed", [])


def test_a_machine_that_came_meanwhile_is_not_reset_unseen(
    delete, work, reached, played, approve, cluster
):
    operation = delete()
    work()
    approve(operation)
    work(limit=2)
    factories.make_machine(cluster=cluster, hostname="late", state=State.IN_SERVICE)
    work()
    message = cell(operation, "n1", "reset").message
    assert message.startswith("late ")
    assert "has come to the cluster meanwhile" in message
    assert played.runs == []


def test_what_a_lost_worker_had_begun_is_taken_up(delete, work, reached, played, approve, cluster):
    operation = delete()
    work()
    approve(operation)
    work(limit=2)
    deletion.begin(cluster=cluster, reason="the lost attempt")
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED
    assert cluster.status_changes.filter(new="deleting").count() == 1


def test_nothing_is_forgotten_while_a_machine_is_not_reset(
    delete, work, reached, played, approve, cluster
):
    played.failing["n1"] = "no answer"
    operation = delete()
    work()
    approve(operation)
    work()
    assert "waits for n1, which is not reset yet" in cell(operation, "n2", "forget").message
    assert ClusterCredential.objects.filter(cluster=cluster).exists()


# --- what stays -----------------------------------------------------------------------------------


@pytest.fixture
def deleted(delete, work, reached, played, approve, cluster):
    operation = delete(give_up="n3")
    reached["n3"] = "no answer"
    work()
    approve(operation)
    work()
    cluster.refresh_from_db()
    assert cluster.is_deleted
    return operation


def test_nobody_watches_a_deleted_cluster(deleted, cluster):
    assert not cluster.is_watched
    leases.beat("me")
    assert not CollectorLease.objects.filter(cluster=cluster).exists()


def test_nothing_but_a_clean_up_begins_on_it(deleted, cluster, machines, admin):
    for kind, free in (("ScaleUp", False), ("CleanUp", True)):
        plan = start.plan_operation(
            kind=kind, cluster=cluster, machines=[machines[2]], params={}, acting_user=admin
        )
        whole = [each.reason for each in plan.whole_blockers]
        assert ("the cluster is “deleted”" in whole) is not free


@pytest.fixture
def reset_again(deleted, cluster):
    """What a clean-up tells the role that resets."""

    class Run:
        def __init__(self):
            self.cluster = cluster
            self.targets = [Operation.objects.get().machines.first()]

    run: Any = Run()
    return lambda: (clean_up.variables_without_api(run), *clean_up.own_without_api(run).values())


def test_a_clean_up_of_what_was_given_up_knows_whose_it_was(reset_again):
    variables, own = reset_again()
    assert (own["is_control_plane"], own["any_cluster"]) == (True, False)
    assert variables["ca_cert_hashes"] != []


@pytest.mark.parametrize(
    ("ranges", "networks"),
    [("10.244.0.0/16,fd00:10::/56", ["10.244.0.0/16", "fd00:10::/56"]), ("", [])],
)
def test_a_clean_up_removes_the_routes_of_each_network(reset_again, cluster, ranges, networks):
    cluster.pod_cidr = ranges
    variables, _own = reset_again()
    assert variables["pod_networks"] == networks


def test_it_is_un_adopted_once_its_machines_are_clean(deleted, cluster, machines):
    with pytest.raises(Conflict, match="Clean up 1 machine first"):
        removal.unadopt(cluster=cluster, confirmation=cluster.name)
    Machine.objects.filter(pk=machines[2].pk).update(cluster=None)
    removal.unadopt(cluster=cluster, confirmation=cluster.name)
    assert not Cluster.objects.filter(pk=cluster.pk).exists()
    assert AuditEntry.objects.filter(verb="start DeleteCluster").exists()


def test_its_page_says_what_is_kept(deleted, cluster, browser, admin):
    page = browser(admin).get(reverse("admin:clusters_cluster_change", args=[cluster.pk]))
    text = page.content.decode()
    assert "This cluster was deleted" in text
    assert "kind=ScaleUp" not in text


def test_a_cluster_that_is_not_running_is_not_begun_with(cluster):
    Cluster.objects.filter(pk=cluster.pk).update(phase="provisioning")
    cluster.refresh_from_db()
    with pytest.raises(Conflict):
        deletion.begin(cluster=cluster, reason="")
