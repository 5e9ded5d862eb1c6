#!/usr/bin/python
"""Run a long command on the host as a transient systemd unit, or rejoin the one that runs."""

from __future__ import annotations

import json
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.beidou.sentences import failure
from ansible.module_utils.beidou.transient_unit import Command, UnitProblem, run

DOCUMENTATION = r"""
module: unit_command
short_description: Run a long command on the host as a transient systemd unit
description:
  - The command runs as the unit C(<prefix>-<name>.service), so it survives the loss of SSH, can be
    stopped with M(unit_stop), and is ended by systemd after O(timeout_seconds).
  - When a unit of that name runs the same command already, the module waits for it instead of
    starting a second one. When the connection is lost and Ansible repeats the call, the module
    also reports how the command ended meanwhile, instead of running it again.
  - Always reports C(changed), like M(ansible.builtin.command).
options:
  prefix: {description: "Name of the attempt, C(beidou-…).", type: str, required: true}
  name: {description: What the unit does in one word., type: str, required: true}
  argv:
    description: Program and arguments; no shell is involved.
    type: list
    elements: str
    required: true
  script: {description: Text of a script whose path is put after O(argv)., type: str}
  script_arguments: {description: Arguments of the script., type: list, elements: str}
  stdin: {description: Standard input of the command., type: str}
  environment: {description: Extra environment variables., type: dict}
  remove_after:
    description: Files (secrets), there when the unit begins, that it removes when it ends.
    type: list
    elements: path
  call: {description: Id of the call; set by the action plugin., type: str, required: true}
  timeout_seconds: {description: The unit is ended after this long., type: int, required: true}
"""
EXAMPLES = r"""
- name: Join the cluster
  unit_command:
    prefix: beidou-17-1
    name: join
    argv: [/usr/local/bin/kubeadm, join, --config, /run/beidou-join.yaml]
    timeout_seconds: 300
"""
RETURN = r"""
rc: {description: "Exit code, or 128 + signal.", type: int, returned: always}
stdout: {description: Standard output (the last 256 KiB)., type: str, returned: always}
stderr: {description: Standard error (the last 256 KiB)., type: str, returned: always}
result:
  description: "How it ended: success, exit-code, timeout, stopped, …"
  type: str
  returned: always
answer:
  description: The last line of the output, if it is a JSON object.
  type: dict
  returned: always
rejoined: {description: Whether the unit had been started before., type: bool, returned: always}
unit: {description: Name of the unit., type: str, returned: always}
seconds: {description: How long this call waited., type: float, returned: always}
"""


def last_object(stdout: str) -> dict[str, Any]:
    """The last line as a JSON object; nothing when it is none."""
    lines = stdout.splitlines()
    try:
        found = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "prefix": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "argv": {"type": "list", "elements": "str", "required": True},
            "script": {"type": "str", "default": ""},
            "script_arguments": {"type": "list", "elements": "str", "default": []},
            "stdin": {"type": "str", "default": ""},
            "environment": {"type": "dict", "default": {}},
            "remove_after": {"type": "list", "elements": "path", "default": []},
            "timeout_seconds": {"type": "int", "required": True},
            "call": {"type": "str", "required": True},
        }
    )
    values = module.params
    unit = f"{values['prefix']}-{values['name']}"
    command = Command(
        arguments=values["argv"],
        script=values["script"],
        script_arguments=values["script_arguments"],
        stdin=values["stdin"],
        environment={key: str(value) for key, value in values["environment"].items()},
        remove_after=values["remove_after"],
    )
    try:
        outcome = run(unit, command, values["timeout_seconds"], values["call"])
    except UnitProblem as problem:
        module.fail_json(**failure(problem.message), unit=unit)
    answer = {
        "changed": True,
        "unit": unit,
        "rc": outcome.code,
        "stdout": outcome.stdout,
        "stderr": outcome.stderr,
        "result": outcome.result,
        "answer": last_object(outcome.stdout),
        "rejoined": outcome.rejoined,
        "seconds": outcome.seconds,
    }
    if outcome.ok:
        module.exit_json(**answer)
    module.fail_json(**failure(outcome.sentence(unit)), **answer)


if __name__ == "__main__":
    main()
