"""Where a step can be interrupted, and the killing.

An operation's name says where it is to be interrupted and by what, ``POINT--VICTIM--KIND``; the
first time it comes there, the victim is killed with SIGKILL by the very process that came there.
What was done is written to a file line by line, because the database is what is doubted.

The same of one-click tasks is in ``looks``.
"""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from pydantic import BaseModel

from operations.flows.models import AutoOperationTask
from operations.kinds import base as kinds
from operations.kinds.base import StepRun
from operations.models import Operation, Step
from operations.services import engine, finish

AWAY_SECONDS = 60

# In the order in which an operation comes to them.
POINTS = (
    "starting",  # its start is written and not committed
    "queued",  # a worker has the task and no lease
    "claimed",
    "acting",
    "acted",  # the result is known and nothing of it is written
    "half-written",  # of one machine of two
    "written",  # of all machines, the step still runs
    "settling",  # the end of the step is written and not committed
    "between",  # committed; the next step is queued, or the operation has ended
)


def folder() -> Path:
    """Where deeds are written down, and who was interrupted."""
    return Path(os.environ["DURABILITY_FOLDER"])


def install() -> None:
    for name, kind in list(kinds.KINDS.items()):
        kinds.KINDS[name] = harmless(kind)
    for module, name, watched in (
        (engine, "claim", _watched_claim),
        (finish, "end_attempt", _watched_end),
        (finish, "go_on", _watched_go_on),
    ):
        setattr(module, name, watched(getattr(module, name)))


def harmless(kind: kinds.Kind) -> kinds.Kind:
    """The kind with its steps, states and moves, of which nothing reaches a host or a cluster, and
    which may be begun as it is: without parameters and without rows that these mean."""
    only = {"name", "title", "description", "icon", "permission", "mutating", "roles", "looks"}
    only |= {"startable_states", "fresh_states", "phases", "reserve", "release"}
    steps = tuple(
        replace(step, act=act, confirm=confirm, cleanup=None, repeats=lambda _: True, wave=None)
        for step in kind.steps
    )
    kept = {name: getattr(kind, name) for name in only}
    return kinds.Kind(**kept, params=NoParams, steps=steps)


class NoParams(BaseModel):
    """Takes none."""


def act(run: StepRun) -> None:
    for target in run.targets:
        write_down(run, "act", target.address)
    reach("acting", run.operation)


def confirm(run: StepRun, _result: Any) -> None:
    reach("acted", run.operation)
    for target in list(run.targets):
        run.succeed(target, evidence={"ready": True})
        write_down(run, "settle", target.address)
        reach("half-written", run.operation)


def write_down(run: StepRun, deed: str, address: str) -> None:
    line = f"{run.operation.name} {run.step_name} {deed} {address}\n"
    handle = os.open(folder() / "deeds", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, line.encode())
    os.close(handle)


def _watched_claim(claim: Callable[..., Any]) -> Callable[..., Any]:
    def watched(step_id: int) -> Any:
        operation = Operation.objects.get(steps=step_id)
        reach("queued", operation)
        attempt = claim(step_id)
        if attempt is not None:
            reach("claimed", operation)
        return attempt

    return watched


def _watched_end(end_attempt: Callable[..., Any]) -> Callable[..., Any]:
    def watched(attempt: Any, **values: Any) -> Any:
        reach("written", attempt.step.operation)
        ended = end_attempt(attempt, **values)
        reach("between", attempt.step.operation)
        return ended

    return watched


def _watched_go_on(go_on: Callable[[Operation], None]) -> Callable[[Operation], None]:
    def watched(operation: Operation) -> None:
        go_on(operation)
        begun = operation.steps.exclude(status=Step.Status.WAITING).exists()
        reach("settling" if begun else "starting", operation)

    return watched


def reach(point: str, subject: Operation | AutoOperationTask) -> None:
    """Kill what the subject's name asks for when this is its point, once."""
    wanted, victim, _kind = subject.name.split("--")
    if point != wanted or victim == "nobody":
        return
    try:
        os.close(os.open(folder() / subject.name, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    if victim == "database":
        _wait_for(folder() / f"{subject.name}.back")
        return
    for process in victims(victim):
        with suppress(psutil.NoSuchProcess):  # another operation was faster
            process.send_signal(signal.SIGKILL)
    if victim != "readers":
        time.sleep(AWAY_SECONDS)
        raise AssertionError("this process should have been killed")


def victims(name: str) -> list[psutil.Process]:
    """The process that came here, the workers' main process (with which all of them die), those
    that only look (web and collector), or the whole portal."""
    if name == "child":
        return [psutil.Process()]
    (portal,) = [each for each in psutil.Process().parents() if each.cmdline()[-1:] == ["serve"]]
    if name == "portal":
        return [portal]
    programs = {"main": ("work",), "readers": ("web", "collect")}[name]
    return [each for each in portal.children() if _program(each) in programs]


def _program(process: psutil.Process) -> str:
    """The last word of its command; nothing of one that was killed a moment ago."""
    try:
        return "".join(process.cmdline()[-1:])
    except psutil.NoSuchProcess:
        return ""


def _wait_for(file: Path) -> None:
    deadline = time.monotonic() + AWAY_SECONDS
    while not file.exists():
        if time.monotonic() > deadline:
            raise AssertionError(f"nobody wrote {file}")
        time.sleep(0.05)
