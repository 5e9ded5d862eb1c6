"""What a host is: read once, then judged by `requirements.py`."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
import shutil
import subprocess
from typing import Any

from ansible.module_utils.beidou.host_files import HostFiles

CAP_SYS_RESOURCE = 24


@dataclasses.dataclass(frozen=True)
class HostFacts:
    hostname: str
    system_uuid: str
    os_id: str
    os_version: str
    os_name: str
    kernel: str
    architecture: str
    cpus: int
    memory_mib: int
    swap_mib: int
    addresses: tuple[str, ...]
    cgroup_version: int
    containerd_version: str
    """Empty when containerd is not installed."""
    effective_uid: int
    can_raise_oom_score: bool
    """False where the host lacks CAP_SYS_RESOURCE, as some virtual environments do."""


def gather(host: HostFiles) -> HostFacts:
    release = parse_os_release(host.text("/etc/os-release") or host.text("/usr/lib/os-release"))
    memory = parse_meminfo(host.text("/proc/meminfo"))
    return HostFacts(
        hostname=platform.node(),
        system_uuid=host.text("/sys/class/dmi/id/product_uuid").strip().lower(),
        os_id=release.get("ID", ""),
        os_version=release.get("VERSION_ID", ""),
        os_name=release.get("PRETTY_NAME", ""),
        kernel=platform.release(),
        architecture=platform.machine(),
        cpus=os.cpu_count() or 1,
        memory_mib=memory.get("MemTotal", 0) // 1024,
        swap_mib=swap_mib(host.text("/proc/swaps")),
        addresses=own_addresses(),
        cgroup_version=cgroup_version(host),
        containerd_version=containerd_version(),
        effective_uid=os.geteuid(),
        can_raise_oom_score=has_capability(host.text("/proc/1/status"), CAP_SYS_RESOURCE),
    )


def parse_os_release(text: str) -> dict[str, str]:
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip().strip("\"'") for key, value in pairs}


def parse_meminfo(text: str) -> dict[str, int]:
    """Name -> KiB."""
    found = re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)
    return {name: int(kib) for name, kib in found}


def swap_mib(swaps: str) -> int:
    rows = [line.split() for line in swaps.splitlines()[1:]]
    return sum(int(row[2]) for row in rows if len(row) >= 3) // 1024


def cgroup_version(host: HostFiles) -> int:
    """2 only for the unified hierarchy; the hybrid one is version 1 to a kubelet."""
    return 2 if host.exists("/sys/fs/cgroup/cgroup.controllers") else 1


def has_capability(status: str, number: int) -> bool:
    """Whether the bounding set of a /proc/PID/status holds it; unknown counts as yes."""
    found = re.search(r"^CapBnd:\s+([0-9a-f]+)$", status, re.MULTILINE)
    return bool(int(found.group(1), 16) >> number & 1) if found else True


def parse_addresses(text: str) -> tuple[str, ...]:
    """Addresses in ``ip -json address`` that other hosts may know: not loopback, not link-local."""
    links: list[dict[str, Any]] = json.loads(text) if text.strip() else []
    return tuple(
        address["local"]
        for link in links
        for address in link.get("addr_info", [])
        if address.get("scope") == "global" and "local" in address
    )


def own_addresses() -> tuple[str, ...]:
    return parse_addresses(output_of("ip", "-json", "address"))


def containerd_version() -> str:
    """The number in ``containerd github.com/containerd/containerd 1.6.20~ds1 …``."""
    found = re.search(r"\sv?(\d+\.\d+\.\d+\S*)", output_of("containerd", "--version"))
    return found.group(1) if found else ""


def output_of(program: str, *arguments: str, seconds: float = 10) -> str:
    """Standard output of a program that only reads; empty when it is missing, fails or hangs."""
    path = shutil.which(program, path=search_path())
    if path is None:
        return ""
    try:
        done = subprocess.run(
            [path, *arguments], capture_output=True, text=True, timeout=seconds, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def search_path() -> str:
    """PATH with the folders of system programs, which an unprivileged sign-in often lacks."""
    usual = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
    present = os.environ.get("PATH", "").split(":")
    return ":".join([*filter(None, present), *(path for path in usual if path not in present)])
