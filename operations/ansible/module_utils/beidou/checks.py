"""One thing looked at on a host, in the words an operator needs: found, wanted, what to do.

Every module of this folder reports its findings in this shape, so that the portal shows all of
them in one table and never has to read prose.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterable, Sequence

ERROR = "error"
WARNING = "warning"


@dataclasses.dataclass(frozen=True)
class Check:
    """``check`` is a stable name such as ``disk:/var/lib/kubelet``; a warning never blocks."""

    check: str
    ok: bool
    found: str
    wanted: str
    advice: str = ""
    severity: str = ERROR

    @property
    def blocks(self) -> bool:
        return not self.ok and self.severity == ERROR

    def as_dict(self) -> dict[str, object]:
        return dataclasses.asdict(self)


def with_warnings_only(checks: Iterable[Check], patterns: Sequence[str]) -> list[Check]:
    """Turn the checks whose names match a pattern (``leftover:*``) from errors into warnings."""

    def soften(check: Check) -> Check:
        if any(fnmatch.fnmatchcase(check.check, pattern) for pattern in patterns):
            return dataclasses.replace(check, severity=WARNING)
        return check

    return [soften(check) for check in checks]


def blocking_sentence(checks: Iterable[Check]) -> str:
    """Say in one sentence what blocks, or nothing when nothing does."""
    blocking = [check for check in checks if check.blocks]
    if not blocking:
        return ""
    parts = "; ".join(f"{c.check}: found {c.found}, wanted {c.wanted}" for c in blocking)
    count = "1 check does" if len(blocking) == 1 else f"{len(blocking)} checks do"
    return f"{count} not hold: {parts}."


def listed(names: Sequence[str], limit: int = 4) -> str:
    """Join names for a sentence; more than ``limit`` become a count."""
    shown = ", ".join(names[:limit])
    rest = len(names) - limit
    return f"{shown} and {rest} more" if rest > 0 else shown
