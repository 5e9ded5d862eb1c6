#!/usr/bin/python
"""Look at a node from its own host."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.beidou import node_state
from ansible.module_utils.beidou.checks import Check, blocking_sentence
from ansible.module_utils.beidou.host_facts import output_of
from ansible.module_utils.beidou.host_files import HostFiles
from ansible.module_utils.beidou.processes import list_processes
from ansible.module_utils.beidou.sentences import failure

DOCUMENTATION = r"""
module: node_check
short_description: Look at a node from its own host
description:
  - Services, the kubelet's health and version, containerd's answer, wanted processes, and the
    errors in the kubelet's log. Waits until everything holds, at most O(wait_seconds).
options:
  kubernetes_version:
    description: "Version the kubelet must have, C(v1.36.3)."
    type: str
    required: true
  kubelet: {description: The kubelet's program., type: path, default: /usr/local/bin/kubelet}
  health_address:
    description: Address of the kubelet's health endpoint.
    type: str
    default: 127.0.0.1
  health_port: {description: Its port., type: int, default: 10248}
  processes:
    description: "Processes that must run, such as kube-proxy."
    type: list
    elements: str
  wait_seconds: {description: How long to wait for what comes by itself., type: int, default: 60}
  log_minutes: {description: How far to look back in the log., type: int, default: 10}
  fail:
    description: Fail with one sentence when a check with severity error does not hold.
    type: bool
    default: false
"""
EXAMPLES = r"""
- name: Check the node from its host
  node_check:
    kubernetes_version: v1.36.3
    processes: [kube-proxy]
"""
RETURN = r"""
checks: {description: As of M(host_check)., type: list, elements: dict, returned: always}
log_errors:
  description: The last errors of the kubelet's log.
  type: list
  elements: str
  returned: always
waited_seconds:
  description: How long it took until everything held.
  type: float
  returned: always
"""
SERVICES = ("containerd", "kubelet")
STARTING_SECONDS = 30


def look(values: Mapping[str, Any]) -> list[Check]:
    running = [process.name for process in list_processes(HostFiles())]
    kubelet = node_state.kubelet_version(values["kubelet"])
    return [
        *(node_state.check_service(name, node_state.service_state(name)) for name in SERVICES),
        node_state.check_runtime(output_of("ctr", "version")),
        node_state.check_kubelet_health(values["health_address"], values["health_port"], 5),
        node_state.check_kubelet_version(kubelet, values["kubernetes_version"]),
        *node_state.check_processes(running, values["processes"]),
    ]


def look_at_log(longest: float) -> tuple[list[str], float]:
    """Errors of the kubelet, and how many seconds back; what it said while it started is left out.

    A starting kubelet complains of what is about to come.
    """
    age = node_state.service_age("kubelet", time.clock_gettime(time.CLOCK_MONOTONIC))
    seconds = max(0.0, min(longest, age - STARTING_SECONDS))
    since = time.time() - seconds
    command = ("journalctl", "--unit=kubelet", f"--since=@{since:.0f}", "--output=short-unix")
    return node_state.errors_in_log(output_of(*command, "--no-pager"), since), seconds


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "kubernetes_version": {"type": "str", "required": True},
            "kubelet": {"type": "path", "default": "/usr/local/bin/kubelet"},
            "health_address": {"type": "str", "default": "127.0.0.1"},
            "health_port": {"type": "int", "default": 10248},
            "processes": {"type": "list", "elements": "str", "default": []},
            "wait_seconds": {"type": "int", "default": 60},
            "log_minutes": {"type": "int", "default": 10},
            "fail": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    values, begin = module.params, time.monotonic()
    checks = look(values)
    while blocking_sentence(checks) and time.monotonic() - begin < values["wait_seconds"]:
        time.sleep(1)
        checks = look(values)
    waited = round(time.monotonic() - begin, 1)
    errors, seconds = look_at_log(values["log_minutes"] * 60)
    checks.append(node_state.check_log(errors, seconds))
    answer = {
        "changed": False,
        "checks": [check.as_dict() for check in checks],
        "log_errors": errors[-20:],
        "waited_seconds": waited,
    }
    problem = blocking_sentence(checks)
    if values["fail"] and problem:
        module.fail_json(**failure(problem), **answer)
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
