"""Machines of the lab: first contact, facts, a changed host key, the nodes of a real cluster."""

from collections.abc import Callable

import pytest

from lab.cluster import LabCluster
from lab.hosts import Host
from machines.drivers import ssh
from machines.models import Machine, MachineFacts
from machines.services import credentials, facts, host_keys, registration
from tests import factories

pytestmark = [pytest.mark.lab, pytest.mark.django_db]


@pytest.fixture
def lab_machine(shared_lab, deliver: Callable[[int], list[Host]]):
    """A fresh host and its row; nobody has talked to it."""
    host = deliver(1)[0]
    machine = factories.make_machine(
        host.address,
        hostname=host.name,
        state=Machine.State.DISCOVERED,
        credential=factories.make_credential(private_key=shared_lab.ssh_key, password=""),
    )
    return host, machine


def test_a_real_host_is_pinned_visited_and_becomes_available(lab_machine):
    host, machine = lab_machine
    assert facts.gather([machine.pk]) == {machine.pk: ""}
    machine.refresh_from_db()
    assert machine.host_key.split()[:2] == host.host_key.split()[:2]
    assert machine.state == Machine.State.AVAILABLE
    row = MachineFacts.objects.get(machine=machine)
    assert row.hostname == host.name
    assert row.facts["os"]["id"] == "debian"
    assert machine.addresses.filter(address=host.address).exists()


def test_a_credential_is_tried_on_a_real_host(lab_machine, admin):
    _host, machine = lab_machine
    result = credentials.test(credential=machine.credential, machine=machine, acting_user=admin)
    assert [step.is_ok for step in result.steps] == [True] * 4


def test_a_reinstalled_host_is_blocked_until_its_new_key_is_accepted(lab_machine, admin):
    host, machine = lab_machine
    facts.gather([machine.pk])
    host.run(
        "rm -f /etc/ssh/ssh_host_*; ssh-keygen -A >/dev/null; "
        "systemctl restart ssh 2>/dev/null || systemctl restart sshd"
    )
    assert "has changed" in facts.gather([machine.pk])[machine.pk]
    machine.refresh_from_db()
    assert host_keys.blocked_reason(machine) is not None
    shown = ssh.fingerprint(machine.offered_host_key)
    host_keys.accept(machine=machine, shown=shown, reason="reinstalled", acting_user=admin)
    assert facts.gather([machine.pk]) == {machine.pk: ""}


def test_the_nodes_of_a_real_cluster_become_machines_and_known_hosts_are_linked(
    shared_lab, lab_cluster: LabCluster, admin, cluster_a
):
    hosts = {host.name: host for host in lab_cluster.nodes}
    known = factories.make_machine(next(iter(hosts.values())).address)
    for name, host in hosts.items():
        uuid = lab_cluster.kubectl(f"get node {name} -o jsonpath={{.status.nodeInfo.systemUUID}}")
        factories.make_node(cluster_a, name, internal_ip=host.address, system_uuid=uuid.strip())
    result = registration.register_nodes(
        cluster=cluster_a,
        nodes=list(registration.unregistered(cluster_a)),
        acting_user=admin,
        credential=factories.make_credential(private_key=shared_lab.ssh_key, password=""),
    )
    assert (result.linked, result.refused) == ([known], {})
    assert len(result.created) == len(hosts) - 1
    outcome = facts.gather([machine.pk for machine in result.created])
    assert set(outcome.values()) == {""}
    for machine in result.created:
        assert registration.is_node(machine)
