"""A cluster, its settings and its operation come together, or not at all."""

import pytest

from beidou.base import permissions
from beidou.base.errors import Conflict, Forbidden, InvalidInput
from beidou.base.models import AuditEntry
from clusters.models import Cluster, ClusterGrant
from clusters.services import removal
from clusters.services.adoption import Details
from machines.models import Machine, MachineAddress
from operations.kinds import base as kinds
from operations.models import ClusterSettings, Operation
from operations.services import control as controls
from operations.services import create_cluster, start
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def create(wish, maker, django_capture_on_commit_callbacks):
    def begin(user=maker, **values):
        with django_capture_on_commit_callbacks():
            return create_cluster.create(wish=wish(**values), acting_user=user)

    return begin


@pytest.fixture
def whole(wish, maker):
    """The blockers of the whole that a plan names."""

    def ask(**values):
        plan = create_cluster.plan(wish=wish(**values), acting_user=maker)
        return [blocker.reason for blocker in plan.whole_blockers]

    return ask


@pytest.fixture
def blocked(wish, maker):
    """Of each blocked machine why."""

    def ask(**values):
        plan = create_cluster.plan(wish=wish(**values), acting_user=maker)
        return {each.machine.hostname: each.reason for each in plan.blockers if each.machine}

    return ask


def test_the_cluster_is_there_at_once_and_says_that_it_is_being_created(create, makers, maker):
    operation = create()
    cluster = operation.cluster
    assert (cluster.name, cluster.type) == ("fresh", Cluster.Type.NATIVE)
    assert cluster.phase == Cluster.Phase.PROVISIONING
    assert cluster.is_unmade
    assert cluster.pod_cidr == "10.244.0.0/16"
    assert [change.new for change in cluster.status_changes.all()] == ["provisioning"]
    assert not hasattr(cluster, "credential")


def test_it_belongs_to_a_team_of_whoever_creates_it(create, maker, makers):
    operation = create()
    grant = ClusterGrant.objects.get(cluster=operation.cluster)
    assert (grant.team, grant.role) == (makers, "owner")
    assert permissions.may(maker, operation, permissions.OPERATE)


def test_its_machines_are_reserved_in_their_roles(create, free):
    operation = create()
    roles = dict(operation.machines.values_list("address", "role"))
    assert roles == {
        str(free[0].address): "ControlPlane",
        str(free[1].address): "Compute",
        str(free[2].address): "Compute",
    }
    states = set(Machine.objects.filter(pk__in=[m.pk for m in free]).values_list("state"))
    assert states == {("reserved",)}


def test_its_settings_are_kept_for_later_operations(create):
    operation = create(
        settings={"artifact_source": "https://files.example", "policy": {"min_cpus": 4}},
        registry_mirror="https://mirror.example",
    )
    kept = ClusterSettings.objects.get(cluster=operation.cluster)
    assert kept.artifact_source == "https://files.example"
    assert kept.policy == {"min_cpus": 4}
    mirrors = {"_default": [{"url": "https://mirror.example"}]}
    assert kept.overrides == {"containerd_registry_mirrors": mirrors}


@pytest.mark.parametrize("mirror", ["mirror.example", "ftp://x", "https://user@mirror.example"])
def test_a_mirror_that_is_no_address_is_refused(create, mirror):
    with pytest.raises(InvalidInput, match=r"http\(s\) address"):
        create(registry_mirror=mirror)


def test_everything_is_in_the_audit_trail(create):
    create()
    verbs = [entry.verb for entry in AuditEntry.objects.order_by("pk")]
    begun = ["create cluster", "change", "change state", "start CreateCluster"]
    assert verbs[-4:] == begun


def test_a_plan_writes_nothing(wish, maker, free):
    before = AuditEntry.objects.count()
    plan = create_cluster.plan(wish=wish(), acting_user=maker)
    assert [machine.pk for machine in plan.ready] == [machine.pk for machine in free]
    assert plan.blockers == ()
    assert not Cluster.objects.filter(name="fresh").exists()
    assert not Operation.objects.exists()
    assert AuditEntry.objects.count() == before


def test_a_refusal_leaves_nothing_behind(create, free):
    free[1].host_key = ""
    free[1].save()
    with pytest.raises(InvalidInput, match="host key is not pinned"):
        create()
    assert not Cluster.objects.filter(name="fresh").exists()
    assert not ClusterSettings.objects.exists()


def test_whoever_may_not_add_clusters_is_refused(create, operator):
    with pytest.raises(Forbidden, match="permission to add clusters"):
        create(user=operator)


def test_a_cluster_for_a_foreign_team_is_refused(create, wish):
    with pytest.raises(InvalidInput, match="one of your own teams"):
        create(details=Details(name="fresh", team=factories.make_team()))


def test_a_name_that_is_taken_is_refused(create, cluster_a, makers):
    with pytest.raises(InvalidInput, match="already exists"):
        create(details=Details(name="cluster-a", team=makers))


@pytest.mark.parametrize("planes", [0, 2])
def test_a_cluster_has_one_or_three_control_planes(whole, free, planes):
    roles = {machine.pk: "ControlPlane" for machine in free[:planes]}
    (reason,) = whole(roles=roles)
    assert f"1 or 3 control planes, not {planes}" in reason


def test_three_control_planes_need_no_worker(whole, free):
    assert whole(roles={machine.pk: "ControlPlane" for machine in free}) == []


def test_a_source_of_artifacts_is_needed(whole):
    assert whole(settings={}) == ["no artifact source is given"]


@pytest.mark.parametrize(
    ("field", "text"), [("pod_network", "10.244.128.0/20"), ("service_network", "10.96.0.0/12")]
)
def test_a_network_of_another_cluster_is_refused_without_its_name(whole, cluster_a, field, text):
    cluster_a.pod_cidr = f"192.168.0.0/16,{text}"
    cluster_a.save()
    (reason,) = whole()
    assert reason.startswith(field)
    assert f"overlaps {text} of another cluster" in reason


def test_without_a_word_of_its_networks_the_ranges_of_its_nodes_count(whole, cluster_a):
    factories.make_node(cluster_a, pod_cidrs=["10.244.3.0/24", "fd00:10:3::/64"])
    (reason,) = whole()
    assert reason == "pod_network 10.244.0.0/16 overlaps 10.244.3.0/24 of another cluster"


def test_those_of_a_cluster_that_was_deleted_do_not(whole, cluster_a):
    factories.make_node(cluster_a, pod_cidrs=["10.244.3.0/24"])
    Cluster.objects.filter(pk=cluster_a.pk).update(phase=Cluster.Phase.DELETED)
    assert whole() == []


@pytest.fixture
def told(wish, maker):
    """The remarks on the whole about networks."""

    def ask():
        plan = create_cluster.plan(wish=wish(), acting_user=maker)
        return [each.text for each in plan.remarks if "networks" in each.text]

    return ask


def test_clusters_whose_networks_nobody_knows_are_told_by_name_to_those_who_see_them(
    told, cluster_a, cluster_b, makers
):
    factories.grant(makers, cluster_b, "viewer")
    (remark,) = told()
    assert remark.startswith("2 other clusters do not tell all of their networks")
    assert remark.endswith("cluster-b, …")


def test_where_all_networks_are_known_nothing_is_said(told, cluster_a):
    cluster_a.pod_cidr, cluster_a.service_cidr = "10.10.0.0/16", "10.11.0.0/16"
    cluster_a.save()
    assert told() == []


def test_more_machines_than_ranges_of_pods_are_refused(whole):
    (reason,) = whole(params={"pod_network": "10.244.0.0/23"})
    assert "has room for 2 nodes, not 3" in reason


def test_an_address_of_a_machine_in_a_network_of_the_cluster_is_refused(blocked, free):
    MachineAddress.objects.create(machine=free[2], address="10.244.7.7")
    assert blocked() == {"free-3": "its address 10.244.7.7 lies in 10.244.0.0/16"}


def test_machines_of_one_name_are_refused(blocked, free):
    free[2].hostname = "FREE-1"
    free[2].save()
    reasons = blocked()
    assert list(reasons) == ["FREE-1"]
    assert "is called free-1 too" in reasons["FREE-1"]


def test_a_machine_that_is_not_free_is_refused(blocked, free):
    Machine.objects.filter(pk=free[0].pk).update(state=Machine.State.IN_SERVICE)
    free[0].refresh_from_db()
    assert "must be Available" in blocked()["free-1"]


def test_a_machine_of_the_other_address_family_is_refused(blocked):
    params = {"pod_network": "fd00:10::/56", "service_network": "fd00:20::/112"}
    assert set(blocked(params=params).values()) == {
        "its address is of another family than the pod network"
    }


# --- while it is being created -------------------------------------------------------------------


def test_nothing_else_is_done_to_a_cluster_that_is_being_created(create, maker, makers):
    operation = create()
    plan = start.plan_operation(
        kind="ScaleUp",
        cluster=operation.cluster,
        machines=[factories.make_machine(owner_team=makers)],
        params={},
        acting_user=maker,
    )
    assert plan.whole_blockers[0].reason == "the cluster is “provisioning”"


def test_the_kind_cannot_be_begun_on_a_cluster_that_is_there(free, cluster_a, admin):
    plan = start.plan_operation(
        kind="CreateCluster",
        cluster=cluster_a,
        machines=free,
        params={"kubernetes_version": "v1.36.3"},
        acting_user=admin,
    )
    assert "makes a cluster of its own" in plan.whole_blockers[0].reason


def test_a_second_operation_cannot_create_the_same_cluster(create, maker, free):
    operation = create()
    plan = start.plan_operation(
        kind="CreateCluster",
        cluster=operation.cluster,
        machines=free,
        params={"kubernetes_version": "v1.36.3"},
        acting_user=maker,
    )
    assert "makes a cluster of its own" in plan.whole_blockers[0].reason


def test_a_canceled_creation_can_be_retried(create, maker, django_capture_on_commit_callbacks):
    operation = create()
    with django_capture_on_commit_callbacks():
        controls.cancel(operation, acting_user=maker)
        again = controls.retry(operation, acting_user=maker)
    assert again.status == Operation.Status.WAITING


@pytest.fixture
def canceled(create, maker, cluster_a, control):
    """A creation that ended early; meanwhile a cluster with the same networks was adopted."""
    operation = create()
    control(controls.cancel, operation, acting_user=maker)
    cluster_a.pod_cidr = "10.244.0.0/16"
    cluster_a.save()
    return operation


def has_its_control_plane(operation):
    member = operation.machines.get(role="ControlPlane")
    member.cells.filter(step__name="createControlPlane").update(status="succeeded")
    Machine.objects.filter(pk=member.machine_id).update(
        cluster=operation.cluster, state=Machine.State.FAULTY
    )


def test_before_its_control_plane_is_there_a_network_that_was_taken_refuses_the_retry(
    canceled, maker
):
    with pytest.raises(InvalidInput, match="overlaps"):
        controls.retry(canceled, acting_user=maker)


def test_once_it_is_the_network_is_its_own_and_a_retry_goes_on(canceled, maker, control):
    has_its_control_plane(canceled)
    again = control(controls.retry, canceled, acting_user=maker)
    assert again.status == Operation.Status.WAITING


def test_with_a_control_plane_that_was_cleaned_it_begins_anew_and_is_refused(canceled, maker):
    has_its_control_plane(canceled)
    Machine.objects.update(cluster=None, state=Machine.State.AVAILABLE)
    with pytest.raises(InvalidInput, match="overlaps"):
        controls.retry(canceled, acting_user=maker)


def test_a_cluster_that_runs_keeps_its_networks(canceled, maker, control):
    Cluster.objects.filter(pk=canceled.cluster_id).update(phase=Cluster.Phase.RUNNING)
    canceled.refresh_from_db()
    again = control(controls.retry, canceled, acting_user=maker)
    assert again.status == Operation.Status.WAITING


def test_a_creation_that_was_given_up_is_removed_once_its_machines_are_clean(
    create, maker, free, admin, django_capture_on_commit_callbacks
):
    operation = create()
    with django_capture_on_commit_callbacks():
        controls.cancel(operation, acting_user=maker)
    cluster = operation.cluster
    Machine.objects.filter(pk=free[0].pk).update(cluster=cluster, state=Machine.State.FAULTY)
    with pytest.raises(Conflict, match="Clean up 1 machine first"):
        removal.unadopt(cluster=cluster, confirmation="fresh")
    Machine.objects.filter(pk=free[0].pk).update(cluster=None, state=Machine.State.AVAILABLE)
    removal.unadopt(cluster=cluster, confirmation="fresh")
    assert not Cluster.objects.filter(name="fresh").exists()


def test_what_a_creation_left_is_cleaned_up_while_its_cluster_has_no_api(create, maker, free):
    operation = create()
    assert kinds.get("CleanUp").phase_blockers(operation.cluster) == []
    assert kinds.get("ScaleDown").phase_blockers(operation.cluster) != []
