"""How a measure is printed: what, how much, against what, and whether the target holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Measure:
    """``holds`` is None for a figure without a target."""

    name: str
    value: str
    comparison: str
    target: str
    holds: bool | None

    def __str__(self) -> str:
        mark = {True: "ok  ", False: "MISS", None: "    "}[self.holds]
        return (
            f"{mark} {self.name}: {self.value} | {self.comparison or 'no comparison'}"
            f" | target {self.target}"
        )


def p95(values: Sequence[float]) -> float:
    """The 95th percentile by nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * 95 // 100) - 1)]


def middle(values: Sequence[float]) -> float:
    return median(values)
