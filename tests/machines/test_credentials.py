"""Credentials: what is refused when saved, and the test on a machine."""

import pytest

from beidou.base import permissions
from beidou.base.errors import Conflict, Forbidden, InvalidInput
from beidou.base.models import AuditEntry
from machines.models import Machine, SshCredential
from machines.services import belonging, credentials
from tests import factories
from tests.fakes.ssh_server import new_key, private_text, public_line

pytestmark = pytest.mark.django_db


def refused(**values):
    with pytest.raises(InvalidInput) as caught:
        credentials.validate(SshCredential(name="x", **values))
    return caught.value.fields


def test_a_credential_needs_a_key_or_a_password():
    assert "Give a private key or a password" in refused()["private_key"]


def test_a_passphrase_alone_is_refused():
    assert "opens nothing" in refused(password="x", passphrase="y")["passphrase"]


@pytest.mark.parametrize("user", ["", "-oProxyCommand=x", "ro ot", 'a"b', "a;b", "a\nb", "{{ x }}"])
def test_what_is_no_name_of_a_user_is_refused(user):
    assert "begins with no hyphen" in refused(user=user, password="x")["user"]


@pytest.mark.parametrize(
    "user", ["root", "svc_1", "CORP\\ops", "ops@corp.example", "ops$", "a.b-c+d"]
)
def test_names_of_hosts_and_of_directories_are_taken(user):
    credentials.validate(SshCredential(user=user, password="x"))


@pytest.mark.parametrize("field", ["passphrase", "password", "become_password"])
def test_a_line_break_in_what_is_typed_at_a_prompt_is_refused(field):
    assert "line break" in refused(**{"password": "x", field: "two\nlines"})[field]


def test_a_public_key_is_refused_by_name():
    assert "This is a public key" in refused(private_key=public_line(new_key()))["private_key"]


def test_an_encrypted_key_asks_for_its_passphrase():
    key = new_key().export_private_key("openssh", "open sesame").decode()
    assert "needs its passphrase" in refused(private_key=key)["passphrase"]
    assert "does not open" in refused(private_key=key, passphrase="wrong")["passphrase"]
    credentials.validate(SshCredential(private_key=key, passphrase="open sesame"))


def test_a_good_credential_passes_its_test_and_pins_the_host_key(
    admin, ssh_machine, ssh_credential, ssh_server
):
    result = credentials.test(credential=ssh_credential, machine=ssh_machine, acting_user=admin)
    assert [step.name for step in result.steps] == ["reach", "host_key", "sign_in", "privilege"]
    assert result.is_ok
    ssh_credential.refresh_from_db()
    assert ssh_credential.test_result == f"works on {ssh_machine}"
    assert ssh_credential.tested_at is not None
    assert Machine.objects.get(pk=ssh_machine.pk).host_key == ssh_server.host_key


def test_a_wrong_key_fails_at_signing_in_and_says_so(admin, ssh_machine, ssh_server):
    wrong = factories.make_credential(
        password="", private_key=private_text(new_key()), port=ssh_server.port
    )
    result = credentials.test(credential=wrong, machine=ssh_machine, acting_user=admin)
    assert result.steps[-1].name == "sign_in"
    assert not result.is_ok
    wrong.refresh_from_db()
    assert wrong.test_result == result.steps[-1].message
    assert AuditEntry.objects.get(verb="test credential").outcome == "failed"


def test_a_machine_that_does_not_answer_fails_at_reaching_it(admin, ssh_credential, ssh_server):
    machine = factories.make_machine("127.0.0.77")
    result = credentials.test(credential=ssh_credential, machine=machine, acting_user=admin)
    assert [(step.name, step.is_ok) for step in result.steps] == [("reach", False)]
    assert f"127.0.0.77:{ssh_server.port}" in result.summary


def test_a_changed_host_key_found_by_a_test_blocks_the_machine(
    admin, ssh_machine, ssh_credential, ssh_server
):
    credentials.test(credential=ssh_credential, machine=ssh_machine, acting_user=admin)
    ssh_server.install_host_key("ssh-ed25519")
    result = credentials.test(credential=ssh_credential, machine=ssh_machine, acting_user=admin)
    assert result.steps[-1].name == "host_key"
    assert Machine.objects.get(pk=ssh_machine.pk).offered_host_key == ssh_server.host_key
    with pytest.raises(Conflict, match="accepts or rejects"):
        credentials.test(
            credential=ssh_credential,
            machine=Machine.objects.get(pk=ssh_machine.pk),
            acting_user=admin,
        )


def test_nobody_tests_on_a_machine_they_may_not_operate(viewer, cluster_a, ssh_credential):
    machine = factories.make_machine(cluster=cluster_a)
    with pytest.raises(Forbidden):
        credentials.test(credential=ssh_credential, machine=machine, acting_user=viewer)


def test_an_auditor_sees_credentials_and_uses_none(operator, operators, cluster_a):
    factories.give(operators, "base.audit_fleet")
    mine, foreign = factories.make_credential(team=operators), factories.make_credential()
    assert permissions.may(operator, foreign)
    assert list(belonging.credentials_of(operator)) == [mine]
    machine = factories.make_machine(cluster=cluster_a)
    with pytest.raises(Forbidden, match="none of your teams"):
        credentials.test(credential=foreign, machine=machine, acting_user=operator)
    with pytest.raises(InvalidInput, match="no such credential"):
        belonging.check(operator, owner_team=None, credential=foreign)


def test_a_machine_without_a_credential_cannot_be_signed_in_at():
    machine = factories.make_machine()
    assert "has no SSH credential" in str(credentials.sign_in_problem(machine))
    with pytest.raises(Conflict, match="has no SSH credential"):
        credentials.target_for(machine)


def test_an_empty_secret_keeps_what_is_stored_unless_it_is_forgotten():
    credential = factories.make_credential(password="old", become_password="sudo")
    credentials.apply_secrets(credential, {"password": "", "become_password": "new"})
    assert (credential.password, credential.become_password) == ("old", "new")
    credentials.apply_secrets(credential, {"password": ""}, forget=("password",))
    assert credential.password == ""


def test_no_secret_reaches_the_audit_trail(admin, ssh_machine, ssh_credential):
    credentials.test(credential=ssh_credential, machine=ssh_machine, acting_user=admin)
    trail = str(list(AuditEntry.objects.values()))
    assert "PRIVATE KEY" not in trail
