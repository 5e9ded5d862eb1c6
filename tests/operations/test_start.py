"""Planning and starting: what blocks, who may, limits and names."""

import pytest

from beidou.base import audit
from beidou.base.errors import Conflict, Forbidden, InvalidInput
from machines.models import Machine
from operations.kinds import base as kinds
from operations.models import ClusterSettings, Operation, OperationMachine
from operations.services import dispatch, start
from tests import factories

pytestmark = pytest.mark.django_db


def plan(cluster, machines, user, **params):
    return start.plan_operation(
        kind="Toy", cluster=cluster, machines=machines, params=params, acting_user=user
    )


@pytest.fixture
def reachable(operators):
    """Makes machines that the portal could sign in to."""

    def make(**values):
        credential = factories.make_credential()
        return factories.make_machine(
            owner_team=operators, credential=credential, host_key="ssh-ed25519 AAAA", **values
        )

    return make


def test_a_plan_says_what_is_ready_and_what_is_blocked(toy, cluster_a, machines, operator):
    Machine.objects.filter(pk=machines[0].pk).update(state=Machine.State.FAULTY)
    machines[0].refresh_from_db()
    found = plan(cluster_a, machines, operator)
    assert [blocker.reason for blocker in found.blockers] == ["it is Faulty; must be Available"]
    assert len(found.ready) == 2


def test_a_blocked_machine_refuses_the_whole(toy, begin, cluster_a, machines, operator):
    Machine.objects.filter(pk=machines[0].pk).update(state=Machine.State.RETIRED)
    machines[0].refresh_from_db()
    with pytest.raises(InvalidInput, match="1 machine is blocked") as caught:
        begin(machines=machines)
    assert machines[0].address in caught.value.fields
    assert not Operation.objects.exists()


def test_blocked_machines_may_be_left_out(toy, begin, machines):
    Machine.objects.filter(pk=machines[0].pk).update(state=Machine.State.RETIRED)
    machines[0].refresh_from_db()
    assert begin(machines=machines, leave_out_blocked=True).machines.count() == 2


def test_a_viewer_cannot_start_an_operation(toy, begin, viewer):
    with pytest.raises(Forbidden):
        begin(acting_user=viewer)


def test_a_machine_that_one_may_not_operate_is_blocked(toy, cluster_a, operator):
    foreign = factories.make_machine(owner_team=factories.make_team())
    found = plan(cluster_a, [foreign], operator)
    assert "do not include" in found.blockers[0].reason


def test_a_machine_in_another_operation_is_blocked_and_named(
    toy, begin, cluster_a, machines, operator
):
    running = begin()
    found = plan(cluster_a, machines, operator)
    assert all(running.name in blocker.reason for blocker in found.blockers)


def test_the_database_refuses_a_second_change_on_one_machine(toy, begin, machines, cluster_a):
    begin()
    other = Operation.objects.create(name="other", kind="Toy", cluster=cluster_a)
    with pytest.raises(Exception, match=r"(?i)unique|one_change_per_machine"):
        OperationMachine.objects.create(
            operation=other, machine=machines[0], address="x", holds_machine=True
        )


def test_an_unknown_kind_names_the_known_ones(toy, begin):
    with pytest.raises(InvalidInput, match="known are .*ScaleUp"):
        begin(kind="Explode")


def test_a_wrong_parameter_is_named(toy, begin):
    with pytest.raises(InvalidInput) as caught:
        begin(params={"size": "big"})
    assert "params.size" in caught.value.fields


def test_an_unknown_parameter_is_refused(toy, begin):
    with pytest.raises(InvalidInput) as caught:
        begin(params={"colour": "red"})
    assert "params.colour" in caught.value.fields


@pytest.mark.parametrize(
    ("params", "field", "sentence"),
    [
        ({"colour": "red"}, "colour", "is not known here"),
        ({"taints": ["x"]}, "taints", "“x” is no taint; write key=value:NoSchedule"),
        ({"taints": "x"}, "taints", "must be a list"),
        ({"taints": ["a:NoSchedule"] * 21}, "taints", "has more than 20 entries"),
        ({"labels": {"a": 1}}, "labels.a", "must be a text"),
        ({"labels": 1}, "labels", "must be a mapping"),
        ({"kubernetes_version": "1" * 41}, "kubernetes_version", "has more than 40 characters"),
    ],
)
def test_a_wrong_parameter_is_told_in_our_words(params, field, sentence):
    with pytest.raises(InvalidInput) as caught:
        start.parse_params(kinds.get("ScaleUp"), params)
    assert caught.value.fields == {f"params.{field}": sentence}


@pytest.mark.parametrize(
    ("params", "field", "sentence"),
    [
        ({"pods_at_once": 0}, "pods_at_once", "must be at least 1"),
        ({"pods_at_once": 201}, "pods_at_once", "must be at most 200"),
        ({"pods_at_once": "x"}, "pods_at_once", "must be a whole number"),
        ({"ask_first": "x"}, "ask_first", "must be true or false"),
        ({"on_blocked": "x"}, "on_blocked", "must be one of these: 'stop', 'wait'"),
    ],
)
def test_numbers_and_choices_are_too(params, field, sentence):
    with pytest.raises(InvalidInput) as caught:
        start.parse_params(kinds.get("ScaleDown"), params)
    assert caught.value.fields == {f"params.{field}": sentence}


@pytest.mark.parametrize("kind", ["ScaleUp", "HealthCheck"])
@pytest.mark.parametrize("name", ["", "..", "a b", "A", "x/y", "a\n", "-a"])
def test_the_namespace_of_test_pods_is_the_name_of_one(kind, name):
    with pytest.raises(InvalidInput) as caught:
        start.parse_params(kinds.get(kind), {"probe_namespace": name})
    assert "is no name of a namespace" in caught.value.fields["params.probe_namespace"]


def test_a_name_can_be_used_once(toy, begin, machines):
    begin(name="move-in", machines=machines[:1])
    with pytest.raises(Conflict, match="move-in"):
        begin(name="move-in", machines=machines[1:2])


def test_names_are_made_when_none_is_given(toy, begin, machines):
    names = [begin(machines=[machine]).name for machine in machines]
    assert names == ["toy-cluster-a-1", "toy-cluster-a-2", "toy-cluster-a-3"]


def test_more_operations_than_the_limit_wait_and_say_for_what(
    toy, begin, machines, cluster_a, control
):
    ClusterSettings.objects.create(cluster=cluster_a, limit=1)
    begin(machines=machines[:1])
    second = begin(machines=machines[1:2])
    control(dispatch.dispatch)
    second.refresh_from_db()
    assert second.status == Operation.Status.WAITING
    assert second.waiting_for == "one of the 1 slots for changes on its cluster"


def test_the_next_operation_starts_when_one_ends(toy, begin, machines, cluster_a, work):
    ClusterSettings.objects.create(cluster=cluster_a, limit=1)
    operations = [begin(machines=[machine]) for machine in machines]
    work()
    assert {o.status for o in Operation.objects.filter(pk__in=[o.pk for o in operations])} == {
        Operation.Status.SUCCEEDED
    }


def test_the_limit_counts_per_cluster(toy, begin, machines, cluster_a, admin, control, cluster_b):
    ClusterSettings.objects.create(cluster=cluster_a, limit=1)
    begin(machines=machines[:1])
    other = begin(machines=machines[1:2], cluster=cluster_b, acting_user=admin)
    control(dispatch.dispatch)
    other.refresh_from_db()
    assert other.status == Operation.Status.RUNNING


def test_the_database_gives_a_slot_away_once(toy, cluster_a):
    for name in ("a", "b"):
        Operation.objects.create(name=name, kind="Toy", cluster=cluster_a)
    Operation.objects.filter(name="a").update(slot=0)
    with pytest.raises(Exception, match=r"(?i)unique|one_operation_per_slot"):
        Operation.objects.filter(name="b").update(slot=0)


def test_a_role_that_the_kind_does_not_know_is_refused(toy, begin, machines):
    with pytest.raises(InvalidInput, match="knows the roles Compute"):
        begin(roles={machines[0].pk: "Etcd"})


def reasons_for(machine, cluster, user, **values):
    plan = start.plan_operation(
        kind="ScaleUp", cluster=cluster, machines=[machine], params={}, acting_user=user, **values
    )
    return [blocker.reason for blocker in plan.blockers if blocker.machine]


def test_a_machine_whose_own_role_makes_no_node_is_blocked(cluster_a, reachable, operator):
    machine = reachable(role="GPU node")
    (reason,) = reasons_for(machine, cluster_a, operator)
    assert reason.startswith("its role is “GPU node”; ScaleUp knows the roles Compute: change")


def test_a_given_role_goes_before_the_machine_s_own(cluster_a, reachable, operator):
    machine = reachable(role="GPU node")
    assert reasons_for(machine, cluster_a, operator, roles={machine.pk: "Compute"}) == []


def test_a_machine_s_own_role_is_nothing_to_a_kind_that_makes_nothing_of_it(
    toy, cluster_a, reachable, operator
):
    assert plan(cluster_a, [reachable(role="GPU node")], operator).blockers == ()


def test_many_waiting_operations_cost_no_more_queries(
    toy, begin, machines, cluster_a, control, django_assert_max_num_queries
):
    ClusterSettings.objects.create(cluster=cluster_a, limit=1)
    begin(machines=machines[:1])
    control(dispatch.dispatch)
    Operation.objects.bulk_create(
        Operation(name=f"more-{i}", kind="Toy", cluster=cluster_a, waiting_for="x")
        for i in range(300)
    )
    with django_assert_max_num_queries(4):
        dispatch.dispatch()


def test_a_full_cluster_does_not_starve_another(
    toy, begin, machines, cluster_a, cluster_b, admin, control
):
    ClusterSettings.objects.create(cluster=cluster_a, limit=1)
    begin(machines=machines[:1])
    control(dispatch.dispatch)
    Operation.objects.bulk_create(
        Operation(name=f"more-{i}", kind="Toy", cluster=cluster_a) for i in range(600)
    )
    other = begin(machines=machines[1:2], cluster=cluster_b, acting_user=admin)
    control(dispatch.dispatch)
    other.refresh_from_db()
    assert other.status == Operation.Status.RUNNING


def test_a_lowered_limit_holds_for_what_starts_next(toy, begin, machines, cluster_a, control):
    row = ClusterSettings.objects.create(cluster=cluster_a, limit=2)
    first, _second, third = [begin(machines=[machine]) for machine in machines]
    control(dispatch.dispatch)
    row.limit = 1
    row.save()
    Operation.objects.filter(pk=first.pk).update(status=Operation.Status.SUCCEEDED, slot=None)
    control(dispatch.dispatch)
    third.refresh_from_db()
    assert third.status == Operation.Status.WAITING


def test_names_of_a_cluster_that_was_here_before_are_not_given_again(
    toy, begin, machines, admin, operators, cluster_a
):
    for machine in machines[:2]:
        begin(machines=[machine])
    audit.record("unadopt", cluster_a)  # and operations go with their cluster
    Operation.objects.all().delete()
    assert begin(machines=machines[2:]).name == "toy-cluster-a-3"


def test_names_that_only_begin_alike_do_not_count(toy, begin, machines, cluster_a):
    audit.record("start Toy", begin(machines=machines[:1]), name="toy-cluster-a-1-7")
    audit.record("unadopt", cluster_a)
    Operation.objects.all().delete()
    assert begin(machines=machines[1:]).name == "toy-cluster-a-2"
