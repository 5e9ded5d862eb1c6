"""An operation as the live page and the stream see it: one plain snapshot, and what changed since.

A snapshot is whole and small (no evidence, checks only where some failed), so that whoever connects
again after a pause is right at once, whatever was missed.  Times are milliseconds since the epoch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.urls import reverse
from django.utils import timezone

from beidou.base import permissions
from machines.models import Machine
from operations.models import Attempt, MachineStep, Operation, OperationMachine, Step
from operations.services import asking, estimates

Row = dict[str, Any]

_ACTIONS: dict[str, tuple[str, ...]] = {
    Operation.Status.WAITING: ("cancel",),
    Operation.Status.RUNNING: ("pause", "cancel"),
    Operation.Status.PAUSED: ("resume", "cancel"),
    Operation.Status.CANCELING: (),
    Operation.Status.CANCELED: ("retry", "skip", "clean_up"),
    Operation.Status.PARTIAL: ("retry", "skip", "clean_up"),
    Operation.Status.FAILED: ("retry", "skip", "clean_up"),
    Operation.Status.SUCCEEDED: (),
}


_OUT = frozenset({OperationMachine.State.FAILED, OperationMachine.State.CANCELED})


@dataclass(frozen=True)
class Snapshot:
    """Rows by key, each a plain dict; ``expected`` is median seconds per step from earlier runs."""

    operation: Row
    steps: dict[int, Row]
    machines: dict[int, Row]
    attempts: dict[int, Row]

    @property
    def status(self) -> str:
        return str(self.operation["status"])

    @property
    def is_final(self) -> bool:
        return self.status not in Operation.ACTIVE

    def as_dict(self) -> dict[str, Any]:
        return {
            "now": milliseconds(timezone.now()),
            "operation": self.operation,
            "steps": list(self.steps.values()),
            "machines": list(self.machines.values()),
            "attempts": list(self.attempts.values()),
        }


def milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)


def actions_of(status: str) -> tuple[str, ...]:
    """What can be done to an operation in this status, by whoever has the right."""
    return _ACTIONS.get(status, ())


def snapshot(operation_id: int, *, expected: Mapping[str, float]) -> Snapshot | None:
    """Six cheap queries (seven where somebody else may approve something), however many machines;
    None when the operation is gone."""
    operation = Operation.objects.select_related("cluster").filter(pk=operation_id).first()
    if operation is None:
        return None
    steps = list(operation.steps.order_by("position"))
    cells = _cells(operation_id)
    machines = {
        member.pk: _machine(operation, member, steps, cells.get(member.pk, {}))
        for member in operation.machines.select_related("machine").order_by("pk")
    }
    _add_failed_checks(operation_id, machines)
    out = {key for key, row in machines.items() if row["state"] in _OUT}
    attempts = _attempts(operation_id)
    newest = {row["step"]: row for row in attempts.values()}
    return Snapshot(
        operation=_operation(operation, steps, machines, expected),
        steps={
            step.pk: {**_step(step, cells, out, expected), **_times(step, newest.get(step.name))}
            for step in steps
        },
        machines=machines,
        attempts=attempts,
    )


def expected_seconds(operation: Operation, machines: int) -> dict[str, float]:
    """Median seconds of this kind's steps in earlier runs; steps that never ran are missing."""
    names = list(operation.steps.values_list("name", flat=True))
    return estimates.steps_of(operation.kind, names, max(machines, 1), operation.params)


def remaining_seconds(operation: Operation, expected: Mapping[str, float]) -> float | None:
    """What is left of an active operation by the medians of earlier runs.

    None when it has ended, or when a step that is still to come never ran before.
    """
    if not operation.is_active:
        return None
    left = 0.0
    for step in operation.steps.all():
        if step.status not in (Step.Status.WAITING, Step.Status.RUNNING):
            continue
        if step.name not in expected:
            return None
        left += max(0.0, expected[step.name] - _spent(step))
    return round(left, 1)


def _spent(step: Step) -> float:
    """Seconds since the running attempt of the step began, and of the waves before it."""
    before = estimates.of_earlier_waves(step)
    if step.status != Step.Status.RUNNING:
        return before
    attempt = step.attempts.filter(number=step.attempt).first()
    return before + ((timezone.now() - attempt.started_at).total_seconds() if attempt else 0.0)


def difference(old: Snapshot, new: Snapshot) -> dict[str, Any]:
    """Only the rows that are not as they were; empty when nothing changed."""
    changed: dict[str, Any] = {}
    if new.operation != old.operation:
        changed["operation"] = new.operation
    for name in ("steps", "machines", "attempts"):
        before: dict[int, Row] = getattr(old, name)
        after: dict[int, Row] = getattr(new, name)
        if rows := [row for key, row in after.items() if before.get(key) != row]:
            changed[name] = rows
    if changed:
        changed["now"] = milliseconds(timezone.now())
    return changed


def _cells(operation_id: int) -> dict[int, dict[int, list[Any]]]:
    """machine -> step -> [status, started, finished, message]."""
    found: dict[int, dict[int, list[Any]]] = {}
    rows = MachineStep.objects.filter(step__operation=operation_id).order_by()
    for machine, step, status, started, finished, message in rows.values_list(
        "machine_id", "step_id", "status", "started_at", "finished_at", "message"
    ):
        cell = [status, milliseconds(started), milliseconds(finished), message]
        found.setdefault(machine, {})[step] = cell
    return found


def _machine(
    operation: Operation, member: OperationMachine, steps: list[Step], cells: dict[int, list[Any]]
) -> Row:
    row = [cells.get(step.pk, [MachineStep.Status.WAITING, None, None, ""]) for step in steps]
    running = [note for status, _, _, note in row if status == MachineStep.Status.RUNNING]
    latest = [note for _, _, _, note in row if note]
    # What a step before said is no answer to what is being done now.
    message = running[0] if running else member.message or next(reversed(latest), "")
    open_steps = [
        step.name
        for step, cell in zip(steps, row, strict=True)
        if cell[0] in (MachineStep.Status.FAILED, MachineStep.Status.CANCELED)
    ]
    return {
        "id": member.pk,
        "address": member.address,
        "hostname": member.hostname,
        "role": member.role,
        "state": member.state,
        "machine_state": member.machine.state if member.machine else "",
        "message": message,
        "url": url_for_all(member.machine, operation.cluster_id),
        "cells": [cell[:3] for cell in row],
        "failed_step": open_steps[0] if open_steps else "",
        "failed_checks": [],
    }


def url_for_all(machine: Machine | None, cluster_id: int) -> str:
    """A snapshot is the same for all who may see what was done on this cluster: they may see the
    machines of the cluster, and of others not each of them."""
    if machine is None or machine.cluster_id != cluster_id:
        return ""
    return _machine_url(machine)


def links_for(user: Any, work: Any) -> dict[int, str]:
    """By member of an operation or a task: the pages of machines that are not in its cluster (now),
    and that ``user`` may see."""
    visible = permissions.visible_to(user, Machine.objects.exclude(cluster=work.cluster_id))
    members = work.machines.filter(machine__in=visible).select_related("machine")
    return {each.pk: _machine_url(each.machine) for each in members if each.machine is not None}


def _machine_url(machine: Machine) -> str:
    return reverse("admin:machines_machine_change", args=[machine.pk])


def _add_failed_checks(operation_id: int, machines: dict[int, Row]) -> None:
    failed = MachineStep.objects.filter(
        step__operation=operation_id, status=MachineStep.Status.FAILED
    ).order_by("step__position")
    for machine, checks in failed.values_list("machine_id", "checks"):
        machines[machine]["failed_checks"] += [
            {name: check.get(name, "") for name in ("check", "found", "wanted", "advice")}
            for check in checks
            if not check.get("ok") and check.get("severity") != "warning"
        ]


def _operation(
    operation: Operation,
    steps: list[Step],
    machines: dict[int, Row],
    expected: Mapping[str, float],
) -> Row:
    states = [row["state"] for row in machines.values()]
    return {
        "id": operation.pk,
        "name": operation.name,
        "status": operation.status,
        "message": operation.message,
        "waiting_for": operation.waiting_for,
        "waiting_since": milliseconds(operation.waiting_since),
        "waiting_until": milliseconds(operation.waiting_until),
        "is_held": operation.is_held,
        "glass_broken_by": operation.glass_broken_by,
        "glass_reason": operation.glass_reason,
        "priority": operation.priority,
        "created_at": milliseconds(operation.created_at),
        "started_at": milliseconds(operation.started_at),
        "finished_at": milliseconds(operation.finished_at),
        "total": len(states),
        "succeeded": states.count(OperationMachine.State.SUCCEEDED),
        "failed": states.count(OperationMachine.State.FAILED),
        "settled_percent": _settled_percent(machines),
        "is_estimated": bool(steps) and all(step.name in expected for step in steps),
        "actions": list(actions_of(operation.status)),
        "chosen": asking.chosen(operation),
        "seen": asking.seen_of(operation),
    }


def _settled_percent(machines: dict[int, Row]) -> int:
    """Share of the matrix that will not change any more unless somebody retries.

    Of a canceled machine only what was done counts: nobody saw the rest through.
    """
    all_cells = settled = 0
    for row in machines.values():
        states = [cell[0] for cell in row["cells"]]
        all_cells += len(states)
        if row["state"] == OperationMachine.State.FAILED:
            settled += len(states)
        else:
            settled += sum(state in MachineStep.PASSED for state in states)
    return 100 * settled // all_cells if all_cells else 0


def _step(
    step: Step,
    cells: Mapping[int, Mapping[int, list[Any]]],
    out: set[int],
    expected: Mapping[str, float],
) -> Row:
    """``counts`` has how many machines are in which status; those that fell ``out`` in an earlier
    step are ``not_reached``."""
    counts: dict[str, int] = {}
    for machine, row in cells.items():
        if step.pk not in row:
            continue
        status = row[step.pk][0]
        if status == MachineStep.Status.WAITING and machine in out:
            status = "not_reached"
        counts[status] = counts.get(status, 0) + 1
    return {
        "id": step.pk,
        "position": step.position,
        "name": step.name,
        "status": step.status,
        "message": step.message,
        "attempt": step.attempt,
        "counts": counts,
        "expected_seconds": expected.get(step.name),
    }


def _times(step: Step, attempt: Row | None) -> Row:
    """Of the newest attempt: the step's own times go over the pause before a retry too."""
    if attempt is None or step.status == Step.Status.WAITING:
        return {
            "started_at": milliseconds(step.started_at),
            "finished_at": milliseconds(step.finished_at),
        }
    return {"started_at": attempt["started_at"], "finished_at": attempt["finished_at"]}


def _attempts(operation_id: int) -> dict[int, Row]:
    rows = Attempt.objects.filter(step__operation=operation_id).order_by("pk")
    return {
        attempt.pk: {
            "id": attempt.pk,
            "step": attempt.step.name,
            "number": attempt.number,
            "holder": attempt.holder,
            "machines": attempt.machines,
            "outcome": attempt.outcome,
            "message": attempt.message,
            "started_at": milliseconds(attempt.started_at),
            "finished_at": milliseconds(attempt.finished_at),
        }
        for attempt in rows.select_related("step")
    }
