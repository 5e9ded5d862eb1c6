"""What kubeadm is told: documents of values, never text put together.

Reference: https://kubernetes.io/docs/reference/config-api/kubeadm-config.v1beta4/
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from operations.kinds.create_cluster.params import API_PORT, CreateClusterParams

KUBEADM = "kubeadm.k8s.io/v1beta4"
CRI_SOCKET = "unix:///run/containerd/containerd.sock"
CONTROL_PLANE_TAINT = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
TOKEN_MINUTES = 5
"""kubeadm init insists on making a token; nobody uses it, and it is revoked at once."""


@dataclass(frozen=True)
class FirstNode:
    """The first control plane: where kubeadm init runs."""

    name: str
    address: str
    takes_pods: bool
    extra_args: Sequence[Mapping[str, str]] = ()
    ignored_checks: Sequence[str] = ()


def init_documents(
    *,
    cluster_name: str,
    endpoint: str,
    params: CreateClusterParams,
    node: FirstNode,
    cgroup_driver: str,
    token: str,
) -> list[dict[str, Any]]:
    """The configuration of ``kubeadm init``; the site's additions are merged in."""
    return [
        {
            "apiVersion": KUBEADM,
            "kind": "InitConfiguration",
            "localAPIEndpoint": {"advertiseAddress": node.address, "bindPort": API_PORT},
            "bootstrapTokens": [
                {
                    "token": token,
                    "ttl": f"{TOKEN_MINUTES}m0s",
                    "description": "kubeadm init",
                }
            ],
            "nodeRegistration": {
                "name": node.name,
                "criSocket": CRI_SOCKET,
                "taints": [] if node.takes_pods else [CONTROL_PLANE_TAINT],
                "ignorePreflightErrors": list(node.ignored_checks),
                "kubeletExtraArgs": [
                    {"name": str(each["name"]), "value": str(each["value"])}
                    for each in node.extra_args
                ],
            },
        },
        cluster_document(cluster_name, endpoint, params),
        _with_additions(
            {
                "apiVersion": "kubelet.config.k8s.io/v1beta1",
                "kind": "KubeletConfiguration",
                "cgroupDriver": cgroup_driver,
            },
            params,
        ),
        _with_additions(
            {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration"},
            params,
        ),
    ]


def cluster_document(
    cluster_name: str, endpoint: str, params: CreateClusterParams
) -> dict[str, Any]:
    document = {
        "apiVersion": KUBEADM,
        "kind": "ClusterConfiguration",
        "clusterName": cluster_name,
        "kubernetesVersion": params.kubernetes_version,
        "controlPlaneEndpoint": endpoint,
        "networking": {
            "podSubnet": params.pod_network,
            "serviceSubnet": params.service_network,
        },
    }
    return _with_additions(document, params)


def upload_documents(
    *, cluster_name: str, endpoint: str, params: CreateClusterParams, certificate_key: str
) -> list[dict[str, Any]]:
    """The configuration with which the cluster's certificates are kept for further control
    planes."""
    init = {
        "apiVersion": KUBEADM,
        "kind": "InitConfiguration",
        "certificateKey": certificate_key,
    }
    return [init, cluster_document(cluster_name, endpoint, params)]


def as_text(documents: Sequence[Mapping[str, Any]]) -> str:
    text: str = yaml.safe_dump_all(documents, sort_keys=False)
    return text


def cgroup_driver(params: CreateClusterParams, overrides: Mapping[str, Any]) -> str:
    """One word for kubelet and containerd: the site's, else that of systemd's hosts."""
    asked = params.kubeadm_config.get("KubeletConfiguration", {}).get("cgroupDriver")
    return str(overrides.get("cgroup_driver") or asked or "systemd")


def _with_additions(document: dict[str, Any], params: CreateClusterParams) -> dict[str, Any]:
    return merged(document, params.kubeadm_config.get(document["kind"], {}))


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """``more`` laid over ``base``: mappings key by key, everything else as a whole."""
    result = dict(base)
    for key, value in more.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return result
