"""A machine becomes a node of a real cluster, and a delivered machine again."""

import base64
import concurrent.futures
import hashlib

import pytest

from tests.operations.ansible.conftest import NAMES, VERSION, wait_until
from tests.operations.host_state import state_of

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def joined(fleet):
    """A machine that was joined once, with what the first and the second run answered."""
    host = fleet.lab.host(f"m{next(NAMES)}")
    token = fleet.token()
    options = {
        "bootstrap_token": token,
        "node_labels": {"rack": "r12", "node-role.kubernetes.io/worker": ""},
        "node_taints": [{"key": "gpu", "value": "a100", "effect": "PreferNoSchedule"}],
        "containerd_registry_mirrors": {"docker.io": [{"url": "https://mirror.example.com"}]},
    }
    first = fleet.play("scale_up.yml", host, **options)
    second = fleet.play("scale_up.yml", host, **options)
    yield {"host": host, "first": first, "second": second, "token": token}
    fleet.forget(host.name)
    host.destroy()


def test_a_machine_becomes_a_ready_node(fleet, joined):
    joined["first"].assert_successful()
    wait_until(lambda: fleet.is_ready(joined["host"].name), "the node to be Ready")


def test_the_node_takes_no_pods_until_the_portal_says_so(fleet, joined):
    taints = node(fleet, joined, "{.spec.taints}")
    assert '"key":"beidou.io/joining"' in taints
    assert '"effect":"NoSchedule"' in taints


def test_the_node_has_its_taints_and_the_labels_a_kubelet_may_set(fleet, joined):
    assert '"key":"gpu","value":"a100"' in node(fleet, joined, "{.spec.taints}")
    labels = node(fleet, joined, "{.metadata.labels}")
    assert '"rack":"r12"' in labels
    assert "node-role" not in labels


def test_the_node_announces_the_address_of_the_machine(fleet, joined):
    assert joined["host"].address in node(fleet, joined, "{.status.addresses}")


def node(fleet, joined, path):
    return fleet.cluster.kubectl(["get", "node", joined["host"].name, "-o", f"jsonpath={path}"])


def test_a_second_run_changes_nothing(joined):
    joined["second"].assert_successful()
    assert joined["second"].changed(joined["host"].name) == []


def test_a_step_is_few_tasks(joined):
    assert len(joined["first"].of(joined["host"].name)) <= 25


def test_the_token_is_in_no_output_and_no_longer_on_the_machine(joined):
    secret = joined["token"].split(".")[1]
    assert secret not in joined["first"].everything_written()
    places = "/run /etc /var/lib/kubelet /var/lib/beidou /var/log /tmp /root"
    assert joined["host"].run(f"grep -rls {secret} {places} || true") == ""


def test_the_mirrors_of_registries_are_configured(joined):
    text = joined["host"].run("cat /etc/containerd/certs.d/docker.io/hosts.toml")
    assert '[host."https://mirror.example.com"]\n  capabilities = ["pull", "resolve"]' in text


def test_the_post_check_of_a_good_node_holds(fleet, joined):
    play = fleet.play("post_check.yml", joined["host"], node_processes=["kube-proxy"])
    play.assert_successful()
    assert play.blocking(joined["host"].name) == set()
    assert len(play.of(joined["host"].name)) == 1


def test_the_post_check_tells_what_does_not_run_and_which_version_is_wrong(fleet, joined):
    host = joined["host"]
    host.run("systemctl stop kubelet")
    play = fleet.play(
        "post_check.yml",
        host,
        kubernetes_version="v1.35.4",
        node_processes=["kube-router"],
        post_check_wait_seconds=1,
    )
    host.run("systemctl start kubelet")
    play.assert_successful()
    assert play.blocking(host.name) == {
        "service:kubelet", "kubelet-health", "kubelet-version", "process:kube-router",
    }  # fmt: skip
    assert play.checks(host.name)["kubelet-version"]["found"] == VERSION


def test_a_node_is_full_of_what_the_pre_check_calls_leftovers(fleet, joined):
    blocking = fleet.play("pre_check.yml", joined["host"]).blocking(joined["host"].name)
    assert blocking >= {
        "leftover:programs", "leftover:units", "leftover:processes", "leftover:/etc/kubernetes",
        "leftover:/var/lib/kubelet", "leftover:cni-configuration", "leftover:mounts",
        "leftover:containerd-containers", "leftover:packet-rules", "port:10250",
    }  # fmt: skip


def test_a_node_of_another_cluster_is_not_touched(fleet, joined):
    play = fleet.scale_up(joined["host"], ca_cert_hashes=["sha256:" + "0" * 64])
    failed = play.failed(joined["host"].name)
    assert len(play.of(joined["host"].name)) == 1
    assert "already a node of another cluster: API server https://" in failed.result["msg"]


def test_a_node_under_another_name_is_not_touched(fleet, joined):
    play = fleet.scale_up(joined["host"], node_name="somebody-else")
    assert play.failed(joined["host"].name).result["msg"] == (
        f"The machine is already in this cluster under the node name {joined['host'].name},"
        " not somebody-else."
    )


def test_cleaning_up_a_node_of_another_cluster_is_refused(fleet, joined):
    play = fleet.play("clean_up.yml", joined["host"], ca_cert_hashes=["sha256:" + "0" * 64])
    failed = play.failed(joined["host"].name)
    assert failed.result["msg"].startswith("Nothing was removed. The machine is already a node")
    assert fleet.is_ready(joined["host"].name)


def test_cleaning_up_a_control_plane_is_refused(fleet):
    host = fleet.cluster.nodes[0]
    failed = fleet.play("clean_up.yml", host).failed(host.name)
    assert failed.result["msg"] == (
        "Nothing was removed. The machine is a control plane of its cluster."
    )


def test_a_cleaned_machine_is_as_delivered_and_joins_again(fleet, new_machine):
    before = state_of(new_machine)
    fleet.scale_up(new_machine).assert_successful()
    wait_until(lambda: fleet.is_ready(new_machine.name), "the node to be Ready")
    fleet.play("clean_up.yml", new_machine).assert_successful()
    assert state_of(new_machine) == before
    assert fleet.play("pre_check.yml", new_machine).blocking(new_machine.name) == set()
    assert fleet.play("clean_up.yml", new_machine).changed(new_machine.name) == []
    fleet.forget(new_machine.name)
    fleet.scale_up(new_machine).assert_successful()
    wait_until(lambda: fleet.is_ready(new_machine.name), "the node to be Ready again")


def test_a_wrong_checksum_stops_a_machine_before_anything_is_installed(fleet, new_machine):
    artifacts = [{**artifact} for artifact in fleet.artifacts]
    for artifact in artifacts:
        artifact["sha256"] = "0" * 64
    play = fleet.scale_up(new_machine, artifacts=artifacts)
    failed = play.failed(new_machine.name)
    assert failed.task.startswith("Fetch kubelet")
    assert "has the checksum" in failed.result["msg"]
    assert new_machine.run("ls -A /usr/local/bin; systemctl is-active containerd || true") == (
        "inactive\n"
    )


def test_one_bad_machine_does_not_stop_the_others(fleet, delivered, joined):
    delivered.run("mkdir -p /etc/systemd/system/containerd.service")
    try:
        play = fleet.play(
            "scale_up.yml", joined["host"], delivered, bootstrap_token=joined["token"]
        )
    finally:
        delivered.run("rmdir /etc/systemd/system/containerd.service")
    assert play.failed(delivered.name).task == (
        "Start containerd with its configuration, now and at every start"
    )
    assert play.of(joined["host"].name)[-1].status in ("ok", "skipped")
    assert "failed" not in {result.status for result in play.of(joined["host"].name)}


def test_a_join_goes_on_when_the_connection_is_lost(fleet, new_machine):
    prefix = f"beidou-{next(NAMES)}-1"
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        cutting = pool.submit(new_machine.run, CUT_DURING_JOIN % prefix)
        play = fleet.scale_up(new_machine, unit_prefix=prefix)
        cutting.result(60)
    play.assert_successful()
    (join,) = [r for r in play.of(new_machine.name) if r.task == "Join the machine to the cluster"]
    assert join.result["rejoined"]
    wait_until(lambda: fleet.is_ready(new_machine.name), "the node to be Ready")


CUT_DURING_JOIN = (
    "until systemctl is-active -q %s-join; do sleep .05; done;"
    " kill -9 $(ps -eo pid,args | awk '/sshd: root@/ && !/awk/ {print $1}')"
)


def test_an_attempt_whose_worker_died_in_the_join_is_taken_up_by_the_next(fleet, new_machine):
    prefix = f"beidou-{next(NAMES)}-1"
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        leaving = pool.submit(new_machine.run, LEAVE_DURING_JOIN.format(prefix))
        fleet.scale_up(new_machine, unit_prefix=prefix, ansible_ssh_retries=0)
        play = fleet.scale_up(new_machine, unit_prefix=prefix)
        leaving.result(60)
    play.assert_successful()
    assert "Join the machine to the cluster" not in play.changed(new_machine.name)
    wait_until(lambda: fleet.is_ready(new_machine.name), "the node to be Ready")


# The join is held in its middle until the second attempt waits for it.  systemd signals all of the
# unit: pidof leaves out a kubeadm that is just starting a program, and it would stay stopped.
LEAVE_DURING_JOIN = (
    "until systemctl is-active -q {0}-join && [ -e /etc/kubernetes/pki/ca.crt ];"
    " do sleep .02; done;"
    " systemctl kill --signal=STOP {0}-join && kill -9"
    " $(ps -eo pid,args | awk '/sshd: root@/ && !/awk/ {{print $1}}');"
    " sleep 5; systemctl kill --signal=CONT {0}-join"
)


def test_an_attempt_that_was_stopped_in_the_join_can_be_repeated_as_it_is(fleet, new_machine):
    prefix = f"beidou-{next(NAMES)}-1"
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(new_machine.run, STOP_DURING_JOIN % (prefix, prefix))
        play = fleet.scale_up(new_machine, unit_prefix=prefix)
        stopping.result(60)
    assert "was stopped" in play.failed(new_machine.name).result["msg"]
    fleet.scale_up(new_machine).assert_successful()
    wait_until(lambda: fleet.is_ready(new_machine.name), "the node to be Ready")


STOP_DURING_JOIN = (
    "until systemctl is-active -q %s-join && [ -e /etc/kubernetes/pki/ca.crt ];"
    " do sleep .02; done; systemctl stop %s-join"
)


def test_a_half_joined_machine_can_be_cleaned(fleet, new_machine):
    new_machine.run("sysctl -qw net.ipv4.ip_forward=0")
    wrong = {"bootstrap_token": "abcdef.0123456789abcdef", "join_cluster_timeout_seconds": 5}
    play = fleet.scale_up(new_machine, **wrong)
    assert "-join ran longer than allowed" in play.failed(new_machine.name).result["msg"]
    fleet.play("clean_up.yml", new_machine).assert_successful()
    assert fleet.play("pre_check.yml", new_machine).blocking(new_machine.name) == set()
    assert new_machine.run("sysctl -n net.ipv4.ip_forward") == "0\n"


def test_a_machine_with_other_containers_is_not_cleaned(fleet, delivered):
    task = "/run/containerd/io.containerd.runtime.v2.task/moby/4f"
    delivered.run(f"mkdir -p {task}")
    try:
        failed = fleet.play("clean_up.yml", delivered).failed(delivered.name)
    finally:
        delivered.run("rm -r /run/containerd")
    assert failed.result["msg"] == (
        "Nothing was removed. The host runs containers that are not Kubernetes': moby/4f."
    )


def test_artifacts_come_from_a_folder_of_the_portal_too(fleet, new_machine):
    root = fleet.lab.artifacts().root / "kubernetes" / VERSION / "amd64"
    artifacts = [
        {"name": a["name"], "sha256": a["sha256"], "src": str(root / a["name"])}
        for a in fleet.artifacts
    ]
    fleet.scale_up(new_machine, artifacts=artifacts).assert_successful()
    wait_until(lambda: fleet.is_ready(new_machine.name), "the node to be Ready")
    assert fleet.scale_up(new_machine, artifacts=artifacts).changed(new_machine.name) == []


def test_a_machine_without_containerd_gets_it_from_the_artifacts(fleet, new_machine):
    artifact = containerd_archive(fleet, new_machine)
    new_machine.run(
        "rm -r /usr/bin/containerd* /usr/bin/ctr /lib/systemd/system/containerd.service"
        " /etc/containerd && systemctl daemon-reload"
    )
    fleet.scale_up(new_machine, artifacts=[*fleet.artifacts, artifact]).assert_successful()
    wait_until(lambda: fleet.is_ready(new_machine.name), "the node to be Ready")
    fleet.play("clean_up.yml", new_machine).assert_successful()
    assert new_machine.run("ls -A /usr/local/bin /etc/containerd 2>/dev/null || true") in (
        "/usr/local/bin:\n",
        "",
    )


def containerd_archive(fleet, host):
    """The host's own programs, packed like containerd's releases, and served."""
    folder = fleet.lab.folder / "containerd"
    folder.mkdir(exist_ok=True)
    programs = "bin/containerd bin/containerd-shim-runc-v2 bin/ctr"
    data = base64.b64decode(host.run(f"cd /usr && tar c {programs} | gzip -1 | base64"))
    (folder / "containerd.tar.gz").write_bytes(data)
    url = fleet.lab.serve(folder, port=8091)
    return {
        "name": "containerd.tar.gz",
        "sha256": hashlib.sha256(data).hexdigest(),
        "url": f"{url}/containerd.tar.gz",
    }
