"""Run the product's playbooks for real and read what each task answered."""

import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ansible_runner
import yaml

from beidou.base.sentences import spoken

ANSIBLE = Path(__file__).parents[3] / "operations" / "ansible"
POLICY: dict[str, Any] = yaml.safe_load((ANSIBLE / "policies" / "default.yml").read_text())[
    "default_policy"
]


@dataclasses.dataclass(frozen=True)
class TaskResult:
    host: str
    task: str
    status: str
    """``ok``, ``failed``, ``unreachable`` or ``skipped``."""
    result: dict[str, Any]
    seconds: float

    @property
    def changed(self) -> bool:
        return bool(self.result.get("changed"))


@dataclasses.dataclass(frozen=True)
class Play:
    folder: Path
    status: str
    output: str
    results: list[TaskResult]

    def everything_written(self) -> str:
        """All that the run told and left on the portal's machine, to look for secrets in it.

        Its input (the variables) is left out: that is the caller's to protect.
        """
        files = [path for path in (self.folder / "artifacts").rglob("*") if path.is_file()]
        return self.output + "".join(path.read_text(errors="replace") for path in files)

    def of(self, host: str) -> list[TaskResult]:
        return [result for result in self.results if result.host == host]

    def changed(self, host: str) -> list[str]:
        return [r.task for r in self.of(host) if r.changed and r.status == "ok"]

    def failed(self, host: str) -> TaskResult:
        return next(r for r in self.of(host) if r.status in ("failed", "unreachable"))

    def checks(self, host: str) -> dict[str, dict[str, Any]]:
        """Name -> check of the one task that looked at the host."""
        result = next(r.result for r in self.of(host) if "checks" in r.result)
        return {check["check"]: check for check in spoken(result["checks"])}

    def blocking(self, host: str) -> set[str]:
        checks = self.checks(host).values()
        return {c["check"] for c in checks if not c["ok"] and c["severity"] == "error"}

    def assert_successful(self) -> None:
        assert self.status == "successful", self.output


def run_playbook(
    folder: Path,
    playbook: str,
    inventory: Mapping[str, Mapping[str, Any]],
    variables: Mapping[str, Any],
) -> Play:
    """``inventory`` is host name -> its variables; ``folder`` is made and must not be there."""
    what = {"playbook": f"playbooks/{playbook}", "extravars": dict(variables)}
    return _run(folder, inventory, what)


def run_module(
    folder: Path,
    module: str,
    inventory: Mapping[str, Mapping[str, Any]],
    arguments: Mapping[str, Any],
) -> Play:
    """One module by itself, on all hosts of the inventory."""
    what = {"module": module, "module_args": json.dumps(arguments), "host_pattern": "all"}
    return _run(folder, inventory, what)


def _run(folder: Path, inventory: Mapping[str, Mapping[str, Any]], what: Mapping[str, Any]) -> Play:
    folder.mkdir(parents=True, mode=0o700)
    run = ansible_runner.run(
        private_data_dir=str(folder),
        project_dir=str(ANSIBLE),
        inventory={"all": {"hosts": {name: dict(v) for name, v in inventory.items()}}},
        envvars={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"),
            "ANSIBLE_HOME": str(folder / "home"),
            "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
            # Else the connection of an earlier run is taken up, whatever key the host has now.
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder / "cp"),
        },
        quiet=True,
        **what,
    )
    events = list(run.events)
    return Play(folder, run.status, read_output(events), list(_results(events)))


def read_output(events: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(event["stdout"] for event in events if event.get("stdout"))


def _results(events: Sequence[Mapping[str, Any]]) -> list[TaskResult]:
    return [
        TaskResult(
            host=event["event_data"]["host"],
            task=event["event_data"]["task"],
            status=event["event"].removeprefix("runner_on_"),
            result=event["event_data"].get("res", {}),
            seconds=event["event_data"].get("duration", 0.0),
        )
        for event in events
        if event["event"]
        in ("runner_on_ok", "runner_on_failed", "runner_on_unreachable", "runner_on_skipped")
    ]
