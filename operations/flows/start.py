"""From a wish to the rows of a task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db import IntegrityError
from django.utils.translation import gettext as _

from beidou.base import audit, permissions
from beidou.base.errors import Conflict, InvalidInput
from beidou.base.models import User
from clusters.models import Cluster
from machines.models import Machine
from operations.flows import advance, base, catalog, graph
from operations.flows.kinds.operation import OperationParams
from operations.flows.models import AutoOperationTask, TaskMachine, TaskStep
from operations.kinds import base as operation_kinds
from operations.services import start
from operations.services.start import Plan

MACHINES_MAX = 2000


@dataclass(frozen=True)
class Batches:
    """``size`` 0: all machines at once; ``pause`` in seconds."""

    size: int = 0
    pause: int = 0
    max_failed_percent: int = 100


@dataclass(frozen=True)
class TaskPlan:
    """What a task would do: its steps, and what the first operation among them says of the
    machines."""

    specs: Sequence[graph.Spec]
    first: Plan | None

    @property
    def blockers(self) -> tuple[Any, ...]:
        return self.first.blockers if self.first else ()


def specs_of(
    template: str, *, steps: Sequence[str] | None = None, params: Mapping[str, Any] | None = None
) -> list[graph.Spec]:
    """The template's steps, or these of the names there are, one after the other; ``params`` go to
    the operations of the template's kind."""
    chosen = catalog.template(template)
    names = chosen.steps if steps is None else steps
    specs = []
    for index, name in enumerate(names):
        try:
            spec = catalog.spec(name)
        except InvalidInput as error:
            place = f"steps[{index}]"
            raise InvalidInput(
                f"{place}: {error.message}", code=error.code, fields={place: error.message}
            ) from error
        if spec.kind == "operation" and spec.params.get("kind") == template:
            spec = replace(spec, params={**spec.params, "params": dict(params or {})})
        specs.append(spec)
    return graph.in_order(specs)


def plan_task(
    *,
    cluster: Cluster,
    machines: Sequence[Machine],
    specs: Sequence[graph.Spec],
    roles: Mapping[int, str] | None = None,
    acting_user: User,
) -> TaskPlan:
    """Check everything that is known here; contacts nothing, changes nothing."""
    permissions.require(acting_user, cluster, permissions.OPERATE)
    graph.check(specs)
    operations = [
        typed
        for index, spec in enumerate(specs)
        if isinstance(typed := _typed(spec, f"steps[{index}]", cluster), OperationParams)
    ]
    for typed in operations:
        kind = operation_kinds.get(typed.kind)
        permissions.require(acting_user, cluster, kind.permission)
    if not operations:
        return TaskPlan(specs, None)
    first = start.plan_operation(
        kind=operations[0].kind,
        cluster=cluster,
        machines=machines,
        params=operations[0].params,
        roles=roles,
        acting_user=acting_user,
    )
    return TaskPlan(specs, first)


def _typed(spec: graph.Spec, place: str, cluster: Cluster) -> Any:
    """The step's parameters, those of an operation's kind with them."""
    kind_of_step = base.get(spec.kind)
    typed = base.parse_params(kind_of_step, spec.params, place=f"{place}.params")
    try:
        kind_of_step.check(cluster, typed)
    except InvalidInput as error:
        raise InvalidInput(
            f"{place}: {error.message}", code=error.code, fields={place: error.message}
        ) from error
    if isinstance(typed, OperationParams):
        kind = operation_kinds.get(typed.kind)
        start.parse_params(kind, typed.params)
        for name in typed.steps or ():
            if name not in kind.step_names:
                sentence = _("%(kind)s has no step “%(step)s”.") % {
                    "kind": kind.name,
                    "step": name,
                }
                raise InvalidInput(
                    f"{place}: {sentence}", code="unknown_step", fields={place: sentence}
                )
    return typed


def start_task(
    *,
    cluster: Cluster,
    machines: Sequence[Machine],
    specs: Sequence[graph.Spec],
    template: str = "",
    params: Mapping[str, Any] | None = None,
    roles: Mapping[int, str] | None = None,
    batches: Batches | None = None,
    acting_user: User,
    name: str = "",
    reason: str = "",
    leave_out_blocked: bool = False,
) -> AutoOperationTask:
    """Write the task with its steps and machines, and let it begin on commit.

    Machines that the first operation could not take refuse the whole, unless ``leave_out_blocked``.
    """
    plan = plan_task(
        cluster=cluster, machines=machines, specs=specs, roles=roles, acting_user=acting_user
    )
    batches = batches or Batches()
    _check_batches(batches)
    chosen = _chosen(plan, machines, cluster, leave_out_blocked=leave_out_blocked)
    _refuse_held(chosen)
    known = catalog.TEMPLATES.get(template)
    try:
        with audit.entries_last():
            start.lock(chosen)
            task = AutoOperationTask.objects.create(
                name=name or _free_name(template or "flow", cluster),
                cluster=cluster,
                template=template,
                template_version=known.version if known else 0,
                params=dict(params or {}),
                reason=reason[:500],
                requested_by=acting_user,
                requested_by_name=acting_user.get_username(),
                batch_size=batches.size,
                batch_pause=batches.pause,
                max_failed_percent=batches.max_failed_percent,
            )
            task.status_changes.create(
                old="", new=task.status, actor=acting_user.get_username(), reason=reason[:500]
            )
            TaskMachine.objects.bulk_create(
                TaskMachine(
                    task=task,
                    machine=machine,
                    address=machine.address,
                    hostname=machine.hostname,
                    role=(roles or {}).get(machine.pk, ""),
                )
                for machine in chosen
            )
            TaskStep.objects.bulk_create(
                TaskStep(
                    task=task,
                    position=position,
                    key=spec.key,
                    name=spec.name,
                    kind=spec.kind,
                    params=dict(spec.params),
                    needs=list(spec.needs),
                    on_failure=spec.on_failure,
                    compensates=list(spec.compensates),
                )
                for position, spec in enumerate(specs, start=1)
            )
            audit.record(
                f"start {template or 'flow'}",
                task,
                after={
                    "cluster": cluster.name,
                    "machines": [str(machine.address) for machine in chosen],
                    "steps": [spec.key for spec in specs],
                    "params": task.params,
                },
                reason=reason,
            )
            advance.wake(task.pk)
    except IntegrityError as error:
        raise _explain(error, name) from error
    return task


def _check_batches(batches: Batches) -> None:
    if (
        not 0 <= batches.size <= MACHINES_MAX
        or not 0 <= batches.pause <= 7 * 86400
        or not 0 <= batches.max_failed_percent <= 100
    ):
        raise InvalidInput(
            _(
                "A batch has 0 (all) to %(most)s machines, the pause is 0 to 604800 seconds, the "
                "failed machines allowed are 0 to 100 %%."
            )
            % {"most": MACHINES_MAX},
            code="invalid_batches",
        )


def _chosen(
    plan: TaskPlan, machines: Sequence[Machine], cluster: Cluster, *, leave_out_blocked: bool
) -> list[Machine]:
    chosen = list(machines)
    if plan.first is not None:
        blockers = plan.first.whole_blockers if leave_out_blocked else plan.first.blockers
        start.refuse_blockers(plan.first.kind, cluster, blockers)
        chosen = list(plan.first.ready)
    if not chosen:
        raise InvalidInput(_("No machine is left that could take part."), code="no_machines")
    return chosen


def _refuse_held(machines: Sequence[Machine]) -> None:
    """``InvalidInput`` naming machines with which another task has begun."""
    rows = TaskMachine.objects.filter(machine__in=machines, holds_machine=True)
    start.refuse_machines(
        {
            address: _("task %(name)s works with it") % {"name": name}
            for address, name in rows.values_list("address", "task__name")
        }
    )


def _free_name(template: str, cluster: Cluster) -> str:
    stem = f"auto-{template.lower()}-{cluster.name}"[:70]
    rows = AutoOperationTask.objects.all()
    number = rows.filter(name__startswith=f"{stem}-").count() + 1
    while rows.filter(name=f"{stem}-{number}").exists():
        number += 1
    return f"{stem}-{number}"


def _explain(error: IntegrityError, name: str) -> Conflict:
    text = str(error)
    if "one_task_per_machine" in text or "taskmachine.machine_id" in text:
        return Conflict(
            _("Another task began with one of these machines just now."), code="machine_is_held"
        )
    return Conflict(
        _("A task called “%(name)s” exists already.") % {"name": name}
        if name
        else _("Somebody was faster; try again."),
        code="name_taken",
    )
