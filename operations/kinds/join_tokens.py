"""The bootstrap tokens of a step's attempts: each makes one, and none is left behind.

A worker that is killed cannot revoke its token.  The token's public id follows from operation, step
and attempt, so that whoever comes after can delete it without a list, which our rights on Secrets
do not include.  A join that a lost attempt left running on a host still needs that attempt's token
while the next one rejoins it, so it is revoked when that one ends, not when it begins.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from beidou.base.errors import BeidouError, ExternalError
from clusters.drivers.joining import token_id_for
from clusters.drivers.kubernetes import KubernetesClient
from clusters.services.connections import client_for
from operations.kinds import names
from operations.kinds.base import StepRun
from operations.models import Attempt

MARGIN = timedelta(minutes=10)


@contextmanager
def token(run: StepRun, client: KubernetesClient) -> Iterator[str]:
    """A token for as long as the step may last; revoked at its end with what lost attempts left."""
    made = client.create_bootstrap_token(
        ttl=timedelta(seconds=run.timeout_seconds) + MARGIN,
        description=f"Beidou operation {run.operation.name}, attempt {run.number}",
        token_id=_token_id(run, run.number),
    )
    try:
        yield made.token
    finally:
        _revoke(run, client, run.number)
        for number in _earlier(run):
            _revoke(run, client, number)


def revoke_all(run: StepRun) -> None:
    """For a step's clean-up: whatever tokens its attempts have left."""
    try:
        with client_for(run.cluster, timeout=5) as client:
            for number in [run.number, *_earlier(run)]:
                _revoke(run, client, number)
    except BeidouError as error:
        run.say(f"Bootstrap tokens could not be looked for: {error.message}", level="warning")


def _earlier(run: StepRun) -> list[int]:
    """Attempts before this one whose tokens may not have expired yet."""
    longest = timedelta(seconds=settings.STEP_TIMEOUT_MAX) + MARGIN
    attempts = Attempt.objects.filter(
        step__operation=run.operation,
        step__name=run.step_name,
        number__lt=run.number,
        started_at__gt=timezone.now() - longest,
    )
    return list(attempts.order_by("-number").values_list("number", flat=True))


def _revoke(run: StepRun, client: KubernetesClient, number: int) -> None:
    """A join that went well is not lost because its token could not be revoked; it expires
    anyway."""
    whose = "" if number == run.number else f" of attempt {number}"
    try:
        if client.delete_bootstrap_token(_token_id(run, number)):
            run.say(f"The bootstrap token{whose} was revoked.")
    except ExternalError as error:
        run.say(
            f"The bootstrap token{whose} could not be revoked and expires by itself: "
            f"{error.message}",
            level="warning",
        )


def _token_id(run: StepRun, number: int) -> str:
    operation = names.name_of(run.operation)
    return token_id_for(f"{run.cluster.uid}/{operation}/{run.step_name}/{number}")
