"""After crashes: find what nobody holds, end what it left behind, and go on or ask.

A process that is stopped hands back what it can (``hand_back``), which counts as no loss.

``maintain`` runs every minute and whenever a worker process starts.  Each look is one cheap query
on a partial index; in a portal where nothing is wrong it does nothing else.
"""

import shutil
from datetime import timedelta
from typing import NamedTuple

import structlog
from django.conf import settings
from django.db.models import Q
from django.utils import timezone
from django_q.brokers import get_broker

from beidou.base import audit
from beidou.base.sentences import Sentence
from beidou.base.state import change_status
from beidou.base.tasks import OUTSIDE, WORK
from operations.drivers import ansible, git, processes
from operations.kinds import base as kinds
from operations.kinds import names
from operations.models import (
    Attempt,
    MachineStep,
    Operation,
    OperationMachine,
    OutputChunk,
    Step,
)
from operations.services import engine, finish, news, output
from operations.services.dispatch import dispatch

logger = structlog.get_logger(__name__)

MAX_LOSSES = 3
FORGOTTEN_AFTER = timedelta(minutes=2)
LONG_QUEUE = 1000  # tasks; with so many it is workers that are missing


class _Why(NamedTuple):
    """Why a step is done again: how many losses that is, and what is said of it."""

    losses: int
    of_attempt: Sentence
    of_machines: Sentence
    of_step: Sentence


LOST = _Why(
    1,
    Sentence("The worker was lost."),
    Sentence("Done again: the worker was lost."),
    Sentence("The worker was lost; the step is done again."),
)
STOPPED = _Why(
    0,
    Sentence("The worker was stopped."),
    Sentence("Goes on: the worker was stopped."),
    Sentence("The worker was stopped; the step goes on with the next one."),
)


def maintain() -> None:
    """Reap lost steps and sweep up after them, wake what was forgotten by the queue, start what may
    start.

    A process boundary: what is wrong with one part or one operation must not keep the others
    waiting.
    """
    for part in (reap, sweep, wake, dispatch, pack_ended):
        try:
            part()
        except Exception:
            logger.exception("maintenance_failed", part=part.__name__)


def reap() -> int:
    """Take over every step whose worker is gone; returns how many."""
    running = Step.objects.filter(status=Step.Status.RUNNING).select_related("operation__cluster")
    lapsed = Q(lease_until__lt=timezone.now())
    here = Q(holder__startswith=f"{processes.identity().split('/')[0]}/")
    count = 0
    for step in running.filter(lapsed | here):
        lapsed_now = step.lease_until is None or step.lease_until < timezone.now()
        if lapsed_now or processes.is_gone(step.holder):
            try:
                count += _take_over(step)
            except Exception:
                logger.exception("step_not_taken_over", step=step.pk)
    return count


def _take_over(step: Step) -> bool:
    """Fence the lost attempt off, end its processes, and let the step be done again or fail."""
    attempt = Attempt.objects.select_related("step__operation__cluster").get(
        step=step, number=step.attempt
    )
    mark = names.run_mark(step, step.attempt)
    processes.end_marked(mark)
    shutil.rmtree(settings.DATA_DIR / "runs" / mark, ignore_errors=True)
    kind = kinds.get(step.operation.kind)
    step_kind = kind.find_step(step.name)
    is_idempotent = step_kind is not None and step_kind.may_be_repeated(step.operation)
    canceling = step.operation.status == Operation.Status.CANCELING
    gives_up = not is_idempotent or step.losses + 1 >= MAX_LOSSES
    if canceling or gives_up:
        # Only what a step that is over left behind is ended; a repeated one rejoins it.
        run = engine.run_of(attempt)
        if run is not None:
            unfinished = [MachineStep.Status.RUNNING]
            if run.step_kind.touches:
                unfinished.append(MachineStep.Status.FAILED)
            cells = step.cells.filter(attempt=step.attempt, status__in=unfinished)
            run.load(list(cells.select_related("machine__machine__credential")))
            engine.clean_up(run)
    logger.warning("worker_lost", step=step.pk, attempt=step.attempt, holder=step.holder)
    if canceling:
        finish.end_attempt(attempt, outcome=Attempt.Outcome.CANCELED, message=Sentence("Canceled."))
        return True
    if gives_up:
        why = (
            Sentence("its worker was lost %(count)s times", count=step.losses + 1)
            if is_idempotent
            else Sentence("its worker was lost and it must not be repeated unasked")
        )
        message = Sentence(
            "The step was ended, because %(why)s. Look at the machines, then retry or skip.",
            why=why,
        )
        with audit.entries_last():
            if finish.end_attempt(attempt, outcome=Attempt.Outcome.FAILED, message=message):
                news.tell_given_up(step, message)
        return True
    return _put_back(step, attempt, LOST)


def hand_back() -> int:
    """Leave the steps that this process runs to whoever comes next, because it is stopped: that is
    no loss.  For the callers, whose steps wait for hours; workers finish theirs.  What is being
    canceled ends here, or is taken over as canceled."""
    running = Step.objects.filter(status=Step.Status.RUNNING, holder=processes.identity())
    running = running.exclude(operation__status=Operation.Status.CANCELING)
    count = 0
    for step in running.select_related("operation__cluster"):
        step_kind = kinds.get(step.operation.kind).find_step(step.name)
        if step_kind is not None and step_kind.may_be_repeated(step.operation):
            count += _put_back(step, Attempt.objects.get(step=step, number=step.attempt), STOPPED)
    return count


def sweep() -> int:
    """Remove what killed workers left on this machine: secrets for git, SSH control sockets.

    Of sockets only such of attempts of this portal that are over: whoever works, here or in another
    portal, keeps its own.
    """
    count = 0
    folders = list(ansible.socket_folders())
    attempts = names.attempts_of(mark for mark, _folder in folders)
    for mark, folder in folders:
        if mark in attempts and attempts[mark].outcome != Attempt.Outcome.RUNNING:
            shutil.rmtree(folder, ignore_errors=True)
            count += 1
    for folder in git.forgotten():
        shutil.rmtree(folder, ignore_errors=True)
        count += 1
    return count


def _put_back(step: Step, attempt: Attempt, why: _Why) -> bool:
    now = timezone.now()
    with audit.entries_last():
        # The operation first, in everybody's order: ``end_attempt`` below wants it too.
        Operation.objects.select_for_update().get(pk=step.operation_id)
        held = Step.objects.filter(
            pk=step.pk, attempt=step.attempt, status=Step.Status.RUNNING
        ).select_for_update()
        if not held.exists():
            return False
        open_cells = step.cells.filter(status=MachineStep.Status.RUNNING)
        machines = list(open_cells.values_list("machine_id", flat=True))
        open_cells.update(
            status=MachineStep.Status.WAITING,
            message=why.of_machines,
        )
        OperationMachine.objects.filter(pk__in=machines).update(
            state=OperationMachine.State.WAITING
        )
        Attempt.objects.filter(pk=attempt.pk).update(
            outcome=Attempt.Outcome.LOST, finished_at=now, message=why.of_attempt
        )
        if not machines:
            # Every machine was settled before the worker died: only the end is missing.
            finish.end_attempt(attempt, outcome=Attempt.Outcome.DONE, message="")
            return True
        change_status(
            step,
            to=Step.Status.WAITING,
            reason=why.of_step,
            fields={"lease_until": None, "holder": "", "losses": step.losses + why.losses},
        )
        if why.losses:
            news.tell_lost_worker(step)
        finish.enqueue_step(step)
    return True


def wake() -> int:
    """Go on with operations that run although nothing of them is running or queued.

    The queue lost a task, or a transaction's last word was never said.  With an empty queue that is
    certain.  What else is queued says nothing, so an operation in which nothing happened for a
    while is queued again as well: a step that is delivered twice is run once.
    """
    queued = sum(get_broker(name).queue_size() for name in (WORK, OUTSIDE))
    if queued >= LONG_QUEUE:
        return 0
    idle = Operation.objects.filter(
        status__in=[Operation.Status.RUNNING, Operation.Status.CANCELING]
    ).exclude(steps__status=Step.Status.RUNNING)
    if queued:
        recently = timezone.now() - FORGOTTEN_AFTER
        idle = idle.exclude(status_changes__at__gt=recently).exclude(
            steps__status_changes__at__gt=recently
        )
    count = 0
    for operation in idle:
        try:
            count += _wake(operation)
        except Exception:
            logger.exception("operation_not_woken", operation=operation.pk)
    return count


def _wake(operation: Operation) -> bool:
    with audit.entries_last():
        locked = Operation.objects.select_for_update().get(pk=operation.pk)
        busy = locked.steps.filter(status=Step.Status.RUNNING).exists()
        if locked.status != operation.status or busy:
            return False
        finish.go_on(locked)
    return True


def pack_ended() -> int:
    """Compress the output of attempts whose worker was lost before it could."""
    left = Attempt.objects.exclude(outcome=Attempt.Outcome.RUNNING).filter(
        pk__in=OutputChunk.objects.filter(packed=None).values("attempt")
    )
    attempts = list(left[:20])
    for attempt in attempts:
        output.pack(attempt)
    return len(attempts)
