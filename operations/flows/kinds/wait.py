"""A step that lets time pass."""

from datetime import timedelta

from django.utils.translation import gettext_lazy as _
from pydantic import BaseModel, ConfigDict, Field

from beidou.base.sentences import Sentence
from operations.flows.base import Flow, StepKind, register
from operations.flows.models import TaskStep

Status = TaskStep.Status


class WaitParams(BaseModel):
    model_config = ConfigDict(extra="forbid")

    seconds: int = Field(default=60, ge=1, le=30 * 86400)


def begin(flow: Flow, step: TaskStep, params: WaitParams) -> None:
    step.due_at = flow.now + timedelta(seconds=params.seconds)
    step.save(update_fields=["due_at"])


def look(flow: Flow, step: TaskStep, params: WaitParams) -> None:
    if step.due_at is None or step.due_at <= flow.now:
        flow.finish(step, Status.SUCCEEDED)


def cancel(flow: Flow, step: TaskStep, params: WaitParams) -> None:
    flow.finish(step, Status.CANCELED, Sentence("Canceled."))


WAIT = register(
    StepKind(
        name="wait",
        title=_("Wait"),
        params=WaitParams,
        begin=begin,
        look=look,
        cancel=cancel,
    )
)
