"""preCheck: what will happen to each pod, and what has to be decided first."""

from dataclasses import dataclass
from typing import Any

from beidou.base.sentences import Sentence
from clusters.services.connections import client_for
from operations.kinds.base import Check, StepRun, asking, check
from operations.kinds.draining import reading
from operations.kinds.draining.checks import make_checks
from operations.kinds.draining.plan import NodePlan, Situation, make_plan, owners_of
from operations.kinds.scale_down.settling import node_name, settle, why_not_reached
from operations.models import OperationMachine


@dataclass
class Found:
    """What preCheck read: plans by node, and why hosts could not be reached."""

    situation: Situation
    plans: dict[str, NodePlan]
    reasons: dict[int, str]


def pre_check(run: StepRun) -> Found:
    names = [node_name(target) for target in run.targets]
    reasons = why_not_reached(run)
    run.stop_if_asked()
    with client_for(run.cluster, timeout=30) as client:
        situation = reading.situation(run, client)
    # Those of later batches are no room for these, and their zone loses them as well.
    return Found(situation, make_plan(situation, [*names, *_to_come(run)]), reasons)


def _to_come(run: StepRun) -> list[str]:
    """Nodes that the task takes out in other batches."""
    nodes = run.operation.to_come.exclude(node=None).order_by("node__name")
    names = [str(name) for name in nodes.values_list("node__name", flat=True)]
    if names:
        run.say(f"Other batches of the task take out, too: {', '.join(names)}.")
    return names


def confirm(run: StepRun, found: Found) -> None:
    for target in list(run.targets):
        run.stop_if_asked()
        name = node_name(target)
        plan = found.plans.get(name)
        host = host_check(run, found.reasons.get(target.pk, ""))
        if plan is None:
            run.fail(
                target,
                Sentence("There is no node %(node)s in the cluster.", node=name),
                checks=[host],
            )
            continue
        say_fates(run, target, plan)
        checks = [host, *make_checks(plan, run.params), *ask_first(run, plan)]
        settle(run, target, checks, evidence_for(found, plan), will_move(plan))


def say_fates(run: StepRun, target: OperationMachine, plan: NodePlan) -> None:
    """Of each pod what will happen to it."""
    for fate in plan.fates:
        owner = f" ({fate.owner})" if fate.owner else ""
        run.say(f"{fate.pod.key}{owner}: {fate.what}", target=target)


def ask_first(run: StepRun, plan: NodePlan) -> list[Check]:
    """Whether somebody wants to look before anything is changed."""
    return [_unseen(plan)] if run.params.ask_first else []


def evidence_for(found: Found, plan: NodePlan) -> dict[str, Any]:
    """What later steps go by."""
    return {
        "node": plan.node.name,
        "uid": plan.node.uid,
        "moves": len(plan.evicted),
        "pods": [fate.as_dict() for fate in plan.fates],
        "owners": dict(owners_of(found.situation, plan)),
    }


def will_move(plan: NodePlan) -> Sentence:
    return Sentence("%(count)s pods will move", count=len(plan.evicted))


def _unseen(plan: NodePlan) -> Check:
    moving = len(plan.evicted)
    unseen = check(
        "plan",
        False,
        Sentence(
            "%(moving)s pods will move, %(staying)s stay until the node is gone",
            moving=moving,
            staying=len(plan.fates) - moving,
        ),
        Sentence("somebody who has looked at the plan"),
        Sentence("see under Evidence what will happen to each pod, then retry with ask_first off"),
    )
    return asking(unseen, "ask_first")


def host_check(run: StepRun, reason: str) -> Check:
    is_forced = run.params.force_unreachable
    return check(
        "host",
        not reason,
        reason or Sentence("reached over SSH"),
        Sentence("reached over SSH, so that it can be reset"),
        Sentence("goes on, because force_unreachable was chosen: the host is not reset")
        if is_forced
        else Sentence("mend the connection; or, if the host is lost, retry with force_unreachable"),
        "warning" if is_forced else "error",
    )
