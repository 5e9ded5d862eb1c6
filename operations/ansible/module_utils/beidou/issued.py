"""Certificates that kubeadm has issued on a host, and who still works with an older one.

A program that began before its certificate was written works with the one from before; its start
and the file's time tell, so that whoever is interrupted finds out what is left to do.
"""

from __future__ import annotations

import base64
import os
import re
import socket
import ssl
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from ansible.module_utils.beidou import certificates
from ansible.module_utils.beidou.host_files import HostFiles
from ansible.module_utils.beidou.processes import list_processes

PKI = "/etc/kubernetes/pki"
FILES: Mapping[str, str] = {
    "apiserver": f"{PKI}/apiserver.crt",
    "apiserver-kubelet-client": f"{PKI}/apiserver-kubelet-client.crt",
    "apiserver-etcd-client": f"{PKI}/apiserver-etcd-client.crt",
    "front-proxy-client": f"{PKI}/front-proxy-client.crt",
    "etcd-server": f"{PKI}/etcd/server.crt",
    "etcd-peer": f"{PKI}/etcd/peer.crt",
    "etcd-healthcheck-client": f"{PKI}/etcd/healthcheck-client.crt",
    "admin.conf": "/etc/kubernetes/admin.conf",
    "super-admin.conf": "/etc/kubernetes/super-admin.conf",
    "controller-manager.conf": "/etc/kubernetes/controller-manager.conf",
    "scheduler.conf": "/etc/kubernetes/scheduler.conf",
}
"""What ``kubeadm certs renew all`` renews, by kubeadm's names; those of etcd only where it is."""
AUTHORITIES: Mapping[str, str] = {
    "ca": f"{PKI}/ca",
    "front-proxy-ca": f"{PKI}/front-proxy-ca",
    "etcd-ca": f"{PKI}/etcd/ca",
}
KUBELET: Mapping[str, str] = {
    "kubelet-client": "/var/lib/kubelet/pki/kubelet-client-current.pem",
    "kubelet-server": "/var/lib/kubelet/pki/kubelet-server-current.pem",
    "kubelet-self-signed": "/var/lib/kubelet/pki/kubelet.crt",
}
USES: Mapping[str, Sequence[str]] = {
    "etcd": ("etcd-server", "etcd-peer"),
    "kube-apiserver": (
        "apiserver",
        "apiserver-kubelet-client",
        "apiserver-etcd-client",
        "front-proxy-client",
    ),
    "kube-controller-manager": ("controller-manager.conf",),
    "kube-scheduler": ("scheduler.conf",),
}
"""Static pods in the order of their restart, and the certificates with which each works."""
EMBEDDED = re.compile(r"client-certificate-data:\s*(\S+)")
TICKS = os.sysconf("SC_CLK_TCK")
OTHER_POD = re.compile(r"pod[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}")
"""The cgroup of a pod that the API server gave its UID; that of a static one is a hash."""


class Running(NamedTuple):
    pid: int
    began: float
    """Unix seconds."""


def ends_of(host: HostFiles, paths: Mapping[str, str]) -> dict[str, datetime]:
    """Name → end, of those that are there and can be read."""
    found = {}
    for name, path in paths.items():
        try:
            found[name] = certificates.not_after(certificate_in(host.text(path)))
        except (ValueError, IndexError):
            continue
    return found


def certificate_in(text: str) -> bytes:
    """The first one of a PEM file or a kubeconfig; ValueError without one."""
    embedded = EMBEDDED.search(text)
    pem = base64.b64decode(embedded.group(1)).decode("ascii", "replace") if embedded else text
    found = certificates.certificates_in(pem)
    if not found:
        raise ValueError("there is no certificate")
    return found[0]


def missing_keys(host: HostFiles) -> list[str]:
    """Authorities whose key is not on the host: without it kubeadm renews nothing of theirs."""
    return [
        name
        for name, path in AUTHORITIES.items()
        if host.exists(f"{path}.crt") and not host.exists(f"{path}.key")
    ]


def running(host: HostFiles, name: str) -> Running | None:
    """The static pod's program, with when it began; not one of that name in any other pod."""
    boot = re.search(r"^btime (\d+)$", host.text("/proc/stat"), re.MULTILINE)
    for process in list_processes(host):
        if process.name != name or boot is None or OTHER_POD.search(process.cgroup):
            continue
        # The name in brackets may hold blanks and brackets of its own.
        fields = host.text(f"/proc/{process.pid}/stat").rpartition(")")[2].split()
        if len(fields) > 19:
            return Running(process.pid, int(boot.group(1)) + int(fields[19]) / TICKS)
    return None


def written_at(host: HostFiles, name: str) -> float:
    """When the newest of a program's certificates was written; 0 without any."""
    times = []
    for each in USES[name]:
        try:
            times.append(os.stat(host.real(FILES[each])).st_mtime)
        except OSError:
            continue
    return max(times, default=0.0)


def works_with_older(host: HostFiles, name: str) -> bool:
    found = running(host, name)
    return found is not None and found.began < written_at(host, name)


def served_end(address: str, port: int, timeout: float) -> datetime:
    """When the certificate ends that is shown there; OSError or ValueError when none is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # it is compared with the file, whoever signed it
    with (
        socket.create_connection((address, port), timeout=timeout) as plain,
        context.wrap_socket(plain) as secured,
    ):
        return certificates.not_after(secured.getpeercert(binary_form=True) or b"")


def secure_port(host: HostFiles) -> int:
    """Where the API server of this control plane listens."""
    manifest = host.text("/etc/kubernetes/manifests/kube-apiserver.yaml")
    found = re.search(r"--secure-port=(\d+)", manifest)
    return int(found.group(1)) if found else 6443


def rotates_itself(configuration: str) -> bool:
    """Whether a kubelet asks for a new client certificate before its own ends (kubeadm's way)."""
    return bool(re.search(r"^rotateCertificates:\s*true\s*$", configuration, re.MULTILINE))


def renews_server(configuration: str) -> bool:
    """Whether a kubelet has its serving certificate from the cluster."""
    return bool(re.search(r"^serverTLSBootstrap:\s*true\s*$", configuration, re.MULTILINE))
