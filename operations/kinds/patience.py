"""Asking a cluster that may be away for a moment, while its API server is restarted, say."""

import time
from collections.abc import Callable
from typing import TypeVar

from beidou.base.errors import TemporaryError
from clusters.drivers.errors import REFUSALS
from operations.kinds.base import StepRun

T = TypeVar("T")
PATIENCE_SECONDS = 90.0
BELIEVE_SECONDS = 30.0  # what a refusal must last
PAUSE_SECONDS = 2.0


def patiently(run: StepRun, call: Callable[[], T], *, seconds: float = 0) -> T:
    """What ``call`` returns, once the cluster answers; its last error when that takes too long.

    ``seconds`` is how long it may be away, where that is longer than usual.  Only for calls that
    may be made twice.
    """
    away = max(seconds, PATIENCE_SECONDS)
    began = time.monotonic()
    refused_since: float | None = None
    is_told = False
    while True:
        run.stop_if_asked()
        try:
            return call()
        except (TemporaryError, *REFUSALS) as error:
            now = time.monotonic()
            # One that comes back after a while refuses at first, however long it was away.
            refused_since = (refused_since or now) if isinstance(error, REFUSALS) else None
            lasts = now - refused_since > BELIEVE_SECONDS if refused_since else now - began > away
            if lasts:
                raise
            if not is_told:
                run.say(f"{error.message} It is tried again.", level="warning")
                is_told = True
        time.sleep(PAUSE_SECONDS)
