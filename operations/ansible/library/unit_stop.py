#!/usr/bin/python
"""End every transient unit of an attempt on the host."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.beidou.sentences import Sentence, failure
from ansible.module_utils.beidou.transient_unit import UNIT_NAME, list_units, stop_units

DOCUMENTATION = r"""
module: unit_stop
short_description: End every transient unit of an attempt on the host
description:
  - Stops the units C(<prefix>-*), kills what does not stop within three seconds, and removes files
    with secrets that wait below C(/run/beidou). Doing it again changes nothing.
options:
  prefix: {description: "Name of the attempt, C(beidou-…).", type: str, required: true}
"""
EXAMPLES = r"""
- name: End what a cancelled attempt left running
  unit_stop:
    prefix: beidou-17-1
"""
RETURN = r"""
stopped: {description: Units that were there., type: list, elements: str, returned: always}
"""


def main() -> None:
    module = AnsibleModule(argument_spec={"prefix": {"type": "str", "required": True}})
    prefix = module.params["prefix"]
    if not UNIT_NAME.fullmatch(prefix):
        module.fail_json(
            **failure(
                Sentence("“%(prefix)s” is not a unit prefix of the form beidou-….", prefix=prefix)
            )
        )
    stopped = stop_units(prefix)
    left = list_units(prefix)
    if left:
        module.fail_json(
            **failure(Sentence("Still running: %(units)s.", units=", ".join(left))),
            stopped=stopped,
        )
    module.exit_json(changed=bool(stopped), stopped=stopped)


if __name__ == "__main__":
    main()
