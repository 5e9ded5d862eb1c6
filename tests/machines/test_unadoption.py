"""What becomes of the machines of a cluster that is un-adopted."""

import pytest

from beidou.base.errors import Conflict
from beidou.base.models import AuditEntry
from clusters.services import removal
from machines.models import Machine
from machines.services import unadoption
from tests import factories

pytestmark = pytest.mark.django_db
State = Machine.State


def make(cluster, state):
    return factories.make_machine(
        cluster=cluster, node=factories.make_node(cluster, f"node-{state}"), state=state
    )


def unadopt(cluster, reason=""):
    removal.unadopt(cluster=cluster, confirmation=cluster.name, reason=reason)


@pytest.mark.parametrize("state", sorted(Machine.IN_CLUSTER))
def test_a_machine_at_work_goes_to_maintenance_and_says_why(state, cluster_a):
    machine = make(cluster_a, state)
    unadopt(cluster_a)
    machine.refresh_from_db()
    assert (machine.state, machine.cluster, machine.node) == (State.MAINTENANCE, None, None)
    change = machine.status_changes.get()
    assert (change.old, change.new) == (state, State.MAINTENANCE)
    assert change.reason == "cluster cluster-a un-adopted"


@pytest.mark.parametrize("state", [State.MAINTENANCE, State.FAULTY, State.DISCOVERED])
def test_a_machine_aside_keeps_its_state_and_loses_its_link(state, cluster_a):
    machine = make(cluster_a, state)
    unadopt(cluster_a)
    machine.refresh_from_db()
    assert (machine.state, machine.cluster, machine.node) == (state, None, None)
    assert not machine.status_changes.exists()


def test_the_reason_of_the_person_stands_behind_it(cluster_a):
    machine = make(cluster_a, State.IN_SERVICE)
    unadopt(cluster_a, reason="sold")
    assert machine.status_changes.get().reason == "cluster cluster-a un-adopted: sold"


def test_every_machine_has_an_entry_with_what_it_was_linked_to(cluster_a):
    make(cluster_a, State.FAULTY)
    unadopt(cluster_a)
    entry = AuditEntry.objects.get(verb="unlink node")
    assert entry.before == {"cluster": "cluster-a", "node": "node-faulty"}
    assert entry.reason == "cluster cluster-a un-adopted"


def test_machines_of_other_clusters_stay_where_they_are(cluster_a, cluster_b):
    other = make(cluster_b, State.IN_SERVICE)
    unadopt(cluster_a)
    other.refresh_from_db()
    assert (other.state, other.cluster) == (State.IN_SERVICE, cluster_b)


def test_a_cluster_that_must_stay_keeps_its_machines(cluster_a, monkeypatch):
    machine = make(cluster_a, State.IN_SERVICE)
    monkeypatch.setattr(removal, "BLOCKERS", [lambda cluster: ["It is needed."]])
    with pytest.raises(Conflict, match="It is needed"):
        unadopt(cluster_a)
    machine.refresh_from_db()
    assert (machine.state, machine.cluster) == (State.IN_SERVICE, cluster_a)
    assert not AuditEntry.objects.exists()


def test_the_page_says_how_many_machines_and_what_they_become(cluster_a, admin, browser):
    for state in (State.IN_SERVICE, State.CORDONED, State.FAULTY):
        make(cluster_a, state)
    page = browser(admin).get(f"/clusters/cluster/{cluster_a.pk}/delete/").content.decode()
    assert "3 machines are unlinked from the cluster and stay as machines." in page
    assert "2 of them go to Maintenance." in page
    assert "1 of them keeps its state." in page


def test_a_cluster_without_machines_says_so(cluster_a):
    assert unadoption.consequences(cluster_a) == ["No machine is linked to it."]
