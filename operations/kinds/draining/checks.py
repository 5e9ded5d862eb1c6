"""A plan as checks: found, wanted, what to do.  An answered problem is a warning, not a block."""

from collections import defaultdict
from collections.abc import Iterable

from operations.kinds.base import Check, check
from operations.kinds.draining.budgets import listed
from operations.kinds.draining.plan import Answers, Code, Fate, NodePlan, Problem, Share

LARGE_SHARE = 0.5
LONG_GRACE_SECONDS = 600

_WANTED = {
    Code.BARE: "every pod has a controller that makes it anew",
    Code.LOCAL_DATA: "no pod keeps data on the node",
    Code.ONLY_COPY: "another ready copy of each",
    Code.NO_ROOM: "room on another node for each pod that moves",
}
_ADVICE = {
    Code.BARE: "copy what is needed, then retry with delete_bare_pods",
    Code.LOCAL_DATA: "save what is needed, then retry with delete_local_data",
    Code.ONLY_COPY: "give each a second copy, or retry with allow_single_copy: they are away "
    "until the new one is ready",
    Code.NO_ROOM: "make room, or retry with allow_pending: these pods wait until there is some",
}
_ANSWER = {
    Code.BARE: "delete_bare_pods",
    Code.LOCAL_DATA: "delete_local_data",
    Code.ONLY_COPY: "allow_single_copy",
    Code.NO_ROOM: "allow_pending",
}


def make_checks(plan: NodePlan, answers: Answers) -> list[Check]:
    checks = [_control_plane(plan.control_plane)]
    for code in (Code.BARE, Code.LOCAL_DATA, Code.ONLY_COPY, Code.NO_ROOM):
        checks.append(_problems(code, plan.problems(code), answers))
    checks += _budgets(plan.problems(Code.BUDGET), answers)
    checks += [_share(share) for share in plan.shares]
    checks += _long_graces(plan.evicted)
    return checks


def _control_plane(why: str) -> Check:
    return check(
        "control-plane",
        not why,
        f"a control plane: {why}" if why else "a worker",
        "a worker",
        "ScaleDown takes workers only: without this node etcd could lose its quorum",
    )


def _problems(code: Code, found: list[tuple[Fate, Problem]], answers: Answers) -> Check:
    if not found:
        return check(code, True, "none", _WANTED[code])
    is_answered = all(problem.is_answered(answers) for _fate, problem in found)
    texts = [f"{fate.pod.key} ({problem.text})" for fate, problem in found]
    return check(
        code,
        False,
        f"{len(found)}: {listed(texts)}",
        _WANTED[code],
        f"goes on, because {_ANSWER[code]} was chosen" if is_answered else _ADVICE[code],
        "warning" if is_answered else "error",
    )


def _budgets(found: list[tuple[Fate, Problem]], answers: Answers) -> list[Check]:
    wanted = "a budget that lets every pod go, one after the other"
    if not found:
        return [check(Code.BUDGET, True, "none blocks", wanted)]
    groups: dict[str, list[tuple[Fate, Problem]]] = defaultdict(list)
    for fate, problem in found:
        groups[problem.text].append((fate, problem))
    checks = []
    for reason, rows in groups.items():
        problem = rows[0][1]
        assert problem.block is not None  # noqa: S101  every budget problem has one
        pods = [fate.pod.key for fate, _problem in rows]
        is_answered = problem.is_answered(answers)
        checks.append(
            check(
                f"budget:{' '.join(problem.block.budgets)}",
                False,
                f"{reason}; it keeps {listed(pods)}",
                wanted,
                f"goes on: {_chosen(problem, answers)}" if is_answered else ways_out(problem),
                "warning" if is_answered else "error",
            )
        )
    return checks


def _chosen(problem: Problem, answers: Answers) -> str:
    block = problem.block
    if answers.raise_owner and block is not None and block.raising_helps:
        return "its owner gets one more copy for a while"
    if answers.on_blocked == "wait" and block is not None and not block.is_final:
        return "it is waited for"
    return "these pods are deleted past it, as approved"


def ways_out(problem: Problem) -> str:
    block = problem.block
    ways = []
    if block is None or not block.is_final:
        ways.append("wait (on_blocked: wait)")
    if block is None or block.raising_helps:
        ways.append("one more copy for a while (raise_owner)")
    ways.append("deletion, approved by somebody else (delete_blocked)")
    start = "change the budget, or retry with"
    if block is not None and len(block.budgets) > 1:
        start = "leave one budget for the pod, or retry with"
    return f"{start} {' or '.join(ways)}"


def _share(share: Share) -> Check:
    is_large = share.leaving >= share.total * LARGE_SHARE
    return check(
        f"share:{share.label.replace(' ', ':', 1)}",
        not is_large,
        f"{share.leaving} of {share.total} nodes would be gone",
        "less than half of a zone or pool at once",
        "make sure that the rest carries the load, or take fewer machines at once",
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
            f"may take their time to end: {listed(texts)}",
            f"pods end within {LONG_GRACE_SECONDS} s",
            "give the operation enough limit_minutes",
            "warning",
        )
    ]
