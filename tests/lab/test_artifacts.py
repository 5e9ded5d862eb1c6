"""The artifact source: complete, verifiable, the same over HTTP and as a folder."""

import hashlib
import json
import tarfile
from pathlib import Path

import httpx
import pytest

from lab import Lab
from lab.artifacts import CONTROL_PLANE_IMAGES, IMAGES

pytestmark = pytest.mark.lab

FOLDER = "kubernetes/v1.36.3/amd64"


@pytest.fixture(scope="package")
def folder(real_lab: Lab) -> Path:
    return real_lab.artifacts().root / FOLDER


def _tags(archive: Path) -> set[str]:
    with tarfile.open(archive) as opened:
        manifest = opened.extractfile("manifest.json")
        assert manifest is not None
        return {tag for image in json.load(manifest) for tag in image["RepoTags"]}


def test_every_file_has_a_checksum_that_holds(folder: Path):
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert set(sums) == {path.name for path in folder.iterdir()} - {"SHA256SUMS"}
    for name, digest in sums.items():
        with (folder / name).open("rb") as content:
            assert hashlib.file_digest(content, "sha256").hexdigest() == digest, name


def test_workers_get_no_image_of_the_control_plane(folder: Path):
    assert _tags(folder / IMAGES) == {
        "registry.k8s.io/kube-proxy:v1.36.3",
        "registry.k8s.io/pause:3.10.2",
        "registry.k8s.io/coredns/coredns:v1.14.2",
        "registry.k8s.io/lab-cni:1",
        "registry.k8s.io/beidou/probe:1",
    }


def test_kubeadm_finds_its_images_under_the_names_it_asks_for(folder: Path):
    assert _tags(folder / CONTROL_PLANE_IMAGES) == {
        "registry.k8s.io/kube-apiserver:v1.36.3",
        "registry.k8s.io/kube-controller-manager:v1.36.3",
        "registry.k8s.io/kube-scheduler:v1.36.3",
        "registry.k8s.io/etcd:3.6.8-0",
    }


def test_the_server_hands_out_the_files_of_the_folder(real_lab: Lab, folder: Path):
    url = f"{real_lab.artifacts().url}/{FOLDER}/SHA256SUMS"
    assert httpx.get(url).content == (folder / "SHA256SUMS").read_bytes()


def test_asking_again_starts_no_second_server(real_lab: Lab):
    assert real_lab.artifacts() == Lab.attach(real_lab.name).artifacts()


def test_another_folder_can_be_served_as_well(real_lab: Lab, tmp_path: Path):
    (tmp_path / "SHA256SUMS").write_text("forged\n")
    url = real_lab.serve(tmp_path, port=8090)
    assert httpx.get(f"{url}/SHA256SUMS").text == "forged\n"
