"""Run the module ``unit_command`` under an id of this very call.

When the connection is lost, Ansible sends the module again with the same arguments; by the id the
module knows that it is the same call, and reports how the command ended meanwhile. Any later call
runs the command anew.
"""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    _requires_connection = True

    def run(self, tmp: object = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        arguments = {"call": str(self._task._uuid), **self._task.args}
        return self._execute_module(
            module_name="unit_command", module_args=arguments, task_vars=task_vars
        )
