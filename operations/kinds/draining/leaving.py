"""What a drain knows of its nodes, and asks itself all along."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from clusters.drivers.kubernetes import KubernetesClient
from clusters.drivers.placed_pods import PlacedPod
from clusters.drivers.workloads import Budget
from operations.kinds.base import StepRun
from operations.kinds.draining import pace
from operations.kinds.draining.budgets import Block
from operations.kinds.draining.owners import Owners
from operations.kinds.draining.plan import Answers
from operations.models import OperationMachine


class Rules(Answers, Protocol):
    """The parameters of the step."""

    force_delete: bool
    force_unreachable: bool
    pods_at_once: int
    limit_minutes: int


@dataclass
class Leaving:
    """A node on its way out; ``before`` are ready copies of its pods' owners, from preCheck."""

    target: OperationMachine
    node: str
    total: int = 0
    before: Mapping[str, int] = field(default_factory=dict)
    is_ready: bool = True
    is_known: bool = False
    left: dict[str, PlacedPod] = field(default_factory=dict)
    asked: dict[str, PlacedPod] = field(default_factory=dict)
    blocked: dict[str, Block] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    """What the API server said when it did not want to evict a pod now, for no budget's sake."""
    said: str = ""
    is_over: bool = False
    evidence: dict[str, Any] = field(default_factory=dict)

    @property
    def gone(self) -> int:
        return self.total - len(self.left)


class Drain:
    """All nodes of a step together: the owners of their pods, the budgets, what was said."""

    def __init__(
        self,
        run: StepRun,
        client: KubernetesClient,
        leaving: Sequence[Leaving],
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.run = run
        self.workloads = client.workloads
        self.leaving = list(leaving)
        self.rules: Rules = run.params
        self.clock, self.now = clock, now
        before = {key: count for each in leaving for key, count in each.before.items()}
        self.owners = Owners(client.workloads, before, allow_pending=self.rules.allow_pending)
        self.budgets: list[Budget] = []
        self.are_budgets_new = False
        self.trouble = ""
        self._due: dict[str, float] = {}
        self._told: set[str] = set()

    @property
    def open(self) -> list[Leaving]:
        return [each for each in self.leaving if not each.is_over]

    def read_budgets(self) -> None:
        self.budgets = self.workloads.budgets()
        self.are_budgets_new = True

    # --- what is due, what was said ---------------------------------------------------------------

    def is_due(self, what: str, seconds: float) -> bool:
        """Whether ``seconds`` have passed since this was last answered with yes."""
        if self.clock() < self._due.get(what, 0):
            return False
        self._due[what] = self.clock() + seconds
        return True

    def make_all_due(self) -> None:
        self._due.clear()

    def is_first(self, what: str) -> bool:
        """Whether it is asked for the first time."""
        is_first = what not in self._told
        self._told.add(what)
        return is_first

    def tell_once(self, key: str, text: str, each: Leaving) -> None:
        if self.is_first(key):
            self.run.say(text, target=each.target, level="warning")

    # --- what holds now ---------------------------------------------------------------------------

    def is_given_up(self, each: Leaving) -> bool:
        """A dead node's pods cannot end; that it goes all the same was chosen."""
        return not each.is_ready and self.rules.force_unreachable

    def overdue(self, each: Leaving) -> list[PlacedPod]:
        return [
            pod
            for pod in each.left.values()
            if pod.deadline is not None and self.now() > pod.deadline + pace.END_MARGIN
        ]

    def awaited_by(self, each: Leaving) -> list[str]:
        """Owners that must be whole before this node counts as empty."""
        taken = {self.owners.key_of(pod) for pod in each.asked.values()}
        return [
            key
            for key, awaited in self.owners.awaited.items()
            if awaited.missing and (key in taken or key in each.before)
        ]
