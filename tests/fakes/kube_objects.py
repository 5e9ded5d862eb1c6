"""What a fake cluster is made of: certificates, a kubeconfig, nodes, pods, events of a watch."""

import base64
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import yaml

from tests.fakes.authority import Authority, Issued


@cache
def authority() -> Authority:
    """The CA of all fake clusters of a test run."""
    return Authority("fake-kubernetes-ca")


@cache
def other_authority() -> Authority:
    return Authority("some-other-ca")


@cache
def intermediate_authority() -> Authority:
    """A CA whose own root nobody has."""
    return Authority("intermediate-ca", parent=Authority("unknown-root"))


@cache
def admin_certificate() -> Issued:
    return authority().issue("admin", organization="system:masters")


@cache
def server_certificate(kind: str) -> Issued:
    now = datetime.now(UTC).replace(microsecond=0)
    names = ("127.0.0.1", "localhost", "kubernetes")
    match kind:
        case "expired":
            return authority().issue("kube-apiserver", names=names, ends=now - timedelta(hours=1))
        case "not_yet_valid":
            begins = now + timedelta(days=2)
            return authority().issue("kube-apiserver", names=names, begins=begins)
        case "wrong_name":
            return authority().issue("kube-apiserver", names=("10.0.0.1", "elsewhere.example"))
        case "other_ca":
            return other_authority().issue("kube-apiserver", names=names)
        case "intermediate_ca":
            return intermediate_authority().issue("kube-apiserver", names=names)
    return authority().issue("kube-apiserver", names=names)


def make_kubeconfig(
    *,
    server: str = "https://127.0.0.1:6443",
    cluster: dict[str, Any] | None = None,
    user: dict[str, Any] | None = None,
    top: dict[str, Any] | None = None,
) -> str:
    """A valid kubeconfig with changes of its parts: a value of None removes the key."""
    admin = admin_certificate()
    clusters = {
        "server": server,
        "certificate-authority-data": base64_text(authority().ca_pem),
        **(cluster or {}),
    }
    users = {
        "client-certificate-data": base64_text(admin.certificate_pem),
        "client-key-data": base64_text(admin.key_pem),
        **(user or {}),
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "fake", "cluster": _without_none(clusters)}],
        "users": [{"name": "admin", "user": _without_none(users)}],
        "contexts": [{"name": "admin@fake", "context": {"cluster": "fake", "user": "admin"}}],
        "current-context": "admin@fake",
        **(top or {}),
    }
    return yaml.safe_dump(_without_none(config), sort_keys=False)


def base64_text(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _without_none(mapping: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if value is not None}


def node(name: str, *, version: str = "1", ready: str = "True", **spec: Any) -> dict[str, Any]:
    """A Node as a kubelet reports it, in short."""
    resources = {"cpu": "4", "memory": "16777216Ki", "ephemeral-storage": "100Gi", "pods": "110"}
    return {
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "resourceVersion": version,
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "labels": {"kubernetes.io/hostname": name},
        },
        "spec": {"podCIDRs": ["10.244.1.0/24"], **spec},
        "status": {
            "capacity": resources,
            "allocatable": {**resources, "cpu": "3800m"},
            "addresses": [
                {"type": "InternalIP", "address": "10.0.0.7"},
                {"type": "Hostname", "address": name},
            ],
            "conditions": [
                {
                    "type": "Ready",
                    "status": ready,
                    "reason": "KubeletReady",
                    "message": "kubelet is posting ready status",
                    "lastTransitionTime": "2026-01-02T03:05:05Z",
                }
            ],
            "nodeInfo": {
                "machineID": "m" * 32,
                "systemUUID": "4c4c4544-0000-0000-0000-000000000000",
                "bootID": "b",
                "kernelVersion": "6.1.0",
                "osImage": "Debian GNU/Linux 12 (bookworm)",
                "containerRuntimeVersion": "containerd://1.6.20",
                "kubeletVersion": "v1.36.3",
                "operatingSystem": "linux",
                "architecture": "amd64",
            },
        },
    }


def pod(
    name: str,
    *,
    namespace: str = "default",
    node_name: str = "n1",
    phase: str = "Running",
    version: str = "1",
    **spec: Any,
) -> dict[str, Any]:
    """A Pod of a ReplicaSet with one container that asks for 100m and 64Mi."""
    container = {
        "name": "main",
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}},
    }
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{namespace}-{name}",
            "resourceVersion": version,
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "ownerReferences": [{"kind": "ReplicaSet", "name": "web-1", "controller": True}],
        },
        "spec": {"nodeName": node_name, "containers": [container], **spec},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def event(kind: str, item: dict[str, Any]) -> dict[str, Any]:
    """One line of a watch."""
    return {"type": kind, "object": item}


def bookmark(version: str) -> dict[str, Any]:
    return event("BOOKMARK", {"metadata": {"resourceVersion": version}})
