"""preCheck: the pods as for ScaleDown; whether the cluster can do without this control plane."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from beidou.base.errors import ExternalError
from beidou.base.sentences import Sentence
from clusters.drivers.answers import KubeadmConfig
from clusters.drivers.objects import NodeInfo
from clusters.services.connections import client_for
from operations.kinds import joining
from operations.kinds.base import Check, StepRun, check
from operations.kinds.control_planes import alone, endpoint, etcd, keeper, setup
from operations.kinds.draining.checks import pod_checks
from operations.kinds.scale_down import pre_check as scale_down
from operations.kinds.scale_down.settling import node_name, settle
from operations.models import OperationMachine


@dataclass
class Found:
    pods: scale_down.Found
    checks: dict[int, list[Check]] = field(default_factory=dict)
    """By key of the member."""


def pre_check(run: StepRun) -> Found:
    alone.require(run)
    found = Found(scale_down.pre_check(run))
    with client_for(run.cluster, timeout=15) as client:
        kubeadm = client.kubeadm_config()
    for target in run.targets:
        run.stop_if_asked()
        found.checks[target.pk] = _checks(run, target, kubeadm, found.pods.situation.nodes)
    return found


def _checks(
    run: StepRun, target: OperationMachine, kubeadm: KubeadmConfig, nodes: Sequence[NodeInfo]
) -> list[Check]:
    name = node_name(target)
    node = next((each for each in nodes if each.name == name), None)
    own = {target.address, *(joining.reported(node) if node else ())}
    place = setup.endpoint_of(kubeadm)
    stacked = setup.stacked_check(kubeadm)
    return [
        stacked,
        others_check(name, nodes),
        *endpoint.leaving_checks(place[0] if place else "", run.cluster.server, name, own),
        *([etcd_check(run, target)] if stacked["ok"] else []),
    ]


def others_check(name: str, nodes: Sequence[NodeInfo]) -> Check:
    others = [each for each in nodes if keeper.ROLE in each.roles and each.name != name]
    ready = sum(each.is_ready is True for each in others)
    return check(
        "other-control-planes",
        ready > 0,
        Sentence("%(ready)s of %(all)s others Ready", ready=ready, all=len(others)),
        Sentence("another control plane that is Ready"),
        Sentence("add or mend one first; DeleteCluster takes a whole cluster down"),
    )


def etcd_check(run: StepRun, target: OperationMachine) -> Check:
    wanted = Sentence("more than half of the members that remain healthy")
    try:
        found = etcd.look(run, leaving=node_name(target), address=target.address)
    except ExternalError as error:
        return check(
            "etcd-quorum", False, error.message, wanted,
            Sentence("see why it does not answer; without a majority of its members etcd must be "
                     "restored from a snapshot first"),
        )  # fmt: skip
    if found.why_it_stays:
        return check(
            "etcd-quorum", False, found.why_it_stays, wanted,
            Sentence("mend the members that are not healthy, or take those out first, then retry"),
        )  # fmt: skip
    left = found.without([node_name(target)]).voters
    sick = [name for name in found.sick if name != node_name(target)]
    return check(
        "etcd-quorum",
        left % 2 == 1 and not sick,
        Sentence(
            "%(left)s members afterwards; not healthy: %(sick)s",
            left=left,
            sick=", ".join(sick) or "–",
        ),
        Sentence("an odd number of members, all of them healthy"),
        Sentence("add another control plane soon: until then no other one may be lost"),
        "warning",
    )


def confirm(run: StepRun, found: Found) -> None:
    for target in list(run.targets):
        run.stop_if_asked()
        name = node_name(target)
        plan = found.pods.plans.get(name)
        checks = [
            scale_down.host_check(run, found.pods.reasons.get(target.pk, "")),
            *found.checks[target.pk],
        ]
        if plan is None:
            # It joined half way, or its node was deleted: what there is of it is taken away.
            settle(run, target, checks, {"node": name}, Sentence("it is no node"))
            continue
        scale_down.say_fates(run, target, plan)
        checks += [*pod_checks(plan, run.params), *scale_down.ask_first(run, plan)]
        settle(
            run, target, checks, scale_down.evidence_for(found.pods, plan),
            scale_down.will_move(plan),
        )  # fmt: skip
