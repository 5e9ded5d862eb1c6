"""Questions that no step waits for are handed over by a task of the queue, again and again.

Whoever does it claims the row by compare-and-set, so that two workers do not ask at once; what a
lost worker claimed is due again after ``LEASE``.  It goes out with the same key each time.
"""

from datetime import timedelta
from typing import Final

from django.utils import timezone

from beidou.base.errors import BeidouError, TemporaryError
from beidou.base.tasks import OUTSIDE, enqueue, enqueue_on_commit, is_empty
from operations.outside import requests
from operations.outside.models import SiteRequest

LEASE: Final = timedelta(minutes=2)
FIRST_PAUSE, LONGEST_PAUSE = 15.0, 600.0
AT_ONCE: Final = 200


def hand_over(request: SiteRequest) -> None:
    """Have it sent as soon as the surrounding transaction commits."""
    SiteRequest.objects.filter(pk=request.pk).update(next_try_at=timezone.now())
    enqueue_on_commit("operations.tasks.deliver", request.pk, queue=OUTSIDE)


def deliver(request_id: int) -> None:
    """One try, unless somebody else is at it or it is not due."""
    now = timezone.now()
    due = SiteRequest.objects.filter(pk=request_id, ended_at=None, next_try_at__lte=now)
    request = due.select_related("cluster").first()
    if request is None:
        return
    claimed = due.filter(tries=request.tries).update(
        tries=request.tries + 1, next_try_at=now + LEASE
    )
    if not claimed:
        return
    mine = SiteRequest.objects.filter(pk=request_id, tries=request.tries + 1, ended_at=None)
    try:
        requests.send(request)
    except TemporaryError as error:
        pause = min(FIRST_PAUSE * 2.0 ** min(request.tries, 10), LONGEST_PAUSE)
        wait = timedelta(seconds=max(pause, min(error.retry_after, LONGEST_PAUSE)))
        mine.update(next_try_at=timezone.now() + wait, last_error=error.message)
    except BeidouError as error:
        requests.give_up(request, error.message)
    else:
        mine.update(next_try_at=None, last_error="")


def sweep() -> int:
    """Have sent what is due, and what the queue forgot; later, while something waits there: it may
    be just that."""
    if not is_empty(OUTSIDE):
        return 0
    due = SiteRequest.objects.filter(next_try_at__lte=timezone.now(), ended_at=None)
    keys = list(due.order_by("next_try_at").values_list("pk", flat=True)[:AT_ONCE])
    for key in keys:
        enqueue("operations.tasks.deliver", key, queue=OUTSIDE)
    return len(keys)
