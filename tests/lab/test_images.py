"""Container images written without a builder: what is in them, and that they are reproducible."""

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from lab.images import Image, program_image, write_archive


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program"
    path.write_bytes(b"#!/bin/sh\n")
    return path


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    content = archive.extractfile(name)
    assert content is not None
    return content.read()


def _manifest(path: Path) -> list[dict[str, Any]]:
    with tarfile.open(path) as archive:
        return list(json.loads(_read(archive, "manifest.json")))


def test_an_image_holds_its_files_and_links(tmp_path: Path, program: Path):
    image = Image("example/one:1", {"bin/program": program}, {"bin/alias": "program"})
    write_archive([image], tmp_path / "images.tar")
    (entry,) = _manifest(tmp_path / "images.tar")
    with tarfile.open(tmp_path / "images.tar") as archive:
        layer_file = archive.extractfile(entry["Layers"][0])
        with tarfile.open(fileobj=layer_file) as layer:
            assert layer.getmember("bin/program").mode == 0o755
            assert layer.getmember("bin/alias").linkname == "program"
            assert _read(layer, "bin/program") == b"#!/bin/sh\n"


def test_the_configuration_names_the_layer_by_its_content(tmp_path: Path, program: Path):
    write_archive([program_image("example/one:1", program)], tmp_path / "images.tar")
    (entry,) = _manifest(tmp_path / "images.tar")
    with tarfile.open(tmp_path / "images.tar") as archive:
        config = json.loads(_read(archive, entry["Config"]))
        digest = hashlib.sha256(_read(archive, entry["Layers"][0])).hexdigest()
    assert config["rootfs"]["diff_ids"] == [f"sha256:{digest}"]


def test_an_image_starts_with_its_entry_point(tmp_path: Path, program: Path):
    image = program_image("example/one:1", program, entrypoint=["/usr/local/bin/program"])
    write_archive([image], tmp_path / "images.tar")
    (entry,) = _manifest(tmp_path / "images.tar")
    with tarfile.open(tmp_path / "images.tar") as archive:
        config = json.loads(_read(archive, entry["Config"]))
    assert config["config"]["Entrypoint"] == ["/usr/local/bin/program"]


def test_one_archive_holds_several_images(tmp_path: Path, program: Path):
    names = ["example/one:1", "example/two:2"]
    write_archive([program_image(name, program) for name in names], tmp_path / "images.tar")
    assert [entry["RepoTags"] for entry in _manifest(tmp_path / "images.tar")] == [
        ["example/one:1"],
        ["example/two:2"],
    ]


def test_the_same_files_make_the_same_archive(tmp_path: Path, program: Path):
    for name in ("first.tar", "second.tar"):
        write_archive([program_image("example/one:1", program)], tmp_path / name)
        program.touch()
    assert (tmp_path / "first.tar").read_bytes() == (tmp_path / "second.tar").read_bytes()
