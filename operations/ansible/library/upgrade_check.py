#!/usr/bin/python
"""Look at a node whether it can be upgraded."""

from __future__ import annotations

import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.beidou import node_state, upgrading
from ansible.module_utils.beidou.host_facts import output_of
from ansible.module_utils.beidou.host_files import HostFiles
from ansible.module_utils.beidou.processes import list_processes
from ansible.module_utils.beidou.requirements import check_disks

DOCUMENTATION = r"""
module: upgrade_check
short_description: Look at a node whether it can be upgraded
description:
  - Services, where the kubelet runs from, room for programs and images; on a control plane also
    its static pods and room for etcd and its snapshot. Changes nothing.
options:
  bin_dir: {description: Where the new programs go., type: path, default: /usr/local/bin}
  is_control_plane: {description: Whether it is one., type: bool, default: false}
  snapshot_folder:
    description: Where the snapshot of etcd goes; empty for none.
    type: str
    default: ""
"""
EXAMPLES = r"""
- name: Look at the node
  upgrade_check:
    is_control_plane: true
    snapshot_folder: /var/backups/etcd
"""
RETURN = r"""
checks: {description: As of M(host_check)., type: list, elements: dict, returned: always}
etcd_here: {description: Whether etcd is a static pod here., type: bool, returned: always}
"""
SERVICES = ("containerd", "kubelet")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "bin_dir": {"type": "path", "default": "/usr/local/bin"},
            "is_control_plane": {"type": "bool", "default": False},
            "snapshot_folder": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    values, host = module.params, HostFiles()
    wanted = dict(upgrading.ROOM_GIB)
    checks = [
        *(node_state.check_service(name, node_state.service_state(name)) for name in SERVICES),
        node_state.check_runtime(output_of("ctr", "version")),
        upgrading.check_program(upgrading.running_kubelet(host), values["bin_dir"]),
    ]
    etcd = upgrading.etcd_data_dir(host)
    if values["is_control_plane"]:
        checks.extend(upgrading.check_manifests(host))
        if etcd:
            database = os.path.join(etcd, "member", "snap", "db")
            size = os.path.getsize(database) if os.path.isfile(database) else 0
            wanted |= upgrading.room_for_etcd(etcd, size, values["snapshot_folder"])
    checks.extend(check_disks(upgrading.free_bytes(wanted), wanted))
    etcd_runs = any(process.name == "etcd" for process in list_processes(host))
    module.exit_json(
        changed=False,
        checks=[check.as_dict() for check in checks],
        etcd_here=bool(etcd) and etcd_runs,
    )


if __name__ == "__main__":
    main()
