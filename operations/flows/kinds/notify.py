"""A step that tells people a sentence, by the rules of notifications or to one receiver.

Usually it has succeeded as soon as the sentence is in the outbox: telling never holds a change up.
With ``must_arrive`` it waits until somebody was told, and fails when nobody can be.
"""

from datetime import datetime, timedelta
from typing import Final, Literal

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from pydantic import BaseModel, ConfigDict, Field

from beidou.base import notices
from beidou.base.errors import InvalidInput
from beidou.base.sentences import Sentence
from clusters.models import Cluster
from operations.flows import news
from operations.flows.base import Flow, StepKind, register
from operations.flows.models import TaskStep

Status = TaskStep.Status
LOOK_SECONDS: Final = 15


class NotifyParams(BaseModel):
    """``receiver`` empty: whoever the rules name."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(min_length=1, max_length=250)
    severity: Literal["info", "warning", "critical"] = "info"
    receiver: str = Field(default="", max_length=100)
    must_arrive: bool = False
    minutes: int = Field(default=15, ge=1, le=1440, description="How long it may take to arrive.")


def check(cluster: Cluster, params: NotifyParams) -> None:
    if params.receiver and not notices.may_be_told(params.receiver, cluster.pk):
        raise InvalidInput(
            _("There is no receiver “%(name)s” that may hear of this cluster.")
            % {"name": params.receiver},
            code="unknown_receiver",
        )


def begin(flow: Flow, step: TaskStep, params: NotifyParams) -> None:
    """Once for each time that the step begins: the key names that moment."""
    until = flow.now + timedelta(minutes=params.minutes)
    key = f"task-step:{step.pk}:{flow.now.timestamp():.6f}"
    step.progress = {"key": key, "until": until.isoformat()}
    step.due_at = min(until, flow.now + timedelta(seconds=LOOK_SECONDS))
    step.save(update_fields=["progress", "due_at"])
    news.tell_step(step, params, key)
    if not params.must_arrive:
        flow.finish(step, Status.SUCCEEDED, Sentence("Handed on to be told."))


def look(flow: Flow, step: TaskStep, params: NotifyParams) -> None:
    fate = notices.fate_of(step.progress["key"])
    until = datetime.fromisoformat(step.progress["until"])
    if fate.arrived:
        names = ", ".join(fate.arrived)
        flow.finish(step, Status.SUCCEEDED, Sentence("Told: %(names)s", names=names))
    elif fate.is_over:
        flow.finish(step, Status.FAILED, fate.why)
    elif flow.now >= until:
        why = fate.why or Sentence("it still waits to be sent")
        sentence = Sentence(
            "Nobody was told within %(minutes)s minutes: %(why)s", minutes=params.minutes, why=why
        )
        flow.finish(step, Status.FAILED, sentence)
    else:
        step.due_at = min(until, flow.now + timedelta(seconds=LOOK_SECONDS))
        step.save(update_fields=["due_at"])


def cancel(flow: Flow, step: TaskStep, params: NotifyParams) -> None:
    flow.finish(step, Status.CANCELED, Sentence("Canceled."))


NOTIFY = register(
    StepKind(
        name="notify",
        title=gettext_lazy("Notification"),
        params=NotifyParams,
        begin=begin,
        look=look,
        cancel=cancel,
        check=check,
    )
)
