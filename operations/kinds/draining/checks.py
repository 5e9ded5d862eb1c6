"""A plan as checks: found, wanted, what to do.  An answered problem is a warning, not a block."""

from collections import defaultdict
from collections.abc import Iterable

from beidou.base.sentences import Sentence, joined
from operations.kinds.base import Check, asking, check
from operations.kinds.draining.budgets import Block, listed
from operations.kinds.draining.plan import Answers, Code, Fate, NodePlan, Problem, Share

LARGE_SHARE = 0.5
LONG_GRACE_SECONDS = 600

_WANTED = {
    Code.BARE: Sentence("every pod has a controller that makes it anew"),
    Code.LOCAL_DATA: Sentence("no pod keeps data on the node"),
    Code.ONLY_COPY: Sentence("another ready copy of each"),
    Code.NO_ROOM: Sentence("room on another node for each pod that moves"),
}
_ADVICE = {
    Code.BARE: Sentence("copy what is needed, then retry with delete_bare_pods"),
    Code.LOCAL_DATA: Sentence("save what is needed, then retry with delete_local_data"),
    Code.ONLY_COPY: Sentence(
        "give each a second copy, or retry with allow_single_copy: they are away until the new one "
        "is ready"
    ),
    Code.NO_ROOM: Sentence(
        "make room, or retry with allow_pending: these pods wait until there is some"
    ),
}
_ANSWER = {
    Code.BARE: "delete_bare_pods",
    Code.LOCAL_DATA: "delete_local_data",
    Code.ONLY_COPY: "allow_single_copy",
    Code.NO_ROOM: "allow_pending",
}


def make_checks(plan: NodePlan, answers: Answers) -> list[Check]:
    return [_control_plane(plan.control_plane), *pod_checks(plan, answers)]


def pod_checks(plan: NodePlan, answers: Answers) -> list[Check]:
    """All but that it must be a worker."""
    checks = []
    for code in (Code.BARE, Code.LOCAL_DATA, Code.ONLY_COPY, Code.NO_ROOM):
        checks.append(_problems(code, plan.problems(code), answers))
    checks += _unsure(plan.fates)
    checks += _budgets(plan.problems(Code.BUDGET), answers)
    checks += [_share(share) for share in plan.shares]
    checks += _long_graces(plan.evicted)
    return checks


def _control_plane(why: str) -> Check:
    worker = Sentence("a worker")
    return check(
        "control-plane",
        not why,
        Sentence("a control plane: %(why)s", why=why) if why else worker,
        worker,
        Sentence("take it out with RemoveControlPlane, which looks after etcd"),
    )


def _problems(code: Code, found: list[tuple[Fate, Problem]], answers: Answers) -> Check:
    if not found:
        return check(code, True, Sentence("none"), _WANTED[code])
    told = _counted([_of_pod(fate, problem.text) for fate, problem in found])
    if all(problem.is_answered(answers) for _fate, problem in found):
        advice = Sentence("goes on, because %(answer)s was chosen", answer=_ANSWER[code])
        return check(code, False, told, _WANTED[code], advice, "warning")
    return asking(check(code, False, told, _WANTED[code], _ADVICE[code]), _ANSWER[code])


def _of_pod(fate: Fate, text: str) -> Sentence:
    return Sentence("%(pod)s (%(text)s)", pod=fate.pod.key, text=text)


def _counted(texts: list[Sentence]) -> Sentence:
    return Sentence("%(count)s: %(listed)s", count=len(texts), listed=listed(texts))


def _unsure(fates: Iterable[Fate]) -> list[Check]:
    """What nobody can work out here is said, and not taken for room."""
    texts = [_of_pod(fate, joined(fate.doubts, "; ")) for fate in fates if fate.doubts]
    if not texts:
        return []
    return [
        check(
            "room-unknown",
            False,
            _counted(texts),
            Sentence("room that can be worked out"),
            Sentence(
                "see whether these pods can run elsewhere; if not, the drain waits for them and "
                "says so"
            ),
            "warning",
        )
    ]


# --- budgets --------------------------------------------------------------------------------------


def _budgets(found: list[tuple[Fate, Problem]], answers: Answers) -> list[Check]:
    if not found:
        return [check(Code.BUDGET, True, Sentence("none blocks"), _all_may_go())]
    groups: dict[str, list[tuple[Fate, Problem]]] = defaultdict(list)
    for fate, problem in found:
        groups[problem.text].append((fate, problem))
    checks = []
    for rows in groups.values():
        problem = rows[0][1]
        assert problem.block is not None  # noqa: S101  every budget problem has one
        pods = [fate.pod.key for fate, _problem in rows]
        if problem.is_answered(answers):
            advice = Sentence("goes on: %(chosen)s", chosen=_chosen(problem, answers))
            checks.append(_kept(problem.block, pods, advice, "warning"))
        else:
            checks.append(block_check(problem.block, pods))
    return checks


def block_check(block: Block, pods: list[str]) -> Check:
    """Which budget keeps which pods, and what may be answered."""
    answers = [answer for answer, _way in _ways(block)]
    return asking(_kept(block, pods, ways_out(block), "error"), *answers)


def _kept(block: Block, pods: list[str], advice: str, severity: str) -> Check:
    return check(
        f"budget:{' '.join(block.budgets)}",
        False,
        Sentence("%(reason)s; it keeps %(pods)s", reason=block.reason, pods=listed(pods)),
        _all_may_go(),
        advice,
        severity,
    )


def _all_may_go() -> Sentence:
    return Sentence("a budget that lets every pod go, one after the other")


def _chosen(problem: Problem, answers: Answers) -> Sentence:
    block = problem.block
    if answers.raise_owner and block is not None and block.raising_helps:
        return Sentence("its owner gets one more copy for a while")
    if answers.on_blocked == "wait" and block is not None and not block.is_final:
        return Sentence("it is waited for")
    return Sentence("these pods are deleted past it, as approved")


def _ways(block: Block) -> list[tuple[str, Sentence]]:
    """The answers that lift it, and each in words."""
    ways = []
    if not block.is_final:
        ways.append(("on_blocked", Sentence("wait (on_blocked: wait)")))
    if block.raising_helps:
        ways.append(("raise_owner", Sentence("one more copy for a while (raise_owner)")))
    deletion = Sentence("deletion, approved by somebody else (delete_blocked)")
    return [*ways, ("delete_blocked", deletion)]


def ways_out(block: Block) -> Sentence:
    ways = [way for _answer, way in _ways(block)]
    choices = ways[0]
    for way in ways[1:]:
        choices = Sentence("%(first)s or %(second)s", first=choices, second=way)
    if len(block.budgets) > 1:
        return Sentence("leave one budget for the pod, or retry with %(choices)s", choices=choices)
    return Sentence("change the budget, or retry with %(choices)s", choices=choices)


# --- the node among others ------------------------------------------------------------------------


def _share(share: Share) -> Check:
    is_large = share.leaving >= share.total * LARGE_SHARE
    return check(
        f"share:{share.label.replace(' ', ':', 1)}",
        not is_large,
        Sentence(
            "%(leaving)s of %(total)s nodes would be gone",
            leaving=share.leaving,
            total=share.total,
        ),
        Sentence("less than half of a zone or pool at once"),
        Sentence("make sure that the rest carries the load, or take fewer machines at once"),
        "warning",
    )


def _long_graces(fates: Iterable[Fate]) -> list[Check]:
    long = [fate for fate in fates if fate.pod.grace_seconds > LONG_GRACE_SECONDS]
    if not long:
        return []
    texts = [f"{fate.pod.key} ({fate.pod.grace_seconds} s)" for fate in long]
    return [
        check(
            "long-grace",
            False,
            Sentence("may take their time to end: %(pods)s", pods=listed(texts)),
            Sentence("pods end within %(seconds)s s", seconds=LONG_GRACE_SECONDS),
            Sentence("give the operation enough limit_minutes"),
            "warning",
        )
    ]
