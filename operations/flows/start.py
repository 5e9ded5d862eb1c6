"""From a wish to the rows of a task."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db import IntegrityError
from django.utils.translation import gettext as _

from beidou.base import audit, permissions
from beidou.base.errors import Conflict, InvalidInput
from beidou.base.models import User
from clusters.models import Cluster
from machines.models import Machine
from operations.flows import advance, base, catalog, graph, nesting, writing
from operations.flows.kinds.operation import OperationParams
from operations.flows.library import finding
from operations.flows.models import AutoOperationTask, TaskMachine
from operations.kinds import base as operation_kinds
from operations.kinds.base import Kind
from operations.models import Operation
from operations.services import start
from operations.services.start import Plan

MACHINES_MAX = 2000
OLD = TaskMachine.Group.OLD.value


@dataclass(frozen=True)
class Batches:
    """``size`` 0: all machines at once; ``pause`` in seconds."""

    size: int = 0
    pause: int = 0
    max_failed_percent: int = 100


@dataclass(frozen=True)
class TaskPlan:
    """What a task would do: its steps, and what the first operation among them says of the
    machines; in a replacement one of each group."""

    specs: Sequence[graph.Spec]
    plans: Mapping[str, Plan]

    @property
    def first(self) -> Plan | None:
        return next(iter(self.plans.values()), None)

    @property
    def blockers(self) -> tuple[Any, ...]:
        return tuple(each for plan in self.plans.values() for each in plan.blockers)


def specs_of(
    template: str | catalog.Template,
    *,
    steps: Sequence[str] | None = None,
    params: Mapping[str, Any] | None = None,
) -> list[graph.Spec]:
    """The template's steps, or these of the names there are, one after the other; ``params`` go to
    the operations of the template's kind; in a replacement they are given by kind, in a template
    of the site by the key of the step."""
    chosen = finding.template(template) if isinstance(template, str) else template
    if chosen.content is not None:
        _refuse_other_steps(chosen, steps)
        return finding.specs_of(chosen, params or {})
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
        specs.append(_with_params(spec, chosen, params or {}))
    return catalog.for_template(chosen, graph.in_order(specs))


def _refuse_other_steps(chosen: catalog.Template, steps: Sequence[str] | None) -> None:
    """What goes side by side, and what a step is done with, no list of names can say."""
    if steps is not None and tuple(steps) != chosen.steps:
        sentence = _("The steps of %(template)s are those of its version: %(steps)s.") % {
            "template": chosen.name,
            "steps": ", ".join(chosen.steps),
        }
        raise InvalidInput(sentence, code="fixed_steps", fields={"steps": sentence})


def _with_params(
    spec: graph.Spec, chosen: catalog.Template, params: Mapping[str, Any]
) -> graph.Spec:
    kind = spec.params.get("kind")
    if spec.kind != "operation":
        return spec
    if not chosen.groups:
        own = params if kind == chosen.name else None
    else:
        own = _by_kind(chosen, params).get(str(kind))
    return spec if own is None else replace(spec, params={**spec.params, "params": dict(own)})


def _by_kind(
    chosen: catalog.Template, params: Mapping[str, Any]
) -> Mapping[str, Mapping[str, Any]]:
    known = sorted(
        {
            str(named.params["kind"])
            for name in chosen.steps
            if (named := catalog.named(name)).kind == "operation"
        }
    )
    for name, values in params.items():
        if name not in known or not isinstance(values, Mapping):
            sentence = _(
                "Parameters of %(template)s are given by the kind of operation: %(known)s."
            ) % {"template": chosen.name, "known": ", ".join(known)}
            place = f"params.{name}"
            raise InvalidInput(
                f"{place}: {sentence}", code="invalid_params", fields={place: sentence}
            )
    return params


def plan_task(
    *,
    cluster: Cluster,
    machines: Sequence[Machine],
    specs: Sequence[graph.Spec],
    roles: Mapping[int, str] | None = None,
    acting_user: User,
    replaced: Sequence[Machine] = (),
    versions: Mapping[str, int] | None = None,
    batches: Batches | None = None,
) -> TaskPlan:
    """Check everything that is known here; contacts nothing, changes nothing.

    ``versions``: of the templates below, where they were chosen before (``nesting.versions_of``).
    """
    permissions.require(acting_user, cluster, permissions.OPERATE)
    graph.check(specs)
    specs = nesting.expand(specs, versions=versions)
    _refuse_going_on(specs)
    specs, operations = settled(specs, cluster=cluster, acting_user=acting_user)
    _check_batches(batches or Batches(), operations)
    _check_groups(operations, machines, replaced)
    _refuse_tasks_among_groups(specs, operations)
    plans: dict[str, Plan] = {}
    for each in operations:
        if each.group in plans:
            continue
        plans[each.group] = start.plan_operation(
            kind=each.kind,
            cluster=cluster,
            machines=replaced if each.group == OLD else machines,
            params=each.params,
            roles=None if each.group == OLD else roles,
            acting_user=acting_user,
        )
    return TaskPlan(specs, plans)


def _refuse_going_on(specs: Sequence[graph.Spec]) -> None:
    """Behind a step below which somebody is asked, whatever they said; ``graph`` sees no tree."""
    for place, spec in nesting.walk(specs):
        tree = nesting.walk(nesting.below(spec.params)) if spec.kind == nesting.KIND else ()
        asks = any(each.kind == "workOrder" for _place, each in tree)
        if asks and spec.on_failure == graph.OnFailure.CONTINUE:
            sentence = _("What needs an approval cannot go on without it.")
            raise InvalidInput(
                f"{place}: {sentence}", code="invalid_graph", fields={place: sentence}
            )


def settled(
    specs: Sequence[graph.Spec], *, cluster: Cluster, acting_user: User
) -> tuple[list[graph.Spec], list[OperationParams]]:
    """The expanded steps as they would be done, and the operations among them: typed, the rights
    to them asked for, and no secret in them."""
    typed = {place: _typed(spec, place, cluster) for place, spec in nesting.walk(specs)}
    operations = [each for each in typed.values() if isinstance(each, OperationParams)]
    for each in operations:
        kind = operation_kinds.get(each.kind)
        permissions.require(acting_user, cluster, kind.permission)

    def change(place: str, spec: graph.Spec) -> graph.Spec:
        params = typed[place]
        if not isinstance(params, OperationParams):
            return spec
        return _settled(spec, params, place, cluster, acting_user)

    return nesting.changed(specs, change), operations


def _check_groups(
    operations: Sequence[OperationParams], machines: Sequence[Machine], replaced: Sequence[Machine]
) -> None:
    """Old machines where some go out, and only there."""
    replaces = any(typed.group for typed in operations)
    sentence = ""
    if replaces and not replaced:
        sentence = _("Name the machines that are replaced.")
    elif replaced and not replaces:
        sentence = _("Only a replacement has machines that are replaced.")
    elif both := {machine.pk for machine in machines} & {machine.pk for machine in replaced}:
        names = [str(machine.address) for machine in machines if machine.pk in both]
        sentence = _("These machines are named as new and as replaced: %(names)s.") % {
            "names": ", ".join(names)
        }
    if sentence:
        raise InvalidInput(sentence, code="invalid_groups", fields={"replaced": sentence})


def _refuse_tasks_among_groups(
    specs: Sequence[graph.Spec], operations: Sequence[OperationParams]
) -> None:
    """A task below knows no groups: it would take the new and the old machines alike."""
    if not any(typed.group for typed in operations):
        return
    for index, spec in enumerate(specs):
        if spec.kind == nesting.KIND:
            place = f"steps[{index}]"
            sentence = _("Where machines are replaced, no step is another task.")
            raise InvalidInput(
                f"{place}: {sentence}", code="invalid_nesting", fields={place: sentence}
            )


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


def _settled(
    spec: graph.Spec, typed: OperationParams, place: str, cluster: Cluster, user: User
) -> graph.Spec:
    """With what the kind makes of the parameters today: that is planned and approved, and nothing
    else is done later.  A secret would be kept readable until then, for everybody who may look."""
    kind = operation_kinds.get(typed.kind)
    params = start.parse_params(kind, typed.params)
    asked = params.model_dump(mode="json")
    try:
        kind.settle(cluster, params, user)
    except InvalidInput as error:
        fields = {f"{place}.{name}": sentence for name, sentence in error.fields.items()}
        first = next(iter(fields), place)
        sentence = fields.get(first, error.message)
        raise InvalidInput(f"{first}: {sentence}", code=error.code, fields=fields) from error
    if secrets := kind.secrets(params):
        sentence = _(
            "A task cannot keep a secret, so this is no step of a task; start it as an operation "
            "of its own."
        )
        fields = {f"{place}.params.{name}": sentence for name in secrets}
        raise InvalidInput(
            f"{next(iter(fields))}: {sentence}", code="secret_in_task", fields=fields
        )
    settled = params.model_dump(mode="json")
    if settled == asked:
        return spec
    typed.params = settled
    return replace(spec, params={**spec.params, "params": settled})


def start_task(
    *,
    cluster: Cluster,
    machines: Sequence[Machine],
    specs: Sequence[graph.Spec],
    template: str = "",
    version: int = 0,
    params: Mapping[str, Any] | None = None,
    roles: Mapping[int, str] | None = None,
    batches: Batches | None = None,
    acting_user: User,
    name: str = "",
    reason: str = "",
    leave_out_blocked: bool = False,
    replaced: Sequence[Machine] = (),
    priority: str = Operation.Priority.NORMAL,
    sent_by: User | None = None,
    versions: Mapping[str, int] | None = None,
) -> AutoOperationTask:
    """Write the task with its steps and machines, and let it begin on commit.

    ``version``: of the template that ``specs`` were made of, where it is one of the site.

    Machines that the first operation could not take refuse the whole, unless ``leave_out_blocked``;
    in a replacement always: nobody knows which old one would stay for a new one that is left out.
    ``priority``: of all its operations; high needs the right to approve.
    ``sent_by``: who asks in the name of ``acting_user``, if that is somebody else.
    """
    plan = plan_task(
        cluster=cluster,
        machines=machines,
        specs=specs,
        roles=roles,
        acting_user=acting_user,
        replaced=replaced,
        versions=versions,
        batches=batches,
    )
    batches = batches or Batches()
    start.require_priority(cluster, priority, acting_user)
    chosen = _chosen(plan, machines, cluster, leave_out_blocked=leave_out_blocked and not replaced)
    chosen += replaced
    old = {machine.pk for machine in replaced}
    _refuse_held(chosen)
    known = catalog.TEMPLATES.get(template)
    try:
        with audit.entries_last():
            start.lock(chosen)
            task = writing.write(
                name=name or _free_name(template or "flow", cluster),
                cluster=cluster,
                template=template,
                template_version=known.version if known else version,
                params=dict(params or {}),
                reason=reason,
                requested_by=acting_user,
                requested_by_name=acting_user.get_username(),
                sent_by=sent_by if sent_by != acting_user else None,
                batch_size=batches.size,
                batch_pause=batches.pause,
                max_failed_percent=batches.max_failed_percent,
                priority=priority,
                actor=acting_user.get_username(),
                specs=plan.specs,
                machines=[
                    TaskMachine(
                        machine=machine,
                        address=machine.address,
                        hostname=machine.hostname,
                        role=(roles or {}).get(machine.pk, ""),
                        group=_group_of(machine, old),
                    )
                    for machine in chosen
                ],
            )
            audit.record(
                f"start {template or 'flow'}",
                task,
                after={
                    "cluster": cluster.name,
                    "machines": [str(machine.address) for machine in chosen],
                    **({"replaced": [str(each.address) for each in replaced]} if replaced else {}),
                    "steps": [spec.key for spec in plan.specs],
                    "params": task.params,
                    **({"priority": priority} if priority != Operation.Priority.NORMAL else {}),
                },
                reason=reason,
            )
            advance.wake(task.pk)
    except IntegrityError as error:
        raise _explain(error, name) from error
    return task


def _check_batches(batches: Batches, operations: Sequence[OperationParams]) -> None:
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
    kinds = [operation_kinds.get(typed.kind) for typed in operations]
    if why := why_no_batches(kinds, batches.size):
        raise InvalidInput(why, code="invalid_batches", fields={"batches": why})


def why_no_batches(kinds: Iterable[Kind], size: int) -> str:
    """Why these are not done with so many machines at a time; empty when they may be."""
    whole = next((kind for kind in kinds if kind.whole_only), None)
    if whole is None or not size:
        return ""
    return _(
        "%(kind)s is done with all of its machines together, never in batches: leave the machines "
        "per batch at 0, or take a template without it."
    ) % {"kind": whole.name}


def _chosen(
    plan: TaskPlan, machines: Sequence[Machine], cluster: Cluster, *, leave_out_blocked: bool
) -> list[Machine]:
    chosen = list(machines)
    for group, found in plan.plans.items():
        blockers = found.whole_blockers if leave_out_blocked else found.blockers
        start.refuse_blockers(found.kind, cluster, blockers)
        if group != OLD:
            chosen = list(found.ready)
    if not chosen:
        raise InvalidInput(_("No machine is left that could take part."), code="no_machines")
    return chosen


def _group_of(machine: Machine, old: Collection[int]) -> str:
    if not old:
        return ""
    return OLD if machine.pk in old else TaskMachine.Group.NEW.value


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
