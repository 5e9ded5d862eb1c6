"""What an operation is called outside of this portal's database: on hosts, in the cluster, and
among the processes of this machine.

Several portals may share these, and their operations have the same keys.  Whatever is looked for by
its name, to be ended or deleted, therefore carries a mark of the installation: else one portal
would end what another one runs.
"""

import re

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


def attempt_of(mark: str) -> Attempt | None:
    """The attempt that ``run_mark`` calls so; None for what another portal runs, or nobody."""
    parts = _RUN_MARK.fullmatch(mark)
    if parts is None:
        return None
    operation, position, number = map(int, parts.groups())
    attempt = (
        Attempt.objects.filter(step__operation=operation, step__position=position, number=number)
        .select_related("step__operation")
        .first()
    )
    if attempt is None or run_mark(attempt.step, number) != mark:
        return None
    return attempt
