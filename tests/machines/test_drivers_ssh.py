"""Signing in, becoming root and running scripts on a real SSH server."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from beidou.base.errors import InvalidInput, PermanentError
from machines.drivers import ssh
from tests.fakes.ssh_server import (
    SUDO_PASSWORD,
    SshServer,
    Sudo,
    closed_port,
    new_key,
    private_text,
    silent_server,
    talking_server,
)


@pytest.fixture
def sudo_target(ssh_target: ssh.Target) -> ssh.Target:
    return replace(ssh_target, user="tester", become=True)


# --- running a script


def test_a_script_is_run_with_its_output_and_status_apart(ssh_target: ssh.Target) -> None:
    result = ssh.run(ssh_target, "echo out; echo err >&2; exit 3")

    assert (result.stdout, result.stderr, result.status) == ("out\n", "err\n", 3)


def test_a_python_script_is_run_without_a_file(ssh_target: ssh.Target) -> None:
    result = ssh.run(ssh_target, "import sys\nprint(sys.argv)", interpreter="python3")

    assert result.stdout == "['-']\n"


def test_a_host_without_python_says_so_with_its_status(
    ssh_server: SshServer, ssh_target: ssh.Target
) -> None:
    ssh_server.greeting = "PATH=/nowhere"

    result = ssh.run(replace(ssh_target), "print(1)", interpreter="python3")

    assert result.status == 127


def test_the_script_is_not_in_the_process_list(ssh_target: ssh.Target) -> None:
    result = ssh.run(ssh_target, "tr '\\0' ' ' </proc/$$/cmdline; : my-secret-word")

    assert result.stdout.strip() == "sh -s"


def test_a_script_ended_by_a_signal_has_a_status_other_than_zero(ssh_target: ssh.Target) -> None:
    assert ssh.run(ssh_target, "kill -9 $$").status != 0


def test_output_that_is_no_text_is_still_delivered(ssh_target: ssh.Target) -> None:
    assert ssh.run(ssh_target, r"printf 'a\377b'").stdout == "a\N{REPLACEMENT CHARACTER}b"


def test_a_script_larger_than_the_window_arrives_whole(ssh_target: ssh.Target) -> None:
    script = "# " + "x" * 3_000_000 + "\necho end"

    assert ssh.run(ssh_target, script).stdout == "end\n"


def test_endless_output_is_cut_off_with_a_sentence(ssh_target: ssh.Target) -> None:
    with pytest.raises(ssh.OutputTooLarge, match="printed more than 4 MiB"):
        ssh.run(ssh_target, "yes")


def test_a_script_that_does_not_end_is_given_up(ssh_target: ssh.Target) -> None:
    with pytest.raises(ssh.TimedOut, match=r"did not end within 0\.[45] seconds"):
        ssh.run(ssh_target, "sleep 60", timeout=0.4)


def test_a_connection_that_breaks_under_a_script_is_no_result(
    ssh_server: SshServer, ssh_target: ssh.Target
) -> None:
    ssh_server.trouble = "cuts_in_command"

    with pytest.raises(ssh.ConnectionBroken, match="ended while the script ran"):
        ssh.run(ssh_target, "echo in")


def test_a_connection_that_breaks_while_sudo_starts_says_nothing_about_rights(
    ssh_server: SshServer, sudo_target: ssh.Target
) -> None:
    ssh_server.trouble = "cuts_in_command"

    with pytest.raises(ssh.ConnectionBroken):
        ssh.run(sudo_target, "echo in")


# --- host keys


def test_scanning_shows_the_key_without_signing_in(ssh_server: SshServer) -> None:
    found = ssh.scan_host_key(ssh_server.address, ssh_server.port)

    assert (found.type, found.key) == ("ssh-ed25519", ssh_server.host_key)
    assert found.fingerprint == ssh.fingerprint(ssh_server.host_key)
    assert ssh_server.attempts == []


def test_scanning_prefers_ed25519(ssh_server: SshServer) -> None:
    ssh_server.install_host_key("ssh-rsa", "ssh-ed25519", "ecdsa-sha2-nistp256")

    assert ssh.scan_host_key(ssh_server.address, ssh_server.port).type == "ssh-ed25519"


@pytest.mark.parametrize("kind", ["ssh-rsa", "ecdsa-sha2-nistp256"])
def test_a_pinned_key_of_another_type_is_found_beside_ed25519(
    kind: str, ssh_server: SshServer, ssh_target: ssh.Target
) -> None:
    ssh_server.install_host_key(kind, "ssh-ed25519")
    pinned = replace(ssh_target, host_key=ssh_server.host_key)

    assert ssh.run(pinned, "echo in").stdout == "in\n"
    assert ssh.check(pinned).is_ok


def test_a_changed_host_key_stops_before_the_sign_in(
    ssh_server: SshServer, ssh_target: ssh.Target
) -> None:
    ssh_server.install_host_key("ssh-ed25519")

    with pytest.raises(ssh.HostKeyChanged) as changed:
        ssh.run(ssh_target, "echo in")

    assert changed.value.presented.key == ssh_server.host_key
    assert changed.value.pinned.fingerprint in str(changed.value)
    assert changed.value.presented.fingerprint in str(changed.value)
    assert ssh_server.attempts == []


def test_a_host_without_a_key_of_the_pinned_type_has_changed(
    ssh_server: SshServer, ssh_target: ssh.Target
) -> None:
    ssh_server.install_host_key("ssh-rsa")

    with pytest.raises(ssh.HostKeyChanged) as changed:
        ssh.run(ssh_target, "echo in")

    assert changed.value.presented.key == ssh_server.host_key


def test_nothing_is_sent_to_a_host_whose_key_is_not_pinned(
    ssh_server: SshServer, ssh_target: ssh.Target
) -> None:
    with pytest.raises(ssh.HostKeyUnknown, match="No host key is pinned"):
        ssh.run(replace(ssh_target, host_key=None), "echo in")

    assert ssh_server.attempts == []


def test_a_pinned_key_that_is_none_is_the_fault_of_the_field(ssh_target: ssh.Target) -> None:
    with pytest.raises(ssh.BadKey) as refused:
        ssh.run(replace(ssh_target, host_key="rubbish"), "echo in")

    assert list(refused.value.fields) == ["host_key"]


# --- reaching and signing in


def test_a_closed_port_is_unreachable_at_once() -> None:
    port = closed_port()

    with pytest.raises(ssh.Unreachable, match=rf"No SSH connection to 127\.0\.0\.1:{port}:"):
        ssh.scan_host_key("127.0.0.1", port)


def test_a_name_that_does_not_exist_is_unreachable() -> None:
    with pytest.raises(ssh.Unreachable, match=r"No SSH connection to no-such-host\.invalid:22:"):
        ssh.scan_host_key("no-such-host.invalid")


def test_a_silent_host_is_given_up_with_the_time_waited(ssh_target: ssh.Target) -> None:
    with (
        silent_server() as port,
        pytest.raises(ssh.Unreachable, match=r"(speak SSH|answer) for \d\.\d seconds"),
    ):
        ssh.run(replace(ssh_target, port=port), "echo in", connect_timeout=0.3)


def test_scanning_a_silent_host_is_given_up() -> None:
    with (
        silent_server() as port,
        pytest.raises(ssh.Unreachable, match=r"did not show a host key within 0\.3 seconds"),
    ):
        ssh.scan_host_key("127.0.0.1", port, timeout=0.3)


def test_something_else_at_the_port_is_a_lasting_error() -> None:
    with (
        talking_server(b"SSH-1.5-ancient\r\n") as port,
        pytest.raises(PermanentError) as refused,
    ):
        ssh.scan_host_key("127.0.0.1", port)

    assert refused.value.code == "not_ssh"


def test_a_host_that_hangs_in_the_sign_in_is_given_up(
    ssh_server: SshServer, ssh_target: ssh.Target
) -> None:
    ssh_server.trouble = "hangs_in_sign_in"

    with pytest.raises(ssh.TimedOut, match="did not finish the sign-in of root in"):
        ssh.run(ssh_target, "echo in", connect_timeout=0.5)


def test_an_unknown_key_is_refused(ssh_target: ssh.Target) -> None:
    stranger = replace(ssh_target, private_key=private_text(new_key()))

    with pytest.raises(ssh.AuthenticationFailed, match=r"refused the sign-in of root \(tried: key"):
        ssh.run(stranger, "echo in")


def test_a_password_signs_in(ssh_server: SshServer, ssh_target: ssh.Target) -> None:
    ssh_server.passwords["root"] = "pass-word"
    by_password = replace(ssh_target, private_key=None, password="pass-word")

    assert ssh.run(by_password, "echo in").stdout == "in\n"


def test_a_wrong_password_is_refused_without_repeating_it(
    ssh_server: SshServer, ssh_target: ssh.Target
) -> None:
    ssh_server.passwords["root"] = "pass-word"

    with pytest.raises(ssh.AuthenticationFailed) as refused:
        ssh.run(replace(ssh_target, private_key=None, password="wr0ng"), "echo in")

    assert "wr0ng" not in str(refused.value)


def test_a_credential_with_nothing_in_it_is_refused(ssh_target: ssh.Target) -> None:
    with pytest.raises(InvalidInput, match="neither a private key nor a password"):
        ssh.run(replace(ssh_target, private_key=None), "echo in")


def test_the_keys_and_agent_of_the_own_user_are_not_used(
    ssh_server: SshServer,
    ssh_target: ssh.Target,
    user_key: asyncssh.SSHKey,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / ".ssh"
    folder.mkdir()
    (folder / "id_ed25519").write_text(private_text(user_key))
    (folder / "config").write_text(f"Host *\n  User tester\n  IdentityFile {folder}/id_ed25519\n")
    (folder / "known_hosts").write_text(f"* {ssh_server.host_key}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    ssh_server.passwords["root"] = "pass-word"

    with pytest.raises(ssh.AuthenticationFailed):
        ssh.run(replace(ssh_target, private_key=None, password="wrong"), "echo in")
    with pytest.raises(ssh.HostKeyUnknown):
        ssh.run(replace(ssh_target, host_key=None), "echo in")

    assert ssh_server.signed_in == []


@pytest.mark.parametrize(
    "impossible", [{"address": "x" * 70 + ".test"}, {"port": 70_000}, {"user": "a\0b"}]
)
def test_an_impossible_target_is_the_fault_of_what_was_entered(
    impossible: dict[str, Any], ssh_target: ssh.Target
) -> None:
    with pytest.raises(InvalidInput) as refused:
        ssh.run(replace(ssh_target, **impossible), "echo in")

    assert refused.value.code == "impossible_target"


# --- becoming root


@pytest.mark.parametrize("sudo", ["free", "password"])
def test_sudo_gets_the_password_only_when_it_asks(
    sudo: Sudo, ssh_server: SshServer, sudo_target: ssh.Target
) -> None:
    ssh_server.sudo = sudo
    target = replace(sudo_target, become_password=SUDO_PASSWORD)

    result = ssh.run(target, "cat; echo end")

    assert (result.stdout, result.status) == ("end\n", 0)
    assert SUDO_PASSWORD not in result.stderr


@pytest.mark.parametrize(
    ("sudo", "password", "sentence"),
    [
        ("password", None, "asks tester for a password and the credential has none"),
        ("password", "wr0ng", "refused the password of tester"),
        ("refused", "wr0ng", "Sorry, user tester is not allowed to execute"),
        ("missing", "wr0ng", "sudo: not found"),
    ],
)
def test_without_root_the_script_is_not_run(
    sudo: Sudo,
    password: str | None,
    sentence: str,
    ssh_server: SshServer,
    sudo_target: ssh.Target,
    tmp_path: Path,
) -> None:
    ssh_server.sudo = sudo

    with pytest.raises(ssh.NoPrivilege, match=sentence) as refused:
        ssh.run(replace(sudo_target, become_password=password), f"touch {tmp_path}/ran")

    assert list(tmp_path.iterdir()) == []
    assert "wr0ng" not in str(refused.value)


def test_a_sudo_password_of_two_lines_is_refused(
    ssh_server: SshServer, sudo_target: ssh.Target
) -> None:
    ssh_server.sudo = "password"

    with pytest.raises(InvalidInput) as refused:
        ssh.run(replace(sudo_target, become_password="one\ntwo"), "echo in")

    assert refused.value.fields == {
        "become_password": "The password for sudo must be a single line."
    }
