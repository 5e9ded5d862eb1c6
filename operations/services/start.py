"""Planning and starting an operation: what will happen, what blocks, and the rows that make it
happen."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from pydantic import ValidationError

from beidou.base import audit, permissions
from beidou.base.errors import Conflict, InvalidInput
from beidou.base.models import AuditEntry, User
from beidou.base.sentences import Sentence
from beidou.base.tasks import CLOCK, enqueue_on_commit
from clusters.models import Cluster
from machines.models import Machine
from operations.flows.models import TaskMachine
from operations.kinds import base as kinds
from operations.kinds.base import Blocker, Kind, Remark, StepKind
from operations.models import MachineStep, Operation, OperationMachine, Step
from operations.services import borrowing, calendars, estimates, holding, teams, wording

MACHINES_MAX = 2000


@dataclass(frozen=True)
class Plan:
    """What an operation would do: ``ready`` machines go through ``steps``, ``blockers`` say why
    others (or, without a machine, the whole) cannot; ``remarks`` tell of the ready ones, or of the
    whole, what should be known; ``seconds`` is (low, high) from earlier runs or None."""

    kind: Kind
    cluster: Cluster
    params: Any
    ready: tuple[Machine, ...]
    blockers: tuple[Blocker, ...]
    remarks: tuple[Remark, ...]
    seconds: tuple[float, float] | None
    earlier_runs: int

    @property
    def ready_with_remarks(self) -> list[tuple[Machine, list[str]]]:
        texts: dict[int, list[str]] = {}
        for remark in self.remarks:
            if remark.machine is not None:
                texts.setdefault(remark.machine.pk, []).append(remark.text)
        return [(machine, texts.get(machine.pk, [])) for machine in self.ready]

    @property
    def ready_with_steps(self) -> list[tuple[Machine, list[StepKind], list[str]]]:
        """Each machine with the steps it has a part in, and what is remarked."""
        parts = [
            (step, {machine.pk for machine in step.part(self.params, self.ready)})
            for step in self.kind.steps
        ]
        return [
            (machine, [step for step, keys in parts if machine.pk in keys], texts)
            for machine, texts in self.ready_with_remarks
        ]

    @property
    def whole_blockers(self) -> tuple[Blocker, ...]:
        return tuple(blocker for blocker in self.blockers if blocker.machine is None)


def parse_params(kind: Kind, params: Mapping[str, Any]) -> Any:
    """The typed parameters; ``InvalidInput`` names each wrong one."""
    try:
        return kind.params.model_validate(dict(params))
    except ValidationError as error:
        fields = {
            ".".join(map(str, ("params", *place))): sentence
            for place, sentence in wording.problems(error)
        }
        name, sentence = next(iter(fields.items()))
        raise InvalidInput(f"{name}: {sentence}", code="invalid_params", fields=fields) from error


def plan_operation(
    *,
    kind: str,
    cluster: Cluster,
    machines: Sequence[Machine],
    params: Mapping[str, Any],
    roles: Mapping[int, str] | None = None,
    acting_user: User,
) -> Plan:
    """Look at everything that is known here; contacts no cluster and no machine, changes
    nothing.

    ``roles`` gives machines (by key) another role than their own."""
    chosen = kinds.get(kind)
    permissions.require(acting_user, cluster, chosen.permission)
    typed = parse_params(chosen, params)
    chosen.settle(cluster, typed, acting_user)
    settled = typed.model_dump(mode="json")
    mutating, holds = chosen.is_mutating(settled), chosen.holds_machines(settled)
    _check_roles(chosen, roles or {})
    blockers = [
        *chosen.phase_blockers(cluster),
        *_general_blockers(chosen, machines, roles or {}, acting_user, holds=holds),
        *borrowing.blockers(cluster, machines, acting_user),
        *chosen.blockers(cluster, machines, typed),
        *(
            Blocker(machine, reason)
            for machine in machines
            if machine.state == Machine.State.DISCOVERED
            and (reason := why_not_from_state(chosen, machine))
        ),
    ]
    blocked = {blocker.machine.pk for blocker in blockers if blocker.machine}
    ready = tuple(machine for machine in machines if machine.pk not in blocked)
    seconds, runs = estimates.duration_of(kind, len(ready), settled) if ready else (None, 0)
    return Plan(
        kind=chosen,
        cluster=cluster,
        params=typed,
        ready=ready,
        blockers=tuple(together(blockers)),
        remarks=tuple(
            remark
            for remark in (
                *(calendars.remarks(cluster, seconds) if mutating else ()),
                *(_in_tasks(machines) if holds else ()),
                *chosen.remarks(cluster, machines, acting_user),
            )
            if remark.machine is None or remark.machine.pk not in blocked
        ),
        seconds=seconds,
        earlier_runs=runs,
    )


def together(blockers: Sequence[Blocker]) -> list[Blocker]:
    """One per machine, with all its reasons as they were found; those of the whole as they are."""
    whole = [blocker for blocker in blockers if blocker.machine is None]
    machines = {blocker.machine.pk: blocker.machine for blocker in blockers if blocker.machine}
    reasons: dict[int, list[str]] = {}
    for blocker in blockers:
        if blocker.machine is not None:
            reasons.setdefault(blocker.machine.pk, []).extend(blocker.reasons)
    return [
        *whole,
        *(Blocker(machines[key], first, tuple(rest)) for key, (first, *rest) in reasons.items()),
    ]


def why_not_from_state(kind: Kind, machine: Machine) -> str:
    """Why no operation of the kind can begin with the machine as it is; empty when it can."""
    if machine.state in kind.startable_states:
        return ""
    wanted = " / ".join(sorted(str(Machine.State(s).label) for s in kind.startable_states))
    return _("it is %(state)s; must be %(wanted)s") % {
        "state": machine.get_state_display(),
        "wanted": wanted,
    }


def _general_blockers(
    chosen: Kind,
    machines: Sequence[Machine],
    roles: Mapping[int, str],
    acting_user: User,
    *,
    holds: bool,
) -> Iterator[Blocker]:
    """What is in the way of any kind.  That a machine is only Discovered is told last: it follows
    from what keeps it from being visited."""
    held = _held(machines) if holds else {}
    allowed = set(
        permissions.visible_to(
            acting_user, Machine.objects.filter(pk__in=[m.pk for m in machines]), chosen.permission
        ).values_list("pk", flat=True)
    )
    for machine in machines:
        if machine.pk not in allowed:
            yield Blocker(machine, _("your roles do not include operating this machine"))
        if machine.pk in held:
            reason = _("operation %(name)s is working on it") % {"name": held[machine.pk]}
            yield Blocker(machine, reason)
        elif machine.state != Machine.State.DISCOVERED and (
            reason := why_not_from_state(chosen, machine)
        ):
            yield Blocker(machine, reason)
        if chosen.takes_roles and (role := _role_of(chosen, machine, roles)) not in chosen.roles:
            reason = _(
                "its role is “%(role)s”; %(kind)s knows the roles %(roles)s: change the machine's "
                "role, or give it another for this operation"
            ) % {"role": role, "kind": chosen.name, "roles": ", ".join(chosen.roles)}
            yield Blocker(machine, reason)


def machines_of(kind: str, cluster: Cluster, *, user: User) -> list[Machine]:
    """Those that are meant when none are named: all of the cluster that the kind can begin with."""
    chosen = kinds.get(kind)
    if not chosen.whole_cluster:
        sentence = _("Name at least one machine.")
        raise InvalidInput(sentence, code="no_machines", fields={"machines": sentence})
    rows = permissions.visible_to(
        user,
        Machine.objects.select_related("credential", "node").filter(
            cluster=cluster, state__in=chosen.startable_states
        ),
    )
    found = list(rows.order_by("pk")[: MACHINES_MAX + 1])
    if not found or len(found) > MACHINES_MAX:
        sentence = (
            _("An operation has at most %(count)s machines; name those that are meant.")
            % {"count": MACHINES_MAX}
            if found
            else _("No machine is registered in %(cluster)s that this can begin with.")
            % {"cluster": cluster}
        )
        raise InvalidInput(sentence, code="no_machines", fields={"machines": sentence})
    return found


def _role_of(kind: Kind, machine: Machine, roles: Mapping[int, str] | None) -> str:
    """The role in the operation: the kind's, the given one, or the machine's own."""
    return kind.role or (roles or {}).get(machine.pk) or machine.role or "Compute"


def _held(machines: Sequence[Machine]) -> dict[int, str]:
    rows = OperationMachine.objects.filter(machine__in=machines, holds_machine=True)
    return dict(rows.values_list("machine_id", "operation__name"))


def _in_tasks(machines: Sequence[Machine]) -> list[Remark]:
    """A task that waits, for an approval say, holds no machine against operations of their own:
    whoever mends one in between has to be able to.  But they are told."""
    rows = TaskMachine.objects.filter(machine__in=machines, holds_machine=True)
    names = dict(rows.values_list("machine_id", "task__name"))
    return [
        Remark(
            machine, _("task %(name)s works with it, and is not over") % {"name": names[machine.pk]}
        )
        for machine in machines
        if machine.pk in names
    ]


def start_operation(
    *,
    kind: str,
    cluster: Cluster,
    machines: Sequence[Machine],
    params: Mapping[str, Any] | None = None,
    roles: Mapping[int, str] | None = None,
    acting_user: User,
    name: str = "",
    reason: str = "",
    max_failed_percent: int = 100,
    forks: int = 10,
    leave_out_blocked: bool = False,
    steps: Sequence[str] | None = None,
    priority: str = Operation.Priority.NORMAL,
    sent_by: User | None = None,
) -> Operation:
    """Write the operation with its steps and machines, and let it be dispatched on commit.

    Blocked machines refuse the whole (``InvalidInput``) unless ``leave_out_blocked``.  ``roles``
    gives machines (by key) another role than their own.  A machine on which another change goes on
    is refused by the database (``Conflict``), whatever the plan said a moment ago.  ``steps``
    narrows the kind's steps to these.  ``priority`` high needs the right to approve.
    ``sent_by``: who asks in the name of ``acting_user``, if that is somebody else.
    """
    plan = plan_operation(
        kind=kind,
        cluster=cluster,
        machines=machines,
        params=params or {},
        roles=roles,
        acting_user=acting_user,
    )
    _refuse_blocked(plan, leave_out_blocked=leave_out_blocked)
    require_priority(cluster, priority, acting_user)
    chosen = [step.name for step in plan.kind.steps if steps is None or step.name in steps]
    settled = plan.params.model_dump(mode="json")
    if not 0 <= max_failed_percent <= 100 or not 1 <= forks <= 200:
        raise InvalidInput(_("max_failed_percent is 0 to 100, forks is 1 to 200."))
    try:
        with audit.entries_last():
            lock(plan.ready)
            # Asked again: a credential may have been taken from a machine since the plan.
            borrowed = borrowing.blockers(cluster, plan.ready, acting_user)
            refuse_blockers(plan.kind, cluster, borrowed)
            operation = Operation.objects.create(
                name=name or _free_name(kind, cluster),
                kind=kind,
                cluster=cluster,
                params=settled,
                mutating=plan.kind.changes_in(chosen, settled),
                reason=reason[:500],
                requested_by=acting_user,
                requested_by_name=acting_user.get_username(),
                sent_by=sent_by if sent_by != acting_user else None,
                max_failed_percent=max_failed_percent,
                forks=forks,
                priority=priority,
                team=teams.counted_for(acting_user, cluster, plan.kind.permission),
            )
            operation.status_changes.create(
                old="", new=operation.status, actor=acting_user.get_username(), reason=reason[:500]
            )
            members = OperationMachine.objects.bulk_create(
                OperationMachine(
                    operation=operation,
                    machine=machine,
                    address=machine.address,
                    hostname=machine.hostname,
                    role=_role_of(plan.kind, machine, roles),
                    holds_machine=plan.kind.holds_machines(settled),
                )
                for machine in plan.ready
            )
            _make_steps(operation, chosen, members)
            plan.kind.keep(operation, plan.params)
            holding.reserve(operation, plan.kind, plan.ready)
            audit.record(
                f"start {kind}",
                operation,
                after={
                    "cluster": cluster.name,
                    "machines": [member.address for member in members],
                    "params": operation.params,
                    **({"priority": priority} if priority != Operation.Priority.NORMAL else {}),
                },
                reason=reason,
            )
            enqueue_on_commit("operations.tasks.dispatch", queue=CLOCK)
    except IntegrityError as error:
        raise _explain(error, name) from error
    return operation


def require_priority(cluster: Cluster, priority: str, user: User) -> None:
    """High is for those who may approve on the cluster: it makes all others wait."""
    if priority not in Operation.Priority.values:
        sentence = _("The priority is one of %(known)s.") % {
            "known": ", ".join(Operation.Priority.values)
        }
        raise InvalidInput(sentence, code="unknown_priority", fields={"priority": sentence})
    if priority == Operation.Priority.HIGH:
        permissions.require(user, cluster, permissions.APPROVE)


def lock(machines: Sequence[Machine]) -> None:
    """Hold the machines' rows, always in the same order: of two who want some of the same machines
    one waits for the other, and never each for the other."""
    rows = Machine.objects.select_for_update(no_key=True).order_by("pk")
    list(rows.filter(pk__in=[machine.pk for machine in machines]).values_list("pk"))


def _refuse_blocked(plan: Plan, *, leave_out_blocked: bool) -> None:
    blockers = plan.whole_blockers if leave_out_blocked else plan.blockers
    refuse_blockers(plan.kind, plan.cluster, blockers)
    if not plan.ready:
        raise InvalidInput(_("No machine is left that could take part."), code="no_machines")


def refuse_blockers(kind: Kind, cluster: Cluster, blockers: Sequence[Blocker]) -> None:
    """``InvalidInput`` when there are any: for the whole, or naming every machine."""
    whole = next((blocker for blocker in blockers if blocker.machine is None), None)
    if whole is not None:
        raise InvalidInput(
            Sentence(
                "%(kind)s cannot be done on %(cluster)s: %(reason)s.",
                kind=kind.name,
                cluster=str(cluster),
                reason=whole.reason,
            ),
            code="blocked",
        )
    refuse_machines({str(b.machine.address): str(b) for b in together(blockers) if b.machine})


def refuse_machines(fields: Mapping[str, str]) -> None:
    """``InvalidInput`` naming these, by address with the reason of each; nothing for none."""
    if fields:
        first, sentence = next(iter(fields.items()))
        raise InvalidInput(
            ngettext(
                "%(count)s machine is blocked; %(first)s: %(reason)s.",
                "%(count)s machines are blocked; %(first)s: %(reason)s.",
                len(fields),
            )
            % {"count": len(fields), "first": first, "reason": sentence},
            code="blocked",
            fields=fields,
        )


def _check_roles(kind: Kind, roles: Mapping[int, str]) -> None:
    for role in roles.values():
        if role not in kind.roles:
            sentence = _("%(kind)s knows the roles %(roles)s, not “%(role)s”.") % {
                "kind": kind.name,
                "roles": ", ".join(kind.roles),
                "role": role,
            }
            raise InvalidInput(sentence, code="unknown_role", fields={"role": sentence})


def _make_steps(
    operation: Operation, names: Sequence[str], members: Sequence[OperationMachine]
) -> None:
    for position, name in enumerate(names, start=1):
        step = Step.objects.create(operation=operation, position=position, name=name)
        MachineStep.objects.bulk_create(
            MachineStep(step=step, machine=member) for member in members
        )


def _free_name(kind: str, cluster: Cluster) -> str:
    stem = f"{kind.lower()}-{cluster.name}"[:90]
    number = Operation.objects.filter(name__startswith=f"{stem}-").count() + 1
    if number == 1 and _was_here_before(cluster):  # what is told of those operations stays theirs
        number = _last_told(stem) + 1
    while Operation.objects.filter(name=f"{stem}-{number}").exists():
        number += 1
    return f"{stem}-{number}"


def _was_here_before(cluster: Cluster) -> bool:
    """Of few entries it can be told, of an operation's name only by reading all of them."""
    told = AuditEntry.objects.filter(verb="unadopt", object_name=cluster.name)
    return told.exists()


def _last_told(stem: str) -> int:
    """The number of the newest operation of this name that the audit trail knows; 0 without one."""
    told = AuditEntry.objects.filter(
        object_type=Operation._meta.label_lower,
        object_name__regex=rf"^{re.escape(stem)}-\d{{1,9}}$",
    )
    name = told.order_by("-id").values_list("object_name", flat=True).first()
    return int(name.rpartition("-")[2]) if name else 0


def _explain(error: IntegrityError, name: str) -> Conflict:
    text = str(error)
    if "one_change_per_machine" in text or "operationmachine.machine_id" in text:
        return Conflict(
            _("Another operation began on one of these machines just now."), code="machine_is_held"
        )
    return Conflict(
        _("An operation called “%(name)s” exists already.") % {"name": name}
        if name
        else _("Somebody was faster; try again."),
        code="name_taken",
    )
