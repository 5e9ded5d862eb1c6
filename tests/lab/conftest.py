"""One lab with one cluster for all tests of this folder that need the real thing."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Host, Lab, LabCluster, state


@pytest.fixture(scope="package")
def real_lab() -> Iterator[Lab]:
    if os.geteuid() != 0 or shutil.which("podman") is None:
        reason = "The lab needs root and podman: run `python -m lab setup` as root first."
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with Lab.start(f"own-{os.getpid()}") as lab:
        yield lab


@pytest.fixture(scope="package")
def spares(real_lab: Lab) -> list[Host]:
    return real_lab.hosts(2, prefix="spare")


@pytest.fixture(scope="package")
def cluster(real_lab: Lab) -> LabCluster:
    return real_lab.cluster("c1", workers=1)


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any lab, as far as the records are concerned."""
    monkeypatch.setattr(state, "run_root", lambda: tmp_path)
    return tmp_path
