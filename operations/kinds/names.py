"""What an operation is called outside of this portal's database: on hosts, in the cluster, and
among the processes of this machine.

Several portals may share these, and their operations have the same keys.  Whatever is looked for by
its name, to be ended or deleted, therefore carries a mark of the installation: else one portal
would end what another one runs.
"""

import re
from collections.abc import Iterable

from django.utils.crypto import salted_hmac

from operations.models import Attempt, Operation, Step


def name_of(operation: Operation) -> str:
    """Short, the same in every process of this portal, and of no operation of another one.

    SECRET_KEY tells portals apart; the time does when one was set up anew with the same key.
    """
    asked = f"{operation.pk}/{int(operation.created_at.timestamp())}"
    own = salted_hmac("beidou.operation", asked, algorithm="sha256").hexdigest()[:8]
    return f"{own}-{operation.pk}"


def unit_prefix(step: Step) -> str:
    """Names what runs on the hosts by itself; the same for each attempt, so that a repeated step
    finds and rejoins what a lost worker left running."""
    return f"beidou-{name_of(step.operation)}-{step.position}"


def run_mark(step: Step, number: int) -> str:
    """Names the processes of one attempt on the worker's own machine."""
    return f"{name_of(step.operation)}-{step.position}-{number}"


_RUN_MARK = re.compile(r"[0-9a-f]{8}-(\d{1,18})-(\d{1,4})-(\d{1,9})")


def attempts_of(marks: Iterable[str]) -> dict[str, Attempt]:
    """The attempts that ``run_mark`` calls so; none for what another portal runs, or nobody."""
    parts = {mark: found.groups() for mark in marks if (found := _RUN_MARK.fullmatch(mark))}
    attempts = Attempt.objects.filter(
        step__operation__in={int(operation) for operation, _position, _number in parts.values()},
        number__in={int(number) for _operation, _position, number in parts.values()},
    ).select_related("step__operation")
    known = {run_mark(attempt.step, attempt.number): attempt for attempt in attempts}
    return {mark: known[mark] for mark in parts if mark in known}
