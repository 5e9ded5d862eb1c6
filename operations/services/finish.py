"""How attempts, steps and operations end, and what comes next.

Everything that follows from an ended attempt happens in one transaction: cells, step, the next step
or the end of the operation, and the release of machines.
"""

from typing import Any

import structlog
from django.db import InterfaceError, OperationalError
from django.db.models import Count, Q
from django.utils import timezone

from beidou.base import audit
from beidou.base.sentences import Sentence, joined
from beidou.base.state import change_status
from beidou.base.tasks import CLOCK, OUTSIDE, WORK, enqueue_on_commit
from operations.flows.models import TaskPart
from operations.kinds import base as kinds
from operations.models import Attempt, MachineStep, Operation, OperationMachine, Step
from operations.services import holding, news

logger = structlog.get_logger(__name__)

DATABASE_AWAY = (OperationalError, InterfaceError)

_CELL_ENDS = {
    Attempt.Outcome.DONE: (MachineStep.Status.FAILED, Sentence("The step ended without a result.")),
    Attempt.Outcome.FAILED: (MachineStep.Status.FAILED, ""),
    Attempt.Outcome.ERRORED: (MachineStep.Status.FAILED, ""),
    Attempt.Outcome.CANCELED: (
        MachineStep.Status.CANCELED,
        Sentence("Canceled while this was going on."),
    ),
}


def end_attempt(attempt: Attempt, *, outcome: Attempt.Outcome, message: str) -> bool:
    """Settle what the attempt left open, end the step, and go on or end the operation.

    Gives whether it did: not when somebody else has taken the step over.

    A mistake of our own in here would leave the step running without a worker: it would look lost
    and be done again and again.  The operation ends and says so instead.  A database that is away
    is no mistake; whoever takes the step over tries again.
    """
    try:
        return _end_attempt(attempt, outcome, message)
    except DATABASE_AWAY:
        raise
    except Exception as error:  # noqa: BLE001  our own mistake: traceback for us, a sentence for them
        logger.exception("attempt_not_ended", step=attempt.step_id, attempt=attempt.number)
        why = kinds.mistake(error)
        return _end_attempt(attempt, Attempt.Outcome.ERRORED, why, by_mistake=True)


def _end_attempt(
    attempt: Attempt, outcome: Attempt.Outcome, message: str, *, by_mistake: bool = False
) -> bool:
    with audit.entries_last():
        # The operation first, as ``claim`` does: a late delivery and this must not wait for each
        # other.
        operation = Operation.objects.select_for_update().get(pk=attempt.step.operation_id)
        step = (
            Step.objects.select_for_update(of=("self",))  # not the cluster: the collector writes it
            .select_related("operation__cluster")
            .get(pk=attempt.step_id)
        )
        if step.attempt != attempt.number or step.status != Step.Status.RUNNING:
            return False  # taken over meanwhile: whoever did so settles it
        now = timezone.now()
        status, sentence = _CELL_ENDS[outcome]
        open_cells = step.cells.filter(status=MachineStep.Status.RUNNING)
        machines = list(open_cells.values_list("machine_id", flat=True))
        open_cells.update(status=status, message=message or sentence, finished_at=now)
        OperationMachine.objects.filter(pk__in=machines).update(
            state=status, message=message or sentence
        )
        Attempt.objects.filter(pk=attempt.pk).update(
            outcome=outcome, message=message, finished_at=now
        )
        goes_on = outcome == Attempt.Outcome.DONE and _has_another_wave(step, operation)
        change_status(
            step,
            to=Step.Status.WAITING
            if goes_on
            else step_result(step, canceled=outcome == Attempt.Outcome.CANCELED),
            reason=message,
            fields={
                "finished_at": None if goes_on else now,
                "lease_until": None,
                "holder": "",
                "losses": 0,
                "message": message,
            },
        )
        if by_mistake:
            _end_by_mistake(operation, message)
        else:
            go_on(operation)
    return True


def work_of(step: Step) -> Any:
    """The cells that wait in this step and whose machines have passed every step before it; the
    last retry must not have left them out."""
    unpassed = MachineStep.objects.filter(
        step__operation=step.operation_id, step__position__lt=step.position
    ).exclude(status__in=MachineStep.PASSED)
    return (
        MachineStep.objects.filter(
            step=step, status=MachineStep.Status.WAITING, machine__left_out=False
        )
        .exclude(machine__in=unpassed.values("machine"))
        .select_related("machine__machine__credential", "machine__operation")
        .defer("checks", "evidence")  # of an earlier attempt, and long
        .order_by("machine_id")
    )


def _has_another_wave(step: Step, operation: Operation) -> bool:
    """Machines wait that this attempt did not take, and nothing stops the operation now."""
    if not kinds.goes_in_waves(operation.kind, step.name):
        return False
    if operation.status == Operation.Status.CANCELING or _why_stopped(operation):
        return False
    return bool(work_of(step).exists())


def step_result(step: Step, *, canceled: bool = False) -> Step.Status:
    """A step's status from its cells."""
    counts = _count(step.cells.all(), "status")
    passed = counts.get("succeeded", 0) + counts.get("skipped", 0)
    if canceled or (counts.get("canceled") and not counts.get("failed") and not passed):
        return Step.Status.CANCELED
    if counts.get("failed") or counts.get("canceled"):
        return Step.Status.PARTIAL if passed else Step.Status.FAILED
    if counts.get("skipped") and not counts.get("succeeded"):
        return Step.Status.SKIPPED
    return Step.Status.SUCCEEDED


def go_on(operation: Operation) -> None:
    """Enqueue the next step, or end the operation; inside a transaction, nothing running.

    A paused operation waits; a canceled one ends; too many failures end it too.
    """
    due = _due(operation)
    following = next_step(operation, due)
    if operation.status == Operation.Status.CANCELING:
        end(operation, Operation.Status.CANCELED, _who_canceled(operation))
    elif operation.status == Operation.Status.PAUSED and following is not None:
        return
    elif operation.status in (Operation.Status.RUNNING, Operation.Status.PAUSED):
        if operation.status == Operation.Status.PAUSED:
            change_status(
                operation, to=Operation.Status.RUNNING, reason=Sentence("Nothing left to pause.")
            )
        why = _why_stopped(operation) if due else ""
        if why:
            end(operation, Operation.Status.FAILED, why)
        elif following is not None:
            enqueue_step(following)
        else:
            _end_by_result(operation, *_failed(operation.machines.all()))


def enqueue_step(step: Step) -> None:
    """Have it run, by a worker or beside them, when the surrounding transaction commits."""
    queue = OUTSIDE if _is_outside(step) else WORK
    enqueue_on_commit("operations.tasks.run_step", step.pk, group="operations", queue=queue)


def _is_outside(step: Step) -> bool:
    kind = kinds.KINDS.get(step.operation.kind)
    found = kind.find_step(step.name) if kind is not None else None
    return found is not None and found.outside(step.operation.params)


def workers_are_busy() -> bool:
    """Whether a step runs that keeps a worker."""
    running = Step.objects.filter(status=Step.Status.RUNNING, lease_until__gt=timezone.now())
    return not all(_is_outside(step) for step in running.select_related("operation"))


def _why_stopped(operation: Operation) -> str:
    """Too many machines have failed; empty when it may go on.

    What failed before a retry and was left out of it does not stop the others again.
    """
    taking_part = operation.machines.filter(left_out=False)
    failed, total = _failed(taking_part)
    if not failed:
        return ""
    if kinds.get(operation.kind).stops_at_first:
        bad = [OperationMachine.State.FAILED, OperationMachine.State.CANCELED]
        return Sentence(
            "Stopped, because %(machine)s failed. What was not begun is as it was; mend that "
            "machine, then retry: it goes on from there.",
            machine=str(taking_part.filter(state__in=bad).order_by("pk").first()),
        )
    allowed = operation.max_failed_percent
    if failed * 100 <= allowed * total:
        return ""
    return Sentence(
        "Stopped: %(failed)s of %(total)s machines failed, more than %(allowed)s %% allowed.",
        failed=failed,
        total=total,
        allowed=allowed,
    )


def _who_canceled(operation: Operation) -> str:
    """Whoever ends it now is a worker; who asked for it stands in the status change."""
    asked = operation.status_changes.filter(new=Operation.Status.CANCELING).last()
    return canceled_by(asked.actor, asked.reason) if asked else Sentence("Canceled by request.")


def canceled_by(who: str, reason: str) -> str:
    if not reason:
        return Sentence("Canceled by %(who)s.", who=who)
    return Sentence("Canceled by %(who)s: %(reason)s", who=who, reason=reason)


def next_step(operation: Operation, due: set[int]) -> Step | None:
    """The first waiting step with work (a cell that waits, everything before it passed)."""
    steps = operation.steps.filter(status=Step.Status.WAITING, position__in=due)
    return steps.order_by("position").first()


def _due(operation: Operation) -> set[int]:
    """Positions of steps with work, also of one that ended before its last wave."""
    unpassed: dict[int, int] = {}
    for machine, position in (
        MachineStep.objects.filter(step__operation=operation)
        .exclude(status__in=MachineStep.PASSED)
        .order_by("-step__position")
        .values_list("machine_id", "step__position")
    ):
        unpassed[machine] = position  # ends with each machine's first step that is not passed
    waiting = MachineStep.objects.filter(
        step__operation=operation, status=MachineStep.Status.WAITING, machine__left_out=False
    ).values_list("machine_id", "step__position")
    return {position for machine, position in waiting if unpassed.get(machine) == position}


def _failed(members: Any) -> tuple[int, int]:
    counts = _count(members, "state")
    return counts.get("failed", 0) + counts.get("canceled", 0), sum(counts.values())


def _count(rows: Any, field: str) -> dict[str, int]:
    return dict(rows.order_by().values_list(field).annotate(Count("pk")))


def _end_by_result(operation: Operation, failed: int, total: int) -> None:
    if not failed:
        status, said = Operation.Status.SUCCEEDED, ""
    elif failed < total:
        status = Operation.Status.PARTIAL
        said = Sentence("%(failed)s of %(total)s machines failed.", failed=failed, total=total)
    else:
        status = Operation.Status.FAILED
        said = "" if total == 1 else Sentence("All %(total)s machines failed.", total=total)
    parts = (said, kinds.get(operation.kind).found(operation))
    end(operation, status, joined(part for part in parts if part))


def _end_by_mistake(operation: Operation, message: str) -> None:
    """By as little as can be, whatever the operation was about to do; nothing of the kind is
    asked."""
    _settle_members(operation)
    holding.abandon(operation, message)
    if operation.status == Operation.Status.PAUSED:
        change_status(operation, to=Operation.Status.RUNNING, reason=message)
    is_canceling = operation.status == Operation.Status.CANCELING
    _end(operation, Operation.Status.CANCELED if is_canceling else Operation.Status.FAILED, message)


def end(operation: Operation, status: Operation.Status, message: str) -> None:
    """The end of an operation: its machines are released and its slot is free for the next."""
    _settle_members(operation)
    holding.release(operation, kinds.get(operation.kind))
    _end(operation, status, message)


def _settle_members(operation: Operation) -> None:
    succeeded = (
        operation.machines.annotate(
            open=Count("cells", filter=~Q(cells__status__in=MachineStep.PASSED))
        )
        .filter(open=0)
        .values_list("pk", flat=True)
    )
    operation.machines.filter(pk__in=list(succeeded)).update(
        state=OperationMachine.State.SUCCEEDED, message=""
    )
    operation.machines.filter(
        state__in=[OperationMachine.State.WAITING, OperationMachine.State.RUNNING]
    ).update(state=OperationMachine.State.CANCELED)


def _end(operation: Operation, status: Operation.Status, message: str) -> None:
    change_status(
        operation,
        to=status,
        reason=message,
        fields={"finished_at": timezone.now(), "message": message, **Operation.NO_SLOTS},
    )
    news.tell_end(operation)
    # A cancellation that worked is what somebody wanted.
    done = status in (Operation.Status.SUCCEEDED, Operation.Status.CANCELED)
    audit.record(
        f"operation {status}",
        operation,
        reason=message,
        after={"message": message},
        outcome="done" if done else "failed",
    )
    enqueue_on_commit("operations.tasks.dispatch", queue=CLOCK)
    wake_task(operation)


def wake_task(operation: Operation) -> None:
    """Let the task that the operation is a part of, if any, see what it does now."""
    part = TaskPart.objects.filter(operation=operation).select_related("step").first()
    if part is not None:
        enqueue_on_commit("operations.tasks.advance", part.step.task_id, queue=CLOCK)
