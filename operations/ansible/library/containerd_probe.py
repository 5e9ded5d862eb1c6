#!/usr/bin/python
"""Tell which containerd the host has and which form of configuration it wants."""

from __future__ import annotations

import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.beidou.host_facts import (
    CAP_SYS_RESOURCE,
    containerd_version,
    has_capability,
)
from ansible.module_utils.beidou.host_files import HostFiles
from ansible.module_utils.beidou.sentences import Sentence, failure
from ansible.module_utils.beidou.versions import is_at_least

DOCUMENTATION = r"""
module: containerd_probe
short_description: Tell which containerd the host has and which configuration it wants
description: Fails when containerd is missing or too old; changes nothing.
options:
  minimum: {description: Oldest version that will do., type: str, default: "1.6"}
"""
EXAMPLES = r"""
- name: Look at containerd
  containerd_probe:
  register: containerd_found
"""
RETURN = r"""
version: {description: Version of containerd., type: str, returned: always}
config_version:
  description: "2 for containerd 1.6 and 1.7, 3 for 2.x."
  type: int
  returned: always
from_artifacts:
  description: Whether it came without a unit of its own.
  type: bool
  returned: always
can_raise_oom_score:
  description: Whether the host has CAP_SYS_RESOURCE.
  type: bool
  returned: always
"""
PACKAGE_UNIT = "/lib/systemd/system/containerd.service"


def main() -> None:
    module = AnsibleModule(
        argument_spec={"minimum": {"type": "str", "default": "1.6"}}, supports_check_mode=True
    )
    version, minimum = containerd_version(), module.params["minimum"]
    if not version:
        module.fail_json(
            **failure(Sentence("containerd is not installed, nor is it among the artifacts."))
        )
    if not is_at_least(version, minimum):
        module.fail_json(
            **failure(
                Sentence(
                    "containerd %(version)s is too old: %(minimum)s or later is needed.",
                    version=version,
                    minimum=minimum,
                )
            )
        )
    module.exit_json(
        changed=False,
        version=version,
        from_artifacts=not os.path.exists(PACKAGE_UNIT),
        config_version=3 if is_at_least(version, "2.0") else 2,
        can_raise_oom_score=has_capability(HostFiles().text("/proc/1/status"), CAP_SYS_RESOURCE),
    )


if __name__ == "__main__":
    main()
