"""Run the module ``host_check`` and add what only the caller can know: the clock and the privilege.

The host reads its clock when the module begins and ends; the caller reads its own before and after
the call. The host's offset then lies for certain between ``ended - after`` and ``began - before``,
whatever the journey took, so that a slow connection is never mistaken for a wrong clock.
"""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase


def Sentence(text: str, **params: object) -> dict[str, object]:  # noqa: N802  as on the host
    """As ``module_utils`` sends it, which cannot be imported on this side."""
    return {"text": text, "params": params}


def clock_bounds(*, before: float, after: float, began: float, ended: float) -> tuple[float, float]:
    """Smallest and greatest possible offset of the host's clock in seconds (positive: ahead)."""
    return ended - after, began - before


def clock_check(low: float, high: float, limit: float) -> dict[str, Any]:
    """Hold the offset against the limit; it is wrong only if no possible offset is within."""
    certain = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    return {
        "check": "clock",
        "ok": certain <= limit,
        "found": Sentence(
            "between %(low)s s and %(high)s s off", low=f"{low:+.1f}", high=f"{high:+.1f}"
        ),
        "wanted": Sentence("at most %(limit)s s off", limit=f"{limit:g}"),
        "advice": Sentence("synchronise the host's clock (chrony, systemd-timesyncd)"),
        "severity": "error",
    }


def privilege_check(reason: str) -> dict[str, Any]:
    return {
        "check": "privilege",
        "ok": False,
        "found": Sentence("the SSH user cannot become root: %(why)s", why=reason),
        "wanted": Sentence("root (user id 0)"),
        "advice": Sentence("allow sudo for the SSH user, give its password, or sign in as root"),
        "severity": "error",
    }


class ActionModule(ActionBase):
    """Answers for one host; everything but the two additions comes from the module."""

    MODULE = "host_check"
    _requires_connection = True

    def run(self, tmp: object = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = dict(self._task.args)
        reference = arguments.get("reference_time")
        start = time.monotonic()
        before = float(reference) if reference else time.time()
        result, problem = self._look(arguments, variables)
        after = before + time.monotonic() - start
        if "checks" not in result:
            return result
        if problem:
            others = [c for c in result["checks"] if c["check"] != "privilege"]
            result["checks"] = [privilege_check(problem), *others]
        clock = result.pop("clock")
        limit = self._clock_limit(arguments)
        if limit is not None:
            low, high = clock_bounds(before=before, after=after, **clock)
            result["checks"].append(clock_check(low, high, limit))
            result.setdefault("facts", {})["clock_offset_seconds"] = [round(low, 3), round(high, 3)]
        return result

    def _clock_limit(self, arguments: dict[str, Any]) -> float | None:
        """Seconds that the clock may be off; None when it is not compared."""
        policy = arguments.get("policy")
        if not policy or arguments.get("scope", "all") != "all":
            return None
        return float(policy["max_clock_offset_seconds"])

    def _look(
        self, arguments: dict[str, Any], variables: dict[str, Any]
    ) -> tuple[dict[str, Any], str]:
        """The module's result, and why it had to run without root if it had to."""
        problem = self._become_problem(variables)
        if problem:
            self._connection.set_become_plugin(None)
            self._play_context.become = False
        result = self._execute_module(
            module_name=self.MODULE, module_args=arguments, task_vars=variables
        )
        return result, problem

    def _become_problem(self, variables: dict[str, Any]) -> str:
        """Why root cannot be had; empty if it can, or if the SSH user is root already."""
        if self._connection.become is None:
            return ""
        try:
            answer = self._low_level_execute_command("true", sudoable=True)
        except AnsibleConnectionFailure:
            raise
        except AnsibleError as error:
            return str(error)
        return "" if answer["rc"] == 0 else (answer["stderr"] or answer["stdout"]).strip()
