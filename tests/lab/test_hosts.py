"""Hosts: they boot as delivered machines, keep what is theirs, and are alone in their network."""

import re
import subprocess
from pathlib import Path

import pytest

from lab import Host, Lab, LabError
from lab.hosts import wait_for_port
from lab.network import LABEL
from lab.process import run

pytestmark = pytest.mark.lab


def ssh(lab: Lab, host: Host, command: str, folder: Path) -> str:
    """As the portal comes: with the lab's key, and with the host's key pinned."""
    (folder / "known").write_text(f"{host.address} {host.host_key}\n")
    (folder / "key").touch(mode=0o600)
    (folder / "key").write_text(lab.ssh_key)
    options = ["-F", "none", "-i", str(folder / "key"), "-o", "BatchMode=yes"]
    options += ["-o", f"UserKnownHostsFile={folder / 'known'}", "-o", "StrictHostKeyChecking=yes"]
    return run("ssh", *options, f"{host.user}@{host.address}", command)


@pytest.fixture(scope="module")
def delivered(real_lab: Lab) -> Host:
    return real_lab.host("fresh-1")


def test_the_lab_s_key_signs_in_to_a_host_with_its_own_key(
    real_lab: Lab, spares: list[Host], tmp_path: Path
):
    assert ssh(real_lab, spares[0], "hostname", tmp_path) == "spare-1\n"


def test_hosts_do_not_share_a_key(spares: list[Host]):
    assert spares[0].host_key.startswith("ssh-ed25519 ")
    assert spares[0].host_key != spares[1].host_key


def test_a_host_arrives_with_containerd_that_nobody_has_configured(delivered: Host):
    assert delivered.run("command -v containerd") == "/usr/bin/containerd\n"
    assert delivered.run("systemctl is-enabled containerd || true") == "disabled\n"
    assert delivered.run("systemctl is-active containerd || true") == "inactive\n"


@pytest.mark.parametrize("program", ["kubelet", "kubeadm", "kubectl"])
def test_a_host_arrives_without_kubernetes(delivered: Host, program: str):
    assert delivered.run(f"command -v {program} || echo absent") == "absent\n"


@pytest.mark.parametrize("folder", ["containerd", "kubelet", "etcd"])
def test_a_host_arrives_with_empty_disks(delivered: Host, folder: str):
    assert delivered.run(f"ls -A /var/lib/{folder}") == ""


def test_every_host_has_a_tree_of_control_groups_of_its_own(spares: list[Host]):
    spares[0].run("mkdir /sys/fs/cgroup/systemd/kubepods-test")
    try:
        assert "kubepods-test" not in spares[1].run("ls /sys/fs/cgroup/systemd")
    finally:
        spares[0].run("rmdir /sys/fs/cgroup/systemd/kubepods-test")


def test_a_failed_command_on_a_host_says_what_it_printed(spares: list[Host]):
    with pytest.raises(LabError, match=r"(?s)status 5.*no such unit"):
        spares[0].run("echo no such unit >&2; exit 5")


def test_a_file_is_written_with_its_mode(spares: list[Host]):
    spares[0].write("/etc/new-folder/secret", "text\n", mode="0600")
    assert spares[0].run("stat -c %a /etc/new-folder/secret") == "600\n"
    assert spares[0].run("cat /etc/new-folder/secret") == "text\n"


def test_a_host_without_power_comes_back_as_it_was(spares: list[Host]):
    host = spares[1]
    host.write("/var/lib/kubelet/kept", "still here\n")
    boot = host.run("cut -d' ' -f22 /proc/1/stat")
    host.kill()
    host.start()
    assert host.run("cat /var/lib/kubelet/kept") == "still here\n"
    assert host.run("cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub").strip() == host.host_key
    assert host.run("cut -d' ' -f22 /proc/1/stat") != boot


def test_a_frozen_host_does_not_answer_until_it_goes_on(spares: list[Host]):
    host = spares[1]
    host.pause()
    try:
        scan = subprocess.run(
            ["ssh-keyscan", "-T", "1", "-t", "ed25519", host.address],
            capture_output=True,
            text=True,
            check=False,
        )
        assert host.host_key not in scan.stdout
    finally:
        host.unpause()
    wait_for_port(host.address, host.ssh_port, host.name)
    assert host.run("echo back") == "back\n"


def test_a_removed_host_gives_its_address_to_nobody(real_lab: Lab):
    first = real_lab.host("short-1")
    first.destroy()
    second = real_lab.host("short-2")
    assert first.address != second.address
    assert "short-1" not in [host.name for host in real_lab.find_hosts()]
    second.destroy()


def test_another_process_finds_the_hosts(real_lab: Lab, spares: list[Host]):
    found = {host.name: host for host in Lab.attach(real_lab.name).find_hosts()}
    assert found["spare-1"] == spares[0]


def test_two_labs_at_once_have_hosts_of_the_same_name_that_cannot_meet(
    real_lab: Lab, spares: list[Host]
):
    with Lab.start(f"{real_lab.name}-b") as other:
        host = other.host("spare-1")
        assert host.address.rpartition(".")[0] != spares[0].address.rpartition(".")[0]
        reach = f"timeout 3 bash -c '</dev/tcp/{host.address}/22' && echo reached || echo shut"
        assert spares[0].run(f"{reach} 2>/dev/null") == "shut\n"


def test_what_a_host_sends_past_its_own_network_is_dropped(real_lab: Lab, spares: list[Host]):
    name = f"{LABEL}-{real_lab.name}"
    inspect = ("podman", "network", "inspect", "--format", "{{.NetworkInterface}}", name)
    bridge = run(*inspect).strip()
    assert f'iifname "{bridge}" oifname != "{bridge}" drop' in run("nft", "list", "ruleset")
    assert spares[0].run("ip route show default") == f"default via {real_lab.gateway} dev eth0 \n"


def test_a_machine_with_little_memory_says_so(real_lab: Lab):
    host = real_lab.host("small-1", memory="256m")
    try:
        # One of them exists, by the version of control groups.
        files = "/sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max"
        limit = host.run(f"cat {files} 2>/dev/null || true")
        assert re.search(r"^268435456$", limit, re.MULTILINE)
    finally:
        host.destroy()
