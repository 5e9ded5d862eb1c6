"""What a host must have to be upgraded: programs where we replace them, static pods, room."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

from ansible.module_utils.beidou.checks import Check
from ansible.module_utils.beidou.host_files import HostFiles
from ansible.module_utils.beidou.processes import list_processes
from ansible.module_utils.beidou.sentences import Sentence

GIB = 1 << 30
ROOM_GIB: Mapping[str, float] = {"/var/lib/containerd": 2, "/var/lib/beidou": 1}
"""For images, and for programs that wait until their node is drained."""
LEAST_ETCD_GIB = 1.0
MANIFESTS = "/etc/kubernetes/manifests"
STATIC_PODS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")


def running_kubelet(host: HostFiles) -> str:
    """The program of the kubelet that runs, whatever became of its file meanwhile; or nothing."""
    for process in list_processes(host):
        if process.name == "kubelet":
            try:
                return os.readlink(host.real(f"/proc/{process.pid}/exe")).replace(" (deleted)", "")
            except OSError:
                continue
    return ""


def check_program(found: str, bin_dir: str) -> Check:
    """A new kubelet that is put beside the one that runs would change nothing."""
    wanted = os.path.join(bin_dir, "kubelet")
    return Check(
        "kubelet-program",
        found == wanted,
        found or Sentence("no kubelet runs"),
        wanted,
        Sentence(
            "set artifacts_bin_dir in the cluster's playbook variables to where the kubelet lies, "
            "and keep a package manager from replacing it"
        ),
    )


def check_manifests(host: HostFiles) -> list[Check]:
    missing = [name for name in STATIC_PODS if not host.exists(f"{MANIFESTS}/{name}.yaml")]
    return [
        Check(
            "static-pods",
            not missing,
            Sentence("missing: %(names)s", names=", ".join(missing))
            if missing
            else Sentence("all there"),
            Sentence("a control plane of kubeadm"),
            Sentence("upgrade a control plane that kubeadm has not made in its own way"),
        )
    ]


def etcd_data_dir(host: HostFiles) -> str:
    """Where the etcd of this control plane keeps its data; empty without one."""
    manifest = host.text(f"{MANIFESTS}/etcd.yaml")
    found = re.search(r"--data-dir=(\S+)", manifest)
    return found.group(1).strip("\"'") if found else ("/var/lib/etcd" if manifest else "")


def room_for_etcd(data_dir: str, size: int, snapshot_folder: str) -> dict[str, float]:
    """GiB by path: etcd needs as much again while it is upgraded, a snapshot a little more."""
    least = round(max(LEAST_ETCD_GIB, size / GIB), 1)
    room = {data_dir: least}
    if snapshot_folder:
        room[snapshot_folder] = round(max(0.2, size * 1.2 / GIB), 1)
    return room


def free_bytes(paths: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Path → (device, free bytes), of the nearest folder that is there."""
    found = {}
    for path in paths:
        folder = path
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        status = os.statvfs(folder)
        found[path] = (os.stat(folder).st_dev, status.f_bavail * status.f_frsize)
    return found
