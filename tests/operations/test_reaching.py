"""A host that cannot be signed in to is reported as checks, and a changed key is offered."""

import pytest

from machines.models import Machine
from operations.drivers import ansible
from operations.kinds import playbook
from operations.models import MachineStep, Operation
from tests import factories
from tests.fakes.ssh_server import new_key, private_text

pytestmark = pytest.mark.django_db


@pytest.fixture
def machine(host, operators):
    credential = factories.make_credential(password="", private_key=host.text, port=host.port)
    return factories.make_machine(
        host.address, owner_team=operators, credential=credential, host_key=host.host_key
    )


@pytest.fixture
def look(toy, begin, work, machine, monkeypatch):
    """Run a playbook on the machine as preCheck does; returns how the step ended for it."""
    # A step that lasted a second would meet its own lease thread in the test's transaction.
    monkeypatch.setattr("operations.services.run.WATCH_SECONDS", 600)

    def in_step(run):
        playbook.fail_unreached(run, playbook.run_playbook(run, "leftovers", variables={}))

    def look_once():
        toy.during = in_step
        operation = begin(machines=[machine])
        work()
        operation.refresh_from_db()
        assert operation.status == Operation.Status.FAILED
        return MachineStep.objects.get(step__operation=operation, step__name="first")

    return look_once


@pytest.fixture
def deaf(monkeypatch):
    """Ansible reaches nobody."""

    def lose(**given):
        failed = {host.key: "Connection reset by peer" for host in given["hosts"]}
        return ansible.Outcome(status="failed", failed=failed)

    monkeypatch.setattr(ansible, "run_playbook", lose)


def told(cell):
    return [(check["check"], check["ok"]) for check in cell.checks]


def test_a_changed_key_is_a_check_that_says_what_to_do(look, host, machine):
    host.install_host_key("ssh-ed25519")
    cell = look()
    assert told(cell) == [("reachable", True), ("host-key", False)]
    bad = cell.checks[-1]
    assert "has changed" in bad["found"]
    assert bad["wanted"] == "the pinned host key"
    assert "accept or reject it on the machine's page" in bad["advice"]


def test_a_changed_key_that_a_step_sees_blocks_the_machine(deaf, look, host, machine):
    host.install_host_key("ssh-ed25519")
    look()
    machine.refresh_from_db()
    assert machine.offered_host_key == host.host_key


def test_a_changed_key_is_seen_with_a_password_too(look, host, machine):
    """Which Ansible takes for a task that failed."""
    host.passwords = {"root": "secret"}
    credential = machine.credential
    credential.private_key, credential.password = "", "secret"
    credential.save()
    host.install_host_key("ssh-ed25519")
    assert told(look()) == [("reachable", True), ("host-key", False)]


def test_a_host_that_does_not_answer_is_a_check(deaf, look, machine):
    credential = machine.credential
    credential.port = 9
    credential.save()
    cell = look()
    assert told(cell) == [("reachable", False)]
    assert cell.message == cell.checks[0]["found"]


def test_a_refused_credential_is_a_check(deaf, look, machine):
    credential = machine.credential
    credential.private_key = private_text(new_key())
    credential.save()
    assert told(look()) == [("reachable", True), ("host-key", True), ("sign-in", False)]


def test_a_machine_without_a_credential_is_a_check(deaf, look, machine):
    Machine.objects.filter(pk=machine.pk).update(credential=None)
    cell = look()
    assert told(cell) == [("sign-in", False)]
    assert "No SSH credential is set" in cell.checks[0]["found"]


def test_a_host_that_can_be_signed_in_to_keeps_what_ansible_said(deaf, look):
    cell = look()
    assert (cell.message, cell.checks) == ("Connection reset by peer", [])


def test_a_changed_key_seen_while_units_are_ended_blocks_the_machine(
    toy, begin, work, host, machine
):
    toy.during = playbook.stop_units
    begin(machines=[machine])
    host.install_host_key("ssh-ed25519")
    work()
    machine.refresh_from_db()
    assert machine.offered_host_key == host.host_key
