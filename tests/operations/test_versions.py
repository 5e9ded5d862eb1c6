"""Versions: what is one, in which spelling, and that none leads out of the artifact folder."""

from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from beidou.base.errors import InvalidInput
from clusters.models import Cluster
from operations.kinds import scale_up, versions
from operations.kinds.scale_up import ScaleUpParams

HOSTILE = [
    "v1.36.3-a/../../../evil",
    "v1.36.3-..",
    "v1.36.3+a\\b",
    "v1.36.3-a b",
    "v1.36.3-a?x",
    "v1.36.3-",
    "v1.36.3\n",
    " v1.36.3",
    "v 1.36.3",
    "v１.36.3",
    "v1.36.3-é",
    "v1.36",
    "",
]


@pytest.mark.parametrize("version", HOSTILE)
def test_what_is_no_version_is_refused(version: str) -> None:
    with pytest.raises(InvalidInput, match="no Kubernetes version"):
        versions.parse(version)


@pytest.mark.parametrize("version", [each for each in HOSTILE if each])
def test_nobody_can_ask_for_what_is_no_version(version: str) -> None:
    with pytest.raises(ValidationError):
        ScaleUpParams(kubernetes_version=version)


def test_a_cluster_cannot_choose_another_folder_by_its_version() -> None:
    run: Any = SimpleNamespace(
        params=ScaleUpParams(), cluster=Cluster(version="v1.36.3-a/../../../evil")
    )
    with pytest.raises(InvalidInput, match="no Kubernetes version"):
        scale_up._version(run)


@pytest.mark.parametrize(
    "version", ["v1.36.3", "v1.28.3-eks-4f4795d", "v1.30.1+rke2r1", "v1.36.0-alpha.1.12+abcdef0"]
)
def test_versions_of_distributions_are_versions(version: str) -> None:
    assert versions.canonical(version) == version


def test_a_version_is_kept_in_one_spelling() -> None:
    assert ScaleUpParams(kubernetes_version="1.36.3").kubernetes_version == "v1.36.3"
