"""Machines change state: every pair of states, by the product and by hand, and one race."""

import threading

import pytest
from django.db import connection

from beidou.base.errors import Conflict, Forbidden, InvalidInput
from beidou.base.models import AuditEntry
from machines.models import Machine
from machines.services import edits, lifecycle
from tests import factories

pytestmark = pytest.mark.django_db
State = Machine.State
PAIRS = [(old, new) for old in State.values for new in State.values]

# Written out once more by hand, so that an accidental edit of the model's table is seen.
ALLOWED = {
    "discovered": "available in_service maintenance faulty",
    "available": "reserved retired maintenance faulty",
    "reserved": "joining available maintenance faulty",
    "joining": "in_service cordoned available maintenance faulty",
    "in_service": "cordoned draining maintenance faulty",
    "cordoned": "in_service draining maintenance faulty",
    "draining": "leaving cordoned maintenance faulty",
    "leaving": "available maintenance faulty",
    "maintenance": "available reserved in_service cordoned retired faulty",
    "faulty": "available reserved in_service cordoned retired maintenance",
    "retired": "",
}
BY_HAND = {
    "discovered": "available maintenance faulty",
    "available": "maintenance faulty retired",
    "reserved": "maintenance faulty",
    "joining": "maintenance faulty",
    "in_service": "maintenance faulty",
    "cordoned": "maintenance faulty",
    "draining": "maintenance faulty",
    "leaving": "maintenance faulty",
    "maintenance": "available retired faulty",
    "faulty": "available retired maintenance",
    "retired": "",
}


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_the_product_moves_a_machine_only_along_the_table(old, new):
    machine = factories.make_machine(state=old)
    if new in ALLOWED[old].split():
        lifecycle.transition(machine=machine, to=new, reason="test", operation=7)
        row = machine.status_changes.get()
        assert (row.old, row.new, row.operation) == (old, new, 7)
        assert Machine.objects.get(pk=machine.pk).state == new
    else:
        with pytest.raises(Conflict, match="cannot become"):
            lifecycle.transition(machine=machine, to=new, reason="test")
        assert not machine.status_changes.exists()
        assert Machine.objects.get(pk=machine.pk).state == old


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_a_person_moves_a_free_machine_only_where_people_may(admin, old, new):
    machine = factories.make_machine(state=old)
    if new in BY_HAND[old].split():
        lifecycle.transition_by_hand(machine=machine, to=new, reason="why", acting_user=admin)
        assert Machine.objects.get(pk=machine.pk).state == new
    else:
        with pytest.raises(Conflict):
            lifecycle.transition_by_hand(machine=machine, to=new, reason="why", acting_user=admin)
        assert Machine.objects.get(pk=machine.pk).state == old


def test_a_transition_sets_since_when_the_state_holds():
    machine = factories.make_machine()
    before = machine.state_since
    lifecycle.transition(machine=machine, to=State.RESERVED, reason="x")
    assert Machine.objects.get(pk=machine.pk).state_since > before


def test_a_transition_is_audited_with_its_reason():
    machine = factories.make_machine()
    lifecycle.transition(machine=machine, to=State.FAULTY, reason="disk broken", operation=3)
    entry = AuditEntry.objects.get(verb="change state")
    assert (entry.before, entry.after) == (
        {"state": "available"},
        {"state": "faulty", "operation": 3},
    )
    assert entry.reason == "disk broken"


def test_a_machine_that_becomes_free_leaves_its_cluster(cluster_a):
    node = factories.make_node(cluster_a)
    machine = factories.make_machine(state=State.LEAVING, cluster=cluster_a, node=node)
    lifecycle.transition(machine=machine, to=State.AVAILABLE, reason="left")
    machine.refresh_from_db()
    assert (machine.cluster, machine.node) == (None, None)


def test_reserving_sets_the_cluster_in_the_same_write(cluster_a):
    machine = factories.make_machine()
    lifecycle.transition(machine=machine, to=State.RESERVED, reason="x", cluster=cluster_a)
    assert Machine.objects.get(pk=machine.pk).cluster == cluster_a


def test_a_transition_sets_nothing_but_cluster_and_node():
    with pytest.raises(TypeError, match="hostname"):
        lifecycle.transition(
            machine=factories.make_machine(), to=State.RESERVED, reason="x", hostname="evil"
        )


def test_ensuring_a_state_twice_writes_one_row():
    machine = factories.make_machine()
    assert lifecycle.ensure_state(machine=machine, to=State.RESERVED, reason="x")
    assert not lifecycle.ensure_state(machine=machine, to=State.RESERVED, reason="x")
    assert machine.status_changes.count() == 1


def test_who_read_an_older_state_is_told_that_somebody_was_faster():
    machine = factories.make_machine()
    other = Machine.objects.get(pk=machine.pk)
    lifecycle.transition(machine=machine, to=State.RESERVED, reason="first")
    with pytest.raises(Conflict, match="somebody else was faster"):
        lifecycle.transition(machine=other, to=State.RETIRED, reason="second")


@pytest.mark.django_db(transaction=True)
def test_of_two_threads_racing_for_one_transition_exactly_one_wins():
    machine = factories.make_machine()
    start = threading.Barrier(2)
    outcomes: list[str] = []

    def race(to: str) -> None:
        mine = Machine.objects.get(pk=machine.pk)
        start.wait(timeout=10)
        try:
            lifecycle.transition(machine=mine, to=to, reason="race")
            outcomes.append(to)
        except Conflict as error:
            outcomes.append(error.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=race, args=(to,)) for to in ("reserved", "retired")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(outcomes)[0] == "changed_meanwhile"
    assert machine.status_changes.count() == 1
    assert Machine.objects.get(pk=machine.pk).state in outcomes


# --- by hand --------------------------------------------------------------------------------
def test_a_reason_is_required(admin):
    with pytest.raises(InvalidInput, match="Say why") as caught:
        lifecycle.transition_by_hand(
            machine=factories.make_machine(), to=State.FAULTY, reason="  ", acting_user=admin
        )
    assert "reason" in caught.value.fields


def test_a_reason_of_501_characters_is_refused(admin):
    with pytest.raises(InvalidInput, match="more than 500 characters"):
        lifecycle.transition_by_hand(
            machine=factories.make_machine(), to=State.FAULTY, reason="x" * 501, acting_user=admin
        )


def test_a_viewer_may_not_change_the_state(viewer, cluster_a):
    machine = factories.make_machine(cluster=cluster_a, state=State.IN_SERVICE)
    with pytest.raises(Forbidden, match="do not include the right “operate”"):
        lifecycle.transition_by_hand(
            machine=machine, to=State.FAULTY, reason="x", acting_user=viewer
        )


def test_only_an_operation_reserves(admin):
    with pytest.raises(Conflict, match="only an operation makes it Reserved"):
        lifecycle.transition_by_hand(
            machine=factories.make_machine(), to=State.RESERVED, reason="x", acting_user=admin
        )


def test_a_machine_that_still_is_a_node_does_not_become_free(admin, cluster_a):
    node = factories.make_node(cluster_a, "gz-r3-11")
    machine = factories.make_machine(state=State.FAULTY, cluster=cluster_a, node=node)
    with pytest.raises(Conflict, match="still the node gz-r3-11"):
        lifecycle.transition_by_hand(
            machine=machine, to=State.AVAILABLE, reason="x", acting_user=admin
        )


def test_a_machine_that_is_no_node_does_not_go_in_service(admin):
    machine = factories.make_machine(state=State.MAINTENANCE)
    with pytest.raises(Conflict, match="is no node of a cluster"):
        lifecycle.transition_by_hand(
            machine=machine, to=State.IN_SERVICE, reason="x", acting_user=admin
        )


@pytest.mark.parametrize(("cordoned", "state"), [(True, "cordoned"), (False, "in_service")])
def test_back_from_maintenance_means_what_the_node_is(admin, cluster_a, cordoned, state):
    node = factories.make_node(cluster_a, unschedulable=cordoned)
    machine = factories.make_machine(state=State.MAINTENANCE, cluster=cluster_a, node=node)
    lifecycle.act(machine=machine, action="back", reason="mended", acting_user=admin)
    assert machine.state == state


def test_back_of_a_machine_without_a_node_means_free(admin):
    machine = factories.make_machine(state=State.FAULTY)
    lifecycle.act(machine=machine, action="back", reason="mended", acting_user=admin)
    assert machine.state == State.AVAILABLE


def test_there_is_no_way_back_from_where_a_machine_belongs(admin):
    with pytest.raises(Conflict, match="nothing to bring it back from"):
        lifecycle.act(
            machine=factories.make_machine(), action="back", reason="x", acting_user=admin
        )


def test_an_unknown_action_is_refused_with_the_known_ones(admin):
    with pytest.raises(InvalidInput, match="make_available, maintenance"):
        lifecycle.act(
            machine=factories.make_machine(), action="explode", reason="x", acting_user=admin
        )


def test_a_retired_machine_offers_nothing():
    assert lifecycle.offers(factories.make_machine(state=State.RETIRED)) == []


@pytest.mark.parametrize("state", State.values)
def test_every_offered_action_can_be_done(admin, state):
    for offer in lifecycle.offers(factories.make_machine(state=state)):
        machine = factories.make_machine(state=state)
        lifecycle.act(machine=machine, action=offer.action, reason="x", acting_user=admin)
        assert machine.state == offer.to


def test_a_registered_blocker_keeps_people_away_with_its_sentence(admin, monkeypatch):
    monkeypatch.setitem(lifecycle._blockers, "test", lambda machine: "Operation 5 is at work.")
    machine = factories.make_machine()
    with pytest.raises(Conflict, match="Operation 5 is at work"):
        lifecycle.act(machine=machine, action="faulty", reason="x", acting_user=admin)
    lifecycle.transition(machine=machine, to=State.FAULTY, reason="the operation itself may")


def test_a_stale_edit_leaves_what_happened_meanwhile(admin, cluster_a):
    stale = factories.make_machine(rack="r1")
    node = factories.make_node(cluster_a)
    Machine.objects.filter(pk=stale.pk).update(
        state=State.IN_SERVICE, cluster=cluster_a, node=node, offered_host_key="k", room="b"
    )
    stale.rack = "r2"
    edits.change(machine=stale, fields=["rack"], reason="moved", acting_user=admin)
    for machine in (stale, Machine.objects.get(pk=stale.pk)):
        assert (machine.rack, machine.room, machine.state) == ("r2", "b", State.IN_SERVICE)
        assert (machine.cluster, machine.node, machine.offered_host_key) == (cluster_a, node, "k")
    entry = AuditEntry.objects.get(verb="change")
    assert (entry.before, entry.after) == ({"rack": "r1"}, {"rack": "r2"})
    assert stale.history.first().room == "b"


def test_a_bulk_edit_of_stale_rows_leaves_other_fields(admin):
    stale = factories.make_machine(labels={"a": "b"})
    Machine.objects.filter(pk=stale.pk).update(state=State.FAULTY, labels={"c": "d"})
    edits.edit_many(
        machines=[stale], values={"rack": "r2"}, add_labels={}, reason="", acting_user=admin
    )
    machine = Machine.objects.get(pk=stale.pk)
    assert (machine.rack, machine.state, machine.labels) == ("r2", State.FAULTY, {"c": "d"})
