#!/usr/bin/python
"""Look at everything that decides whether a host can become a node, in one call."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.beidou import kernel, reach, requirements
from ansible.module_utils.beidou.checks import Check, blocking_sentence, with_warnings_only
from ansible.module_utils.beidou.host_facts import HostFacts, gather, search_path
from ansible.module_utils.beidou.host_files import HostFiles
from ansible.module_utils.beidou.leftovers import find_leftovers
from ansible.module_utils.beidou.processes import list_processes, listening_ports, owner_of_socket
from ansible.module_utils.beidou.sentences import Sentence, failure, joined

DOCUMENTATION = r"""
module: host_check
short_description: Look at everything that decides whether a host can become a node
description:
  - Reports every check with what was found, what is wanted and what to do; never stops at the
    first. A check that does not hold is an answer, not a failure, unless O(fail) asks for it.
  - The clock is compared by the action plugin of the same name, which knows when it called.
options:
  policy:
    description: "The policy, see C(policies/default.yml); needed for O(scope=all)."
    type: dict
  node_name: {description: Name the node will have (default the host's name)., type: str}
  api_server_endpoint: {description: "C(host:port) of the API server.", type: str}
  artifact_urls: {description: URLs the host must be able to fetch., type: list, elements: str}
  cluster_nodes:
    description:
      - "Nodes of the cluster: a list of C(name), C(addresses), C(system_uuid), or its JSON."
      - "As text thousands of them cost Ansible no more than one."
    type: json
  reference_time:
    description: Unix seconds of a trusted clock now (default the controller's).
    type: float
  scope:
    description: "C(all), or only the C(leftovers)."
    type: str
    choices: [all, leftovers]
    default: all
  fail:
    description: Fail with one sentence when a check with severity error does not hold.
    type: bool
    default: false
"""
EXAMPLES = r"""
- name: Check the machine
  host_check:
    policy: "{{ effective_policy }}"
    api_server_endpoint: 192.0.2.10:6443
"""
RETURN = r"""
checks:
  description: One entry per check.
  type: list
  elements: dict
  returned: always
  sample:
    - {check: cpus, ok: false, found: "1", wanted: ">= 2", advice: "…", severity: error}
facts: {description: What the host is., type: dict, returned: always}
clock: {description: Unix seconds when the look began and ended., type: dict, returned: always}
"""


def look(values: Mapping[str, Any], host: HostFiles, facts: HostFacts) -> Iterator[Check]:
    policy = values["policy"]
    yield from requirements.judge(facts, policy)
    yield from requirements.check_disks(
        {path: free_space(path) for path in policy["disks_gib"]}, policy["disks_gib"]
    )
    yield look_at_commands(policy["commands"])
    yield from look_at_kernel(host, policy)
    yield from look_at_ports(host, policy["ports"])
    names = {process.name for process in list_processes(host)}
    yield requirements.check_firewall(names, host.text("/etc/ufw/ufw.conf"))
    yield from look_at_cluster(values, facts)
    yield from look_at_network(values, policy["connect_timeout_seconds"])
    yield from find_leftovers(host)


def free_space(path: str) -> tuple[int, int]:
    """Device and free bytes of the file system where ``path`` is or will be."""
    while not os.path.isdir(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    space = os.statvfs(path)
    return os.stat(path).st_dev, space.f_bavail * space.f_frsize


def look_at_commands(wanted: list[str]) -> Check:
    missing = [name for name in wanted if shutil.which(name, path=search_path()) is None]
    return requirements.check_commands(missing, wanted)


def look_at_kernel(host: HostFiles, policy: Mapping[str, Any]) -> Iterator[Check]:
    available = {
        module: kernel.is_module_present(host, module) or kernel.can_load_module(module)
        for module in policy["kernel_modules"]
    }
    yield from kernel.check_modules(available)
    names = [*policy["kernel_settings"], *policy["kernel_setting_minimums"]]
    yield from kernel.check_settings(host, names, available)


def look_at_ports(host: HostFiles, ports: list[int]) -> list[Check]:
    taken = {port: inode for port, inode in listening_ports(host).items() if port in ports}
    owners = {
        port: owner_of_socket(host, inode) or Sentence("a process that cannot be seen")
        for port, inode in taken.items()
    }
    return requirements.check_ports(owners, ports)


def look_at_cluster(values: Mapping[str, Any], facts: HostFacts) -> Iterator[Check]:
    nodes = json.loads(values["cluster_nodes"])
    name = values["node_name"] or facts.hostname.lower()
    yield from requirements.check_node_name(name, nodes)
    yield requirements.check_addresses(facts.addresses, nodes)
    yield requirements.check_system_uuid(facts.system_uuid, nodes)


def look_at_network(values: Mapping[str, Any], timeout: float) -> Iterator[Check]:
    """All at once: a firewall that swallows packets costs one timeout, not one per address."""
    with concurrent.futures.ThreadPoolExecutor(max_workers=16) as pool:
        looks = [pool.submit(reach.check_url, url, timeout) for url in values["artifact_urls"]]
        if values["api_server_endpoint"]:
            endpoint = values["api_server_endpoint"]
            looks.insert(0, pool.submit(reach.check_tcp, "api-server", endpoint, timeout))
        for answer in looks:
            yield answer.result()


def main() -> None:
    began = time.time()
    module = AnsibleModule(
        argument_spec={
            "policy": {"type": "dict"},
            "node_name": {"type": "str", "default": ""},
            "api_server_endpoint": {"type": "str", "default": ""},
            "artifact_urls": {"type": "list", "elements": "str", "default": []},
            "cluster_nodes": {"type": "json", "default": "[]"},
            "reference_time": {"type": "float"},
            "scope": {"type": "str", "choices": ["all", "leftovers"], "default": "all"},
            "fail": {"type": "bool", "default": False},
        },
        required_if=[("scope", "all", ["policy"])],
        supports_check_mode=True,
    )
    values, host = module.params, HostFiles()
    problems = requirements.policy_problems(values["policy"]) if values["scope"] == "all" else []
    if problems:
        module.fail_json(
            **failure(Sentence("The policy is not usable: %(why)s", why=joined(problems, " ")))
        )
    facts = gather(host)
    if values["scope"] == "all":
        warn_only = values["policy"]["warn_only"]
        checks = with_warnings_only(look(values, host, facts), warn_only)
    else:
        checks = find_leftovers(host)
    answer = {
        "changed": False,
        "checks": [check.as_dict() for check in checks],
        "facts": dataclasses.asdict(facts),
        "clock": {"began": began, "ended": time.time()},
    }
    problem = blocking_sentence(checks)
    if values["fail"] and problem:
        module.fail_json(**failure(problem), **answer)
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
