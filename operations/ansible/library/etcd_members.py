#!/usr/bin/python
"""Ask the etcd on a control plane for its members; have one leave, if the others can do without."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.beidou.etcd import Etcd, EtcdProblem, Member, find, why_it_stays
from ansible.module_utils.beidou.sentences import Sentence, as_data, failure

DOCUMENTATION = r"""
module: etcd_members
short_description: Ask the etcd on a control plane for its members, or have one leave
description:
  - Uses the certificate with which kubelet's probes look at etcd. Every member is asked at its own
    address for its health. Changes nothing unless O(remove) is true.
  - A member is removed only if more than half of those that remain are healthy. One that is gone
    already is no failure.
options:
  leaving: {description: Name of the member that is to leave., type: str}
  leaving_address: {description: "Its address, if it has never started.", type: str}
  remove: {description: Remove it., type: bool, default: false}
  pki_dir: {description: Where kubeadm keeps etcd's certificates., type: path,
            default: /etc/kubernetes/pki/etcd}
  timeout_seconds: {description: Longest time for one question., type: int, default: 10}
  patience_seconds:
    description: How long to repeat a removal that etcd does not accept.
    type: int
    default: 30
"""
EXAMPLES = r"""
- name: Look at the members of etcd
  etcd_members:
"""
RETURN = r"""
members:
  description: "C(id), C(name), C(url), C(is_learner) and C(is_healthy) of each."
  type: list
  elements: dict
  returned: always
found: {description: Whether the leaving one was among them., type: bool, returned: always}
why_it_stays:
  description: "Why it must not leave, as a sentence; empty when it may."
  type: raw
  returned: always
"""


def have_it_leave(etcd: Etcd, leaving: Member, name: str, address: str, patience: float) -> None:
    """Remove it; etcd refuses for a moment after a change of its members or of its leader."""
    deadline = time.monotonic() + patience
    while True:
        try:
            etcd.remove(leaving)
        except EtcdProblem as problem:
            members = etcd.members()
            if find(members, name, address) is None:
                return  # the answer was lost, or somebody else did it
            if time.monotonic() > deadline or why_it_stays(members, leaving):
                raise problem
            time.sleep(2)
        else:
            return


def work(etcd: Etcd, values: Mapping[str, Any]) -> dict[str, Any]:
    members = etcd.members()
    leaving, address = values["leaving"], values["leaving_address"]
    member = find(members, leaving, address) if leaving else None
    why = why_it_stays(members, member) if member else ""
    removed = bool(member and values["remove"] and not why)
    if member and removed:
        have_it_leave(etcd, member, leaving, address, values["patience_seconds"])
        members = etcd.members()
    return {
        "changed": removed,
        "members": [dataclasses.asdict(each) for each in members],
        "found": member is not None,
        "why_it_stays": why,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "leaving": {"type": "str", "default": ""},
            "leaving_address": {"type": "str", "default": ""},
            "remove": {"type": "bool", "default": False},
            "pki_dir": {"type": "path", "default": "/etc/kubernetes/pki/etcd"},
            "timeout_seconds": {"type": "int", "default": 10},
            "patience_seconds": {"type": "int", "default": 30},
        }
    )
    values = module.params
    try:
        answer = work(Etcd(values["pki_dir"], values["timeout_seconds"]), values)
    except EtcdProblem as problem:
        module.fail_json(**failure(problem.message))
    why = answer["why_it_stays"]
    if values["remove"] and why:
        module.fail_json(**failure(Sentence("Nothing was removed: %(why)s.", why=why)))
    module.exit_json(**{**answer, "why_it_stays": as_data(why)})


if __name__ == "__main__":
    main()
