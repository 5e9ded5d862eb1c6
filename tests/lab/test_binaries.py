"""What decides the content of the cache, and which versions there are."""

import shutil
from pathlib import Path

import pytest

from lab import binaries
from lab.binaries import COMPONENTS, Component
from lab.errors import LabError
from lab.versions import RELEASES, release


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(binaries.MODULES / "etcdctl", tmp_path / "etcdctl")
    monkeypatch.setattr(binaries, "MODULES", tmp_path)
    return tmp_path / "etcdctl"


@pytest.mark.parametrize("wanted", ["1.36", "v1.36.3", "1.36.3"])
def test_a_release_is_found_by_minor_and_by_version(wanted: str):
    assert release(wanted).version == "v1.36.3"


def test_an_unknown_release_is_refused_with_the_known_ones():
    with pytest.raises(LabError, match=r"no Kubernetes 1\.20; it has v1\.36\.3, v1\.35\.4"):
        release("1.20")


def test_an_unknown_component_is_refused_with_the_known_ones():
    with pytest.raises(LabError, match="no component docker; it has kubernetes-1.36"):
        binaries.ensure_component("docker")


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_component_has_pinned_sums(name: str):
    folder = COMPONENTS[name].module
    assert (folder / "go.mod").read_text().startswith(f"module beidou.lab/{name}\n")
    assert (folder / "go.sum").stat().st_size > 0


@pytest.mark.parametrize("minor", RELEASES)
def test_kubernetes_is_pinned_to_the_release(minor: str):
    required = f"k8s.io/kubernetes {RELEASES[minor].version}"
    assert required in (COMPONENTS[f"kubernetes-{minor}"].module / "go.mod").read_text()


def test_the_version_is_stamped_into_kubernetes():
    flags = COMPONENTS["kubernetes-1.36"].linker_flags
    assert "-X k8s.io/component-base/version.gitVersion=v1.36.3" in flags
    assert "-X k8s.io/client-go/pkg/version.gitMinor=36" in flags


def test_the_key_changes_with_the_sums(module: Path):
    component = Component("etcdctl", {"etcdctl": "go.etcd.io/etcd/etcdctl/v3"})
    before = component.key()
    with (module / "go.sum").open("a") as sums:
        sums.write("one more\n")
    assert component.key() != before


def test_the_key_changes_with_the_flags(module: Path):
    packages = {"etcdctl": "go.etcd.io/etcd/etcdctl/v3"}
    assert Component("etcdctl", packages).key() != Component("etcdctl", packages, "-s").key()


def test_a_failed_build_leaves_no_folder(module: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("BEIDOU_LAB_CACHE", str(tmp_path / "cache"))
    component = Component("etcdctl", {"etcdctl": "go.etcd.io/etcd/nothing"})
    monkeypatch.setitem(COMPONENTS, "etcdctl", component)
    with pytest.raises(LabError, match="go.etcd.io/etcd/nothing"):
        binaries.ensure_component("etcdctl")
    assert not component.folder().exists()
