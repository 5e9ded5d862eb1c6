"""From what was observed to one word and one sentence: is the cluster well?"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from beidou.base.sentences import Sentence, joined
from clusters.drivers.answers import ComponentHealth

HEALTHY, DEGRADED, UNREACHABLE = "healthy", "degraded", "unreachable"
NAMED_AT_MOST = 3


@dataclass(frozen=True)
class Verdict:
    """``since`` is when the present state began, as far as it is known."""

    health: str
    reason: str
    since: datetime


def unreachable(since: datetime, error: str) -> Verdict:
    """Nothing is known any more; the last figures stay."""
    return Verdict(UNREACHABLE, error, since)


def judge(
    *,
    now: datetime,
    not_ready: Sequence[str],
    nodes: int,
    components: Sequence[ComponentHealth],
    troubles: Sequence[str],
) -> Verdict:
    """The verdict on a cluster that answers; ``troubles`` are sentences of what cannot be read."""
    reasons: list[str] = []
    if not nodes:
        reasons.append(Sentence("The cluster has no nodes."))
    if not_ready:
        named = ", ".join(not_ready[:NAMED_AT_MOST]) + (
            ", …" if len(not_ready) > NAMED_AT_MOST else ""
        )
        reasons.append(
            Sentence(
                "%(count)s of %(all)s nodes not ready: %(names)s.",
                count=len(not_ready),
                all=nodes,
                names=named,
            )
        )
    reasons += [
        joined([item.name, item.message], ": ") for item in components if item.is_healthy is False
    ]
    reasons += troubles
    return Verdict(DEGRADED if reasons else HEALTHY, joined(reasons), now)
