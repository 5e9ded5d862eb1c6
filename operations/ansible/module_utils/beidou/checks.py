"""One thing looked at on a host, in the words an operator needs: found, wanted, what to do.

Every module of this folder reports its findings in this shape, so that the portal shows all of
them in one table and never has to read prose.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterable, Sequence

from ansible.module_utils.beidou.sentences import Sentence, as_data, joined

ERROR = "error"
WARNING = "warning"


@dataclasses.dataclass(frozen=True)
class Check:
    """``check`` is a stable name such as ``disk:/var/lib/kubelet``; a warning never blocks.

    ``found``, ``wanted`` and ``advice`` are sentences, or names and numbers as they are.
    """

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
        names = [field.name for field in dataclasses.fields(self)]
        return {name: as_data(getattr(self, name)) for name in names}


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
    parts = [
        Sentence(
            "%(check)s: found %(found)s, wanted %(wanted)s",
            check=each.check,
            found=each.found,
            wanted=each.wanted,
        )
        for each in blocking
    ]
    if len(parts) == 1:
        return Sentence("1 check does not hold: %(checks)s.", checks=parts[0])
    return Sentence(
        "%(count)d checks do not hold: %(checks)s.", count=len(parts), checks=joined(parts, "; ")
    )


def listed(names: Sequence[str], limit: int = 4) -> str:
    """Join names for a sentence; more than ``limit`` become a count."""
    shown = joined(names[:limit], ", ")
    rest = len(names) - limit
    return Sentence("%(shown)s and %(rest)d more", shown=shown, rest=rest) if rest > 0 else shown
