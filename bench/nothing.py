"""An operation kind that does nothing, to measure the engine alone."""

from typing import Any

from pydantic import BaseModel

from operations.kinds import base as kinds
from operations.kinds.base import Kind, StepKind, StepRun


class NoParams(BaseModel):
    """Takes none."""


def _act(run: StepRun) -> None:
    return None


def _confirm(run: StepRun, _result: Any) -> None:
    for target in list(run.targets):
        run.succeed(target)


def register() -> None:
    kinds.register(
        Kind(
            name="Nothing",
            title="Nothing",
            description="",
            params=NoParams,
            steps=(
                StepKind(name="nothing", title="", act=_act, confirm=_confirm, timeout_seconds=60),
            ),
        )
    )
