"""Emptying nodes: cordon, evict in bounded numbers, wait for replacements, and say so all along.

One loop looks after all nodes of a step.  Whatever it knows it reads from the cluster each time, so
a repeated step goes on where the lost one stood.  It ends for each node with success, with the
reason why it cannot go on, or at the time limit; it never waits for something without saying for
what.
"""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from beidou.base.errors import ExternalError, TemporaryError
from beidou.base.sentences import Sentence
from clusters.drivers import errors
from clusters.drivers.kubernetes import KubernetesClient
from clusters.drivers.placed_pods import PlacedPod
from operations.kinds.base import StepRun
from operations.kinds.draining import pace, telling
from operations.kinds.draining.evicting import Evictions
from operations.kinds.draining.leaving import Drain, Leaving
from operations.kinds.draining.plan import What, what_happens


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
        self.state = Drain(run, client, leaving, clock=clock, now=now)
        self.evictions = Evictions(self.state)
        self._clock, self._sleep = clock, sleep
        self._began = clock()
        self._refused_since: float | None = None
        self._look_again: dict[str, float] = {}

    def drain(self) -> None:
        state, limit = self.state, self.state.rules.limit_minutes
        while state.open:
            self.run.stop_if_asked()
            try:
                self._round()
            except (TemporaryError, *errors.REFUSALS) as error:
                self._meet(error)
            else:
                self._refused_since = None
                if state.trouble:
                    self.run.say("The cluster answers again; the drain goes on.")
                state.trouble = ""
            if self._clock() > self._began + limit * 60:
                for each in state.open:
                    why = Sentence("not empty after %(minutes)s min", minutes=limit)
                    telling.fail(state, each, why)
            for each in state.open:
                telling.report(state, each)
            if state.open:
                self._sleep(pace.TROUBLE_SECONDS if state.trouble else pace.PAUSE_SECONDS)

    def _meet(self, error: ExternalError) -> None:
        """Say it once and go on; raise a refusal that has lasted."""
        if isinstance(error, errors.REFUSALS):
            if self._refused_since is None:
                self._refused_since = self._clock()
            if self._clock() - self._refused_since >= pace.BELIEVE_SECONDS:
                raise error
        if not self.state.trouble:
            self.run.say(f"{error.message} It is tried again.", level="warning")
        self.state.trouble = error.message
        # What failed is due again at once, so that a round that goes well has asked all of it.
        self.state.make_all_due()
        self._look_again.clear()

    def _round(self) -> None:
        state = self.state
        self._cordon()
        state.are_budgets_new = False
        if state.is_due("budgets", pace.BUDGETS_EVERY_SECONDS):
            state.read_budgets()
        for each in state.open:
            self._look_at(each)
        for key in state.owners.look():
            self.run.say(f"{key} has all its copies again.")
        for each in state.open:
            self._hurry(each)
            self.evictions.evict_some(each)
        for each in state.open:
            self._finish(each)

    # --- looking ---------------------------------------------------------------------------------

    def _cordon(self) -> None:
        """All of them before the first eviction: no pod moves to another node that leaves."""
        for each in self.state.open:
            if self._clock() < self._look_again.get(each.node, 0):
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
            self._look_again[each.node] = self._clock() + pace.NODES_EVERY_SECONDS

    def _look_at(self, each: Leaving) -> None:
        state = self.state
        left: dict[str, PlacedPod] = {}
        for pod in state.workloads.pods(node_name=each.node):
            what = what_happens(pod, state.owners.of(pod))
            if what in (What.DAEMON_SET, What.STATIC, What.ENDED):
                continue
            left[pod.uid] = pod
            if what == What.ENDING and pod.uid not in each.asked:
                # Somebody else asked it to go, or an attempt that was lost before it could say so.
                each.asked[pod.uid] = pod
                self.run.say(f"{pod.key} is ending already.", target=each.target)
        each.left = left
        each.total = max(each.total, len(left))
        for uid, pod in list(each.asked.items()):
            if uid not in left and state.is_first(f"gone {uid}"):
                self.run.say(
                    f"{pod.key} has left ({each.gone} of {each.total}).", target=each.target
                )
        each.blocked = {uid: block for uid, block in each.blocked.items() if uid in left}
        each.refused = {uid: said for uid, said in each.refused.items() if uid in left}
        if not each.is_known:
            # Also what an earlier attempt took must be whole before this node counts as empty.
            state.owners.expect_all(each.before)
            each.is_known = True

    # --- pods that do not end --------------------------------------------------------------------

    def _hurry(self, each: Leaving) -> None:
        for pod in self.state.overdue(each):
            why = (
                f"it keeps its finalizers {', '.join(pod.finalizers)}"
                if pod.finalizers
                else "it ignores its end, or the kubelet does not answer"
            )
            self.state.tell_once(
                f"overdue {pod.uid}", f"{pod.key} should have ended by now: {why}.", each
            )
            if self.state.rules.force_delete and self.state.is_due(f"force {pod.uid}", 60):
                self.state.workloads.delete(pod, grace_seconds=0)
                self.run.say(
                    f"{pod.key} was deleted by force.", target=each.target, level="warning"
                )

    # --- ends ------------------------------------------------------------------------------------

    def _finish(self, each: Leaving) -> None:
        if each.is_over:
            return
        if self.state.is_given_up(each):
            if any(uid not in each.asked and uid not in each.blocked for uid in each.left):
                return
            each.evidence["left_behind"] = [pod.key for pod in each.left.values()]
        elif each.left or self.state.awaited_by(each):
            return
        each.is_over = True
        each.evidence |= {
            "node": each.node,
            "pods": each.total,
            "seconds": round(self._clock() - self._began, 1),
        }
        self.run.say(f"Node {each.node} is empty.", target=each.target)
