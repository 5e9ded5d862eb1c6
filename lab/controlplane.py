"""A Kubernetes control plane of plain local processes: etcd and kube-apiserver on 127.0.0.1.

It has no kubelets; nodes and pods in it are written by ``bulk`` and kept alive by ``kwok``.
"""

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path

from lab import binaries, certificates
from lab.certificates import KeyPair
from lab.cluster import LabCluster
from lab.process import Server, run, start_server
from lab.services.endpoint import answers
from lab.state import LabRecord, claim_port
from lab.versions import KubernetesRelease

START_TIMEOUT = 120.0


@dataclass(frozen=True)
class LocalControlPlane:
    """The running processes, and the cluster as clients see it."""

    cluster: LabCluster
    etcd_url: str
    kubernetes: Path
    servers: list[Server] = field(default_factory=list)


def start_control_plane(
    record: LabRecord, name: str, folder: Path, release: KubernetesRelease
) -> LocalControlPlane:
    """Start etcd and the API server; returns when the API server says it is ready."""
    kubernetes = binaries.kubernetes_folder(release)
    etcd_url, etcd = _start_etcd(record, name, folder)
    authority = certificates.make_authority(folder, f"{name}-ca")
    port = claim_port(record)
    server = f"https://127.0.0.1:{port}"
    admin = certificates.issue(
        folder, "admin", authority, subject="/O=system:masters/CN=kubernetes-admin"
    )
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(_kubeconfig(name, server, authority, admin))
    kubeconfig.chmod(0o600)
    api_server = _start_api_server(record, name, folder, kubernetes, etcd_url, port, authority)
    cluster = LabCluster(
        name=name,
        version=release.version,
        server=server,
        kubeconfig_path=kubeconfig,
        kubectl_path=kubernetes / "kubectl",
    )
    api_server.wait_until(lambda: _is_ready(cluster), timeout=START_TIMEOUT)
    return LocalControlPlane(cluster, etcd_url, kubernetes, [etcd, api_server])


def start_controllers(record: LabRecord, plane: LocalControlPlane) -> None:
    """Start controller manager and scheduler, for Deployments and the like.

    No node life cycle: nobody renews the leases of thousands of fake nodes often enough.
    """
    kubeconfig = f"--kubeconfig={plane.cluster.kubeconfig_path}"
    limits = ("--kube-api-qps=1000", "--kube-api-burst=2000", "--leader-elect=false")
    off = "--controllers=*,-node-lifecycle-controller,-node-ipam-controller"
    for program, extra in (("kube-controller-manager", (off,)), ("kube-scheduler", ())):
        plane.servers.append(
            start_server(
                f"{plane.cluster.name}-{program}",
                plane.kubernetes / program,
                kubeconfig,
                "--bind-address=127.0.0.1",
                f"--secure-port={claim_port(record)}",
                *limits,
                *extra,
                folder=record.folder,
            )
        )


def _start_etcd(record: LabRecord, name: str, folder: Path) -> tuple[str, Server]:
    client = f"http://127.0.0.1:{claim_port(record)}"
    peer = f"http://127.0.0.1:{claim_port(record)}"
    server = start_server(
        f"{name}-etcd",
        binaries.ensure_binary("etcd"),
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--max-txn-ops=1024",
        "--max-request-bytes=33554432",
        "--quota-backend-bytes=4294967296",
        "--log-level=warn",
        folder=record.folder,
    )
    server.wait_until(lambda: answers(f"{client}/health"), timeout=START_TIMEOUT)
    return client, server


def _start_api_server(
    record: LabRecord,
    name: str,
    folder: Path,
    kubernetes: Path,
    etcd_url: str,
    port: int,
    authority: KeyPair,
) -> Server:
    serving = certificates.issue(
        folder,
        "apiserver",
        authority,
        subject="/CN=kube-apiserver",
        addresses=("IP:127.0.0.1", "DNS:localhost", "DNS:kubernetes.default.svc"),
    )
    accounts = folder / "service-accounts.key"
    run("openssl", "genrsa", "-out", accounts, "2048")
    return start_server(
        f"{name}-kube-apiserver",
        kubernetes / "kube-apiserver",
        f"--etcd-servers={etcd_url}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--tls-cert-file={serving.certificate}",
        f"--tls-private-key-file={serving.key}",
        f"--client-ca-file={authority.certificate}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={accounts}",
        f"--service-account-signing-key-file={accounts}",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--authorization-mode=Node,RBAC",
        "--allow-privileged=true",
        "--disable-admission-plugins=ServiceAccount",
        "--endpoint-reconciler-type=none",
        "--max-requests-inflight=2000",
        "--max-mutating-requests-inflight=1000",
        folder=record.folder,
    )


def _is_ready(cluster: LabCluster) -> bool:
    """Ready also means that the namespace kube-system, a cluster's identity, exists."""
    words = ["get", "--raw", "/readyz", "--request-timeout=2s"]
    status, _ = cluster.try_kubectl(words)
    if status != 0:
        return False
    status, _ = cluster.try_kubectl(["get", "namespace", "kube-system", "default"])
    return status == 0


def _kubeconfig(name: str, server: str, authority: KeyPair, admin: KeyPair) -> str:
    def data(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": f"kubernetes-admin@{name}",
        "clusters": [
            {
                "name": name,
                "cluster": {
                    "server": server,
                    "certificate-authority-data": data(authority.certificate),
                },
            }
        ],
        "users": [
            {
                "name": "kubernetes-admin",
                "user": {
                    "client-certificate-data": data(admin.certificate),
                    "client-key-data": data(admin.key),
                },
            }
        ],
        "contexts": [
            {
                "name": f"kubernetes-admin@{name}",
                "context": {"cluster": name, "user": "kubernetes-admin"},
            }
        ],
    }
    return json.dumps(config, indent=2)
