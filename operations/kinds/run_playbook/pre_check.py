"""Whether each machine lets us in as who the playbook needs, before anything is begun."""

from operations.kinds import reaching
from operations.kinds.base import Check, StepRun
from operations.kinds.checks import in_short
from operations.kinds.run_playbook.playing import declared_of

_PRIVILEGE = "privilege"


def look(run: StepRun) -> dict[int, list[Check]]:
    return reaching.look(run, run.targets)


def confirm(run: StepRun, found: dict[int, list[Check]]) -> None:
    become = declared_of(run).become
    for target in list(run.targets):
        checks = found.get(target.pk, [])
        if not become:  # then whoever signs in is enough
            checks = [
                {**each, "severity": "warning"} if each["check"] == _PRIVILEGE else each
                for each in checks
            ]
        bad = [each for each in checks if not each["ok"] and each["severity"] != "warning"]
        if bad:
            run.fail(target, in_short(bad), checks=checks)
        elif checks:
            run.succeed(target, message=checks[-1]["found"], checks=checks)
