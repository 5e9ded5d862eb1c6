#!/usr/bin/python
"""Look at everything that tells how well a node's host is, in one call."""

from __future__ import annotations

import concurrent.futures
import glob
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.beidou import certificates, node_health, node_state, reach
from ansible.module_utils.beidou.checks import ERROR, WARNING, Check
from ansible.module_utils.beidou.host_facts import output_of, parse_meminfo
from ansible.module_utils.beidou.host_files import HostFiles
from ansible.module_utils.beidou.processes import list_processes
from ansible.module_utils.beidou.sentences import as_data

DOCUMENTATION = r"""
module: health_check
short_description: Look at everything that tells how well a node's host is
description:
  - Services and their recent errors, the kubelet's health, wanted processes, disks, memory, load,
    file handles, swap, certificates, name servers, the way to the API server and to other nodes.
  - Changes nothing and waits for nothing. A check that does not hold is an answer, not a failure.
  - The clock is compared by the action plugin of the same name, which knows when it called.
options:
  runtime:
    description: "The container runtime as Kubernetes reports it, C(containerd://1.7.1)."
    type: str
  processes:
    description: "Processes that must run, such as kube-proxy."
    type: list
    elements: str
  health_address:
    description: Address of the kubelet's health endpoint.
    type: str
    default: 127.0.0.1
  health_port: {description: Its port., type: int, default: 10248}
  paths:
    description: Folders whose disks are looked at, as far as they exist.
    type: list
    elements: str
  log_minutes: {description: How far to look back in logs., type: int, default: 30}
  log_tolerated: {description: Errors per log that are no news., type: int, default: 5}
  api_server_endpoint: {description: "C(host:port) of the API server.", type: str}
  neighbours:
    description: "Other nodes to reach: name -> C(host:port)."
    type: dict
  timeout_seconds:
    description: How long to wait for an answer from elsewhere.
    type: float
    default: 3
  max_clock_offset_seconds:
    description: How far the clock may be off.
    type: float
    default: 2
  reference_time:
    description: Unix seconds of a trusted clock now (default the controller's).
    type: float
"""
EXAMPLES = r"""
- name: Look at the node's host
  health_check:
    processes: [kube-proxy]
    neighbours: {node-b: "192.0.2.12:10250"}
"""
RETURN = r"""
checks: {description: As of M(host_check)., type: list, elements: dict, returned: always}
neighbours:
  description: "Name -> why it was not reached; empty where it was."
  type: dict
  returned: always
log_samples: {description: The last errors of each log., type: dict, returned: always}
clock: {description: Unix seconds when the look began and ended., type: dict, returned: always}
"""
PATHS = [
    "/",
    "/var/lib/kubelet",
    "/var/lib/containerd",
    "/var/lib/docker",
    "/var/lib/etcd",
    "/var/log",
]
KUBELET_PKI, CONTROL_PLANE_PKI = "/var/lib/kubelet/pki", "/etc/kubernetes/pki"
RUNTIMES = ("containerd", "docker", "crio")
SAMPLES = 5
STARTING_SECONDS = 30
LOG_BYTES = 1 << 20


def look_at_services(values: Mapping[str, Any], runtime: str) -> Iterator[Check]:
    for name in (runtime, "kubelet"):
        yield node_state.check_service(name, node_state.service_state(name))
    if runtime == "containerd":
        yield node_state.check_runtime(output_of("ctr", "version"))
    yield node_state.check_kubelet_health(values["health_address"], values["health_port"], 5)
    running = [process.name for process in list_processes(HostFiles())]
    yield from node_state.check_processes(running, values["processes"])


def is_loaded(unit: str) -> bool:
    shown = output_of("systemctl", "show", "--property=LoadState", "--value", f"{unit}.service")
    return shown.strip() == "loaded"


def errors_of_unit(unit: str, longest: float) -> tuple[list[str], float]:
    """Its errors, and how many seconds back; what a unit said while it started is left out."""
    age = node_state.service_age(unit, time.clock_gettime(time.CLOCK_MONOTONIC))
    seconds = max(0.0, min(longest, age - STARTING_SECONDS)) if age else longest
    since = time.time() - seconds
    command = ("journalctl", f"--unit={unit}", f"--since=@{since:.0f}", "--output=short-unix")
    log = output_of(*command, "--no-pager", "--quiet", "--lines=20000")
    if unit == "kubelet":
        return node_state.errors_in_log(log, since), seconds
    return node_health.runtime_errors(log), seconds


def errors_of_container(pods: str, container: str, seconds: float) -> list[str]:
    """Errors in the newest log file of a container of the pods whose folders fit ``pods``."""
    files = glob.glob(f"/var/log/pods/{pods}/{container}/*.log")
    if not files:
        return []
    newest = max(files, key=os.path.getmtime)
    with open(newest, "rb") as file:
        file.seek(max(0, os.path.getsize(newest) - LOG_BYTES))
        text = file.read().decode(errors="replace")
    return node_health.container_errors(text, node_state.KLOG_ERROR, time.time() - seconds)


def look_at_logs(values: Mapping[str, Any], runtime: str) -> Iterator[tuple[Check, list[str]]]:
    longest, tolerated = values["log_minutes"] * 60.0, values["log_tolerated"]
    for unit in (runtime, "kubelet"):
        errors, seconds = errors_of_unit(unit, longest)
        yield node_health.check_log(unit, errors, seconds / 60, tolerated), errors
    if "kube-proxy" in values["processes"]:
        errors = errors_of_container("kube-system_kube-proxy-*", "kube-proxy", longest)
        yield node_health.check_log("kube-proxy", errors, longest / 60, tolerated), errors


def look_at_disks(paths: list[str]) -> Iterator[Check]:
    for path in paths:
        if os.path.isdir(path):
            disk = os.statvfs(path)
            used = disk.f_blocks - disk.f_bfree
            total = (used + disk.f_bavail) * disk.f_frsize
            yield node_health.check_disk(path, total, disk.f_bavail * disk.f_frsize)
            yield node_health.check_inodes(path, disk.f_files, disk.f_favail)


def look_at_system(host: HostFiles) -> Iterator[Check]:
    memory = parse_meminfo(host.text("/proc/meminfo"))
    yield node_health.check_memory(memory)
    yield node_health.check_swap(memory)
    yield node_health.check_load(host.text("/proc/loadavg"), os.cpu_count() or 1)
    yield node_health.check_file_handles(host.text("/proc/sys/fs/file-nr"))


def look_at_certificates(host: HostFiles) -> Iterator[Check]:
    """The kubelet's own and, on a control plane, those that kubeadm made.

    Nobody verifies ``kubelet.crt``, which the kubelet signs itself: its end is a warning.
    """
    now = datetime.now(timezone.utc)  # noqa: UP017  Python 3.9
    for name in ("kubelet-client-current.pem", "kubelet-server-current.pem", "kubelet.crt"):
        path = f"{KUBELET_PKI}/{name}"
        if host.exists(path):
            worst = WARNING if name == "kubelet.crt" else ERROR
            yield node_health.check_certificate(name, end_of(host.text(path)), now, worst)
    for path in host.files_below(CONTROL_PLANE_PKI):
        if path.endswith(".crt"):
            name = os.path.relpath(path, CONTROL_PLANE_PKI)
            yield node_health.check_certificate(name, end_of(host.text(path)), now, ERROR)


def end_of(pem: str) -> datetime | None:
    try:
        return certificates.not_after(certificates.certificates_in(pem)[0])
    except (ValueError, IndexError):
        return None


def ask_name_server(server: str, timeout: float) -> str:
    """Why it did not answer; empty when it did, whatever it said."""
    number = secrets.randbelow(1 << 16)
    try:
        place = socket.getaddrinfo(server, 53, type=socket.SOCK_DGRAM)[0]
        with socket.socket(place[0], socket.SOCK_DGRAM) as asking:
            asking.settimeout(timeout)
            asking.connect(place[4])
            for _ in range(2):  # one packet may get lost
                asking.send(node_health.dns_question(number))
                try:
                    if node_health.is_answer(asking.recv(4096), number):
                        return ""
                except socket.timeout:
                    continue
            return reach.describe(socket.timeout(), timeout)
    except OSError as error:
        return reach.describe(error, timeout)


def reach_node(place: str, timeout: float) -> str:
    """Why the host is not reached; one that refuses is there."""
    try:
        with socket.create_connection(reach.split_endpoint(place), timeout):
            return ""
    except ConnectionRefusedError:
        return ""
    except (OSError, ValueError) as error:
        return reach.describe(error, timeout)


def look_around(values: Mapping[str, Any], host: HostFiles) -> tuple[list[Check], dict[str, str]]:
    """All at once: a firewall that swallows packets costs one timeout, not one per address."""
    timeout = values["timeout_seconds"]
    servers = node_health.name_servers(host.text("/etc/resolv.conf"))
    neighbours: Mapping[str, str] = values["neighbours"]
    with concurrent.futures.ThreadPoolExecutor(max_workers=32) as pool:
        asked = {server: pool.submit(ask_name_server, server, timeout) for server in servers}
        others = {name: pool.submit(reach_node, at, timeout) for name, at in neighbours.items()}
        checks = []
        if values["api_server_endpoint"]:
            checks.append(reach.check_tcp("api-server", values["api_server_endpoint"], timeout))
        answers = {server: answer.result() for server, answer in asked.items()}
        checks.append(node_health.check_name_servers(answers))
        return checks, {name: answer.result() for name, answer in others.items()}


def main() -> None:
    began = time.time()
    module = AnsibleModule(
        argument_spec={
            "runtime": {"type": "str", "default": ""},
            "processes": {"type": "list", "elements": "str", "default": []},
            "health_address": {"type": "str", "default": "127.0.0.1"},
            "health_port": {"type": "int", "default": 10248},
            "paths": {"type": "list", "elements": "str", "default": PATHS},
            "log_minutes": {"type": "int", "default": 30},
            "log_tolerated": {"type": "int", "default": 5},
            "api_server_endpoint": {"type": "str", "default": ""},
            "neighbours": {"type": "dict", "default": {}},
            "timeout_seconds": {"type": "float", "default": 3},
            "max_clock_offset_seconds": {"type": "float", "default": 2},
            "reference_time": {"type": "float"},
        },
        supports_check_mode=True,
    )
    values, host = module.params, HostFiles()
    runtime = node_health.chosen_runtime(
        values["runtime"], [unit for unit in RUNTIMES if is_loaded(unit)]
    )
    around, neighbours = look_around(values, host)
    logs = list(look_at_logs(values, runtime))
    checks = [
        *look_at_services(values, runtime),
        *(check for check, _errors in logs),
        *look_at_system(host),
        *look_at_disks(values["paths"]),
        *look_at_certificates(host),
        *around,
    ]
    module.exit_json(
        changed=False,
        checks=[check.as_dict() for check in checks],
        neighbours={name: as_data(why) for name, why in neighbours.items()},
        log_samples={
            check.check.split(":", 1)[1]: [line[:300] for line in errors[-SAMPLES:]]
            for check, errors in logs
            if errors
        },
        clock={"began": began, "ended": time.time()},
    )


if __name__ == "__main__":
    main()
