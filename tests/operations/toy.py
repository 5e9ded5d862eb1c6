"""A kind of operation for the tests of the engine: two steps whose behaviour each test scripts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel, ConfigDict

from operations.kinds import base as kinds
from operations.kinds.base import Kind, StepKind, StepRun, asking, check


class ToyParams(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int = 1


class Script:
    """What the steps do: ``failing`` (step, address) pairs fail, ``asking`` ones ask for a size
    until another than 1 is answered, ``during`` is called in ``act``; ``missing`` ones fail because
    what the step that is named there has done holds no more."""

    def __init__(self) -> None:
        self.failing: set[tuple[str, str]] = set()
        self.asking: set[tuple[str, str]] = set()
        self.missing: dict[tuple[str, str], str] = {}
        self.during: Callable[[StepRun], None] = lambda run: None
        self.calls: list[tuple[str, list[str]]] = []
        self.reserved: list[str] = []
        self.released: list[tuple[str, str | None]] = []
        self.cleaned: list[str] = []
        self.cleaned_machines: list[str] = []

    def act(self, run: StepRun) -> None:
        self.calls.append((run.step_name, [target.address for target in run.targets]))
        run.say(f"{run.step_name} begins")
        self.during(run)

    def clean_up(self, run: StepRun) -> None:
        self.cleaned.append(run.step_name)
        self.cleaned_machines += [target.address for target in run.targets]

    def confirm(self, run: StepRun, result: Any) -> None:
        for target in list(run.targets):
            place = (run.step_name, target.address)
            if place in self.failing:
                run.fail(target, "it is broken", checks=[check("whole", False, "broken", "whole")])
            elif place in self.missing:
                run.fail(target, "begin again", evidence={kinds.AGAIN_FROM: self.missing[place]})
            elif place in self.asking and run.params.size == 1:
                small = asking(check("size", False, "1", "more", "retry with size"), "size")
                run.fail(target, "it is too small", checks=[small])
            else:
                run.succeed(target, evidence={"seen": run.step_name})


@contextmanager
def toy_kind(
    *,
    idempotent: bool = True,
    mutating: bool = True,
    answers: frozenset[str] = frozenset(),
    approvals: frozenset[str] = frozenset(),
    wave: Callable[..., Any] | None = None,
    stops_at_first: bool = False,
    looks: frozenset[str] = frozenset(),
) -> Iterator[Script]:
    script = Script()
    step: dict[str, Any] = {"act": script.act, "confirm": script.confirm, "timeout_seconds": 60}
    kind = Kind(
        name="Toy",
        title="Toy",
        description="",
        params=ToyParams,
        steps=(
            StepKind(name="first", title="First", idempotent=idempotent, **step),
            StepKind(
                name="second",
                title="Second",
                touches=True,
                cleanup=script.clean_up,
                wave=wave,
                **step,
            ),
        ),
        mutating=mutating,
        answers=answers,
        approvals=approvals,
        stops_at_first=stops_at_first,
        looks=looks,
        reserve=lambda operation, machine: script.reserved.append(machine.address),
        release=lambda member, reached: script.released.append((member.address, reached)),
    )
    kinds.KINDS["Toy"] = kind
    try:
        yield script
    finally:
        del kinds.KINDS["Toy"]
