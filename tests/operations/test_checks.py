"""What the output has of failed checks."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from operations.kinds import checks


class Run:
    """Of a step's run what is used here: the failure is a line of the output, too."""

    def __init__(self):
        self.lines, self.failed = [], []

    def say(self, text, *, target=None, level="info"):
        self.lines.append(str(text))

    def fail(self, target, message, *, checks=(), evidence=None):
        self.failed.append((message, len(checks)))
        self.say(message, target=target, level="error")


def check(name):
    return {"check": name, "ok": False, "found": "1", "wanted": "2", "advice": "more"}


@pytest.mark.parametrize("names", [["cpu"], ["cpu", "memory"], ["cpu", "memory", "swap"]])
def test_each_failed_check_is_told_once(names):
    run: Any = Run()
    bad = [check(name) for name in names]
    checks.fail(run, cast("Any", SimpleNamespace(pk=1)), bad, checks=[*bad, check("other")])
    assert [line.partition(":")[0] for line in run.lines] == names
    [(message, count)] = run.failed
    assert message.startswith("cpu: 1, wanted 2 → more")
    assert ("more)" in message) is (len(names) > 1)
    assert count == len(names) + 1
