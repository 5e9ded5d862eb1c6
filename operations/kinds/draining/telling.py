"""What a drain says of a node: how far it is, what it waits for, and why it cannot go on."""

from collections.abc import Iterator, Sequence

from beidou.base.sentences import Sentence, joined
from operations.kinds.base import Check, check
from operations.kinds.draining.budgets import Block, listed
from operations.kinds.draining.checks import block_check
from operations.kinds.draining.leaving import Drain, Leaving


def report(drain: Drain, each: Leaving) -> None:
    """Note how far the node is, whenever that has changed."""
    text = state(drain, each)
    if text != each.said:
        each.said = text
        drain.run.note(each.target, text)


def state(drain: Drain, each: Leaving) -> str:
    return joined(_parts(drain, each), "; ")


def _parts(drain: Drain, each: Leaving) -> Iterator[str]:
    yield Sentence("%(gone)s of %(total)s moved", gone=each.gone, total=each.total)
    if ending := sum(pod.is_ending for pod in each.left.values()):
        yield Sentence("%(count)s ending", count=ending)
    if budgets := sorted({name for block in each.blocked.values() for name in block.budgets}):
        yield Sentence(
            "waiting for budget %(budgets)s (%(allowed)s allowed)",
            budgets=listed(budgets, 3),
            allowed=_allowed(drain, budgets),
        )
    if each.refused:
        yield Sentence(
            "the cluster does not evict %(count)s now: %(why)s",
            count=len(each.refused),
            why=next(iter(each.refused.values()))[:200],
        )
    for key in drain.awaited_by(each)[:3]:
        awaited = drain.owners.awaited[key]
        yield Sentence(
            "waiting for %(missing)s of %(owner)s to be ready", missing=awaited.missing, owner=key
        )
        if awaited.nowhere:
            yield awaited.nowhere[:200]
    if overdue := drain.overdue(each):
        yield Sentence(
            "%(pods)s should have ended by now", pods=listed([pod.key for pod in overdue], 3)
        )
    if not each.is_ready:
        yield Sentence("the node is not Ready")
    if drain.trouble:
        yield Sentence("the cluster does not answer")


def _allowed(drain: Drain, names: Sequence[str]) -> str:
    counts = [str(budget.allowed) for budget in drain.budgets if budget.key in names]
    return ", ".join(counts) or Sentence("none")


# --- the end --------------------------------------------------------------------------------------


def fail(drain: Drain, each: Leaving, why: str) -> None:
    """Say which budget keeps which pods, what does not end, and what can be done."""
    rows = [*_block_checks(each), *_other_checks(drain, each)]
    said = state(drain, each)
    if drain.trouble:
        said = joined([said, drain.trouble], "; ")
    drain.run.fail(
        each.target,
        Sentence(
            "%(why)s: %(state)s. Node %(node)s stays cordoned. → %(advice)s",
            why=why,
            state=said,
            node=each.node,
            advice=rows[0]["advice"] if rows else Sentence("look at what is left, then retry"),
        ),
        checks=rows,
        evidence={"node": each.node, "left": [pod.key for pod in each.left.values()]},
    )
    each.is_over = True


def _block_checks(each: Leaving) -> list[Check]:
    pods: dict[str, list[str]] = {}
    blocks: dict[str, Block] = {}
    for uid, block in each.blocked.items():
        pods.setdefault(block.reason, []).append(each.left[uid].key)
        blocks[block.reason] = block
    return [block_check(block, pods[reason]) for reason, block in blocks.items()]


def _other_checks(drain: Drain, each: Leaving) -> Iterator[Check]:
    if each.refused:
        pods = [each.left[uid].key for uid in each.refused]
        yield check(
            "evictions",
            False,
            Sentence(
                "the cluster does not evict %(pods)s: %(why)s",
                pods=listed(pods),
                why=next(iter(each.refused.values())),
            ),
            Sentence("evictions that are accepted"),
            Sentence("see what refuses them (a webhook, an overloaded API server), then retry"),
        )
    if overdue := drain.overdue(each):
        yield check(
            "ending",
            False,
            Sentence("do not end: %(pods)s", pods=listed([pod.key for pod in overdue])),
            Sentence("pods that end within their grace period"),
            Sentence("look at the node's kubelet and their finalizers, or retry with force_delete"),
        )
    for key in drain.awaited_by(each):
        awaited = drain.owners.awaited[key]
        yield check(
            "replacements",
            False,
            Sentence("%(owner)s: %(lacking)s", owner=key, lacking=awaited.lacking),
            Sentence("%(count)s ready as before", count=awaited.target),
            Sentence("see why its new pods are not ready; retry waits longer"),
        )
    if not each.is_ready:
        yield check(
            "node-ready",
            False,
            Sentence("node %(node)s is not Ready, so its pods do not end", node=each.node),
            Sentence("a node that is Ready"),
            Sentence("mend the machine, or retry with force_unreachable"),
        )
