"""What PodDisruptionBudgets allow, decided as the eviction API does it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from beidou.base.sentences import Sentence, joined
from clusters.drivers.placed_pods import PlacedPod
from clusters.drivers.workloads import Budget


@dataclass(frozen=True, slots=True)
class Block:
    """Why a pod cannot be evicted now.

    ``is_final``: waiting cannot help, because not even with every copy healthy one may go.
    ``raising_helps``: with one more copy it could go.
    """

    budgets: tuple[str, ...]
    reason: str
    is_final: bool = False
    raising_helps: bool = False


def budgets_of(pod: PlacedPod, budgets: Iterable[Budget]) -> list[Budget]:
    return [
        budget
        for budget in budgets
        if budget.namespace == pod.namespace
        and budget.selector is not None
        and budget.selector.matches(pod.labels)
    ]


def why_blocked(pod: PlacedPod, budgets: Iterable[Budget]) -> Block | None:
    """None when an eviction would be accepted now.

    The order is the one of the API server: pods that run nothing are not asked about at all, then
    more than one budget is an error, then unready pods may pass, and only then is counted.
    """
    if pod.is_finished or pod.phase == "Pending" or pod.is_ending:
        return None
    found = budgets_of(pod, budgets)
    if not found:
        return None
    if len(found) > 1:
        names = tuple(budget.key for budget in found)
        reason = Sentence(
            "budgets %(names)s mean it together, which evictions do not support",
            names=", ".join(names),
        )
        return Block(names, reason, is_final=True)
    budget = found[0]
    if not pod.is_ready and _passes_unready(budget):
        return None
    if not budget.is_current:
        return Block(
            (budget.key,),
            Sentence("budget %(budget)s was not counted yet by its controller", budget=budget.key),
        )
    if budget.allowed > 0:
        return None
    is_final = budget.expected > 0 and spare(budget, budget.expected) <= 0
    numbers = {
        "budget": budget.key,
        "desired": budget.desired,
        "expected": budget.expected,
        "healthy": budget.healthy,
    }
    return Block(
        (budget.key,),
        Sentence(
            "budget %(budget)s needs %(desired)s healthy of %(expected)s, %(healthy)s are: "
            "none to spare even when all are",
            **numbers,
        )
        if is_final
        else Sentence(
            "budget %(budget)s needs %(desired)s healthy of %(expected)s, %(healthy)s are: "
            "0 may go now",
            **numbers,
        ),
        is_final=is_final,
        raising_helps=raising_helps(budget),
    )


def _passes_unready(budget: Budget) -> bool:
    if budget.unhealthy_policy == "AlwaysAllow":
        return True
    return budget.healthy >= budget.desired > 0


def raising_helps(budget: Budget) -> bool:
    """Whether one more copy makes one to spare."""
    return spare(budget, budget.expected + 1) > spare(budget, budget.expected)


def spare(budget: Budget, copies: int) -> int:
    """How many of ``copies``, all healthy, may be away at once."""
    if budget.max_unavailable is not None:
        return _count(budget.max_unavailable, copies)
    if budget.min_available is not None:
        return copies - _count(budget.min_available, copies)
    return copies


def _count(value: int | str, copies: int) -> int:
    """A number or a share of ``copies``, rounded up in both cases as Kubernetes does."""
    if isinstance(value, int):
        return value
    text = value.strip().removesuffix("%")
    if not text.isdecimal():
        return copies  # the API server refuses such a budget, so the strictest reading does
    return int(text) if text == value.strip() else -(-int(text) * copies // 100)


def listed(names: Sequence[str], at_most: int = 5) -> str:
    """``a, b and 3 more``; names or sentences."""
    shown = joined(names[:at_most], ", ")
    rest = len(names) - at_most
    return Sentence("%(shown)s and %(rest)d more", shown=shown, rest=rest) if rest > 0 else shown
