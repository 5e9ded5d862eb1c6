"""Processes and listening sockets of a host, read from /proc."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator

from ansible.module_utils.beidou.host_files import HostFiles

LISTEN = "0A"  # the state of a listening socket in /proc/net/tcp


@dataclasses.dataclass(frozen=True)
class Process:
    pid: int
    name: str
    """Name of the executable: the base name of the first argument, or the kernel's short name."""
    arguments: tuple[str, ...]
    cgroup: str


def list_processes(host: HostFiles) -> list[Process]:
    return list(_processes(host))


def _processes(host: HostFiles) -> Iterator[Process]:
    for entry in host.names("/proc"):
        if not entry.isdigit():
            continue
        arguments = tuple(a for a in host.text(f"/proc/{entry}/cmdline").split("\0") if a)
        short_name = host.text(f"/proc/{entry}/comm").strip()
        if not short_name and not arguments:
            continue  # ended between the two looks
        name = os.path.basename(arguments[0]) if arguments else short_name
        yield Process(int(entry), name, arguments, host.text(f"/proc/{entry}/cgroup"))


def listening_ports(host: HostFiles) -> dict[int, int]:
    """TCP port -> inode of the listening socket, IPv4 and IPv6."""
    ports = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in host.text(table).splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == LISTEN:
                ports[int(fields[1].rsplit(":", 1)[1], 16)] = int(fields[9])
    return ports


def owner_of_socket(host: HostFiles, inode: int) -> str:
    """Name and pid of a process that holds the socket; empty when it cannot be seen."""
    wanted = f"socket:[{inode}]"
    for entry in host.names("/proc"):
        if not entry.isdigit():
            continue
        for descriptor in host.names(f"/proc/{entry}/fd"):
            try:
                target = os.readlink(host.real(f"/proc/{entry}/fd/{descriptor}"))
            except OSError:
                continue  # closed between the two looks, or not ours to see
            if target == wanted:
                return f"{host.text(f'/proc/{entry}/comm').strip()} (pid {entry})"
    return ""
