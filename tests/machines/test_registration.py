"""Nodes become machines, and machines find their nodes again."""

from datetime import timedelta

import pytest

from beidou.base.errors import Forbidden, InvalidInput
from beidou.base.models import AuditEntry
from machines.models import Machine, MachineAddress, MachineFacts
from machines.services import lifecycle, registration
from tests import factories

pytestmark = pytest.mark.django_db
State = Machine.State


def register(cluster, user, **values):
    return registration.register_nodes(
        cluster=cluster,
        nodes=list(registration.unregistered(cluster)),
        acting_user=user,
        **values,
    )


def states(machine):
    return [row.new for row in machine.status_changes.all()]


def test_every_node_becomes_a_machine_in_service(operator, operators, cluster_a):
    node = factories.make_node(cluster_a, "w1", internal_ip="10.8.3.1", system_uuid="U1")
    factories.make_node(cluster_a, "w2", unschedulable=True)
    result = register(cluster_a, operator, owner_team=operators)
    assert len(result.created) == 2
    machine = Machine.objects.get(node=node)
    assert (str(machine.address), machine.hostname, machine.system_uuid) == ("10.8.3.1", "w1", "U1")
    assert (machine.cluster, machine.owner_team) == (cluster_a, operators)
    assert states(machine) == ["in_service"]
    assert states(Machine.objects.get(hostname="w2")) == ["in_service", "cordoned"]
    assert AuditEntry.objects.filter(verb="add").count() == 2


@pytest.mark.parametrize(
    ("roles", "becomes"), [(["control-plane"], "ControlPlane"), (["worker"], "Compute")]
)
def test_a_machine_has_the_role_of_its_node(admin, cluster_a, roles, becomes):
    factories.make_node(cluster_a, roles=roles)
    register(cluster_a, admin)
    assert Machine.objects.get().role == becomes


def test_a_second_registration_finds_nothing_left(admin, cluster_a):
    factories.make_node(cluster_a)
    register(cluster_a, admin)
    assert not registration.unregistered(cluster_a).exists()


@pytest.mark.parametrize("how", ["address", "other address", "uuid", "facts uuid", "machine id"])
def test_a_known_machine_is_linked_instead_of_made_again(admin, cluster_a, how):
    machine = factories.make_machine("10.9.0.1", system_uuid="u-1" if how == "uuid" else "")
    if how == "other address":
        MachineAddress.objects.create(machine=machine, address="10.8.3.1")
    if how == "facts uuid":
        MachineFacts.objects.create(machine=machine, system_uuid="u-1")
    if how == "machine id":
        MachineFacts.objects.create(machine=machine, os_machine_id="u1")
    node = factories.make_node(
        cluster_a,
        internal_ip="10.9.0.1" if how == "address" else "10.8.3.1",
        system_uuid="" if "address" in how else "U-1",
    )
    result = register(cluster_a, admin)
    assert result.linked == [machine]
    machine.refresh_from_db()
    assert (machine.node, machine.cluster, machine.state) == (node, cluster_a, State.IN_SERVICE)
    assert states(machine) == ["reserved", "joining", "in_service"]


def test_a_machine_aside_is_linked_and_stays_aside(admin, cluster_a):
    machine = factories.make_machine("10.8.3.1", state=State.MAINTENANCE)
    factories.make_node(cluster_a, internal_ip="10.8.3.1")
    register(cluster_a, admin)
    machine.refresh_from_db()
    assert (machine.state, machine.cluster) == (State.MAINTENANCE, cluster_a)


@pytest.mark.parametrize(
    ("known", "sentence"),
    [
        ({"state": State.RETIRED}, "is retired, but runs as the node w1"),
        ({"cluster": "other"}, "belongs to the cluster cluster-b"),
        ({"node": "other"}, "is linked to the node other already"),
    ],
)
def test_a_node_is_refused_with_a_sentence_and_the_others_are_registered(
    admin, cluster_a, cluster_b, known, sentence
):
    if "cluster" in known:
        known = {"cluster": cluster_b}
    if "node" in known:
        known = {"node": factories.make_node(cluster_b, "other"), "cluster": cluster_b}
    factories.make_machine("10.8.3.1", **known)
    factories.make_node(cluster_a, "w1", internal_ip="10.8.3.1")
    factories.make_node(cluster_a, "w2")
    result = register(cluster_a, admin)
    assert sentence in result.refused["w1"]
    assert [machine.hostname for machine in result.created] == ["w2"]


def test_a_node_that_could_be_two_machines_is_refused(admin, cluster_a):
    for last in (1, 2):
        machine = factories.make_machine(f"10.9.0.{last}")
        MachineAddress.objects.create(machine=machine, address="10.8.3.1")
    factories.make_node(cluster_a, "w1", internal_ip="10.8.3.1")
    assert "could be several machines" in register(cluster_a, admin).refused["w1"]


def test_a_node_without_an_address_is_refused(admin, cluster_a):
    factories.make_node(cluster_a, "w1", internal_ip="")
    assert "reports no IP address" in register(cluster_a, admin).refused["w1"]


def test_nodes_of_another_cluster_are_refused(admin, cluster_a, cluster_b):
    node = factories.make_node(cluster_b)
    with pytest.raises(InvalidInput, match="belong to the cluster cluster-a"):
        registration.register_nodes(cluster=cluster_a, nodes=[node], acting_user=admin)


def test_a_viewer_may_not_register(viewer, cluster_a):
    factories.make_node(cluster_a)
    with pytest.raises(Forbidden):
        register(cluster_a, viewer)


def test_nobody_gives_machines_to_a_team_they_are_not_in(operator, cluster_a):
    with pytest.raises(InvalidInput, match="You are not in the team"):
        register(cluster_a, operator, owner_team=factories.make_team("strangers"))


def test_the_cost_of_finding_known_machines_does_not_grow(
    admin, cluster_a, django_assert_max_num_queries
):
    nodes = [factories.make_node(cluster_a) for _ in range(50)]
    with django_assert_max_num_queries(3):
        registration._Index(nodes)


@pytest.mark.parametrize("reported", [1, 2])
def test_a_node_takes_over_no_machine_that_its_registrar_may_not_see(
    operator, cluster_a, cluster_b, reported
):
    machine = factories.make_machine("10.8.3.1", hostname="secret", cluster=cluster_b)
    if reported == 2:
        other = factories.make_machine("10.8.3.2", hostname="secret-2", cluster=cluster_b)
        MachineAddress.objects.create(machine=other, address="10.8.3.1")
    factories.make_node(cluster_a, "w1", internal_ip="10.8.3.1")
    sentence = register(cluster_a, operator).refused["w1"]
    assert "that you may not see" in sentence
    assert "secret" not in sentence
    assert "cluster-b" not in sentence
    machine.refresh_from_db()
    assert (machine.cluster, machine.node) == (cluster_b, None)


def test_a_node_takes_over_no_free_machine_that_its_registrar_may_not_operate(
    operator, cluster_a, cluster_b
):
    watchers = factories.make_team()
    factories.grant(watchers, cluster_b, "viewer")
    operator.groups.add(watchers)
    machine = factories.make_machine("10.8.3.1", cluster=cluster_b)
    factories.make_node(cluster_a, "w1", internal_ip="10.8.3.1")
    assert "the right “operate”" in register(cluster_a, operator).refused["w1"]
    machine.refresh_from_db()
    assert machine.cluster == cluster_b


def test_a_known_machine_of_ones_own_team_is_linked(operator, operators, cluster_a):
    machine = factories.make_machine("10.8.3.1", owner_team=operators)
    factories.make_node(cluster_a, internal_ip="10.8.3.1")
    assert register(cluster_a, operator).linked == [machine]


# --- following ------------------------------------------------------------------------------
def test_a_machine_is_linked_again_when_its_node_comes_back(cluster_a):
    machine = factories.make_machine("10.8.3.1", cluster=cluster_a, state=State.IN_SERVICE)
    node = factories.make_node(cluster_a, internal_ip="10.8.3.1")
    assert registration.follow_nodes()["linked"] == 1
    machine.refresh_from_db()
    assert machine.node == node


def test_a_machine_is_not_linked_to_a_node_of_another_cluster(cluster_a, cluster_b):
    factories.make_machine("10.8.3.1", cluster=cluster_a, state=State.IN_SERVICE)
    factories.make_node(cluster_b, internal_ip="10.8.3.1")
    assert registration.follow_nodes()["linked"] == 0


def test_a_deleted_node_leaves_its_machine_in_the_cluster(cluster_a):
    node = factories.make_node(cluster_a)
    machine = factories.make_machine(cluster=cluster_a, node=node, state=State.IN_SERVICE)
    node.delete()
    machine.refresh_from_db()
    assert (machine.node, machine.cluster, machine.state) == (None, cluster_a, State.IN_SERVICE)


@pytest.mark.parametrize(
    ("state", "cordoned", "becomes"),
    [("in_service", True, "cordoned"), ("cordoned", False, "in_service")],
)
def test_in_service_and_cordoned_follow_the_node(cluster_a, state, cordoned, becomes):
    node = factories.make_node(cluster_a, unschedulable=cordoned)
    earlier = node.observed_at - timedelta(minutes=1)
    machine = factories.make_machine(cluster=cluster_a, node=node, state=state, state_since=earlier)
    assert registration.follow_nodes()["followed"] == 1
    machine.refresh_from_db()
    assert machine.state == becomes


def test_a_node_seen_before_the_machine_came_into_service_is_not_followed(cluster_a):
    node = factories.make_node(cluster_a, unschedulable=True)
    later = node.observed_at + timedelta(seconds=1)
    factories.make_machine(cluster=cluster_a, node=node, state=State.IN_SERVICE, state_since=later)
    assert registration.follow_nodes()["followed"] == 0


def test_a_machine_an_operation_works_on_is_left_to_it(cluster_a, monkeypatch):
    monkeypatch.setitem(lifecycle._blockers, "test", lambda machine: "Operation 5 is at work.")
    node = factories.make_node(cluster_a, unschedulable=True)
    earlier = node.observed_at - timedelta(minutes=1)
    factories.make_machine(
        cluster=cluster_a, node=node, state=State.IN_SERVICE, state_since=earlier
    )
    assert registration.follow_nodes()["followed"] == 0


def test_machines_of_a_cluster_that_is_gone_go_to_maintenance(cluster_a):
    machine = factories.make_machine(cluster=cluster_a, state=State.IN_SERVICE)
    cluster_a.delete()
    assert registration.follow_nodes()["left"] == 1
    machine.refresh_from_db()
    assert machine.state == State.MAINTENANCE
    assert "no longer adopted" in machine.status_changes.get().reason


def test_a_quiet_minute_costs_few_queries(django_assert_max_num_queries, cluster_a):
    for _ in range(20):
        node = factories.make_node(cluster_a)
        factories.make_machine(cluster=cluster_a, node=node, state=State.IN_SERVICE)
    with django_assert_max_num_queries(7):
        registration.follow_nodes()
