"""Take away what a node leaves on its host, in the order in which the things hold each other.

Each step is harmless when there is nothing to do, so that an interrupted removal is simply begun
again. What cannot be removed is not an error here: looking at the leftovers afterwards tells.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import glob
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterable, Sequence

from ansible.module_utils.beidou import netfilter
from ansible.module_utils.beidou.host_facts import output_of, search_path
from ansible.module_utils.beidou.host_files import HostFiles
from ansible.module_utils.beidou.kernel import read_setting, setting_path
from ansible.module_utils.beidou.leftovers import SNAPSHOTS, find_interfaces, find_mounts
from ansible.module_utils.beidou.processes import Process, list_processes
from ansible.module_utils.beidou.records import Records
from ansible.module_utils.beidou.transient_unit import Command, forget_ended_units, run

ROUTED_NETWORK = "beidou-routed-network"
SERVICES = ("kubelet", "containerd")
PROGRAMS = ("kubelet", "kubeadm", "kubectl")
EMPTIED_FOLDERS = (
    "/etc/kubernetes", "/etc/cni/net.d", "/var/lib/kubelet", "/var/lib/etcd",
    "/var/lib/containerd", "/run/containerd",
)  # fmt: skip
"""Emptied, not removed: on a delivered host they may be mount points."""
REMOVED = (
    "/var/lib/cni", "/run/flannel", "/var/lib/calico", "/var/run/calico", "/var/log/pods",
    "/var/log/containers", "/var/lib/beidou", "/etc/systemd/system/kubelet.service",
    "/etc/systemd/system/kubelet.service.d", SNAPSHOTS,
)  # fmt: skip
CRI_SOCKET = "unix:///run/containerd/containerd.sock"
DETACH = 2
"""umount2's MNT_DETACH: also what a dying process still holds."""


def foreign_containers(host: HostFiles) -> list[str]:
    """What runs on the host's containerd besides Kubernetes: ``namespace/id``, or dockerd."""
    base = "/run/containerd/io.containerd.runtime.v2.task"
    docker = [process.name for process in list_processes(host) if process.name == "dockerd"]
    return docker + [
        f"{namespace}/{name}"
        for namespace in host.names(base)
        if namespace != "k8s.io"
        for name in host.names(f"{base}/{namespace}")
    ]


def is_control_plane(host: HostFiles) -> bool:
    folder = "/etc/kubernetes/manifests"
    return any(host.exists(f"{folder}/{n}.yaml") for n in ("kube-apiserver", "etcd"))


def kubeadm_reset(prefix: str, timeout_seconds: int) -> list[str]:
    """Let kubeadm do its part while the runtime still answers: it ends pods in an orderly way."""
    program = shutil.which("kubeadm", path=search_path())
    if program is None:
        return []
    command = Command([program, "reset", "--force", "--cri-socket", CRI_SOCKET])
    outcome = run(f"{prefix}-reset", command, timeout_seconds, uuid.uuid4().hex)
    # What it could not do is done below, so its failure is only told.
    return ["ran kubeadm reset" if outcome.ok else outcome.sentence("kubeadm reset")]


def remove_everything(records: Records, pod_networks: Sequence[str]) -> list[str]:
    """Bring the host back to how it was delivered; return what was done, in words."""
    host, done = HostFiles(), []
    done += stop_service(ROUTED_NETWORK)  # or it would write its files and routes once more
    done += stop_service("kubelet")
    done += kill_pods(host)
    done += stop_service("containerd")
    done += unmount(host)
    done += remove_network_namespaces(host)
    done += remove_interfaces(host)
    done += remove_routes(pod_networks)
    done += remove_packet_rules()
    done += [step for folder in EMPTIED_FOLDERS for step in empty(folder)]
    done += restore_settings(records, host)
    done += records.undo()
    done += [step for path in (*REMOVED, *own_programs()) for step in remove(path)]
    remove_cgroups()
    forget_ended_units(0)
    subprocess.run(["systemctl", "daemon-reload"], capture_output=True, check=False)
    return done


def stop_service(name: str) -> list[str]:
    """Stop it, with whatever systemd counts to it, and do not start it again."""
    wanted = "--property=ActiveState,UnitFileState"
    shown = output_of("systemctl", "show", wanted, f"{name}.service")
    state = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    idle = state.get("ActiveState") in ("inactive", None)
    if idle and state.get("UnitFileState") in ("disabled", "", None):
        return []
    command = ["systemctl", "disable", "--now", f"{name}.service"]
    subprocess.run(command, capture_output=True, check=False)
    subprocess.run(
        ["systemctl", "reset-failed", f"{name}.service"], capture_output=True, check=False
    )
    return [f"stopped {name}"]


def is_of_a_pod(process: Process) -> bool:
    """Containers live in a cgroup of pods; the shim above them names its namespace."""
    is_shim = process.name.startswith("containerd-shim") and "k8s.io" in process.arguments
    return is_shim or "/kubepods" in process.cgroup


def kill_pods(host: HostFiles, seconds: float = 15) -> list[str]:
    """Kill what is left of pods until nothing is: a shim may start one while it is killed."""
    deadline, killed = time.monotonic() + seconds, set()
    while time.monotonic() < deadline:
        left = [p for p in list_processes(host) if is_of_a_pod(p) and not is_zombie(host, p.pid)]
        if not left:
            break
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            killed.add(process.pid)
        time.sleep(0.2)
    return [f"killed {len(killed)} processes of pods"] if killed else []


def is_zombie(host: HostFiles, pid: int) -> bool:
    return "\nState:\tZ" in host.text(f"/proc/{pid}/status")


def unmount(host: HostFiles) -> list[str]:
    """Deepest first; twice, because one may hide another."""
    done = []
    for _ in range(2):
        for point in sorted(find_mounts(host.text("/proc/self/mountinfo")), reverse=True):
            if _umount(point):
                done.append(f"unmounted {point}")
    return done


def _umount(point: str) -> bool:
    library = ctypes.CDLL(ctypes.util.find_library("c") or "libc.so.6", use_errno=True)
    return library.umount2(os.fsencode(point), DETACH) == 0


def remove_network_namespaces(host: HostFiles) -> list[str]:
    """Those CNI made; their interfaces go with them."""
    names = [name for name in host.names("/run/netns") if name.startswith("cni-")]
    return [step for name in names for step in remove(f"/run/netns/{name}")]


def remove_interfaces(host: HostFiles) -> list[str]:
    return [
        f"removed interface {name}"
        for name in find_interfaces(host)
        if _succeeds("ip", "link", "delete", name)
    ]


def remove_routes(networks: Sequence[str]) -> list[str]:
    """Routes into the cluster's pod networks, which some networks leave behind."""
    return [
        f"removed routes into {network}"
        for network in networks
        if output_of("ip", *_routes_into(network, "show")).strip()
        and _succeeds("ip", *_routes_into(network, "flush"))
    ]


def _routes_into(network: str, verb: str) -> list[str]:
    """Without its family ``ip`` looks among those of IPv4 alone, whatever the network is."""
    return ["-6" if ":" in network else "-4", "route", verb, "root", network]


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def remove_packet_rules() -> list[str]:
    rules = netfilter.read_rules()
    return netfilter.remove_rules(rules) if netfilter.of_kubernetes(rules) else []


def empty(folder: str) -> list[str]:
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    for name in names:
        remove(os.path.join(folder, name))
    return [f"emptied {folder}"] if names else []


def remove(path: str) -> list[str]:
    if not os.path.lexists(path):
        return []
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    return [] if os.path.lexists(path) else [f"removed {path}"]


def restore_settings(records: Records, host: HostFiles) -> list[str]:
    done = []
    for name, value in records.settings().items():
        if read_setting(host, name) == value:
            continue
        with contextlib.suppress(OSError):  # a setting that went with its module
            with open(host.real(setting_path(name)), "w", encoding="utf-8") as file:
                file.write(value)
            done.append(f"set {name} back to {value}")
    return done


def own_programs() -> Iterable[str]:
    return (f"/usr/local/bin/{name}" for name in PROGRAMS)


def remove_cgroups() -> None:
    """Empty groups of pods, which a kubelet that comes later would take for its own."""
    bases = glob.glob("/sys/fs/cgroup/kubepods*") + glob.glob("/sys/fs/cgroup/*/kubepods*")
    for base in bases:
        for folder, _, _ in os.walk(base, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
