"""What a playbook says, as lines of output: all that a person wants to read."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from operations.drivers.ansible import Event
from operations.kinds.playbook import _Listener

CHECK = "containerd : Validating arguments against arg spec 'main' - Install containerd"


class Run:
    """Of a step's run what the listener uses."""

    def __init__(self):
        self.targets = [SimpleNamespace(pk=1), SimpleNamespace(pk=2)]
        self.lines = []

    def say(self, text, *, target=None, level="info"):
        self.lines.append((text, target and target.pk, level))


def heard(*events):
    run = Run()
    listener = _Listener(cast("Any", run), cast("Any", run.targets))
    for event in events:
        listener(event)
    return run, listener.results


def said(*events):
    return heard(*events)[0].lines


def test_a_task_is_told_once_and_then_per_machine():
    lines = said(Event("task", "", "Load modules", {}), Event("changed", "m1", "Load modules", {}))
    assert lines == [("— Load modules", None, "info"), ("Load modules: changed", 1, "info")]


@pytest.mark.parametrize("event", [Event("task", "", CHECK, {}), Event("ok", "m1", CHECK, {})])
def test_that_a_roles_arguments_are_in_order_is_not_told(event):
    assert said(event) == []


def test_that_a_roles_arguments_are_wrong_is_told():
    [line] = said(Event("failed", "m1", CHECK, {"msg": "missing required arguments: version"}))
    assert line == (f"{CHECK}: missing required arguments: version", 1, "error")


GOOD = {"check": "memory", "ok": True, "found": "1", "wanted": "2", "advice": "more"}


@pytest.mark.parametrize(
    "checks",
    [
        None,
        "all is well",
        {"memory": True},
        [GOOD, "memory"],
        [{name: GOOD[name] for name in GOOD if name != "advice"}],
    ],
)
def test_an_answer_that_is_no_list_of_checks_fails_its_machine_alone(checks):
    bad = Event("ok", "m1", "Look", {"checks": checks})
    good = Event("ok", "m2", "Look", {"checks": [GOOD]})
    run, results = heard(bad, good)
    assert results.failed.keys() == {1}
    assert results.failed[1].startswith("Look: what the machine answered is no list of checks.")
    assert results.find(run.targets[0], "checks") is None
    assert results.find(run.targets[1], "checks") == [GOOD]
