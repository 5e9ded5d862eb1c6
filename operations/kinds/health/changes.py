"""What has changed since the last time, check by check.

Kept with each check: ``change`` (new, worse, still, repaired, or empty) and, for one that does not
hold, ``since``: when it was first found so, carried from one HealthCheck to the next.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from operations.kinds.base import Check


class Change(StrEnum):
    NONE = ""
    NEW = "new"
    WORSE = "worse"
    STILL = "still"
    REPAIRED = "repaired"


NOT_TRIED = "not_tried"
"""Marks a check of which nothing is known to be wrong, nor to be in order."""
_LEVELS = {"ok": 0, "warning": 1, "error": 2}


def level(each: Mapping[str, Any]) -> str:
    """ok, warning or error."""
    if each.get("ok"):
        return "ok"
    return "warning" if each.get("severity") == "warning" else "error"


def worst(checks: Iterable[Mapping[str, Any]]) -> str:
    return max((level(each) for each in checks), key=_LEVELS.__getitem__, default="ok")


def compared(
    checks: Iterable[Check], before: Iterable[Mapping[str, Any]] | None, *, now: datetime
) -> list[Check]:
    """``checks`` with ``change`` and ``since``; ``before`` is None when there was no last time."""
    known = {each.get("check"): each for each in before or ()}
    return [_compared(each, known.get(each["check"]), before is not None, now) for each in checks]


def _compared(
    each: Check, last: Mapping[str, Any] | None, is_compared: bool, now: datetime
) -> Check:
    is_level, was_level = level(each), level(last) if last else "ok"
    since = str(last.get("since") or "") if last else ""
    if is_level == "ok":
        is_repaired = was_level != "ok" and not each.get(NOT_TRIED)
        change = Change.REPAIRED if is_repaired else Change.NONE
        # For how long it did not hold is worth telling once.
        return {**each, "change": change.value, "since": since if change else ""}
    if was_level == "ok":
        change = Change.NEW if is_compared else Change.NONE
        return {**each, "change": change.value, "since": now.isoformat(timespec="seconds")}
    change = Change.WORSE if _LEVELS[is_level] > _LEVELS[was_level] else Change.STILL
    since = since or now.isoformat(timespec="seconds")
    return {**each, "change": change.value, "since": since}
