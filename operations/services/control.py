"""What a person may do to an operation: cancel, pause, resume, retry, skip.

Each is refused with a sentence when the state does not allow it, and leaves status changes and an
audit entry.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from beidou.base import audit, context, permissions
from beidou.base.errors import Conflict, Forbidden, InvalidInput
from beidou.base.models import User
from beidou.base.sentences import Sentence
from beidou.base.state import change_status
from beidou.base.tasks import CLOCK, enqueue_on_commit
from machines.models import Machine
from operations.kinds import base as kinds
from operations.models import MachineStep, Operation, OperationMachine, Step
from operations.services import asking, borrowing, calendars, finish, holding, start

_OPEN = (MachineStep.Status.FAILED, MachineStep.Status.CANCELED)
_AS_IF_NEVER_BEGUN: dict[str, Any] = {
    "status": MachineStep.Status.WAITING,
    "message": "",
    "checks": [],
    "evidence": {},
    "started_at": None,
    "finished_at": None,
}


@dataclass(frozen=True)
class Above:
    """What the task that an operation is a part of says of it: ``hold`` is called before anything
    is held; ``takes_over`` tells whether the task does a retry itself, later; ``may_begin`` is
    asked when its turn in the queue has come."""

    hold: Callable[[Operation], None]
    takes_over: Callable[[Operation, Mapping[str, Any], User], bool]
    refuse_skip: Callable[[Operation], None]
    refuse_resume: Callable[[Operation], None]
    may_begin: Callable[[Operation], bool]


# Tasks know this module, and it not them.
_above: list[Above] = []


def register_above(above: Above) -> None:
    _above[:] = [above]


def may_begin(operation: Operation) -> bool:
    """Whether it is what its task wants still; else that has taken it out of the queue."""
    return _above[0].may_begin(operation)


def require_right(operation: Operation, user: User) -> None:
    """Raise ``Forbidden`` unless ``user`` may steer it; everything below asks it itself."""
    permissions.require(user, operation, kinds.get(operation.kind).permission)


def _locked(operation: Operation, user: User) -> Operation:
    require_right(operation, user)
    return _held(operation)


def _held(operation: Operation) -> Operation:
    rows = Operation.objects.select_for_update(of=("self",)).select_related("cluster")
    return rows.get(pk=operation.pk)


def cancel(operation: Operation, *, acting_user: User, reason: str = "") -> Operation:
    """End it as soon as possible: at once when nothing runs, else within seconds by its worker."""
    with audit.entries_last():
        operation = _locked(operation, acting_user)
        _cancel(operation, acting_user, reason)
    return operation


def _cancel(operation: Operation, user: User, reason: str) -> None:
    if operation.status == Operation.Status.WAITING:
        said = finish.canceled_by(user.get_username(), reason)
        finish.end(operation, Operation.Status.CANCELED, said)
    else:
        change_status(operation, to=Operation.Status.CANCELING, reason=reason)
        if not operation.steps.filter(status=Step.Status.RUNNING).exists():
            finish.go_on(operation)
    audit.record("cancel", operation, reason=reason)


def cancel_with_task(operation: Operation, *, acting_user: User, reason: str) -> None:
    """The same for the task that had it begun: who may cancel that was asked there, for all that
    belongs to it.  One that has ended meanwhile, or is ending, is left as it is."""
    with audit.entries_last():
        operation = _held(operation)
        if operation.is_active and operation.status != Operation.Status.CANCELING:
            _cancel(operation, acting_user, reason)


def take_back(operation: Operation, *, reason: str) -> bool:
    """End it if it has not begun: nobody wants it any more.  Whether that was so.

    For the task that had it begun, which has asked for the rights."""
    with audit.entries_last():
        operation = _held(operation)
        if operation.status != Operation.Status.WAITING:
            return False
        finish.end(operation, Operation.Status.CANCELED, reason)
        audit.record("cancel", operation, reason=reason)
    return True


def pause(operation: Operation, *, acting_user: User, reason: str = "") -> Operation:
    """Begin no further step; a running one is finished first."""
    with audit.entries_last():
        operation = _locked(operation, acting_user)
        change_status(operation, to=Operation.Status.PAUSED, reason=reason)
        audit.record("pause", operation, reason=reason)
    return operation


def resume(operation: Operation, *, acting_user: User, reason: str = "") -> Operation:
    """Go on; outside of windows and in a freeze it waits for its turn, as all that begins."""
    with audit.entries_last():
        _above[0].hold(operation)
        operation = _locked(operation, acting_user)
        if operation.status != Operation.Status.PAUSED:
            raise Conflict(
                _("%(name)s is %(status)s, not paused.")
                % {"name": operation, "status": operation.get_status_display()},
                code="wrong_state",
            )
        kinds.get(operation.kind).require(operation, acting_user)
        _above[0].refuse_resume(operation)
        is_at_work = operation.steps.filter(status=Step.Status.RUNNING).exists()
        hold = calendars.hold_of(operation.cluster) if operation.mutating else None
        if hold is not None and is_at_work:
            raise Conflict(
                _(
                    "A step of %(name)s is still being finished. Resume it once that has ended: "
                    "then it waits in the queue for %(what)s."
                )
                % {"name": operation, "what": hold.sentence},
                code="held",
            )
        told: dict[str, object] = {}
        if not is_at_work and (renewed := renew_what_goes_on(operation, reason)):
            told["done_again"] = renewed
        if hold is None:
            change_status(operation, to=Operation.Status.RUNNING, reason=reason)
            if not is_at_work:
                finish.go_on(operation)
        else:
            # Its slots are for others in the meantime; its machines stay held.
            _queue(operation, {**_queued_now(), **Operation.NO_SLOTS}, reason, acting_user)
            told["waits_for"] = hold.sentence.english
        audit.record("resume", operation, reason=reason, after=told or None)
    return operation


def change_priority(
    operation: Operation, *, acting_user: User, priority: str, reason: str = ""
) -> Operation:
    """Of one that waits; the order is looked at anew at once."""
    with audit.entries_last():
        operation = _locked(operation, acting_user)
        start.require_priority(operation.cluster, priority, acting_user)
        if operation.status != Operation.Status.WAITING:
            raise Conflict(
                _("%(name)s is %(status)s; only what waits has a priority to change.")
                % {"name": operation, "status": operation.get_status_display()},
                code="wrong_state",
            )
        before = operation.priority
        if priority != before:
            operation.priority = priority
            Operation.objects.filter(pk=operation.pk).update(priority=priority)
            audit.record(
                "change priority",
                operation,
                reason=reason,
                before={"priority": before},
                after={"priority": priority},
            )
            enqueue_on_commit("operations.tasks.dispatch", queue=CLOCK)
    return operation


def break_glass(operation: Operation, *, acting_user: User, reason: str) -> Operation:
    """Let one that waits for a window or the end of a freeze begin in spite of them; limits hold.

    Needs the right to approve and a reason.  A retry is another beginning: it minds them again.
    """
    if not reason.strip():
        raise InvalidInput(
            _("Beginning in spite of windows and freezes needs a reason."), code="reason_missing",
            fields={"reason": _("Say why this cannot wait.")},
        )  # fmt: skip
    with audit.entries_last():
        operation = _locked(operation, acting_user)
        permissions.require(acting_user, operation, permissions.APPROVE)
        hold = calendars.hold_of(operation.cluster) if operation.mutating else None
        if operation.status != Operation.Status.WAITING or hold is None:
            raise Conflict(
                _("No window and no freeze keeps %(name)s from beginning.") % {"name": operation},
                code="not_held",
            )
        now = timezone.now()
        broken = {
            "glass_broken_at": now,
            "glass_broken_by": acting_user.get_username(),
            "glass_reason": reason.strip()[:500],
            "ready_at": now,
        }
        Operation.objects.filter(pk=operation.pk).update(**broken)
        for name, value in broken.items():
            setattr(operation, name, value)
        audit.record(
            "break glass", operation, reason=reason, after={"waited_for": hold.sentence.english}
        )
        enqueue_on_commit("operations.tasks.dispatch", queue=CLOCK)
    return operation


def retry(
    operation: Operation,
    *,
    acting_user: User,
    machines: list[int] | None = None,
    reason: str = "",
    answers: Mapping[str, Any] | None = None,
    seen: str | None = None,
    is_approved: bool = False,
) -> Operation:
    """Do again what failed or was canceled, each machine from the step at which it stands; from the
    first when it was brought back to the beginning meanwhile.

    ``machines`` (keys of OperationMachine) narrows it; without it every machine that is not through
    is taken.  Those that were deleted meanwhile are left out, and say so.  ``answers`` changes
    those parameters that the kind lets a retry change; where they approve something, that counts
    for what was ``seen`` alone (``asking.seen_of``), unless nobody looks.  Of a part of a task
    whose approvals do not cover it the task does so, once they do; it has asked already where
    ``is_approved``.
    """
    with audit.entries_last():
        if not is_approved:
            _above[0].hold(operation)
        operation = _locked(operation, acting_user)
        kinds.get(operation.kind).require(operation, acting_user)
        _refuse_unless_ended_badly(operation)
        members, gone = _without_gone(_unfinished(operation, machines))
        if not members:
            raise _gone_error(gone)
        _refuse_unseen(operation, answers or {}, acting_user, seen)
        if not is_approved and _above[0].takes_over(operation, answers or {}, acting_user):
            after: dict[str, Any] = {
                "answers": dict(answers or {}),
                "waits for": "an approval in its task",
            }
            audit.record("retry", operation, reason=reason, after=after)
            return operation
        OperationMachine.objects.filter(pk__in=[member.pk for member in gone]).update(
            message=Sentence("Left out of the retry: this machine was deleted meanwhile.")
        )
        before = operation.answers
        _answer(operation, answers or {}, acting_user)
        _refuse_moved_on(operation, members, acting_user)
        _refuse_blocked(operation, members, acting_user)
        anew = _begin_anew(operation, members)
        back = _go_back(members)
        renewed = _renew(operation, members)
        MachineStep.objects.filter(machine__in=members, status__in=_OPEN).update(
            status=MachineStep.Status.WAITING, message="", checks=[], finished_at=None
        )
        _reopen(operation, members, reason, acting_user)
        after = {"machines": _addresses(members)}
        if gone:
            after["left_out"] = _addresses(gone)
        if anew:
            after["from_the_first_step"] = _addresses(anew)
        if back:
            after["from_an_earlier_step"] = back
        if renewed:
            after["done_again"] = renewed
        changed = operation.answers != before
        if changed:
            after["answers"] = operation.answers
        audit.record(
            "retry",
            operation,
            reason=reason,
            before={"answers": before} if changed else None,
            after=after,
        )
    return operation


def _answer(operation: Operation, answers: Mapping[str, Any], user: User) -> None:
    """Keep what was answered, apart from what was asked for; an approval holds for one retry."""
    operation.answers = check_answers(operation, answers, user)
    Operation.objects.filter(pk=operation.pk).update(answers=operation.answers)


def check_answers(operation: Operation, answers: Mapping[str, Any], user: User) -> dict[str, Any]:
    """All answers that hold with these; ``InvalidInput`` or ``Forbidden`` where a retry by ``user``
    would not take them."""
    kind = kinds.get(operation.kind)
    if unknown := sorted(set(answers) - kind.answers):
        sentence = _("A retry cannot change this.")
        raise InvalidInput(
            _("A retry of %(kind)s cannot change %(names)s.")
            % {"kind": kind.name, "names": ", ".join(unknown)},
            code="unknown_answer",
            fields={f"answers.{name}": sentence for name in unknown},
        )
    kept = {name: value for name, value in operation.answers.items() if name not in kind.approvals}
    merged = {**kept, **answers}
    start.parse_params(kind, {**operation.params, **merged})
    if any(answers.get(name) for name in kind.approvals):
        permissions.require(user, operation, permissions.APPROVE)
        if operation.is_asked_by(user):
            raise Forbidden(
                _("You asked for this operation; somebody else has to approve it."),
                code="own_operation",
            )
    return merged


def _refuse_unseen(
    operation: Operation, answers: Mapping[str, Any], user: User, seen: str | None
) -> None:
    if seen is None or not any(answers.get(name) for name in kinds.get(operation.kind).approvals):
        return
    check_answers(operation, answers, user)  # first, why they may not approve it anyway
    if not seen:
        raise InvalidInput(
            _("An approval is of what was seen: give “seen” of the operation with it."),
            code="seen_missing",
            fields={"seen": _("Look at the operation, and give what stands there as “seen”.")},
        )
    if seen != asking.seen_of(operation):
        raise Conflict(
            _("What is asked has changed since you looked. Look at it once more."),
            code="changed_meanwhile",
        )


def skip(
    operation: Operation, *, acting_user: User, step: str, machines: list[int], reason: str
) -> Operation:
    """Take the failed step of these machines as passed, because a person says so, and go on."""
    if not reason.strip():
        raise InvalidInput(
            _("Skipping a step needs a reason."), code="reason_missing",
            fields={"reason": _("Say why this may be skipped.")},
        )  # fmt: skip
    with audit.entries_last():
        _above[0].hold(operation)
        operation = _locked(operation, acting_user)
        kinds.get(operation.kind).require(operation, acting_user)
        _refuse_unless_ended_badly(operation)
        _refuse_unless_skippable(operation, step)
        _above[0].refuse_skip(operation)
        members, gone = _without_gone(_unfinished(operation, machines))
        if gone:
            raise _gone_error(gone)
        _refuse_moved_on(operation, members, acting_user)
        cells = MachineStep.objects.filter(machine__in=members, step__name=step, status__in=_OPEN)
        if cells.count() != len(members):
            raise Conflict(
                _("Step %(step)s has not failed on all of the chosen machines.") % {"step": step},
                code="wrong_state",
            )
        cells.update(
            status=MachineStep.Status.SKIPPED,
            message=Sentence(
                "Skipped by %(user)s: %(reason)s", user=acting_user.get_username(), reason=reason
            ),
            finished_at=timezone.now(),
        )
        _refuse_blocked(operation, _going_on(members), acting_user)
        for row in operation.steps.filter(name=step):
            if (result := finish.step_result(row)) != row.status and row.may_become(result):
                change_status(row, to=result, reason=Sentence("Skipped: %(reason)s", reason=reason))
        _reopen(operation, members, reason, acting_user)
        audit.record(
            f"skip {step}", operation, reason=reason, after={"machines": _addresses(members)}
        )
    return operation


def _refuse_unless_ended_badly(operation: Operation) -> None:
    if operation.status not in Operation.ENDED_BADLY:
        raise Conflict(
            _("%(name)s is %(status)s; only one that failed or was canceled can be done again.")
            % {"name": operation, "status": operation.get_status_display()},
            code="wrong_state",
        )


def _refuse_unless_skippable(operation: Operation, step: str) -> None:
    found = kinds.get(operation.kind).find_step(step)
    if found is not None and not found.may_be_skipped:
        raise Conflict(
            _(
                "%(step)s cannot be skipped: what comes after it would do harm. Mend what is "
                "wrong, then retry."
            )
            % {"step": step},
            code="not_skippable",
        )


def _unfinished(operation: Operation, machines: list[int] | None) -> list[OperationMachine]:
    rows = operation.machines.exclude(state=OperationMachine.State.SUCCEEDED).select_related(
        "machine"
    )
    if machines is not None:
        rows = rows.filter(pk__in=machines)
        if rows.count() != len(set(machines)):
            raise InvalidInput(
                _("Some of the chosen machines are not part of this operation or are through."),
                fields={"machines": _("Choose machines that failed or were canceled.")},
            )
    members = list(rows)
    if not members:
        raise Conflict(_("No machine of this operation is left to work on."), code="wrong_state")
    return members


def _without_gone(
    members: list[OperationMachine],
) -> tuple[list[OperationMachine], list[OperationMachine]]:
    """Those whose machine is still there, and those whose machine was deleted."""
    return (
        [member for member in members if member.machine is not None],
        [member for member in members if member.machine is None],
    )


def _gone_error(gone: list[OperationMachine]) -> Conflict:
    return Conflict(
        _("These machines were deleted meanwhile: %(names)s.")
        % {"names": ", ".join(str(member) for member in gone)},
        code="gone",
    )


def _refuse_moved_on(operation: Operation, members: list[OperationMachine], user: User) -> None:
    """A machine that has gone on with its life since is not pulled back by an old operation."""
    kind = kinds.get(operation.kind)
    allowed = kind.startable_states | {Machine.State.FAULTY}
    machines = _machines_of(members)
    rows = Machine.objects.filter(pk__in=[machine.pk for machine in machines])
    mine = set(permissions.visible_to(user, rows, kind.permission).values_list("pk", flat=True))
    for machine in machines:
        if machine.pk not in mine:
            permissions.require(user, machine, kind.permission)
        if machine.state not in allowed or machine.cluster_id not in (None, operation.cluster_id):
            raise Conflict(
                _("%(machine)s is %(state)s by now; this operation is over for it.")
                % {"machine": machine, "state": machine.get_state_display()},
                code="moved_on",
            )


def _refuse_blocked(operation: Operation, members: list[OperationMachine], user: User) -> None:
    """What has come in the way meanwhile is told now, not by a step that fails on it."""
    if not members:
        return
    kind = kinds.get(operation.kind)
    params = start.parse_params(kind, {**operation.params, **operation.answers})
    machines = _machines_of(members)
    start.lock(machines)
    blockers = [
        *kind.phase_blockers(operation.cluster),
        *borrowing.blockers(operation.cluster, machines, user),
        *(kind.retry_blockers or kind.blockers)(operation.cluster, machines, params),
    ]
    start.refuse_blockers(kind, operation.cluster, blockers)


def _going_on(members: list[OperationMachine]) -> list[OperationMachine]:
    """Those for which further steps wait; of the others nothing is asked any more."""
    waiting = set(
        MachineStep.objects.filter(
            machine__in=members, status=MachineStep.Status.WAITING
        ).values_list("machine_id", flat=True)
    )
    return [member for member in members if member.pk in waiting]


def _begin_anew(operation: Operation, members: list[OperationMachine]) -> list[OperationMachine]:
    """Of machines that were changed and then brought back, nothing that was done is left: all their
    steps wait again, as if never begun.  Returns them."""
    kind = kinds.get(operation.kind)
    changing = [step.name for step in kind.steps if step.name not in kind.looks]
    fresh = [
        member
        for member in members
        if member.machine is not None and member.machine.state in kind.fresh_states
    ]
    touched = set(
        MachineStep.objects.filter(
            machine__in=fresh, step__name__in=changing, started_at__isnull=False
        ).values_list("machine_id", flat=True)
    )
    anew = [member for member in fresh if member.pk in touched]
    MachineStep.objects.filter(machine__in=anew).update(**_AS_IF_NEVER_BEGUN)
    return anew


def _go_back(members: list[OperationMachine]) -> dict[str, str]:
    """Where a step has seen that what one before it did holds no more, that one waits again, too.
    Returns its name by address."""
    back = {}
    failed = MachineStep.objects.filter(
        machine__in=members, status__in=_OPEN, evidence__has_key=kinds.AGAIN_FROM
    )
    for cell in failed.select_related("machine"):
        name = cell.evidence[kinds.AGAIN_FROM]
        earlier = MachineStep.objects.filter(machine=cell.machine_id, step__name=name)
        if earlier.update(**_AS_IF_NEVER_BEGUN):
            back[cell.machine.address] = name
    return back


def renew_what_goes_on(operation: Operation, reason: str) -> list[str]:
    """The steps whose results have become too old while it stood or waited are done again."""
    going_on = list(
        operation.machines.filter(
            state__in=(OperationMachine.State.WAITING, OperationMachine.State.RUNNING),
            left_out=False,
        )
    )
    renewed = _renew(operation, going_on)
    if renewed:
        _open_steps(operation, going_on, reason)
    return renewed


def _renew(operation: Operation, members: list[OperationMachine]) -> list[str]:
    """Have the steps whose results are too old done again.  What was skipped stays so: it was
    somebody's word."""
    names = sorted(kinds.get(operation.kind).outdated(operation))
    MachineStep.objects.filter(
        machine__in=members, step__name__in=names, status=MachineStep.Status.SUCCEEDED
    ).update(**_AS_IF_NEVER_BEGUN)
    return names


def _reopen(operation: Operation, members: list[OperationMachine], reason: str, user: User) -> None:
    """Back to WAITING with these machines held again; steps with open work wait again too."""
    kind = kinds.get(operation.kind)
    try:
        with transaction.atomic():
            chosen = [member.pk for member in members]
            OperationMachine.objects.filter(pk__in=chosen).update(
                state=OperationMachine.State.WAITING,
                message="",
                holds_machine=kind.holds_machines(operation.params),
                left_out=False,
            )
            operation.machines.exclude(pk__in=chosen).exclude(
                state=OperationMachine.State.SUCCEEDED
            ).update(left_out=True)
    except IntegrityError as error:
        raise Conflict(
            _("Another operation has begun on one of these machines meanwhile."),
            code="machine_is_held",
        ) from error
    holding.reserve(operation, kind, _machines_of(members))
    _open_steps(operation, members, reason)
    _queue(operation, _queued_now(), reason, user)
    finish.wake_task(operation)


def _queued_now() -> dict[str, Any]:
    now = timezone.now()
    return {
        "message": "",
        "waiting_for": "",
        "waiting_since": None,
        "waiting_until": None,
        "queued_at": now,
        "ready_at": now,
    }


def _queue(operation: Operation, fields: Mapping[str, Any], reason: str, user: User) -> None:
    """In the name of whoever says so: theirs is what is done from now on (``acting``)."""
    with context.acting(actor_id=user.pk, actor_name=user.get_username()):
        change_status(operation, to=Operation.Status.WAITING, reason=reason, fields=fields)
    enqueue_on_commit("operations.tasks.dispatch", queue=CLOCK)


def _open_steps(operation: Operation, members: list[OperationMachine], reason: str) -> None:
    """Steps with work that waits, wait again too."""
    open_steps = Step.objects.filter(
        operation=operation,
        cells__machine__in=members,
        cells__status=MachineStep.Status.WAITING,
    ).exclude(status=Step.Status.WAITING)
    for step in open_steps.distinct():
        change_status(step, to=Step.Status.WAITING, reason=reason or Sentence("Done again."))


def _machines_of(members: list[OperationMachine]) -> list[Machine]:
    return [member.machine for member in members if member.machine is not None]


def _addresses(members: list[OperationMachine]) -> list[str]:
    return [member.address for member in members]
