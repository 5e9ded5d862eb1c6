"""Host keys: pinned at first contact; a changed one blocks until a person decides."""

import pytest

from beidou.base.errors import Conflict, Forbidden, InvalidInput
from beidou.base.models import AuditEntry, Notice
from machines.drivers import ssh
from machines.files import reading, report
from machines.files.resource import MachineResource
from machines.models import Machine
from machines.services import credentials, edits, facts, host_keys
from tests import factories

pytestmark = pytest.mark.django_db


def reloaded(machine):
    return Machine.objects.get(pk=machine.pk)


@pytest.fixture
def changed(ssh_machine, ssh_server):
    """A machine that was met once and shows another key now."""
    facts.gather([ssh_machine.pk])
    ssh_server.install_host_key("ssh-ed25519")
    facts.gather([ssh_machine.pk])
    return reloaded(ssh_machine)


def test_the_first_contact_pins_the_key_with_an_audit_entry(ssh_machine, ssh_server):
    facts.gather([ssh_machine.pk])
    machine = reloaded(ssh_machine)
    assert machine.host_key == ssh_server.host_key
    assert machine.host_key_at is not None
    entry = AuditEntry.objects.get(verb="pin host key")
    assert entry.after == {"fingerprint": ssh.fingerprint(ssh_server.host_key)}


def test_a_pinned_key_is_not_replaced_by_a_second_pin(ssh_machine, ssh_server):
    facts.gather([ssh_machine.pk])
    ssh_server.install_host_key("ssh-ed25519")
    other = ssh.scan_host_key(ssh_server.address, ssh_server.port)
    host_keys.pin(machine=ssh_machine, key=other)
    assert reloaded(ssh_machine).host_key != other.key


def test_a_changed_key_is_told_once(changed):
    facts.gather([changed.pk])
    notice = Notice.objects.get(kind="machine.host_key_changed")
    assert (notice.severity, notice.object_id) == ("critical", str(changed.pk))
    assert notice.team_id == changed.owner_team_id
    assert "nothing is done on it" in notice.details


@pytest.fixture
def moved_meanwhile(admin):
    """A machine as somebody read it before it got another address."""
    machine = factories.make_machine("10.8.3.11")
    edited = reloaded(machine)
    edited.address = "10.8.3.12"
    edits.change(machine=edited, fields=["address"], reason="", acting_user=admin)
    return machine


KEY_OF_THE_OLD_ADDRESS = ssh.HostKey(
    type="ssh-ed25519", key="ssh-ed25519 AAAA", fingerprint="SHA256:x"
)


def test_the_key_of_an_address_that_was_changed_meanwhile_is_not_pinned(moved_meanwhile):
    with pytest.raises(host_keys.Moved):
        host_keys.pin(machine=moved_meanwhile, key=KEY_OF_THE_OLD_ADDRESS)
    assert reloaded(moved_meanwhile).host_key == ""


def test_the_key_of_an_address_that_was_changed_meanwhile_blocks_nothing(moved_meanwhile):
    host_keys.offer(machine=moved_meanwhile, key=KEY_OF_THE_OLD_ADDRESS)
    assert reloaded(moved_meanwhile).offered_host_key == ""


def test_a_changed_key_is_offered_and_blocks(changed, ssh_server):
    assert changed.offered_host_key == ssh_server.host_key
    reason = host_keys.blocked_reason(changed)
    assert reason is not None
    assert ssh.fingerprint(ssh_server.host_key) in reason
    with pytest.raises(Conflict, match="host key"):
        credentials.target_for(changed)


def test_a_blocked_machine_is_not_even_asked(changed, ssh_server):
    attempts = len(ssh_server.attempts)
    outcome = facts.gather([changed.pk])
    assert "host key" in outcome[changed.pk]
    assert len(ssh_server.attempts) == attempts


def test_the_same_changed_key_is_audited_once(changed, ssh_server):
    key = ssh.scan_host_key(ssh_server.address, ssh_server.port)
    host_keys.offer(machine=changed, key=key)
    assert AuditEntry.objects.filter(verb="host key changed").count() == 1


def test_an_accepted_key_is_pinned_and_opens_the_machine(changed, ssh_server, admin):
    shown = host_keys.fingerprint(changed.offered_host_key)
    host_keys.accept(machine=changed, shown=shown, reason="reinstalled", acting_user=admin)
    machine = reloaded(changed)
    assert machine.host_key == ssh_server.host_key
    assert host_keys.blocked_reason(machine) is None
    assert facts.gather([machine.pk])[machine.pk] == ""
    assert AuditEntry.objects.get(verb="accept host key").reason == "reinstalled"


def test_a_rejected_key_leaves_the_pinned_one_and_makes_the_machine_faulty(changed, admin):
    pinned = changed.host_key
    shown = host_keys.fingerprint(changed.offered_host_key)
    host_keys.reject(machine=changed, shown=shown, reason="not ours", acting_user=admin)
    machine = reloaded(changed)
    assert (machine.host_key, machine.offered_host_key) == (pinned, "")
    assert machine.state == Machine.State.FAULTY


def test_a_rejected_key_that_is_shown_again_blocks_again(changed, admin):
    shown = host_keys.fingerprint(changed.offered_host_key)
    host_keys.reject(machine=changed, shown=shown, reason="not ours", acting_user=admin)
    facts.gather([changed.pk])
    assert reloaded(changed).offered_host_key


def test_a_person_accepts_only_the_key_they_were_shown(changed, admin):
    with pytest.raises(Conflict, match="look again"):
        host_keys.accept(machine=changed, shown="SHA256:old", reason="x", acting_user=admin)
    assert reloaded(changed).offered_host_key


def test_there_is_nothing_to_accept_at_an_unchanged_machine(admin):
    with pytest.raises(Conflict, match="nothing to decide"):
        host_keys.accept(machine=factories.make_machine(), shown="", reason="x", acting_user=admin)


def test_accepting_needs_a_reason(changed, admin):
    with pytest.raises(InvalidInput, match="Say why"):
        host_keys.accept(
            machine=changed,
            shown=host_keys.fingerprint(changed.offered_host_key),
            reason="",
            acting_user=admin,
        )


def test_a_viewer_may_not_accept(changed, viewer, cluster_a):
    Machine.objects.filter(pk=changed.pk).update(cluster=cluster_a)
    with pytest.raises(Forbidden):
        host_keys.accept(
            machine=reloaded(changed),
            shown=host_keys.fingerprint(changed.offered_host_key),
            reason="x",
            acting_user=viewer,
        )


@pytest.fixture
def owner(cluster_a):
    """May edit and operate every machine of cluster A and is in no team that has a credential."""
    team = factories.make_team("owners")
    factories.grant(team, cluster_a, "owner")
    return factories.make_user("owner", teams=(team,))


def moved(machine, user, **values):
    machine.address = "203.0.113.66"
    for name, value in values.items():
        setattr(machine, name, value)
    edits.change(machine=machine, fields=["address", *values], reason="moved", acting_user=user)


def test_a_credential_one_may_not_use_is_not_led_to_another_address(cluster_a, owner):
    machine = factories.make_machine(cluster=cluster_a, credential=factories.make_credential())
    with pytest.raises(InvalidInput, match="none of your teams") as caught:
        moved(machine, owner)
    assert set(caught.value.fields) == {"address"}
    assert reloaded(machine).address != "203.0.113.66"


def test_the_address_may_change_together_with_a_credential_of_ones_own(cluster_a, owner):
    machine = factories.make_machine(cluster=cluster_a, credential=factories.make_credential())
    own = factories.make_credential(team=owner.groups.get())
    moved(machine, owner, credential=own)
    assert (reloaded(machine).address, reloaded(machine).credential) == ("203.0.113.66", own)


def test_the_page_says_it_at_the_address(cluster_a, owner, browser):
    machine = factories.make_machine(cluster=cluster_a, credential=factories.make_credential())
    page = f"/machines/machine/{machine.pk}/change/"
    client = browser(owner)
    form = client.get(page).context["adminform"].form
    values = {name: form[name].value() for name in form.fields}
    values = {name: "" if value is None else value for name, value in values.items()}
    values |= {"address": "203.0.113.66", "labels": "{}"}
    answer = client.post(page, values)
    assert "none of your teams" in answer.context["adminform"].form.errors["address"][0]


def test_a_file_does_not_lead_a_foreign_credential_to_another_address(cluster_a, owner):
    machine = factories.make_machine(
        cluster=cluster_a, serial="SN1", credential=factories.make_credential()
    )
    dataset = reading.read("fleet.csv", b"serial,address\nSN1,203.0.113.66\n")
    result = MachineResource(user=owner).import_data(dataset)
    [mistake] = report.mistakes_of(result, dataset.headers)
    assert (mistake.column, mistake.line) == ("address", 2)
    assert reloaded(machine).address == machine.address


def test_a_new_address_is_met_as_if_for_the_first_time(ssh_server, admin):
    key = ssh_server.host_key
    machine = factories.make_machine(host_key=key, offered_host_key=key)
    moved(machine, admin)
    assert (reloaded(machine).host_key, reloaded(machine).offered_host_key) == ("", "")
    entry = AuditEntry.objects.get(verb="forget host key")
    assert entry.before == {"fingerprint": ssh.fingerprint(key), "offered": ssh.fingerprint(key)}


def test_an_address_from_a_file_is_met_as_if_for_the_first_time(ssh_server, admin):
    machine = factories.make_machine(serial="SN1", host_key=ssh_server.host_key)
    dataset = reading.read("fleet.csv", b"serial,address\nSN1,203.0.113.66\n")
    MachineResource(user=admin).import_data(dataset)
    assert (reloaded(machine).address, reloaded(machine).host_key) == ("203.0.113.66", "")
    assert AuditEntry.objects.filter(verb="forget host key").count() == 1


def test_an_edit_of_something_else_keeps_the_pinned_key(ssh_server, admin):
    machine = factories.make_machine(host_key=ssh_server.host_key)
    machine.rack = "r2"
    edits.change(machine=machine, fields=["rack"], reason="", acting_user=admin)
    assert reloaded(machine).host_key == ssh_server.host_key


def test_who_may_not_use_the_credential_trusts_no_key_for_it(ssh_server, cluster_a, owner):
    machine = factories.make_machine(
        cluster=cluster_a,
        credential=factories.make_credential(),
        offered_host_key=ssh_server.host_key,
    )
    shown = ssh.fingerprint(ssh_server.host_key)
    with pytest.raises(Forbidden, match="may not use the credential"):
        host_keys.accept(machine=machine, shown=shown, reason="trust me", acting_user=owner)
    assert reloaded(machine).host_key == ""
