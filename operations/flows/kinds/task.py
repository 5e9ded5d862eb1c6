"""A step that is a task of its own, with its own page, made of a template.

Its machines are held by the task above.  One task is made for the machines that come to the step;
when others come later (after a retry), another one.  A retry of the task above goes on in them.
"""

from typing import Any

from django.utils.translation import gettext_lazy as _
from pydantic import BaseModel, ConfigDict, Field

from beidou.base import audit
from beidou.base.errors import BeidouError
from beidou.base.models import User
from beidou.base.sentences import Sentence
from operations.flows import acting, advance, children, nesting, undoing, writing
from operations.flows.base import Flow, StepKind, register
from operations.flows.models import AutoOperationTask, TaskMachine, TaskStep

Status = TaskStep.Status
TaskStatus = AutoOperationTask.Status


class TaskParams(BaseModel):
    """``version`` 0: the newest when the task begins; ``params`` as they are given at the start of
    a task with the template; ``steps`` is what was found then."""

    model_config = ConfigDict(extra="forbid")

    template: str = Field(min_length=1, max_length=40)
    version: int = Field(default=0, ge=0, lt=1 << 31, description="0: the newest.")
    params: dict[str, Any] = Field(
        default_factory=dict, description="As at the start of a task with the template."
    )
    steps: list[dict[str, Any]] = Field(default_factory=list)


def begin(flow: Flow, step: TaskStep, params: TaskParams) -> None:
    """What has ended badly, or is about to, is to be done again; see ``look``."""
    bad = step.children.filter(status__in=[*AutoOperationTask.ENDED_BADLY, TaskStatus.CANCELING])
    again = [child.pk for child in bad.order_by("pk") if _is_left_with_machines(step, child)]
    step.progress = {**step.progress, "again": again}
    step.save(update_fields=["progress"])


def _is_left_with_machines(step: TaskStep, child: AutoOperationTask) -> bool:
    """Those that begin anew above (``flows.undoing``) do so in another task: they are no part of
    this one's retry."""
    gone = undoing.has_left(step, child.pk)
    child.machines.filter(address__in=gone).update(
        state=TaskMachine.State.FAILED,
        failed_in="",
        message=Sentence("Begins anew in another task: what was done with it was undone."),
    )
    return child.machines.exclude(address__in=gone).exists()


def look(flow: Flow, step: TaskStep, params: TaskParams) -> None:
    made = list(step.children.order_by("pk"))
    known: set[str] = set()
    for child in made:
        known |= _addresses(step, child)
        if child.is_active:
            if flow.has_stopped:
                _leave(flow, step, child)
            # What was approved above is what it is about, too; it waits while that asks again.
            elif flow.may_begin and flow.is_approved(step):
                advance.wake(child.pk)
            return
        if child.pk in step.progress.get("again", []):
            if _may_go_on(flow, step):
                _retry(flow, step, child)
            return
        _take_results(flow, step, child)
    new = [member for member in flow.machines() if member.address not in known]
    if new or not made:
        if _may_go_on(flow, step):
            _make(flow, step, params, new, len(made) + 1)
        return
    _end(flow, step, made)


def _addresses(step: TaskStep, child: AutoOperationTask) -> set[str]:
    every = set(child.machines.values_list("address", flat=True))
    return every - undoing.has_left(step, child.pk)


def _may_go_on(flow: Flow, step: TaskStep) -> bool:
    if flow.has_stopped:
        children.leave(step)
        return False
    return flow.may_begin and flow.is_approved(step)


def _leave(flow: Flow, step: TaskStep, child: AutoOperationTask) -> None:
    """What runs below is finished; then the end of this task ends the one below, until a retry."""
    if not children.is_at_work(child):
        _take_results(flow, step, child)
        children.leave(step)


def _user(flow: Flow, step: TaskStep) -> User | None:
    user = acting.person(flow.task)
    if user is None:
        flow.finish(step, Status.FAILED, acting.gone(flow.task))
    return user


def _make(
    flow: Flow, step: TaskStep, params: TaskParams, members: list[TaskMachine], number: int
) -> None:
    if not members:
        sentence = Sentence("No machine is left that could take part.")
        flow.finish(step, Status.FAILED, sentence)
        return
    user, task = _user(flow, step), flow.task
    if user is None:
        return
    specs = nesting.below(step.params)
    child = writing.write(
        name=children.free_name(f"{task.name}-{step.key.lower()}", number),
        cluster=task.cluster,
        template=params.template,
        template_version=params.version,
        params=params.params,
        reason=task.reason,
        requested_by=user,
        requested_by_name=user.get_username(),
        sent_by=task.sent_by,
        batch_size=task.batch_size,
        batch_pause=task.batch_pause,
        max_failed_percent=task.max_failed_percent,
        priority=task.priority,
        parent=step,
        actor=user.get_username(),
        specs=specs,
        machines=[
            TaskMachine(
                machine=member.machine,
                address=member.address,
                hostname=member.hostname,
                role=member.role,
                holds_machine=False,
            )
            for member in members
        ],
    )
    audit.record(
        f"start {params.template}",
        child,
        after={
            "cluster": task.cluster.name,
            "machines": [member.address for member in members],
            "steps": [spec.key for spec in specs],
            "part of": task.name,
        },
        reason=task.reason,
    )
    advance.wake(child.pk)


def _retry(flow: Flow, step: TaskStep, child: AutoOperationTask) -> None:
    if (user := _user(flow, step)) is None:
        return
    try:
        children.retry(child, acting_user=user, reason=flow.task.reason)
    except BeidouError as error:
        sentence = Sentence(
            "%(operation)s cannot be done again: %(why)s", operation=child.name, why=error.message
        )
        flow.finish(step, Status.FAILED, sentence)
        return
    again = [key for key in step.progress.get("again", []) if key != child.pk]
    step.progress = {**step.progress, "again": again}
    step.save(update_fields=["progress"])


def _take_results(flow: Flow, step: TaskStep, child: AutoOperationTask) -> None:
    """Machines that failed below have failed here; the same however often it is looked at."""
    rows = child.machines.filter(state=TaskMachine.State.FAILED)
    rows = rows.exclude(address__in=undoing.has_left(step, child.pk))
    failed = dict(rows.values_list("address", "message"))
    for member in flow.machines():
        if member.address in failed:
            flow.fail_machine(member, step, failed[member.address] or child.message)


def _end(flow: Flow, step: TaskStep, made: list[AutoOperationTask]) -> None:
    """The worst of what became of them, with its sentence."""
    for status, becomes in (
        (TaskStatus.FAILED, Status.FAILED),
        (TaskStatus.CANCELED, Status.CANCELED),
        (TaskStatus.PARTIAL, Status.PARTIAL),
    ):
        bad = next((each for each in made if each.status == status and _counts(step, each)), None)
        if bad is not None:
            flow.finish(step, becomes, bad.message)
            return
    flow.finish(step, Status.SUCCEEDED)


def _counts(step: TaskStep, child: AutoOperationTask) -> bool:
    """Whether it ended badly for machines that are its own still."""
    own = child.machines.exclude(address__in=undoing.has_left(step, child.pk))
    if child.status == TaskStatus.PARTIAL and undoing.has_left(step, child.pk):
        own = own.filter(state=TaskMachine.State.FAILED)
    return own.exists()


def cancel(flow: Flow, step: TaskStep, params: TaskParams) -> None:
    """The tasks below were told by ``flows.control``; here is waited for their end."""
    made = list(step.children.order_by("pk"))
    if any(child.is_active for child in made):
        return
    for child in made:
        _take_results(flow, step, child)
    flow.finish(step, Status.CANCELED, Sentence("Canceled."))


TASK = register(
    StepKind(
        name=nesting.KIND,
        title=_("Another task"),
        params=TaskParams,
        begin=begin,
        look=look,
        cancel=cancel,
        works_on_machines=True,
    )
)
