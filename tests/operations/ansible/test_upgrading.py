"""What a host must have to be upgraded, and how its programs are replaced."""

import hashlib

import pytest

from tests.operations.ansible.host_code import load_file, upgrading
from tests.operations.ansible.made_up_host import MadeUpHost

NEW = b"new kubelet"
SUM = hashlib.sha256(NEW).hexdigest()


@pytest.fixture
def host(tmp_path):
    return MadeUpHost(tmp_path / "host")


# --- looking -------------------------------------------------------------------------------------


def test_the_kubelet_that_runs_is_found_whatever_became_of_its_file(host):
    host.process(7, "/bin/sh", "kubelet")
    host.process(12, "/usr/bin/kubelet", "--config=x")
    host.link("/proc/12/exe", "/usr/bin/kubelet (deleted)")
    assert upgrading.running_kubelet(host.files) == "/usr/bin/kubelet"


def test_where_no_kubelet_runs_none_is_found(host):
    check = upgrading.check_program(upgrading.running_kubelet(host.files), "/usr/local/bin")
    assert (check.ok, str(check.found)) == (False, "no kubelet runs")


def test_a_kubelet_elsewhere_would_not_be_replaced():
    assert upgrading.check_program("/usr/local/bin/kubelet", "/usr/local/bin").ok
    check = upgrading.check_program("/usr/bin/kubelet", "/usr/local/bin")
    assert not check.ok
    assert "artifacts_bin_dir" in check.advice


def test_a_control_plane_has_its_static_pods(host):
    for name in upgrading.STATIC_PODS[:2]:
        host.write(f"/etc/kubernetes/manifests/{name}.yaml")
    (check,) = upgrading.check_manifests(host.files)
    assert check.found == "missing: kube-scheduler"
    host.write("/etc/kubernetes/manifests/kube-scheduler.yaml")
    assert upgrading.check_manifests(host.files)[0].ok


@pytest.mark.parametrize(
    ("manifest", "folder"),
    [
        ("- etcd\n    - --data-dir=/srv/etcd\n", "/srv/etcd"),
        ('- "--data-dir=/srv/etcd"\n', "/srv/etcd"),
        ("- etcd\n", "/var/lib/etcd"),
    ],
)
def test_where_etcd_keeps_its_data_is_read_from_its_manifest(host, manifest, folder):
    host.write("/etc/kubernetes/manifests/etcd.yaml", manifest)
    assert upgrading.etcd_data_dir(host.files) == folder


def test_a_host_without_etcd_has_no_data_of_it(host):
    assert upgrading.etcd_data_dir(host.files) == ""


def test_room_grows_with_the_size_of_etcd():
    gib = 1 << 30
    assert upgrading.room_for_etcd("/e", 0, "") == {"/e": 1.0}
    assert upgrading.room_for_etcd("/e", 5 * gib, "/s") == {"/e": 5.0, "/s": 6.0}


def test_room_of_a_folder_that_is_not_there_yet_is_that_of_its_parent(tmp_path):
    path = str(tmp_path / "a" / "b")
    device, free = upgrading.free_bytes([path])[path]
    assert device == tmp_path.stat().st_dev
    assert free > 0


# --- replacing -----------------------------------------------------------------------------------


@pytest.fixture
def module():
    return load_file("library/replace_programs.py")


@pytest.fixture
def folders(tmp_path):
    staged, programs = tmp_path / "staged", tmp_path / "bin"
    staged.mkdir()
    programs.mkdir()
    (programs / "kubelet").write_bytes(b"old")
    (staged / "kubelet").write_bytes(NEW)
    return str(staged), str(programs)


def test_a_program_is_replaced_once(module, folders, tmp_path):
    assert module.replace("kubelet", SUM, *folders)
    assert not module.replace("kubelet", SUM, *folders)
    place = tmp_path / "bin" / "kubelet"
    assert place.read_bytes() == NEW
    assert place.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in place.parent.iterdir()] == ["kubelet"]


def test_what_is_staged_must_be_what_was_asked_for(module, folders, tmp_path):
    (tmp_path / "staged" / "kubelet").write_bytes(b"half of it")
    with pytest.raises(ValueError, match="another checksum"):
        module.replace("kubelet", SUM, *folders)
    assert (tmp_path / "bin" / "kubelet").read_bytes() == b"old"
    assert [path.name for path in (tmp_path / "bin").iterdir()] == ["kubelet"]


def test_what_is_not_staged_is_named(module, folders, tmp_path):
    (tmp_path / "staged" / "kubelet").unlink()
    with pytest.raises(ValueError, match="kubelet is not staged"):
        module.replace("kubelet", SUM, *folders)


def test_a_kubelet_that_runs_from_another_file_is_restarted(module, host, tmp_path):
    place = tmp_path / "kubelet"
    place.write_bytes(NEW)
    assert module.runs_another(host.files, str(place))  # none runs
    host.process(12, "/usr/local/bin/kubelet")
    # As the kernel's own link does, it means the file and not its name.
    (host.root / "proc/12/exe").hardlink_to(place)
    assert not module.runs_another(host.files, str(place))
    place.rename(tmp_path / "kubelet.old")
    place.write_bytes(NEW)
    assert module.runs_another(host.files, str(place))
