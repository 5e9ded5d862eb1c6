#!/usr/bin/python
"""Tell to which cluster the host belongs."""

from __future__ import annotations

import dataclasses
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.beidou.host_files import HostFiles
from ansible.module_utils.beidou.membership import OTHER, read_membership
from ansible.module_utils.beidou.sentences import failure
from ansible.module_utils.beidou.transient_unit import LIVE_STATES, unit_state

DOCUMENTATION = r"""
module: cluster_membership
short_description: Tell to which cluster the host belongs
description:
  - Compares the authority and the node name in the kubelet's credentials with the wanted ones.
  - Fails when the host belongs to another cluster or under another name; changes nothing.
options:
  ca_cert_hashes:
    description: "Pins of the wanted cluster's authority, C(sha256:…)."
    type: list
    elements: str
    required: true
  node_name: {description: Name the node should have., type: str, required: true}
  join_unit: {description: Unit of an earlier join; while it runs the module waits., type: str}
  wait_seconds: {description: How long to wait for it., type: int, default: 300}
"""
EXAMPLES = r"""
- name: Make sure that the machine belongs to no other cluster
  cluster_membership:
    ca_cert_hashes: ["sha256:4f…"]
    node_name: worker-1
"""
RETURN = r"""
state:
  description: "C(none), C(partial) (an interrupted join) or C(joined)."
  type: str
  returned: always
server: {description: API server in the kubelet's credentials., type: str, returned: always}
authority: {description: Pin of the authority there., type: str, returned: always}
node_name: {description: Node name there., type: str, returned: always}
"""


def wait_for_join(unit: str, seconds: float) -> None:
    """A join whose caller died goes on by itself; only its end tells where the machine belongs."""
    deadline = time.monotonic() + seconds
    while unit and unit_state(unit) in LIVE_STATES and time.monotonic() < deadline:
        time.sleep(0.5)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "ca_cert_hashes": {"type": "list", "elements": "str", "required": True},
            "node_name": {"type": "str", "required": True},
            "join_unit": {"type": "str", "default": ""},
            "wait_seconds": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    wait_for_join(wanted["join_unit"], wanted["wait_seconds"])
    found = read_membership(HostFiles(), wanted["ca_cert_hashes"], wanted["node_name"])
    answer = dataclasses.asdict(found)
    if found.state == OTHER:
        module.fail_json(**failure(found.reason), **answer)
    module.exit_json(changed=False, **answer)


if __name__ == "__main__":
    main()
