"""A step that lets the task on only when something is true: a health gate.

``prometheus``: a query and a comparison, looked at again and again until it holds or time is over;
no data is never true. It is asked by a task of the queue, outside of any transaction
(``flows.looking``), which leaves what it saw in the step's ``progress``.

``health``: one HealthCheck whose result decides.

``nodes``: the nodes of the task's machines are Ready and take pods, as the inventory has them; one
that was not confirmed in the last minute says nothing.
"""

from datetime import datetime, timedelta
from typing import Any, Literal

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from pydantic import BaseModel, ConfigDict, Field, model_validator

from beidou.base import tasks
from beidou.base.errors import BeidouError, InvalidInput
from beidou.base.sentences import Sentence, joined
from clusters.models import Cluster
from machines.models import Machine
from operations.flows import acting
from operations.flows.base import Flow, StepKind, register
from operations.flows.models import TaskMachine, TaskPart, TaskStep
from operations.kinds import base as operation_kinds
from operations.kinds import known_nodes
from operations.models import Operation, OperationMachine
from operations.outside import systems
from operations.outside.models import SiteSystem
from operations.services import start

Status = TaskStep.Status
NAMED_AT_MOST = 5
LOST_SECONDS = 120  # a look that has left nothing by then was lost with its worker


class GateParams(BaseModel):
    """``value`` compared with every sample (``match`` all) or at least one (any) of ``query``;
    ``times`` looks in a row must hold, one every ``seconds``, within ``minutes``."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    condition: Literal["prometheus", "health", "nodes"] = "nodes"
    query: str = Field(default="", max_length=2000)
    comparison: Literal["<", "<=", ">", ">=", "==", "!="] = "=="
    value: float = 0
    match: Literal["all", "any"] = "all"
    times: int = Field(default=1, ge=1, le=20)
    seconds: int = Field(default=60, ge=60, le=3600)
    minutes: int = Field(default=30, ge=1, le=7 * 1440)
    machines: Literal["task", "cluster"] = "task"
    group: Literal["", "new", "old"] = ""
    params: dict[str, Any] = Field(default_factory=dict, description="Of the HealthCheck.")

    @model_validator(mode="after")
    def _has_query(self) -> "GateParams":
        if (self.condition == "prometheus") != bool(self.query.strip()):
            raise ValueError(_("The condition “prometheus”, and no other, needs a query."))
        return self


def check(cluster: Cluster, params: GateParams) -> None:
    if params.condition == "prometheus":
        if systems.find(cluster.pk, SiteSystem.Purpose.PROMETHEUS) is None:
            raise InvalidInput(
                systems.missing(cluster, SiteSystem.Purpose.PROMETHEUS), code="no_system"
            )
    elif params.condition == "health":
        start.parse_params(operation_kinds.get("HealthCheck"), params.params)


def begin(flow: Flow, step: TaskStep, params: GateParams) -> None:
    until = flow.now + timedelta(minutes=params.minutes)
    step.progress = {"until": until.isoformat(), "good": 0}
    step.due_at = None if params.condition == "health" else until  # a check has no limit of ours
    if params.condition == "prometheus":
        _ask(flow, step)
    step.save(update_fields=["progress", "due_at"])
    if params.condition == "health":
        _begin_check(flow, step, params)


def look(flow: Flow, step: TaskStep, params: GateParams) -> None:
    if params.condition == "health":
        _look_at_check(flow, step)
        return
    if params.condition == "nodes":
        _look_at_nodes(flow, step, params)
    if step.status == Status.RUNNING and step.progress.get("failed"):
        flow.finish(step, Status.FAILED, step.message)
    elif step.status == Status.RUNNING and step.progress["good"] >= params.times:
        flow.finish(step, Status.SUCCEEDED, step.message)
    elif step.status == Status.RUNNING and flow.now >= _until(step):
        _give_up(flow, step, params)
    elif step.status == Status.RUNNING and step.due_at is not None and step.due_at <= flow.now:
        if params.condition == "prometheus":
            _ask(flow, step)
        step.save(update_fields=["progress", "due_at"])


def _until(step: TaskStep) -> datetime:
    return datetime.fromisoformat(step.progress["until"])


def _give_up(flow: Flow, step: TaskStep, params: GateParams) -> None:
    said = step.message or Sentence("Nothing was heard.")
    why = Sentence("It did not hold within %(minutes)s minutes.", minutes=params.minutes)
    flow.finish(step, Status.FAILED, joined([why, said], " "))


def cancel(flow: Flow, step: TaskStep, params: GateParams) -> None:
    """A running HealthCheck was told by ``flows.control``; here is waited for its end."""
    parts = step.parts.select_related("operation")
    if not any(part.operation is not None and part.operation.is_active for part in parts):
        flow.finish(step, Status.CANCELED, Sentence("Canceled."))


# --- Prometheus -------------------------------------------------------------------------------


def _ask(flow: Flow, step: TaskStep) -> None:
    """``asked`` marks the question, so that one answer to it counts."""
    step.due_at = min(_until(step), flow.now + timedelta(seconds=LOST_SECONDS))
    if step.progress.get("asked") and not tasks.is_empty(tasks.OUTSIDE):
        return  # perhaps it waits there still
    step.progress = {**step.progress, "asked": flow.now.isoformat()}
    tasks.enqueue_on_commit("operations.tasks.look_outside", step.pk, queue=tasks.OUTSIDE)


# --- nodes ------------------------------------------------------------------------------------


def _look_at_nodes(flow: Flow, step: TaskStep, params: GateParams) -> None:
    wrong = _what_is_missing(flow, params.group)
    step.progress = {**step.progress, "good": 0 if wrong else params.times}
    step.due_at = min(_until(step), flow.now + timedelta(seconds=params.seconds))
    step.message = (
        joined(wrong[:NAMED_AT_MOST], " ") if wrong else Sentence("All nodes are Ready and open.")
    )
    step.save(update_fields=["progress", "due_at", "message"])


def _what_is_missing(flow: Flow, group: str) -> list[str]:
    """Nothing is true of nodes that nobody sees, nor of none at all."""
    cluster = Cluster.objects.get(pk=flow.task.cluster_id)
    if cluster.health == Cluster.Health.UNREACHABLE:
        return [Sentence("The cluster is unreachable: %(why)s", why=cluster.health_reason)]
    if not known_nodes.is_fresh(cluster):
        # Nobody writes that it is unreachable when nobody looks at it.
        return [
            Sentence(
                "The nodes of %(cluster)s have not been looked at for more than %(seconds)s "
                "seconds. See whether a collector is running (manage.py collect).",
                cluster=cluster.name,
                seconds=int(known_nodes.FRESH.total_seconds()),
            )
        ]
    members = flow.machines(group)
    if not members:
        return [Sentence("No machine is left that could take part.")]
    return [why for member in members if (why := _why_not(member))]


def _why_not(member: TaskMachine) -> str:
    """Read anew each time: the machine may have been loaded before its node changed."""
    rows = Machine.objects.select_related("node").filter(pk=member.machine_id or 0)
    machine = rows.first()
    node = machine.node if machine is not None else None
    name = member.hostname or member.address
    if node is None:
        return Sentence("%(machine)s has no node.", machine=name)
    if not node.is_ready:
        return Sentence("Node %(node)s is not Ready.", node=node.name)
    if node.unschedulable:
        return Sentence("Node %(node)s is cordoned.", node=node.name)
    return ""


# --- HealthCheck ------------------------------------------------------------------------------


def _begin_check(flow: Flow, step: TaskStep, params: GateParams) -> None:
    """Its machines are no part of the batch: what it finds of them fails the step alone."""
    task, user = flow.task, acting.person(flow.task)
    step.parts.update(is_to_be_retried=False)
    if user is None:
        flow.finish(step, Status.FAILED, acting.gone(task))
        return
    try:
        machines = (
            start.machines_of("HealthCheck", task.cluster, user=user)
            if params.machines == "cluster"
            else [each.machine for each in flow.machines(params.group) if each.machine is not None]
        )
        operation = start.start_operation(
            kind="HealthCheck",
            cluster=task.cluster,
            machines=machines,
            params=params.params,
            acting_user=user,
            priority=acting.priority(task.priority, task.cluster, user),
            sent_by=task.sent_by,
            reason=task.reason,
        )
    except BeidouError as error:
        sentence = Sentence("It could not begin: %(why)s", why=error.message)
        flow.finish(step, Status.FAILED, sentence)
        return
    number = step.parts.count() + 1
    TaskPart.objects.create(step=step, number=number, machines=[], operation=operation)


def _look_at_check(flow: Flow, step: TaskStep) -> None:
    part = step.parts.select_related("operation").order_by("number").last()
    operation = part.operation if part is not None else None
    if step.status != Status.RUNNING or (operation is not None and operation.is_active):
        return
    if operation is None:
        flow.finish(step, Status.FAILED, Sentence("The HealthCheck was deleted."))
    elif operation.status == Operation.Status.SUCCEEDED:
        flow.finish(step, Status.SUCCEEDED, Sentence("All machines are healthy."))
    else:
        flow.finish(step, Status.FAILED, _what_is_wrong(operation))


def _what_is_wrong(operation: Operation) -> Sentence:
    bad = operation.machines.filter(state=OperationMachine.State.FAILED).order_by("pk")
    names = [f"{each.hostname or each.address}" for each in bad[:NAMED_AT_MOST]]
    if not names:
        return Sentence(
            "%(operation)s gave no result: %(why)s",
            operation=operation.name,
            why=operation.message or operation.get_status_display(),
        )
    return Sentence(
        "%(operation)s finds %(count)s machines not healthy: %(names)s",
        operation=operation.name,
        count=bad.count(),
        names=", ".join(names),
    )


GATE = register(
    StepKind(
        name="gate",
        title=gettext_lazy("Gate"),
        params=GateParams,
        begin=begin,
        look=look,
        cancel=cancel,
        check=check,
    )
)
