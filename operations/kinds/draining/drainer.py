"""Emptying nodes: cordon, evict in bounded numbers, wait for replacements, and say so all along.

One loop looks after all nodes of a step.  Whatever it knows it reads from the cluster each time, so
a repeated step goes on where the lost one stood.  It ends for each node with success, with the
reason why it cannot go on, or at the time limit; it never waits for something without saying for
what.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from beidou.base.errors import TemporaryError
from beidou.base.sentences import Sentence
from clusters.drivers import errors
from clusters.drivers.kubernetes import KubernetesClient
from clusters.drivers.placed_pods import PlacedPod
from clusters.drivers.workloads import Budget, Evicted, Workload
from operations.kinds.base import StepRun, check
from operations.kinds.draining.budgets import Block, budgets_of, listed, why_blocked
from operations.kinds.draining.checks import ways_out
from operations.kinds.draining.owners import Owners
from operations.kinds.draining.plan import Answers, Code, Problem, What, local_data, what_happens
from operations.kinds.draining.raising import raise_owner
from operations.kinds.names import name_of
from operations.models import OperationMachine

PAUSE_SECONDS = 0.5
TROUBLE_SECONDS = 2.0
ASK_AGAIN_SECONDS = 3.0
BUDGETS_EVERY_SECONDS = 3.0
NODES_EVERY_SECONDS = 10.0
LAG_SECONDS = 5.0  # until the controller of budgets has counted
STOP_SECONDS = 30.0  # how long a block must last before "stop" believes it
END_MARGIN = timedelta(seconds=30)  # what a kubelet may need beyond the grace period


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
    left: dict[str, PlacedPod] = field(default_factory=dict)
    asked: dict[str, PlacedPod] = field(default_factory=dict)
    blocked: dict[str, Block] = field(default_factory=dict)
    said: str = ""
    is_over: bool = False
    evidence: dict[str, Any] = field(default_factory=dict)

    @property
    def gone(self) -> int:
        return self.total - len(self.left)


class Drainer:
    """``drain()`` returns when every node is empty or has failed."""

    def __init__(
        self,
        run: StepRun,
        client: KubernetesClient,
        leaving: Sequence[Leaving],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.run = run
        self.client = client
        self.leaving = list(leaving)
        self.rules: Rules = run.params
        self._clock, self._sleep, self._now = clock, sleep, now
        before = {key: count for each in leaving for key, count in each.before.items()}
        self.owners = Owners(client.workloads, before, allow_pending=self.rules.allow_pending)
        self._began = clock()
        self._budgets: list[Budget] = []
        self._are_budgets_new = False
        self._due: dict[str, float] = {}
        self._stuck_since: dict[str, float] = {}
        self._told: set[str] = set()
        self._trouble = ""

    @property
    def _open(self) -> list[Leaving]:
        return [each for each in self.leaving if not each.is_over]

    def drain(self) -> None:
        limit = self._began + self.rules.limit_minutes * 60
        while self._open:
            self.run.stop_if_asked()
            try:
                self._round()
                self._trouble = ""
            except TemporaryError as error:
                if not self._trouble:
                    self.run.say(f"{error.message} It is tried again.", level="warning")
                self._trouble = error.message
            if self._clock() > limit:
                for each in self._open:
                    self._fail(each, f"not empty after {self.rules.limit_minutes} min")
            for each in self._open:
                self._report(each)
            if self._open:
                self._sleep(TROUBLE_SECONDS if self._trouble else PAUSE_SECONDS)

    def _round(self) -> None:
        self._cordon()
        self._are_budgets_new = self._is_due("budgets", BUDGETS_EVERY_SECONDS)
        if self._are_budgets_new:
            self._budgets = self.client.workloads.budgets()
        for each in self._open:
            self._look_at(each)
        for key in self.owners.look():
            self.run.say(f"{key} has all its copies again.")
        for each in self._open:
            self._hurry(each)
            self._evict_some(each)
        for each in self._open:
            self._finish(each)

    def _is_due(self, what: str, seconds: float) -> bool:
        if self._clock() < self._due.get(what, 0):
            return False
        self._due[what] = self._clock() + seconds
        return True

    # --- looking ---------------------------------------------------------------------------------

    def _cordon(self) -> None:
        """All of them before the first eviction: no pod moves to another node that leaves."""
        for each in self._open:
            if self._clock() < self._due.get(f"node {each.node}", 0):
                continue
            try:
                node = self.client.get_node(each.node)
                if not node.unschedulable:
                    self.client.set_unschedulable(each.node, True)
                    self.run.say(f"Node {each.node} is cordoned.", target=each.target)
            except errors.NotFound:
                self.run.say(
                    f"There is no node {each.node} any more.", target=each.target, level="warning"
                )
                each.evidence, each.is_over = {"node": each.node, "missing": True}, True
                continue
            if each.is_ready and node.is_ready is not True:
                self.run.say(
                    f"Node {each.node} is not Ready: what runs there does not end.",
                    target=each.target, level="warning",
                )  # fmt: skip
            each.is_ready = node.is_ready is True
            # Only now: a node of which nothing is known must not be emptied yet.
            self._due[f"node {each.node}"] = self._clock() + NODES_EVERY_SECONDS

    def _look_at(self, each: Leaving) -> None:
        left: dict[str, PlacedPod] = {}
        for pod in self.client.workloads.pods(node_name=each.node):
            what = what_happens(pod, self.owners.of(pod))
            if what in (What.DAEMON_SET, What.STATIC, What.ENDED):
                continue
            left[pod.uid] = pod
            if what == What.ENDING:
                each.asked.setdefault(pod.uid, pod)
        each.left = left
        each.total = max(each.total, len(left))
        for uid, pod in list(each.asked.items()):
            if uid not in left and f"gone {uid}" not in self._told:
                self._told.add(f"gone {uid}")
                self.run.say(
                    f"{pod.key} has left ({each.gone} of {each.total}).", target=each.target
                )
        each.blocked = {uid: block for uid, block in each.blocked.items() if uid in left}
        if f"owners of {each.node}" not in self._told:
            # Also what an earlier attempt took must be whole before this node counts as empty.
            self.owners.expect_all(each.before)
            self._told.add(f"owners of {each.node}")

    # --- pods that do not end --------------------------------------------------------------------

    def _hurry(self, each: Leaving) -> None:
        for pod in self._overdue(each):
            why = (
                f"it keeps its finalizers {', '.join(pod.finalizers)}"
                if pod.finalizers
                else "it ignores its end, or the kubelet does not answer"
            )
            self._tell_once(
                f"overdue {pod.uid}", f"{pod.key} should have ended by now: {why}.", each
            )
            if self.rules.force_delete and self._is_due(f"force {pod.uid}", 60):
                self.client.workloads.delete(pod, grace_seconds=0)
                self.run.say(
                    f"{pod.key} was deleted by force.", target=each.target, level="warning"
                )

    def _overdue(self, each: Leaving) -> list[PlacedPod]:
        return [
            pod
            for pod in each.left.values()
            if pod.deadline is not None and self._now() > pod.deadline + END_MARGIN
        ]

    def _tell_once(self, key: str, text: str, each: Leaving) -> None:
        if key not in self._told:
            self._told.add(key)
            self.run.say(text, target=each.target, level="warning")

    # --- evicting --------------------------------------------------------------------------------

    def _evict_some(self, each: Leaving) -> None:
        refused: set[str] = set()  # budgets, by what they answered in this round
        for pod in list(each.left.values()):
            self.run.stop_if_asked()
            if pod.is_ending or pod.uid in each.asked:
                continue
            if reason := self._unanswered(pod):
                self._fail(each, reason)
                return
            covering = budgets_of(pod, self._budgets)
            if refused.intersection(budget.key for budget in covering):
                each.blocked.setdefault(pod.uid, self._block(pod, ""))
                self._resolve(each, pod)
            elif (self._is_given_up(each) or self._may_go_now(pod, covering)) and self._is_due(
                pod.uid, ASK_AGAIN_SECONDS
            ):
                self._evict(each, pod)
                if pod.uid in each.blocked:
                    refused.update(each.blocked[pod.uid].budgets)
            if each.is_over:
                return

    def _unanswered(self, pod: PlacedPod) -> str:
        """A pod that came after preCheck is asked about like the others."""
        is_lost = what_happens(pod, self.owners.of(pod)) == What.LOST
        if is_lost and not self.rules.delete_bare_pods:
            return f"{pod.key} came after preCheck and nothing would make it anew"
        data = local_data(pod)
        if data and not self.rules.delete_local_data:
            return f"{pod.key} came after preCheck and {data}"
        return ""

    def _may_go_now(self, pod: PlacedPod, covering: Sequence[Budget]) -> bool:
        if self._in_flight() >= self.rules.pods_at_once:
            return False
        awaited = self.owners.awaited.get(self.owners.key_of(pod))
        return awaited is None or bool(covering) or awaited.away < awaited.at_once

    def _in_flight(self) -> int:
        """Pods that are ending and replacements that are not ready, of all nodes."""
        alive = [each for each in self._open if not self._is_given_up(each)]
        dead = {
            self.owners.key_of(pod)
            for each in self._open
            if each not in alive
            for pod in each.asked.values()
        }
        ending = sum(uid in each.left for each in alive for uid in each.asked)
        awaited = self.owners.awaited.items()
        return max(ending, sum(each.missing for key, each in awaited if key not in dead))

    def _evict(self, each: Leaving, pod: PlacedPod) -> None:
        owner = self.owners.of(pod)
        awaited = self.owners.expect(owner) if owner is not None else None
        answer = self.client.workloads.evict(pod)
        if answer.outcome in (Evicted.ACCEPTED, Evicted.GONE):
            self._asked(each, pod, "is evicted")
        elif answer.outcome == Evicted.BUSY:
            text = f"{pod.key} could not be evicted now: {answer.message}"
            self._tell_once(text, text, each)
        else:
            is_new = pod.uid not in each.blocked
            each.blocked[pod.uid] = block = self._block(pod, answer.message)
            if is_new:
                self.run.say(f"{pod.key} has to wait: {block.reason}.", target=each.target)
            self._resolve(each, pod)
        if awaited is not None and not awaited.was_asked and not awaited.missing:
            self.owners.awaited.pop(awaited.workload.key, None)

    def _asked(self, each: Leaving, pod: PlacedPod, how: str) -> None:
        owner = self.owners.of(pod)
        if owner is not None:
            self.owners.expect(owner, pod)
        each.asked[pod.uid] = pod
        each.blocked.pop(pod.uid, None)
        self._stuck_since.pop(pod.uid, None)
        self.run.say(f"{pod.key} {how}.", target=each.target)

    # --- blocks ----------------------------------------------------------------------------------

    def _block(self, pod: PlacedPod, said: str) -> Block:
        """Why, by what the budgets say now; in the API server's words when they say nothing."""
        if said and not self._are_budgets_new:
            self._budgets = self.client.workloads.budgets()
            self._are_budgets_new = True
        found = why_blocked(pod, self._budgets)
        if found is not None:
            return found
        names = tuple(budget.key for budget in budgets_of(pod, self._budgets))
        return Block(names, said or f"budget {' '.join(names)} allows 0 now")

    def _resolve(self, each: Leaving, pod: PlacedPod) -> None:
        """What was chosen for blocks, once nothing that is under way could lift this one."""
        block = each.blocked[pod.uid]
        if self._is_coming(pod):
            self._stuck_since.pop(pod.uid, None)
            return
        since = self._stuck_since.setdefault(pod.uid, self._clock())
        lasted = self._clock() - since
        if lasted < LAG_SECONDS:
            return
        owner = self.owners.of(pod)
        if self.rules.raise_owner and block.raising_helps and owner is not None:
            self._raise(each, owner)
        elif self.rules.delete_blocked:
            if self.client.workloads.delete(pod):
                self._asked(each, pod, f"is deleted past its budget ({block.reason}), as approved")
        elif self.rules.on_blocked == "stop" and lasted >= STOP_SECONDS:
            self._fail(each, "a budget blocks it, and nothing under way will change that")

    def _is_coming(self, pod: PlacedPod) -> bool:
        """Whether a pod is ending or a replacement starting that the pod's budgets count."""
        if self.owners.key_of(pod) in self.owners.awaited:
            awaited = self.owners.awaited[self.owners.key_of(pod)]
            if awaited.was_asked and awaited.away:
                return True
        covering = budgets_of(pod, self._budgets)
        return any(
            uid in other.left and any(budget in covering for budget in budgets_of(gone, covering))
            for other in self._open
            for uid, gone in other.asked.items()
        )

    def _raise(self, each: Leaving, owner: Workload) -> None:
        if f"raised {owner.key}" in self._told:
            return
        try:
            current = self.client.workloads.get(owner.kind, owner.namespace, owner.name)
            raised = raise_owner(
                self.client.workloads, current, operation=name_of(self.run.operation)
            )
        except (errors.Conflict409, errors.NotFound) as error:
            self._tell_once(error.message, error.message, each)
            return
        self._told.add(f"raised {owner.key}")
        text = (
            f"{owner.key} gets one more copy for a while: {raised.wanted} replicas."
            if raised is not None
            else f"{owner.key} has one more copy already."
        )
        self.run.say(text, target=each.target)

    # --- ends ------------------------------------------------------------------------------------

    def _is_given_up(self, each: Leaving) -> bool:
        """A dead node's pods cannot end; that it goes all the same was chosen."""
        return not each.is_ready and self.rules.force_unreachable

    def _finish(self, each: Leaving) -> None:
        if each.is_over:
            return
        if self._is_given_up(each):
            if any(uid not in each.asked and uid not in each.blocked for uid in each.left):
                return
            each.evidence["left_behind"] = [pod.key for pod in each.left.values()]
        elif each.left or self._awaited_by(each):
            return
        each.is_over = True
        each.evidence |= {
            "node": each.node,
            "pods": each.total,
            "seconds": round(self._clock() - self._began, 1),
        }
        self.run.say(f"Node {each.node} is empty.", target=each.target)

    def _awaited_by(self, each: Leaving) -> list[str]:
        """Owners that must be whole before this node counts as empty."""
        taken = {self.owners.key_of(pod) for pod in each.asked.values()}
        return [
            key
            for key, awaited in self.owners.awaited.items()
            if awaited.missing and (key in taken or key in each.before)
        ]

    def _report(self, each: Leaving) -> None:
        text = self._state(each)
        if text != each.said:
            each.said = text
            self.run.note(each.target, text)

    def _state(self, each: Leaving) -> str:
        parts = [f"{each.gone} of {each.total} moved"]
        ending = sum(pod.is_ending for pod in each.left.values())
        if ending:
            parts.append(f"{ending} ending")
        if budgets := sorted({name for b in each.blocked.values() for name in b.budgets}):
            parts.append(f"waiting for budget {listed(budgets, 3)} ({self._allowed(budgets)})")
        for key in self._awaited_by(each)[:3]:
            awaited = self.owners.awaited[key]
            parts.append(f"waiting for {awaited.missing} of {key} to be ready")
            if awaited.nowhere:
                parts.append(awaited.nowhere[:200])
        if overdue := self._overdue(each):
            parts.append(f"{listed([pod.key for pod in overdue], 3)} should have ended by now")
        if not each.is_ready:
            parts.append("the node is not Ready")
        if self._trouble:
            parts.append("the cluster does not answer")
        return "; ".join(parts)

    def _allowed(self, names: Sequence[str]) -> str:
        counts = [str(b.allowed) for b in self._budgets if b.key in names]
        return f"{', '.join(counts) or 'none'} allowed"

    def _fail(self, each: Leaving, why: str) -> None:
        """Say which budget keeps which pods, what does not end, and what can be done."""
        rows = [*self._block_checks(each), *self._other_checks(each)]
        advice = rows[0]["advice"] if rows else "look at what is left, then retry"
        state = self._state(each)
        if self._trouble:
            state = f"{state}; {self._trouble}"
        self.run.fail(
            each.target,
            Sentence(
                "%(why)s: %(state)s. Node %(node)s stays cordoned. → %(advice)s",
                why=why,
                state=state,
                node=each.node,
                advice=advice,
            ),  # fmt: skip
            checks=rows,
            evidence={"node": each.node, "left": [pod.key for pod in each.left.values()]},
        )
        each.is_over = True

    def _block_checks(self, each: Leaving) -> list[dict[str, Any]]:
        groups: dict[str, list[str]] = {}
        blocks: dict[str, Block] = {}
        for uid, block in each.blocked.items():
            groups.setdefault(block.reason, []).append(each.left[uid].key)
            blocks[block.reason] = block
        return [
            check(
                f"budget:{' '.join(block.budgets)}",
                False,
                f"{reason}; it keeps {listed(groups[reason])}",
                "a budget that lets every pod go, one after the other",
                ways_out(Problem(Code.BUDGET, reason, block)),
            )
            for reason, block in blocks.items()
        ]

    def _other_checks(self, each: Leaving) -> list[dict[str, Any]]:
        rows = []
        if overdue := self._overdue(each):
            rows.append(
                check(
                    "ending",
                    False,
                    f"do not end: {listed([pod.key for pod in overdue])}",
                    "pods that end within their grace period",
                    "look at the node's kubelet and their finalizers, or retry with force_delete",
                )
            )
        for key in self._awaited_by(each):
            awaited = self.owners.awaited[key]
            rows.append(
                check(
                    "replacements",
                    False,
                    f"{key}: {awaited.ready} of {awaited.target} ready. {awaited.nowhere}".strip(),
                    f"{awaited.target} ready as before",
                    "see why its new pods are not ready; retry waits longer",
                )
            )
        if not each.is_ready:
            rows.append(
                check(
                    "node-ready",
                    False,
                    f"node {each.node} is not Ready, so its pods do not end",
                    "a node that is Ready",
                    "mend the machine, or retry with force_unreachable",
                )
            )
        return rows
