"""What an earlier life as a node left on a host.

A machine is delivered with its base system and perhaps containerd, installed and never used.
Empty folders and mount points such as /var/lib/kubelet are part of that; anything inside is not.
The same checks prove after a removal that nothing stayed behind.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterable

from ansible.module_utils.beidou import netfilter
from ansible.module_utils.beidou.checks import Check, listed
from ansible.module_utils.beidou.host_files import HostFiles
from ansible.module_utils.beidou.processes import Process, list_processes
from ansible.module_utils.beidou.records import STATE_FOLDER, Records
from ansible.module_utils.beidou.sentences import Sentence

PROGRAM_FOLDERS = (
    "/usr/local/bin", "/usr/local/sbin", "/usr/bin", "/usr/sbin", "/bin", "/sbin", "/opt/bin",
)  # fmt: skip
PROGRAMS = (
    "kubelet", "kubeadm", "kubectl", "docker", "dockerd", "cri-dockerd", "crio", "k3s", "rke2",
    "etcd",
)  # fmt: skip
UNIT_FOLDERS = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
UNITS = (
    "kubelet.service", "kubelet.service.d", "docker.service", "docker.socket",
    "cri-docker.service", "cri-docker.socket", "crio.service", "etcd.service", "k3s*.service",
    "rke2*.service", "kube-*.service", "beidou-routed-network.service",
)  # fmt: skip
PROCESSES = (
    "kubelet", "kube-proxy", "kube-apiserver", "kube-controller-manager", "kube-scheduler",
    "etcd", "dockerd", "cri-dockerd", "crio", "k3s*", "rke2*", "flanneld", "calico-node",
    "cilium-agent", "containerd-shim*",
)  # fmt: skip
CLUSTER_FOLDERS = ("/etc/kubernetes", "/var/lib/kubelet", "/var/lib/etcd", "/etc/ssl/etcd")
OTHER_FOLDERS = ("/etc/rancher", "/var/lib/rancher", "/var/lib/docker", "/var/lib/cni")
SNAPSHOTS = "/var/backups/beidou-etcd"
"""Where snapshots of etcd go unless another folder was chosen; those are noted in the records."""
CNI_FOLDER = "/etc/cni/net.d"
INTERFACES = (
    "cni*", "flannel*", "cali*", "vxlan*", "kube-ipvs*", "kube-bridge", "nodelocaldns", "cilium*",
    "weave*", "antrea*", "ovn*", "docker0",
)  # fmt: skip
MOUNT_FOLDERS = (
    "/var/lib/kubelet/", "/run/netns/", "/var/run/netns/", "/run/containerd/",
    "/var/lib/containerd/", "/var/lib/docker/",
)  # fmt: skip
CONTAINERD_CONTAINERS = (
    "/run/containerd/io.containerd.runtime.v2.task/*",
    "/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes",
    "/var/lib/containerd/io.containerd.grpc.v1.cri/containers",
)
CONTAINERD_IMAGES = (
    "/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256",
    "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots",
)
CLEAN_UP = Sentence("clean the machine up, or set it up anew")


def find_leftovers(
    host: HostFiles, rules: Callable[[], netfilter.Rules] | None = None
) -> list[Check]:
    """One check per kind of leftover; ``rules`` reads the packet rules (default: the kernel's)."""
    processes = list_processes(host)
    return [
        leftover("programs", find_programs(host)),
        leftover("units", find_units(host)),
        leftover("processes", find_processes(processes)),
        *(leftover(folder, host.files_below(folder)) for folder in CLUSTER_FOLDERS),
        leftover("etcd-snapshots", find_snapshots(host)),
        leftover("other-runtimes", [f for f in OTHER_FOLDERS if host.files_below(f)]),
        leftover("cni-configuration", host.files_below(CNI_FOLDER)),
        leftover("interfaces", find_interfaces(host)),
        leftover("mounts", find_mounts(host.text("/proc/self/mountinfo"))),
        leftover("containerd-containers", find_containers(host)),
        leftover("containerd-images", find_images(host)),
        check_rules(rules or netfilter.read_rules),
    ]


def leftover(kind: str, found: list[str]) -> Check:
    name = f"leftover:{kind}"
    nothing = Sentence("nothing")
    return Check(name, not found, listed(found) if found else nothing, nothing, CLEAN_UP)


def find_programs(host: HostFiles) -> list[str]:
    # Where /bin is a link to /usr/bin each program would be seen twice.
    folders = [f for f in PROGRAM_FOLDERS if host.is_dir(f) and not host.is_link(f)]
    return [f"{f}/{name}" for f in folders for name in PROGRAMS if host.exists(f"{f}/{name}")]


def find_units(host: HostFiles) -> list[str]:
    folders = UNIT_FOLDERS[:2] if host.is_link("/lib") else UNIT_FOLDERS
    return [f"{f}/{name}" for f in folders for name in host.names(f) if matches(name, UNITS)]


def find_snapshots(host: HostFiles) -> list[str]:
    """Each holds every secret of a cluster."""
    noted = [
        path
        for path in Records(host.real(STATE_FOLDER)).placed()
        if os.path.basename(path).lstrip(".").startswith("beidou-etcd-") and host.exists(path)
    ]
    return sorted({*host.files_below(SNAPSHOTS), *noted})


def find_processes(processes: Iterable[Process]) -> list[str]:
    return [f"{p.name} (pid {p.pid})" for p in processes if matches(p.name, PROCESSES)]


def find_interfaces(host: HostFiles) -> list[str]:
    return [name for name in host.names("/sys/class/net") if matches(name, INTERFACES)]


def find_mounts(mountinfo: str) -> list[str]:
    """Mount points below the folders of kubelet and containerd, not the folders themselves."""
    points = (line.split()[4] for line in mountinfo.splitlines() if len(line.split()) > 4)
    # The kernel writes spaces in octal.
    decoded = (re.sub(r"\\([0-7]{3})", lambda m: chr(int(m.group(1), 8)), p) for p in points)
    return sorted({point for point in decoded if point.startswith(MOUNT_FOLDERS)})


def find_containers(host: HostFiles) -> list[str]:
    """Containers and sandboxes containerd knows, read from its files: it need not run."""
    found = []
    for pattern in CONTAINERD_CONTAINERS:
        for folder in expand(host, pattern):
            found.extend(f"{folder}/{name}" for name in host.names(folder))
    return found


def find_images(host: HostFiles) -> list[str]:
    counts = [(folder, len(host.names(folder))) for folder in CONTAINERD_IMAGES]
    return [
        Sentence("%(count)d entries in %(folder)s", count=count, folder=folder)
        for folder, count in counts
        if count
    ]


def expand(host: HostFiles, pattern: str) -> list[str]:
    """The folders of a path whose last part may be ``*``."""
    if not pattern.endswith("/*"):
        return [pattern]
    parent = pattern[:-2]
    return [f"{parent}/{name}" for name in host.names(parent)]


def check_rules(read: Callable[[], netfilter.Rules]) -> Check:
    wanted = Sentence("no packet rules of Kubernetes")
    advice = Sentence("clean the machine up, or set it up anew; a restart removes them too")
    try:
        rules = read()
    except OSError as error:
        # Without the right to read them (the privilege check tells so) nothing can be said.
        found = Sentence("cannot be read: %(why)s", why=error.strerror)
        return Check("leftover:packet-rules", True, found, wanted)
    found_rules = netfilter.of_kubernetes(rules)
    found = listed(found_rules) if found_rules else Sentence("none")
    return Check("leftover:packet-rules", not found_rules, found, wanted, advice)


def matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
