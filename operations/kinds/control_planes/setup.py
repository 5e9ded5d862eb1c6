"""How kubeadm made the cluster, as far as its control planes go."""

from collections.abc import Mapping
from typing import Any

import yaml

from beidou.base.sentences import Sentence
from clusters.drivers.answers import KubeadmConfig
from operations.kinds.base import Check, check
from operations.kinds.control_planes.endpoint import split


def document(config: KubeadmConfig) -> dict[str, Any]:
    """The ClusterConfiguration; its text was read once already, so it is a mapping."""
    found = yaml.safe_load(config.text)
    return found if isinstance(found, dict) else {}


def has_external_etcd(config: KubeadmConfig) -> bool:
    etcd = document(config).get("etcd")
    return isinstance(etcd, Mapping) and bool(etcd.get("external"))


def stacked_check(config: KubeadmConfig) -> Check:
    is_external = has_external_etcd(config)
    return check(
        "etcd",
        not is_external,
        Sentence("etcd outside the cluster") if is_external else Sentence("on the control planes"),
        Sentence("etcd on the control planes, as kubeadm makes it"),
        Sentence("use kubeadm by hand: the members of an etcd outside are not looked after here"),
    )


def version_check(config: KubeadmConfig, server: str) -> Check:
    return check(
        "cluster-version",
        config.kubernetes_version == server,
        Sentence(
            "kubeadm's %(kubeadm)s, the API server's %(server)s",
            kubeadm=config.kubernetes_version or "–",
            server=server,
        ),
        Sentence("one version"),
        Sentence("finish the upgrade of the cluster, then retry"),
    )


def endpoint_of(config: KubeadmConfig) -> tuple[str, int] | None:
    """Host and port where nodes look for the API server; None where kubeadm was given none."""
    try:
        return split(config.control_plane_endpoint) if config.control_plane_endpoint else None
    except ValueError:
        return None
