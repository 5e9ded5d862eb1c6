"""Run the module ``health_check`` with what only the caller can know: the clock and the privilege.

It is done as for ``host_check``, whose plugin is loaded by Ansible and not by Python's import.
"""

from __future__ import annotations

from typing import Any

from ansible.plugins.loader import action_loader

MAX_CLOCK_OFFSET_SECONDS = 2.0

_HostCheck: Any = action_loader.get("host_check", class_only=True)


class ActionModule(_HostCheck):  # type: ignore[misc]
    MODULE = "health_check"

    def _clock_limit(self, arguments: dict[str, Any]) -> float | None:
        return float(arguments.get("max_clock_offset_seconds", MAX_CLOCK_OFFSET_SECONDS))
