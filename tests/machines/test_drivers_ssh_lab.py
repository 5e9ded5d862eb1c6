"""The SSH driver and the facts against real hosts: OpenSSH, systemd and the true sudo."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest

from lab import Lab
from lab.hosts import Host
from machines.drivers import facts, ssh

pytestmark = pytest.mark.lab

SUDO_PASSWORD = "sudo-secret"
MAKE_USERS = f"""
set -e
for user in free asked; do
    useradd --create-home $user
    install -d -o $user -m 700 /home/$user/.ssh
    install -o $user -m 600 /root/.ssh/authorized_keys /home/$user/.ssh/
done
echo 'asked:{SUDO_PASSWORD}' | chpasswd
echo 'free ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/test
echo 'asked ALL=(ALL) ALL' >>/etc/sudoers.d/test
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    if os.geteuid() != 0 or shutil.which("podman") is None:
        reason = "The lab needs root and podman: run `python -m lab setup` as root first."
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with Lab.start(f"ssh-{os.getpid()}") as running:
        yield running


@pytest.fixture(scope="module")
def host(lab: Lab) -> Host:
    host = lab.host("ssh-1")
    host.run(MAKE_USERS)
    return host


@pytest.fixture
def target(lab: Lab, host: Host) -> ssh.Target:
    return ssh.Target(address=host.address, private_key=lab.ssh_key, host_key=host.host_key)


def test_the_key_of_a_real_host_is_the_one_it_made(host: Host) -> None:
    assert ssh.scan_host_key(host.address).key == host.host_key


def test_a_real_host_passes_the_check(target: ssh.Target) -> None:
    assert ssh.check(target).is_ok


@pytest.mark.parametrize(
    ("user", "password", "is_ok"),
    [
        ("free", None, True),
        ("free", SUDO_PASSWORD, True),
        ("asked", SUDO_PASSWORD, True),
        ("asked", None, False),
        ("asked", "wrong", False),
    ],
)
def test_the_true_sudo_is_answered_rightly(
    user: str, password: str | None, is_ok: bool, target: ssh.Target
) -> None:
    result = ssh.check(replace(target, user=user, become=True, become_password=password))

    assert (result.steps[-1].name, result.is_ok) == ("privilege", is_ok)


def test_a_script_gets_nothing_but_itself_from_the_true_sudo(target: ssh.Target) -> None:
    asked = replace(target, user="asked", become=True, become_password=SUDO_PASSWORD)

    result = ssh.run(asked, "id -un; cat")

    assert (result.stdout, result.stderr) == ("root\n", "")


def test_an_ordinary_user_without_sudo_is_told_that_he_is_not_root(target: ssh.Target) -> None:
    result = ssh.check(replace(target, user="free"))

    assert "free is not root on" in result.steps[-1].message


def test_the_facts_of_a_real_host(host: Host, target: ssh.Target) -> None:
    [(_, found)] = facts.gather([target])

    assert isinstance(found, facts.Facts)
    assert found.hostname == host.name
    assert found.os is not None
    assert (found.os.id, found.os.version) == ("debian", "12")
    assert found.nics is not None
    assert f"{host.address}/24" in [each for nic in found.nics for each in nic.addresses]
    assert found.system is not None
    assert found.system.machine_id == host.run("cat /etc/machine-id").strip()
    assert abs(found.clock_offset) <= found.clock_uncertainty < 5


def test_facts_see_whether_the_runtime_runs(host: Host, target: ssh.Target) -> None:
    def containerd() -> facts.Program:
        [(_, found)] = facts.gather([target])
        assert isinstance(found, facts.Facts)
        assert found.programs is not None
        return next(each for each in found.programs if each.name == "containerd")

    assert not containerd().is_running
    host.run("systemctl start containerd")
    assert containerd().is_running
    host.run("systemctl stop containerd")


def test_a_frozen_host_is_unreachable_and_delays_no_other(
    lab: Lab, host: Host, target: ssh.Target
) -> None:
    frozen = lab.host("ssh-frozen")
    frozen_target = replace(target, address=frozen.address, host_key=frozen.host_key)
    frozen.pause()
    outcomes = facts.gather([frozen_target, target], connect_timeout=5)

    first, second = next(outcomes), next(outcomes)

    assert first[0] == target
    assert isinstance(first[1], facts.Facts)
    assert isinstance(second[1], ssh.Unreachable)
    frozen.unpause()
    frozen.destroy()


def test_a_host_that_is_switched_off_is_unreachable(lab: Lab, target: ssh.Target) -> None:
    gone = lab.host("ssh-gone")
    gone_target = replace(target, address=gone.address, host_key=gone.host_key)
    gone.destroy()

    result = ssh.check(gone_target, connect_timeout=5)

    assert isinstance(result.steps[0].error, ssh.Unreachable)
    assert gone.address in result.steps[0].message


def test_a_host_with_new_keys_is_refused_until_the_new_one_is_pinned(
    host: Host, target: ssh.Target
) -> None:
    host.run("rm /etc/ssh/ssh_host_*; ssh-keygen -A; systemctl restart ssh")

    with pytest.raises(ssh.HostKeyChanged) as changed:
        ssh.run(target, "true")

    accepted = replace(target, host_key=changed.value.presented.key)
    assert changed.value.pinned.key == target.host_key
    assert ssh.run(accepted, "echo in").stdout == "in\n"
