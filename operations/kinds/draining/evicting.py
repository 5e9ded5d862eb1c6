"""Evictions in bounded numbers, and what was chosen for pods that a budget keeps."""

from collections.abc import Sequence

from beidou.base.sentences import Sentence
from clusters.drivers import errors
from clusters.drivers.placed_pods import PlacedPod
from clusters.drivers.workloads import Budget, Evicted, Workload
from operations.kinds.draining import pace, telling
from operations.kinds.draining.budgets import Block, budgets_of, why_blocked
from operations.kinds.draining.leaving import Drain, Leaving
from operations.kinds.draining.plan import What, local_data, what_happens
from operations.kinds.draining.raising import raise_owner
from operations.kinds.names import name_of


class Evictions:
    def __init__(self, drain: Drain) -> None:
        self.drain = drain
        self.run, self.rules, self.owners = drain.run, drain.rules, drain.owners
        self._stuck_since: dict[str, float] = {}

    def evict_some(self, each: Leaving) -> None:
        """Ask for the end of as many of the node's pods as may go now."""
        refused: set[str] = set()  # budgets, by what they answered in this round
        for pod in list(each.left.values()):
            self.run.stop_if_asked()
            if pod.is_ending or pod.uid in each.asked:
                continue
            if reason := self._unanswered(pod):
                telling.fail(self.drain, each, reason)
                return
            covering = budgets_of(pod, self.drain.budgets)
            if refused.intersection(budget.key for budget in covering):
                each.blocked.setdefault(pod.uid, self._block(pod, ""))
                self._resolve(each, pod)
            elif self._may_go_now(each, pod, covering):
                self._evict(each, pod)
                if pod.uid in each.blocked:
                    refused.update(each.blocked[pod.uid].budgets)
            if each.is_over:
                return

    def _unanswered(self, pod: PlacedPod) -> str:
        """A pod that came after preCheck is asked about like the others."""
        is_lost = what_happens(pod, self.owners.of(pod)) == What.LOST
        if is_lost and not self.rules.delete_bare_pods:
            return Sentence(
                "%(pod)s came after preCheck and nothing would make it anew", pod=pod.key
            )
        data = local_data(pod)
        if data and not self.rules.delete_local_data:
            return Sentence("%(pod)s came after preCheck: %(data)s", pod=pod.key, data=data)
        return ""

    def _may_go_now(self, each: Leaving, pod: PlacedPod, covering: Sequence[Budget]) -> bool:
        if not self.drain.is_given_up(each):
            if self._in_flight() >= self.rules.pods_at_once:
                return False
            awaited = self.owners.awaited.get(self.owners.key_of(pod))
            if awaited is not None and not covering and awaited.away >= awaited.at_once:
                return False
        return self.drain.is_due(pod.uid, pace.ASK_AGAIN_SECONDS)

    def _in_flight(self) -> int:
        """Pods that are ending and replacements that are not ready, of all nodes."""
        alive = [each for each in self.drain.open if not self.drain.is_given_up(each)]
        dead = {
            self.owners.key_of(pod)
            for each in self.drain.open
            if each not in alive
            for pod in each.asked.values()
        }
        ending = sum(uid in each.left for each in alive for uid in each.asked)
        awaited = self.owners.awaited.items()
        return max(ending, sum(each.missing for key, each in awaited if key not in dead))

    def _evict(self, each: Leaving, pod: PlacedPod) -> None:
        owner = self.owners.of(pod)
        awaited = self.owners.expect(owner) if owner is not None else None
        answer = self.drain.workloads.evict(pod)
        each.refused.pop(pod.uid, None)
        if answer.outcome in (Evicted.ACCEPTED, Evicted.GONE):
            self._asked(each, pod, "is evicted")
        elif answer.outcome == Evicted.BUSY:
            each.refused[pod.uid] = answer.message
            text = f"{pod.key} could not be evicted now: {answer.message}"
            self.drain.tell_once(text, text, each)
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

    # --- blocks -----------------------------------------------------------------------------------

    def _block(self, pod: PlacedPod, said: str) -> Block:
        """Why, by what the budgets say now; in the API server's words when they say nothing."""
        if said and not self.drain.are_budgets_new:
            self.drain.read_budgets()
        found = why_blocked(pod, self.drain.budgets)
        if found is not None:
            return found
        names = tuple(budget.key for budget in budgets_of(pod, self.drain.budgets))
        return Block(
            names, said or Sentence("budget %(budget)s allows 0 now", budget=" ".join(names))
        )

    def _resolve(self, each: Leaving, pod: PlacedPod) -> None:
        """What was chosen for blocks, once nothing that is under way could lift this one."""
        block = each.blocked[pod.uid]
        if self._is_coming(pod):
            self._stuck_since.pop(pod.uid, None)
            return
        since = self._stuck_since.setdefault(pod.uid, self.drain.clock())
        lasted = self.drain.clock() - since
        if lasted < pace.LAG_SECONDS:
            return
        owner = self.owners.of(pod)
        if self.rules.raise_owner and block.raising_helps and owner is not None:
            self._raise(each, owner)
        elif self.rules.delete_blocked:
            if self.drain.workloads.delete(pod):
                self._asked(each, pod, f"is deleted past its budget ({block.reason}), as approved")
        elif self.rules.on_blocked == "stop" and lasted >= pace.STOP_SECONDS:
            why = Sentence("a budget blocks it, and nothing under way will change that")
            telling.fail(self.drain, each, why)

    def _is_coming(self, pod: PlacedPod) -> bool:
        """Whether a pod is ending or a replacement starting that the pod's budgets count.

        On whichever of the nodes, and of whichever owner: a budget may guard several.
        """
        if self._is_replaced(self.owners.key_of(pod)):
            return True
        covering = budgets_of(pod, self.drain.budgets)
        return any(
            budgets_of(gone, covering)
            and (
                (uid in other.left and not other.is_over)
                or self._is_replaced(self.owners.key_of(gone))
            )
            for other in self.drain.leaving
            for uid, gone in other.asked.items()
        )

    def _is_replaced(self, owner: str) -> bool:
        awaited = self.owners.awaited.get(owner)
        return awaited is not None and awaited.was_asked and awaited.away > 0

    def _raise(self, each: Leaving, owner: Workload) -> None:
        """Asked again and again: another operation that had raised it may take its copy back."""
        if not self.drain.is_due(f"raise {owner.key}", pace.ASK_AGAIN_SECONDS):
            return
        try:
            current = self.drain.workloads.get(owner.kind, owner.namespace, owner.name)
            raised = raise_owner(
                self.drain.workloads, current, operation=name_of(self.run.operation)
            )
        except (errors.Conflict409, errors.NotFound) as error:
            self.drain.tell_once(error.message, error.message, each)
            return
        if raised is not None:
            text = f"{owner.key} gets one more copy for a while: {raised.wanted} replicas."
            self.run.say(text, target=each.target)
        elif self.drain.is_first(f"raised {owner.key}"):
            self.run.say(f"{owner.key} has one more copy already.", target=each.target)
        self.drain.is_first(f"raised {owner.key}")
