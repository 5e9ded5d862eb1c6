#!/usr/bin/python
"""Bring a host that was or half became a node back to how it was delivered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.beidou.checks import listed
from ansible.module_utils.beidou.host_files import HostFiles
from ansible.module_utils.beidou.membership import OTHER, read_membership
from ansible.module_utils.beidou.records import Records
from ansible.module_utils.beidou.removal import (
    foreign_containers,
    is_control_plane,
    kubeadm_reset,
    remove_everything,
)
from ansible.module_utils.beidou.sentences import Sentence, failure
from ansible.module_utils.beidou.transient_unit import UnitProblem, enter_scope

DOCUMENTATION = r"""
module: node_remains
short_description: Bring a host that was a node back to how it was delivered
description:
  - Runs C(kubeadm reset), ends kubelet, pods and containerd, removes programs, units,
    certificates, state, mounts, interfaces and packet rules of Kubernetes, and restores the files
    and kernel settings from before.
  - Refuses, before it touches anything, when the host belongs to another cluster, is a control
    plane, or runs containers that are not Kubernetes'.
  - Runs in the scope C(<prefix>-remains.scope), where M(unit_stop) finds it.
options:
  prefix: {description: "Name of the attempt, C(beidou-…).", type: str, required: true}
  ca_cert_hashes:
    description: Pins of the only cluster the host may belong to; none means that it may belong to
      none.
    type: list
    elements: str
  any_cluster: {description: Whichever cluster it belongs to., type: bool, default: false}
  node_name: {description: Name of the node in that cluster., type: str}
  control_plane: {description: Go on also on a control plane., type: bool, default: false}
  pod_networks: {description: Networks of pods whose routes are removed., type: list, elements: str}
  timeout_seconds: {description: Longest time for C(kubeadm reset)., type: int, default: 120}
"""
EXAMPLES = r"""
- name: Remove what the node left
  node_remains:
    prefix: beidou-17-1
"""
RETURN = r"""
done: {description: "What was done, in words.", type: list, elements: str, returned: always}
"""


def refusal(host: HostFiles, values: Mapping[str, Any]) -> str:
    """Why this host must not be emptied; empty when it may be."""
    if not values["any_cluster"]:
        found = read_membership(host, values["ca_cert_hashes"], values["node_name"])
        if found.state == OTHER:
            return found.reason
    if is_control_plane(host) and not values["control_plane"]:
        return Sentence("The machine is a control plane of its cluster.")
    foreign = foreign_containers(host)
    if foreign:
        return Sentence(
            "The host runs containers that are not Kubernetes': %(names)s.", names=listed(foreign)
        )
    return ""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "prefix": {"type": "str", "required": True},
            "ca_cert_hashes": {"type": "list", "elements": "str", "default": []},
            "any_cluster": {"type": "bool", "default": False},
            "node_name": {"type": "str", "default": ""},
            "control_plane": {"type": "bool", "default": False},
            "pod_networks": {"type": "list", "elements": "str", "default": []},
            "timeout_seconds": {"type": "int", "default": 120},
        }
    )
    values = module.params
    reason = refusal(HostFiles(), values)
    if reason:
        module.fail_json(**failure(Sentence("Nothing was removed. %(why)s", why=reason)), done=[])
    try:
        enter_scope(f"{values['prefix']}-remains")
        done = kubeadm_reset(values["prefix"], values["timeout_seconds"])
    except UnitProblem as problem:
        module.fail_json(**failure(problem.message), done=[])
    done += remove_everything(Records(), values["pod_networks"])
    module.exit_json(changed=bool(done), done=done)


if __name__ == "__main__":
    main()
