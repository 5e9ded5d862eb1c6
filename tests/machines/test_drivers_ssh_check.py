"""Testing a credential on a host, step by step."""

import time
from dataclasses import replace

import pytest

from machines.drivers import ssh
from tests.fakes.ssh_server import SshServer, Trouble, closed_port, new_key, private_text


@pytest.fixture
def sudo_target(ssh_target: ssh.Target) -> ssh.Target:
    return replace(ssh_target, user="tester", become=True)


def names_of(result: ssh.CheckResult) -> list[tuple[str, bool]]:
    return [(step.name, step.is_ok) for step in result.steps]


def test_a_good_credential_passes_all_four_steps(
    ssh_server: SshServer, ssh_target: ssh.Target
) -> None:
    result = ssh.check(ssh_target)

    assert result.is_ok
    assert [name for name, _ in names_of(result)] == ["reach", "host_key", "sign_in", "privilege"]
    assert result.host_key is not None
    assert result.host_key.key == ssh_server.host_key


def test_a_check_of_an_unreachable_host_ends_at_the_first_step(ssh_target: ssh.Target) -> None:
    result = ssh.check(replace(ssh_target, port=closed_port()))

    assert names_of(result) == [("reach", False)]
    assert isinstance(result.steps[0].error, ssh.Unreachable)
    assert result.host_key is None


def test_a_check_without_pinned_key_shows_the_key_and_sends_nothing(
    ssh_server: SshServer, ssh_target: ssh.Target
) -> None:
    result = ssh.check(replace(ssh_target, host_key=None))

    assert names_of(result) == [("reach", True), ("host_key", False)]
    assert result.host_key is not None
    assert result.host_key.key == ssh_server.host_key
    assert ssh_server.attempts == []


@pytest.mark.parametrize("kind", ["ssh-ed25519", "ssh-rsa"])
def test_a_check_of_a_changed_host_key_offers_the_new_one(
    kind: str, ssh_server: SshServer, ssh_target: ssh.Target
) -> None:
    ssh_server.install_host_key(kind)

    result = ssh.check(ssh_target)

    assert names_of(result)[-1] == ("host_key", False)
    assert isinstance(result.steps[-1].error, ssh.HostKeyChanged)
    assert result.host_key is not None
    assert result.host_key.key == ssh_server.host_key


@pytest.mark.parametrize("trouble", ["hangs_in_sign_in", None])
def test_a_check_says_that_the_sign_in_failed(
    trouble: Trouble | None, ssh_server: SshServer, ssh_target: ssh.Target
) -> None:
    ssh_server.trouble = trouble
    stranger = replace(ssh_target, private_key=private_text(new_key()))

    result = ssh.check(stranger, connect_timeout=1)

    assert names_of(result)[1:] == [("host_key", True), ("sign_in", False)]


def test_a_check_with_an_unreadable_key_names_the_field(ssh_target: ssh.Target) -> None:
    result = ssh.check(replace(ssh_target, private_key="rubbish"))

    error = result.steps[-1].error
    assert isinstance(error, ssh.BadKey)
    assert list(error.fields) == ["private_key"]


def test_a_check_without_sudo_rights_fails_at_the_privilege(
    ssh_server: SshServer, sudo_target: ssh.Target
) -> None:
    ssh_server.sudo = "refused"

    result = ssh.check(sudo_target)

    assert names_of(result)[2:] == [("sign_in", True), ("privilege", False)]
    assert not result.is_ok


def test_a_user_who_is_not_root_and_has_no_sudo_is_told_so(
    ssh_server: SshServer, ssh_target: ssh.Target
) -> None:
    ssh_server.greeting = "echo 1000; exit"

    result = ssh.check(replace(ssh_target, user="tester"))

    assert "tester is not root on" in result.steps[-1].message
    assert "(user id 1000)" in result.steps[-1].message


def test_an_account_that_may_not_run_commands_fails_at_the_privilege(
    ssh_server: SshServer, ssh_target: ssh.Target
) -> None:
    ssh_server.greeting = "echo 'This account is currently not available.'; exit 1"

    result = ssh.check(ssh_target)

    assert result.steps[-1].name == "privilege"
    assert "This account is currently not available." in result.steps[-1].message


def test_a_check_gives_up_a_host_that_hangs_after_the_sign_in(
    ssh_server: SshServer, ssh_target: ssh.Target
) -> None:
    ssh_server.trouble = "hangs_in_command"
    started = time.monotonic()

    result = ssh.check(ssh_target, timeout=0.3)

    assert isinstance(result.steps[-1].error, ssh.TimedOut)
    assert time.monotonic() - started < 5
