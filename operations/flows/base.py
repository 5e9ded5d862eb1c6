"""What a step of a task can be: typed parameters, and what happens at each look.

A kind is one module that builds a ``StepKind`` and registers it, as kinds of operations do.  Its
functions run inside the transaction that holds the task's row, so they only write rows; whatever
takes its time is an operation.  They may be called again at any time, and look at the rows for what
has been done already.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from django.utils.translation import gettext as _
from pydantic import BaseModel, ValidationError

from beidou.base.errors import InvalidInput
from clusters.models import Cluster
from operations.flows.models import AutoOperationTask, TaskMachine, TaskStep
from operations.services import wording


class Flow(Protocol):
    """What a step sees of its task while that goes on."""

    task: AutoOperationTask
    now: datetime

    @property
    def may_begin(self) -> bool:
        """Nothing new begins while the task is paused or canceled."""

    @property
    def has_stopped(self) -> bool:
        """Whether the failure of a step keeps the others from beginning."""

    def machines(self, group: str = "") -> list[TaskMachine]:
        """Those (of the group) that have failed nowhere."""

    def finish(self, step: TaskStep, status: TaskStep.Status, message: str = "") -> None: ...

    def fail_machine(self, member: TaskMachine, step: TaskStep, message: str) -> None: ...

    def is_approved(self, step: TaskStep) -> bool:
        """Whether what was approved on the way to ``step`` is what would be done now; where it is
        not, the approvals ask again and the step waits."""


@dataclass(frozen=True)
class StepKind:
    """``begin`` is called once the step is RUNNING, ``look`` at each look as long as it is, and
    ``cancel`` when the task is to end; the three may end the step.  ``check`` raises
    ``InvalidInput`` before a task is made when the step could not be done in the cluster.
    """

    name: str
    title: Any
    params: type[BaseModel]
    begin: Callable[[Flow, TaskStep, Any], None]
    look: Callable[[Flow, TaskStep, Any], None]
    cancel: Callable[[Flow, TaskStep, Any], None]
    may_be_skipped: bool = True
    check: Callable[[Cluster, Any], None] = lambda *_: None
    works_on_machines: bool = False


KINDS: dict[str, StepKind] = {}


def register(kind: StepKind) -> StepKind:
    KINDS[kind.name] = kind
    return kind


def parse_params(kind: StepKind, params: Mapping[str, Any], *, place: str = "params") -> Any:
    """The typed parameters; ``InvalidInput`` names each wrong one."""
    try:
        return kind.params.model_validate(dict(params))
    except ValidationError as error:
        fields = {
            ".".join([place, *(str(part) for part in path)]): sentence
            for path, sentence in wording.problems(error)
        }
        name, sentence = next(iter(fields.items()))
        raise InvalidInput(f"{name}: {sentence}", code="invalid_params", fields=fields) from error


def get(name: str) -> StepKind:
    try:
        return KINDS[name]
    except KeyError:
        sentence = _("There is no kind of step “%(name)s”; known are %(known)s.") % {
            "name": name,
            "known": ", ".join(sorted(KINDS)),
        }
        raise InvalidInput(sentence, code="unknown_step", fields={"kind": sentence}) from None
