"""Running steps: claim, act, confirm, settle, go on.

The queue delivers a step's id, perhaps twice, perhaps never; nothing here depends on it.  A step is
run by whoever moves it from WAITING to RUNNING, and left by one transaction that settles machines
and step and says what comes next.
"""

from contextlib import suppress

import structlog
from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.utils import timezone
from pydantic import ValidationError

from beidou.base import context
from beidou.base.errors import BeidouError, Conflict, shorten
from beidou.base.sentences import Sentence
from beidou.base.state import change_status
from beidou.base.tasks import CLOCK, enqueue_on_commit
from operations.drivers import processes
from operations.kinds import base as kinds
from operations.models import Attempt, MachineStep, Operation, OperationMachine, Step
from operations.services import acting, finish, output
from operations.services.finish import DATABASE_AWAY
from operations.services.run import CANCELED, LOST, TIMED_OUT, EngineRun, lease_end

logger = structlog.get_logger(__name__)

UNREADABLE = Sentence(
    "This version of the portal cannot read the step or its stored parameters; "
    "start a new operation."
)


def run_step(step_id: int) -> None:
    """The task: run this step if nobody else does and its operation wants it."""
    attempt = claim(step_id)
    if attempt is None:
        return
    try:
        _run(attempt)
    except DATABASE_AWAY:
        logger.exception("database_away", step=step_id, attempt=attempt.number)
        _give_back(attempt)


def _run(attempt: Attempt) -> None:
    operation = attempt.step.operation
    with (
        context.acting(
            **acting.on_behalf_of(operation), address="", request_id=f"operation-{operation.pk}"
        ),
        structlog.contextvars.bound_contextvars(operation=operation.pk, step=attempt.step.name),
    ):
        run = run_of(attempt)
        if run is None:
            finish.end_attempt(attempt, outcome=Attempt.Outcome.ERRORED, message=UNREADABLE)
            return
        with run:
            outcome, message = _execute(run)
            if outcome != Attempt.Outcome.LOST:
                clean_up(run, done=outcome == Attempt.Outcome.DONE)  # while the lease is renewed
        if outcome == Attempt.Outcome.LOST:
            logger.warning("lease_lost", attempt=attempt.number)
            return
        finish.end_attempt(attempt, outcome=outcome, message=message)
        output.pack(attempt)


def _give_back(attempt: Attempt) -> None:
    """Nothing is known of what was written last, as after the loss of a worker, so the step is
    taken over: at once if the database is there again, else when its lease has lapsed."""
    connection.close()
    with suppress(*DATABASE_AWAY), transaction.atomic():
        held = Step.objects.filter(
            pk=attempt.step_id, attempt=attempt.number, status=Step.Status.RUNNING
        )
        held.update(lease_until=timezone.now())
        enqueue_on_commit("operations.tasks.maintain", queue=CLOCK)


def run_of(attempt: Attempt) -> EngineRun | None:
    """What the step sees; None where this version knows the step or its parameters no more.

    The attempt can still be ended then, and its machines let go.
    """
    kind = kinds.get(attempt.step.operation.kind)
    try:
        step_kind = kind.step(attempt.step.name)
        return EngineRun(attempt=attempt, kind=kind, step_kind=step_kind)
    except Exception:
        logger.exception("step_unreadable", step=attempt.step_id)
        return None


def claim(step_id: int) -> Attempt | None:
    """Take the step's lease by compare-and-set; None when it is not to be run (now, by us)."""
    step = Step.objects.select_related("operation__cluster").filter(pk=step_id).first()
    if step is None or step.status != Step.Status.WAITING:
        return None
    if step.operation.status != Operation.Status.RUNNING:
        return None
    if step.operation.kind not in kinds.KINDS:
        # As after a downgrade: nobody here could end it, so it waits for a version that can.
        logger.error("kind_unknown", step=step_id, kind=step.operation.kind)
        return None
    holder = processes.identity()
    number = step.attempt + 1
    try:
        with transaction.atomic():
            # The operation's row is locked against a cancel or pause in the same moment.
            wanted = Operation.objects.filter(
                pk=step.operation_id, status=Operation.Status.RUNNING
            ).update(message=F("message"))
            cells = _next_wave(step) if wanted else []
            if not cells:
                return None
            change_status(
                step,
                to=Step.Status.RUNNING,
                fields={
                    "attempt": number,
                    "holder": holder,
                    "lease_until": lease_end(),
                    "started_at": step.started_at or timezone.now(),
                    "finished_at": None,
                    "message": "",
                },
            )
            attempt = Attempt.objects.create(
                step=step, number=number, holder=holder, machines=len(cells)
            )
            MachineStep.objects.filter(pk__in=[cell.pk for cell in cells]).update(
                status=MachineStep.Status.RUNNING,
                attempt=number,
                message="",
                checks=[],
                evidence={},
                started_at=timezone.now(),
                finished_at=None,
            )
            OperationMachine.objects.filter(pk__in=[cell.machine_id for cell in cells]).update(
                state=OperationMachine.State.RUNNING, message=""
            )
    except (Conflict, IntegrityError):
        return None  # a second delivery, or another step of this operation runs
    return attempt


def _next_wave(step: Step) -> list[MachineStep]:
    """The cells that this attempt takes: all that wait, or those that the step's kind picks."""
    cells = list(finish.work_of(step))
    kind = kinds.get(step.operation.kind)
    step_kind = kind.find_step(step.name)
    if step_kind is None or step_kind.wave is None or not cells:
        return cells
    operation = step.operation
    try:
        params = kind.params.model_validate({**operation.params, **operation.answers})
    except ValidationError:
        return cells  # ``run_of`` finds that too, and ends the attempt
    chosen = {member.pk for member in step_kind.wave(params, [cell.machine for cell in cells])}
    return [cell for cell in cells if cell.machine_id in chosen] or cells


def _execute(run: EngineRun) -> tuple[Attempt.Outcome, str]:
    """Act and confirm; every way in which this can end becomes an outcome and a sentence.

    This is the process boundary of the engine, one of the places that catch everything.
    """
    cells = MachineStep.objects.filter(
        step=run.step, attempt=run.attempt.number, status=MachineStep.Status.RUNNING
    ).select_related("machine__machine__credential", "machine__operation")
    cells = cells.defer("checks", "evidence")  # empty as yet
    try:
        run.load(list(cells))
        result = run.step_kind.act(run)
        run.stop_if_asked()
        run.step_kind.confirm(run, result)
        run.output.flush()
        return Attempt.Outcome.DONE, ""
    except kinds.Stopped:
        return _stopped(run)
    except BeidouError as error:
        return _spoken(run, Attempt.Outcome.FAILED, error.message)
    except DATABASE_AWAY:
        raise  # no mistake, and nothing that could be written down now
    except Exception as error:  # noqa: BLE001  our own mistake: traceback for us, a sentence for them
        logger.exception("step_errored")
        return _spoken(run, Attempt.Outcome.ERRORED, kinds.mistake(error))


def clean_up(run: EngineRun, *, done: bool = False) -> None:
    """End what the step left running on hosts; that it could not must not keep the step from
    ending.

    A machine that could not be reached any more goes on with what it was told, also when the step
    was ``done`` for the others.
    """
    if run.step_kind.cleanup is None:
        return
    if run.step_kind.touches:
        run.target_failed_too()
    if done and not run.targets:
        return
    try:
        run.step_kind.cleanup(run)
        run.output.flush()
    except kinds.Stopped:
        return  # the lease is lost: whoever has it cleans up
    except Exception:
        logger.exception("cleanup_failed")


def _stopped(run: EngineRun) -> tuple[Attempt.Outcome, str]:
    if run.stop_reason == LOST:
        return Attempt.Outcome.LOST, ""
    if run.stop_reason == CANCELED:
        return _spoken(run, Attempt.Outcome.CANCELED, Sentence("Canceled."))
    assert run.stop_reason == TIMED_OUT  # noqa: S101
    return _spoken(
        run,
        Attempt.Outcome.FAILED,
        Sentence("Not done within %(limit)s seconds; it was ended.", limit=run.timeout_seconds),
    )


def _spoken(run: EngineRun, outcome: Attempt.Outcome, message: str) -> tuple[Attempt.Outcome, str]:
    """Put the last sentence into the output, unless the lease is lost by now.

    An output that cannot be written must not hide how the step ended: it would look like a lost
    worker.
    """
    try:
        run.say(message, level="error")
        run.output.flush()
    except kinds.Stopped:
        return Attempt.Outcome.LOST, ""
    except Exception:
        logger.exception("last_words_not_stored")
    return outcome, shorten(message, 1000)
