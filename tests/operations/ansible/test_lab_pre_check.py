"""Every failure of the preCheck, provoked on a real host."""

import dataclasses
import time

import pytest

from lab import site
from tests.operations.ansible.playbooks import run_playbook

pytestmark = pytest.mark.lab


@pytest.fixture
def provoke(delivered):
    """Do something on the host, and undo it after the test."""
    undoing = []

    def do(command, undo):
        undoing.append(undo)
        delivered.run(command)

    yield do
    for undo in reversed(undoing):
        delivered.run(undo)


def test_a_machine_as_delivered_is_in_order_and_costs_one_task(fleet, delivered):
    play = fleet.play("pre_check.yml", delivered)
    play.assert_successful()
    assert play.blocking(delivered.name) == set()
    assert len(play.of(delivered.name)) == 1
    assert play.changed(delivered.name) == []


def test_a_machine_that_is_too_small_is_told_so_in_every_respect_at_once(fleet, delivered):
    policy = {
        **site.POLICY,
        "min_cpus": 512,
        "min_memory_mib": 10**7,
        "min_kernel": "99.0",
        "min_os_versions": {"debian": "99"},
        "disks_gib": {**site.POLICY["disks_gib"], "/var/lib/containerd": 10**6},
    }
    play = fleet.play("pre_check.yml", delivered, policy=policy)
    play.assert_successful()
    assert play.blocking(delivered.name) == {
        "cpus", "memory", "kernel", "os", "disk:/var/lib/containerd",
        "disk:/var/lib/containerd+/var/lib/kubelet",
    }  # fmt: skip
    assert play.checks(delivered.name)["memory"]["wanted"] == ">= 10000000 MiB"


def test_a_kernel_that_lacks_what_is_wanted_is_told(fleet, delivered):
    policy = {
        **site.POLICY,
        "kernel_modules": ["overlay", "no_such_module"],
        "kernel_settings": {"net.no_such_setting": 1},
        "commands": ["mount", "no-such-command"],
        "cgroup_v1_allowed": False,
    }
    play = fleet.play("pre_check.yml", delivered, policy=policy)
    assert play.blocking(delivered.name) == {
        "kernel-module:no_such_module", "kernel-setting:net.no_such_setting", "commands", "cgroup",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("command", "undo", "names"),
    [
        (
            "cp /bin/sleep /usr/local/bin/kubelet"
            " && systemd-run --unit=old /usr/local/bin/kubelet 999",
            "systemctl stop old; rm /usr/local/bin/kubelet",
            {"leftover:programs", "leftover:processes"},
        ),
        (
            "touch /etc/systemd/system/docker.service",
            "rm /etc/systemd/system/docker.service",
            {"leftover:units"},
        ),
        (
            "mkdir -p /etc/kubernetes/pki && touch /etc/kubernetes/pki/ca.crt",
            "rm -r /etc/kubernetes",
            {"leftover:/etc/kubernetes"},
        ),
        (
            "touch /var/lib/kubelet/config.yaml /var/lib/etcd/member",
            "rm /var/lib/kubelet/config.yaml /var/lib/etcd/member",
            {"leftover:/var/lib/kubelet", "leftover:/var/lib/etcd"},
        ),
        (
            "mkdir -p /etc/cni/net.d && touch /etc/cni/net.d/10-calico.conflist",
            "rm /etc/cni/net.d/10-calico.conflist",
            {"leftover:cni-configuration"},
        ),
        ("ip link add cni0 type bridge", "ip link delete cni0", {"leftover:interfaces"}),
        (
            "mkdir -p /run/netns/x && mount -t tmpfs x /run/netns/x",
            "umount /run/netns/x && rmdir /run/netns/x",
            {"leftover:mounts"},
        ),
        (
            "iptables -t nat -N KUBE-SERVICES",
            "iptables -t nat -X KUBE-SERVICES",
            {"leftover:packet-rules"},
        ),
        (
            "systemd-run --unit=taken python3 -m http.server 10250",
            "systemctl stop taken",
            {"port:10250"},
        ),
    ],
)
def test_what_an_earlier_life_left_is_found(fleet, delivered, provoke, command, undo, names):
    provoke(command, undo)
    if "port:10250" in names:
        delivered.run("until ss -Htln | grep -q :10250; do sleep 0.1; done")
    play = fleet.play("pre_check.yml", delivered)
    play.assert_successful()
    assert play.blocking(delivered.name) == names


def test_an_image_of_an_earlier_life_is_found_though_containerd_does_not_run(
    fleet, delivered, provoke
):
    provoke(
        "systemctl start containerd && printf x"
        " | ctr -n k8s.io content ingest --expected-size=1 r && systemctl stop containerd",
        "rm -rf /var/lib/containerd/* /run/containerd",
    )
    assert fleet.play("pre_check.yml", delivered).blocking(delivered.name) == {
        "leftover:containerd-images"
    }


def test_an_artifact_source_that_is_not_there_is_told(fleet, delivered):
    artifacts = [{"name": "kubelet", "sha256": "0" * 64, "url": f"http://{fleet.lab.gateway}:9/k"}]
    play = fleet.play("pre_check.yml", delivered, artifacts=artifacts)
    (name,) = play.blocking(delivered.name)
    assert play.checks(delivered.name)[name]["found"] == "connection refused"


def test_a_missing_artifact_is_told_by_its_url(fleet, delivered):
    url = fleet.artifacts[0]["url"] + ".missing"
    play = fleet.play("pre_check.yml", delivered, artifacts=[{"name": "kubelet", "url": url}])
    assert play.blocking(delivered.name) == {f"artifact:{url}"}
    assert play.checks(delivered.name)[f"artifact:{url}"]["found"] == "HTTP 404"


def test_an_api_server_that_is_not_reached_is_told(fleet, delivered):
    play = fleet.play("pre_check.yml", delivered, api_server_endpoint=f"{fleet.lab.gateway}:9")
    assert play.blocking(delivered.name) == {"api-server"}


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_an_hour_off_is_told(fleet, delivered, hours):
    play = fleet.play("pre_check.yml", delivered, reference_time=time.time() - 3600 * hours)
    assert play.blocking(delivered.name) == {"clock"}
    assert f"{'+' if hours > 0 else '-'}3" in play.checks(delivered.name)["clock"]["found"]


def test_a_node_of_the_same_name_or_address_is_told(fleet, delivered):
    nodes = [
        {"name": delivered.name, "addresses": ["10.0.0.1"]},
        {"name": "other", "addresses": [delivered.address]},
    ]
    play = fleet.play("pre_check.yml", delivered, cluster_nodes=nodes)
    assert play.blocking(delivered.name) == {"node-name-unique", "addresses-unique"}


def test_what_the_policy_only_warns_of_does_not_block(fleet, delivered, provoke):
    provoke("touch /var/lib/kubelet/x", "rm /var/lib/kubelet/x")
    policy = {**site.POLICY, "warn_only": ["leftover:/var/lib/*"]}
    play = fleet.play("pre_check.yml", delivered, policy=policy)
    assert play.blocking(delivered.name) == set()
    assert not play.checks(delivered.name)["leftover:/var/lib/kubelet"]["ok"]


def test_a_mistake_in_the_policy_fails_with_its_sentence(fleet, delivered):
    play = fleet.play("pre_check.yml", delivered, policy={"min_cpu": 2})
    assert play.failed(delivered.name).result["msg"] == (
        "The policy is not usable: min_cpu is not a key of a policy."
    )


@pytest.fixture
def plain_user(delivered, fleet):
    """A user who may sign in and nothing else."""
    delivered.run(
        "useradd -m plain && mkdir /home/plain/.ssh && cp /root/.ssh/authorized_keys"
        " /home/plain/.ssh/ && chown -R plain /home/plain/.ssh"
    )
    yield "plain"
    delivered.run("rm -f /etc/sudoers.d/plain; userdel -rf plain")


def check_as(fleet, host, user, **variables):
    inventory = fleet.inventory(host, ansible_user=user, **variables)
    return run_playbook(fleet.run_folder(), "pre_check.yml", inventory, fleet.variables())


def test_a_user_who_cannot_become_root_is_told_with_everything_else(fleet, delivered, plain_user):
    play = check_as(fleet, delivered, plain_user)
    play.assert_successful()
    assert play.blocking(delivered.name) >= {"privilege"}
    assert "password" in play.checks(delivered.name)["privilege"]["found"]
    assert play.checks(delivered.name)["memory"]["ok"]


def test_a_user_who_becomes_root_by_sudo_will_do(fleet, delivered, plain_user):
    delivered.write("/etc/sudoers.d/plain", "plain ALL=(ALL) NOPASSWD: ALL\n", mode="0440")
    assert check_as(fleet, delivered, plain_user).blocking(delivered.name) == set()


@pytest.mark.parametrize(("password", "blocking"), [("right", set()), ("wrong", {"privilege"})])
def test_the_password_for_sudo_decides(fleet, delivered, plain_user, password, blocking):
    delivered.run("echo plain:right | chpasswd")
    delivered.write("/etc/sudoers.d/plain", "plain ALL=(ALL) ALL\n", mode="0440")
    play = check_as(fleet, delivered, plain_user, ansible_become_password=password)
    play.assert_successful()
    assert play.blocking(delivered.name) & {"privilege"} == blocking


def test_a_changed_host_key_is_never_spoken_to(fleet, delivered):
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOeAbaNeR1FOjH8U1jf0GpXNoWzUipuzXI0+l2vN0j75"
    play = fleet.play("pre_check.yml", dataclasses.replace(delivered, host_key=other))
    failed = play.failed(delivered.name)
    assert failed.status == "unreachable"
    assert "Host key verification failed" in failed.result["msg"]
