"""What kubeadm needs to join machines: bootstrap tokens, and what a cluster tells about itself."""

import base64
import binascii
import hashlib
import secrets
import string
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import yaml

from beidou.base.errors import PermanentError
from beidou.base.sentences import Sentence
from clusters.drivers import certificates, yaml_text
from clusters.drivers.answers import BootstrapToken, ClusterInfo, KubeadmConfig, KubeletConfig

# libyaml's, where PyYAML has it: ten times as fast.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

DEPTH_LIMIT = 50
JOIN_GROUP = "system:bootstrappers:kubeadm:default-node-token"
_T = TypeVar("_T", list[Any], dict[str, Any])
_ALPHABET = string.ascii_lowercase + string.digits
# The kubelet's own default where the configuration is silent.
DEFAULT_CGROUP_DRIVER = "cgroupfs"


def new_token(ttl: timedelta, *, token_id: str = "") -> BootstrapToken:
    """A random token that ends after ``ttl``; its public id may be given."""
    token_id = token_id or _random(6)
    return BootstrapToken(
        token_id=token_id,
        token=f"{token_id}.{_random(16)}",
        expires_at=(datetime.now(UTC) + ttl).replace(microsecond=0),
    )


def token_id_for(name: str) -> str:
    """The id of the token called ``name``, by which it can be revoked without having been kept."""
    digest = hashlib.sha256(name.encode()).digest()
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:6])


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def secret_name(token_id: str) -> str:
    return f"bootstrap-token-{token_id}"


def token_secret(token: BootstrapToken, description: str) -> dict[str, Any]:
    """The Secret that makes a token valid: for signing in as a new node and for discovery."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret_name(token.token_id), "namespace": "kube-system"},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "description": description,
            "token-id": token.token_id,
            "token-secret": token.token.split(".")[1],
            "expiration": token.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
            "auth-extra-groups": JOIN_GROUP,
        },
    }


def parse_cluster_info(data: Mapping[str, str], *, cluster_name: str) -> ClusterInfo:
    """The content of kube-public/cluster-info."""
    config = _mapping(data, "kubeconfig", "kube-public/cluster-info", cluster_name)
    try:
        cluster = config["clusters"][0]["cluster"]
        ca_pem = base64.b64decode(cluster["certificate-authority-data"]).decode("ascii")
        hashes = [
            certificates.public_key_hash(item) for item in certificates.load_certificates(ca_pem)
        ]
        return ClusterInfo(
            server=str(cluster["server"]), ca_pem=ca_pem, ca_cert_hashes=tuple(hashes)
        )
    except (KeyError, IndexError, TypeError, ValueError, binascii.Error) as error:
        raise PermanentError(
            Sentence(
                "Cluster %(cluster)s: the ConfigMap kube-public/cluster-info names no server with "
                "its CA certificate.",
                cluster=cluster_name,
            )
        ) from error


def parse_kubelet_config(data: Mapping[str, str], *, cluster_name: str) -> KubeletConfig:
    """The content of kube-system/kubelet-config."""
    config = _mapping(data, "kubelet", "kube-system/kubelet-config", cluster_name)
    return KubeletConfig(
        cgroup_driver=str(config.get("cgroupDriver") or DEFAULT_CGROUP_DRIVER),
        cluster_domain=str(config.get("clusterDomain") or ""),
        cluster_dns=tuple(str(item) for item in _of_type(list, config.get("clusterDNS"))),
        text=data["kubelet"],
    )


def parse_kubeadm_config(data: Mapping[str, str], *, cluster_name: str) -> KubeadmConfig:
    """The content of kube-system/kubeadm-config."""
    name = "kube-system/kubeadm-config"
    config = _mapping(data, "ClusterConfiguration", name, cluster_name)
    networking: dict[str, Any] = _of_type(dict, config.get("networking"))
    return KubeadmConfig(
        kubernetes_version=str(config.get("kubernetesVersion") or ""),
        control_plane_endpoint=str(config.get("controlPlaneEndpoint") or ""),
        image_repository=str(config.get("imageRepository") or ""),
        pod_subnet=str(networking.get("podSubnet") or ""),
        service_subnet=str(networking.get("serviceSubnet") or ""),
        dns_domain=str(networking.get("dnsDomain") or ""),
        text=data["ClusterConfiguration"],
    )


def _mapping(data: Mapping[str, str], key: str, config_map: str, cluster: str) -> dict[str, Any]:
    unreadable = PermanentError(
        Sentence(
            "Cluster %(cluster)s: the ConfigMap %(name)s has no readable “%(key)s”.",
            cluster=cluster,
            name=config_map,
            key=key,
        )
    )
    try:
        if yaml_text.trap(data[key], depth_limit=DEPTH_LIMIT, loader=_LOADER):
            raise unreadable
        config = yaml.load(data[key], Loader=_LOADER)  # noqa: S506 - a safe loader
    except (KeyError, ValueError, yaml.YAMLError) as error:  # ValueError: a date like 2026-99-99
        raise unreadable from error
    if not isinstance(config, dict):
        raise PermanentError(
            Sentence(
                "Cluster %(cluster)s: “%(key)s” of %(name)s is not a mapping.",
                cluster=cluster,
                key=key,
                name=config_map,
            )
        )
    return config


def _of_type(kind: type[_T], value: Any) -> _T:
    """``value`` where it is of the type that kubeadm writes, else an empty one: what is made with
    it then says what is missing."""
    return value if isinstance(value, kind) else kind()
