"""When the certificates of a host end, and who still works with older ones."""

import base64
import os
from datetime import UTC, datetime

import pytest

from tests.fakes.kube_objects import server_certificate
from tests.operations.ansible.host_code import certificates, issued, load_file
from tests.operations.ansible.made_up_host import MadeUpHost

PEM = server_certificate("good").certificate_pem
END = certificates.not_after(certificates.certificates_in(PEM)[0])
BOOT = 1_700_000_000
STATIC = "0::/kubepods/burstable/pod6f1a6b1f2c0d4e8c9b7a5d3e1f0a2b4c/d2"
HOSTED = (
    "0::/kubepods/burstable/pod3c9ad2f1-7d0e-4d52-9a44-6c2c5bb0f2a1/d1",
    "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-"
    "pod3c9ad2f1_7d0e_4d52_9a44_6c2c5bb0f2a1.slice/cri-containerd-d1.scope",
    "9:name=systemd:/kubepods/pod3c9ad2f1-7d0e-4d52-9a44-6c2c5bb0f2a1/d1\n8:pids:/kubepods",
)
"""Of a pod that the API server knows: a control plane of another cluster, say."""


@pytest.fixture
def host(tmp_path):
    made = MadeUpHost(tmp_path / "host")
    made.write("/proc/stat", f"cpu 1 2 3\nbtime {BOOT}\n")
    return made


def begin(host, pid, name, seconds, cgroup=STATIC):
    """A program that began so long after the host."""
    host.process(pid, f"/usr/local/bin/{name}", "--x", cgroup=cgroup)
    fields = ["S", *["0"] * 18, str(int(seconds * issued.TICKS)), "0"]
    host.write(f"/proc/{pid}/stat", f"{pid} ({name[:15]} (a) b) {' '.join(fields)}\n")


def written(host, name, seconds):
    path = issued.FILES[name]
    host.write(path, PEM)
    os.utime(host.files.real(path), (BOOT + seconds, BOOT + seconds))


def test_certificates_are_read_from_files_and_from_kubeconfigs(host):
    host.write(issued.FILES["apiserver"], PEM)
    data = base64.b64encode(PEM.encode()).decode()
    host.write(
        issued.FILES["admin.conf"], f"users:\n- user:\n    client-certificate-data: {data}\n"
    )
    host.write(issued.FILES["scheduler.conf"], "users: []\n")
    assert issued.ends_of(host.files, issued.FILES) == {"apiserver": END, "admin.conf": END}
    assert datetime.now(UTC) < END


@pytest.mark.parametrize("text", ["", "no certificate", "client-certificate-data: !!!"])
def test_what_is_no_certificate_has_no_end(host, text):
    host.write(issued.FILES["apiserver"], text)
    assert issued.ends_of(host.files, issued.FILES) == {}


def test_an_authority_whose_key_is_elsewhere_is_named(host):
    for name in ("ca", "front-proxy-ca"):
        host.write(f"{issued.AUTHORITIES[name]}.crt", PEM)
    host.write(f"{issued.AUTHORITIES['ca']}.key", "key")
    assert issued.missing_keys(host.files) == ["front-proxy-ca"]


def test_a_program_that_began_before_its_certificate_was_written_works_with_an_older_one(host):
    begin(host, 7, "kube-scheduler", 100)
    written(host, "scheduler.conf", 50)
    assert not issued.works_with_older(host.files, "kube-scheduler")
    written(host, "scheduler.conf", 200)
    assert issued.works_with_older(host.files, "kube-scheduler")


def test_the_newest_of_several_certificates_decides(host):
    begin(host, 7, "etcd", 100)
    written(host, "etcd-server", 50)
    written(host, "etcd-peer", 200)
    assert issued.works_with_older(host.files, "etcd")


@pytest.mark.parametrize("cgroup", HOSTED)
def test_a_program_of_that_name_in_a_pod_is_another_one_s(host, cgroup):
    begin(host, 5, "etcd", 10, cgroup)
    begin(host, 7, "etcd", 100)
    assert issued.running(host.files, "etcd").pid == 7


@pytest.mark.parametrize("cgroup", HOSTED)
def test_what_runs_in_a_pod_alone_works_with_no_certificate_of_the_host(host, cgroup):
    begin(host, 5, "etcd", 10, cgroup)
    written(host, "etcd-server", 50)
    assert not issued.works_with_older(host.files, "etcd")


def test_a_program_that_does_not_run_works_with_none(host):
    written(host, "etcd-server", 50)
    assert not issued.works_with_older(host.files, "etcd")


@pytest.mark.parametrize(
    ("manifest", "port"),
    [("- --secure-port=7443\n", 7443), ("- kube-apiserver\n", 6443), ("", 6443)],
)
def test_where_the_api_server_listens_is_read_from_its_manifest(host, manifest, port):
    host.write("/etc/kubernetes/manifests/kube-apiserver.yaml", manifest)
    assert issued.secure_port(host.files) == port


def test_what_a_kubelet_renews_itself_is_read_from_its_configuration():
    assert issued.rotates_itself("kind: X\nrotateCertificates: true\n")
    assert not issued.rotates_itself("rotateCertificates: false\n")
    assert issued.renews_server("serverTLSBootstrap: true\n")
    assert not issued.renews_server("# serverTLSBootstrap: true\n")


# --- restarting ----------------------------------------------------------------------------------


@pytest.fixture
def module(monkeypatch):
    made = load_file("library/restart_static_pods.py")
    monkeypatch.setattr(made, "PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(made, "SETTLE_SECONDS", -(10**9))
    return made


def test_a_program_is_ended_and_runs_again_as_another_process(module, host, monkeypatch):
    begin(host, 7, "etcd", 100)
    ended = []

    def end(pid, _signal):
        ended.append(pid)
        host.write("/proc/7/cmdline", "")
        host.write("/proc/7/comm", "")
        begin(host, 8, "etcd", 300)

    monkeypatch.setattr(module.os, "kill", end)
    assert module.restart(host.files, "etcd", 5) == ""
    assert ended == [7]


def test_one_that_does_not_end_is_killed_once(module, host, monkeypatch):
    begin(host, 7, "etcd", 100)
    monkeypatch.setattr(module, "GRACE_SECONDS", 0)
    signals = []

    def end(_pid, number):
        signals.append(number)
        if number == module.signal.SIGKILL:
            host.write("/proc/7/cmdline", "")
            host.write("/proc/7/comm", "")
            begin(host, 8, "etcd", 300)

    monkeypatch.setattr(module.os, "kill", end)
    assert module.restart(host.files, "etcd", 5) == ""
    assert signals == [module.signal.SIGTERM, module.signal.SIGKILL]


def test_one_that_has_just_ended_by_itself_is_waited_for(module, host, monkeypatch):
    begin(host, 7, "etcd", 100)

    def find_nobody(_pid, _signal):
        host.write("/proc/7/cmdline", "")
        host.write("/proc/7/comm", "")
        begin(host, 8, "etcd", 300)
        raise ProcessLookupError

    monkeypatch.setattr(module.os, "kill", find_nobody)
    assert module.restart(host.files, "etcd", 5) == ""


def test_one_that_does_not_run_again_is_named(module, host, monkeypatch):
    begin(host, 7, "etcd", 100)
    monkeypatch.setattr(module.os, "kill", lambda *_: None)
    problem = module.restart(host.files, "etcd", 0.01)
    assert "etcd was ended for its new certificate and does not run again" in problem


def test_one_that_is_not_there_is_not_waited_for(module, host):
    assert module.restart(host.files, "etcd", 5) == ""
