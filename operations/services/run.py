"""One attempt of one step: the lease that it holds, and what the step sees of the engine.

The lease is renewed by a thread of its own, which also sees a cancel, the time limit and the loss
of the lease within about a second.  Every write first asserts the fence: ``UPDATE … WHERE attempt =
mine AND status = running``; whoever was taken over gets ``Stopped`` instead of writing.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import structlog
from django.db import connection, transaction
from django.utils import timezone

from operations.kinds import names
from operations.kinds.base import Checks, Kind, StepKind, Stopped
from operations.models import Attempt, MachineStep, Operation, OperationMachine, Step
from operations.services.output import OutputWriter

logger = structlog.get_logger(__name__)

LEASE_SECONDS = 30
RENEW_SECONDS = 5.0
WATCH_SECONDS = 1.0
JOIN_SECONDS = 35.0  # longer than the database may let it wait for a lock
LOST, CANCELED, TIMED_OUT = "lost", "canceled", "timed out"


def lease_end() -> Any:
    return timezone.now() + timedelta(seconds=LEASE_SECONDS)


class EngineRun:
    """Implements ``StepRun`` for the holder of a step's lease."""

    def __init__(self, *, attempt: Attempt, kind: Kind, step_kind: StepKind) -> None:
        self.attempt = attempt
        self.step: Step = attempt.step
        self.operation: Operation = self.step.operation
        self.cluster = self.operation.cluster
        self.kind = kind
        self.step_kind = step_kind
        self.params = kind.params.model_validate(
            {**self.operation.params, **self.operation.answers}
        )
        self.step_name = step_kind.name
        self.unit_prefix = names.unit_prefix(self.step)
        self.mark = names.run_mark(self.step, attempt.number)
        self.number = attempt.number
        self.timeout_seconds = step_kind.time_limit(attempt.machines, self.operation.forks)
        self.stop_reason = ""
        self.output = OutputWriter(attempt, fence=self._fence)
        self._cells: dict[int, MachineStep] = {}
        self._settled: set[int] = set()
        self._failed: set[int] = set()
        self._stop_watch = threading.Event()
        self._deadline = time.monotonic() + self.timeout_seconds
        self._renewed = time.monotonic()
        self._thread = threading.Thread(target=self._watch, name=self.mark, daemon=True)

    # --- the lease ---------------------------------------------------------------------------
    def __enter__(self) -> "EngineRun":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop_watch.set()
        self._thread.join(timeout=JOIN_SECONDS)

    def _watch(self) -> None:
        asked = 0.0
        try:
            while not self._stop_watch.wait(WATCH_SECONDS):
                try:
                    if time.monotonic() - asked >= RENEW_SECONDS:
                        asked = time.monotonic()
                        self._renew(asked)
                    self._look()
                    if not self.stop_reason:
                        self.output.flush()
                except Stopped:
                    return  # the reason is noted; the step's own thread ends the step
                except Exception:
                    # The database is away for a moment, or a line cannot be stored: tried again, so
                    # that the lease is kept as long as the step's own thread works; should_stop
                    # sees when it is over.
                    logger.exception("lease_watch_failed", step=self.step.pk)
                    connection.close()  # it may be broken; the next look makes a new one
        finally:
            connection.close()

    def _renew(self, now: float) -> None:
        held = Step.objects.filter(
            pk=self.step.pk, attempt=self.attempt.number, status=Step.Status.RUNNING
        ).update(lease_until=lease_end())
        if held:
            self._renewed = now
        else:
            self.stop_reason = LOST

    def _look(self) -> None:
        status = Operation.objects.values_list("status", flat=True).get(pk=self.operation.pk)
        if status == Operation.Status.CANCELING:
            self.stop_reason = self.stop_reason or CANCELED
        elif time.monotonic() > self._deadline:
            self.stop_reason = self.stop_reason or TIMED_OUT

    def _fence(self) -> None:
        """Raise ``Stopped`` unless this attempt still holds the step; locks its row until
        commit."""
        held = Step.objects.filter(
            pk=self.step.pk, attempt=self.attempt.number, status=Step.Status.RUNNING
        ).update(lease_until=lease_end())
        if not held:
            self.stop_reason = LOST
            raise Stopped(LOST)

    # --- StepRun -----------------------------------------------------------------------------
    def load(self, cells: Sequence[MachineStep]) -> None:
        self._cells = {cell.machine_id: cell for cell in cells}

    @property
    def targets(self) -> list[OperationMachine]:
        return [c.machine for key, c in self._cells.items() if key not in self._settled]

    def target_failed_too(self) -> None:
        """For the clean-up: ``targets`` are all machines of the step that are not through."""
        self._settled -= self._failed

    def say(
        self, text: str, *, target: OperationMachine | None = None, level: str = "info"
    ) -> None:
        self.output.write(text, machine=target.pk if target else 0, level=level)

    def note(self, target: OperationMachine, message: str) -> None:
        with transaction.atomic():
            self._fence()
            MachineStep.objects.filter(
                pk=self._cells[target.pk].pk, attempt=self.attempt.number
            ).update(message=message)

    def succeed(
        self,
        target: OperationMachine,
        *,
        message: str = "",
        evidence: Mapping[str, Any] | None = None,
        checks: Checks = (),
    ) -> None:
        self._settle(target, MachineStep.Status.SUCCEEDED, message, evidence, checks)

    def fail(
        self,
        target: OperationMachine,
        message: str,
        *,
        evidence: Mapping[str, Any] | None = None,
        checks: Checks = (),
    ) -> None:
        self.say(message, target=target, level="error")
        self._settle(target, MachineStep.Status.FAILED, message, evidence, checks)

    def _settle(
        self,
        target: OperationMachine,
        status: MachineStep.Status,
        message: str,
        evidence: Mapping[str, Any] | None,
        checks: Checks,
    ) -> None:
        now = timezone.now()
        failed = status == MachineStep.Status.FAILED
        with transaction.atomic():
            self._fence()
            MachineStep.objects.filter(
                pk=self._cells[target.pk].pk, attempt=self.attempt.number
            ).update(
                status=status,
                message=message,
                evidence=dict(evidence or {}),
                checks=[dict(check) for check in checks],
                finished_at=now,
            )
            if failed:
                OperationMachine.objects.filter(pk=target.pk).update(
                    state=OperationMachine.State.FAILED, message=message
                )
        self._settled.add(target.pk)
        if failed:
            self._failed.add(target.pk)

    def should_stop(self) -> bool:
        if not self.stop_reason and time.monotonic() - self._renewed > LEASE_SECONDS - 5:
            # The lease may be taken over any moment, whether or not the database can tell us so.
            self.stop_reason = LOST
        return bool(self.stop_reason)

    def stop_if_asked(self) -> None:
        if self.should_stop():
            raise Stopped(self.stop_reason)
