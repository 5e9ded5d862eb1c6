"""ScaleDown: take machines out of a cluster without losing what runs there.

preCheck    reads the cluster and changes nothing: each pod and what will happen to it.  What has to
            be decided first fails the machine here, and a retry may bring the answer.
drain       cordons and evicts, honours budgets, waits for replacements.
scaleDown   resets the host with the role that CleanUp uses, then deletes the Node object.
postCheck   nothing is left on the host, the node is gone, the workloads are whole again.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from pydantic import BaseModel, ConfigDict, Field

from beidou.base.errors import ExternalError
from beidou.base.sentences import Sentence
from clusters.drivers import errors as kube_errors
from clusters.drivers.kubernetes import KubernetesClient
from clusters.drivers.workloads import WORKLOAD_KINDS
from clusters.models import Cluster, Node
from clusters.services import capabilities
from clusters.services.connections import client_for
from machines.models import Machine
from operations.kinds import hosts, lifecycle, playbook, reaching, sight
from operations.kinds.base import Blocker, Kind, StepKind, StepRun, check, register
from operations.kinds.clean_up import reset_variables
from operations.kinds.draining.checks import make_checks
from operations.kinds.draining.drainer import Drainer, Leaving
from operations.kinds.draining.owners import Owners
from operations.kinds.draining.plan import (
    CONTROL_PLANE,
    NodePlan,
    Situation,
    make_plan,
    owners_of,
)
from operations.kinds.draining.raising import put_back
from operations.kinds.names import name_of
from operations.kinds.playbook import PlaybookResults
from operations.kinds.scale_up import describe, in_short
from operations.models import ClusterSettings, MachineStep, Operation, OperationMachine

State = Machine.State
LIMIT_MINUTES = 220  # a step may last four hours
WHOLE_SECONDS = 300


class ScaleDownParams(BaseModel):
    """Answers to what would stop it, and limits of the drain."""

    model_config = ConfigDict(extra="forbid")

    delete_bare_pods: bool = False
    delete_local_data: bool = False
    allow_single_copy: bool = False
    allow_pending: bool = False
    on_blocked: Literal["stop", "wait"] = "stop"
    raise_owner: bool = False
    delete_blocked: bool = Field(
        default=False, description="Only on a retry, by somebody else with the right to approve."
    )
    force_delete: bool = False
    force_unreachable: bool = False
    pods_at_once: int = Field(default=30, ge=1, le=200)
    limit_minutes: int = Field(default=30, ge=1, le=LIMIT_MINUTES)


ANSWERS = frozenset(ScaleDownParams.model_fields)
APPROVALS = frozenset({"delete_blocked"})


# --- planning --------------------------------------------------------------------------------


def blockers(
    cluster: Cluster, machines: Sequence[Machine], params: ScaleDownParams
) -> list[Blocker]:
    """What is known to be in the way before anything is contacted."""
    found = _whole_blockers(cluster)
    if params.delete_blocked:
        reason = gettext(
            "delete_blocked is approved by somebody else, with a retry, "
            "once it is known which pods a budget blocks"
        )
        found.append(Blocker(None, reason))
    settings = hosts.settings_of(cluster.pk)
    nodes = Node.objects.in_bulk([machine.node_id for machine in machines if machine.node_id])
    for machine in machines:
        if reason := _why_no_worker(machine, nodes.get(machine.node_id or 0), cluster):
            found.append(Blocker(machine, reason))
        found += _unreachable(machine, settings, params)
    return found


def retry_blockers(
    cluster: Cluster, machines: Sequence[Machine], params: ScaleDownParams
) -> list[Blocker]:
    """The node may be gone by now, and which pods a budget blocks is known."""
    settings = hosts.settings_of(cluster.pk)
    return [
        *_whole_blockers(cluster),
        *(blocker for machine in machines for blocker in _unreachable(machine, settings, params)),
    ]


def _why_no_worker(machine: Machine, node: Node | None, cluster: Cluster) -> str:
    if machine.cluster_id != cluster.pk:
        return gettext("it is not in this cluster")
    if node is None:
        return gettext("no node of the cluster is linked to it")
    if any(role in CONTROL_PLANE for role in node.roles):
        return gettext("it is a control plane; only workers can be scaled down")
    return ""


def _unreachable(
    machine: Machine, settings: ClusterSettings | None, params: ScaleDownParams
) -> list[Blocker]:
    if params.force_unreachable:
        return []
    return [Blocker(machine, reason) for reason in hosts.why_unreachable(machine, settings)]


def _whole_blockers(cluster: Cluster) -> list[Blocker]:
    reasons = []
    if cluster.health == Cluster.Health.UNREACHABLE:
        reasons.append(
            gettext("the cluster is unreachable: %(reason)s") % {"reason": cluster.health_reason}
        )
    for row in cluster.capabilities:
        if row.get("key") == "scale_down" and not row.get("ok"):
            reasons.append(
                gettext("our credential does not suffice: %(why)s") % {"why": capabilities.why(row)}
            )
    return [Blocker(None, reason) for reason in reasons]


# --- what steps share ------------------------------------------------------------------------


def _evidence(target: OperationMachine, step: str) -> Mapping[str, Any]:
    """What an earlier step of this machine found; empty when it was skipped."""
    cell = MachineStep.objects.filter(machine=target, step__name=step).first()
    return cell.evidence if cell else {}


def _node_name(target: OperationMachine) -> str:
    """As preCheck found it: the machine's own link goes with the Node object."""
    if name := _evidence(target, "preCheck").get("node"):
        return str(name)
    if target.machine is not None and target.machine.node is not None:
        return target.machine.node.name
    return (target.hostname or target.address).lower()


def _owners_before(target: OperationMachine) -> dict[str, int]:
    owners = _evidence(target, "preCheck").get("owners", {})
    return {key: int(counts["ready"]) for key, counts in owners.items()}


def _why_not_reached(run: StepRun) -> dict[int, str]:
    """Key of the member → why we could not sign in; empty when we could."""
    return {key: reaching.why(checks) for key, checks in reaching.look(run, run.targets).items()}


# --- preCheck --------------------------------------------------------------------------------


@dataclass
class Found:
    """What preCheck read: plans by node, and why hosts could not be reached."""

    situation: Situation
    plans: dict[str, NodePlan]
    reasons: dict[int, str]


def pre_check(run: StepRun) -> Found:
    names = [_node_name(target) for target in run.targets]
    reasons = _why_not_reached(run)
    run.stop_if_asked()
    with client_for(run.cluster, timeout=30) as client:
        situation = _read_situation(run, client)
    return Found(situation, make_plan(situation, names), reasons)


def _read_situation(run: StepRun, client: KubernetesClient) -> Situation:
    workloads = client.workloads
    pods = []
    for pod in workloads.pods():
        run.stop_if_asked()
        pods.append(pod)
    try:
        volumes = workloads.volumes()
    except kube_errors.Forbidden as error:
        volumes = []
        run.say(f"Volumes are not looked at. {error.message}", level="warning")
    return Situation(
        nodes=client.list_nodes(),
        pods=pods,
        workloads=[item for kind in WORKLOAD_KINDS for item in workloads.all(kind)],
        budgets=workloads.budgets(),
        volumes=volumes,
    )


def confirm_pre_check(run: StepRun, found: Found) -> None:
    for target in list(run.targets):
        run.stop_if_asked()
        name = _node_name(target)
        plan = found.plans.get(name)
        host = _host_check(run, found.reasons.get(target.pk, ""))
        if plan is None:
            run.fail(
                target,
                Sentence("There is no node %(node)s in the cluster.", node=name),
                checks=[host],
            )
            continue
        for fate in plan.fates:
            owner = f" ({fate.owner})" if fate.owner else ""
            run.say(f"{fate.pod.key}{owner}: {fate.what}", target=target)
        checks = [host, *make_checks(plan, run.params)]
        evidence = {
            "node": name,
            "uid": plan.node.uid,
            "moves": len(plan.evicted),
            "pods": [fate.as_dict() for fate in plan.fates],
            "owners": dict(owners_of(found.situation, plan)),
        }
        moving = Sentence("%(count)s pods will move", count=len(plan.evicted))
        _settle(run, target, checks, evidence, moving)


def _host_check(run: StepRun, reason: str) -> dict[str, Any]:
    is_forced = run.params.force_unreachable
    return check(
        "host",
        not reason,
        reason or "reached over SSH",
        "reached over SSH, so that it can be reset",
        "goes on, because force_unreachable was chosen: the host is not reset"
        if is_forced
        else "mend the connection; or, if the host is lost, retry with force_unreachable",
        "warning" if is_forced else "error",
    )


def _settle(
    run: StepRun,
    target: OperationMachine,
    checks: Sequence[Mapping[str, Any]],
    evidence: Mapping[str, Any],
    message: str,
) -> None:
    """Through unless a check that is no warning failed; the first is the message."""
    bad = [item for item in checks if not item["ok"] and item.get("severity") != "warning"]
    for item in bad:
        run.say(describe(dict(item)), target=target, level="error")
    if bad:
        run.fail(target, in_short(bad), checks=checks, evidence=evidence)
        return
    warnings = sum(not item["ok"] for item in checks)
    said = Sentence("%(message)s; %(count)s warnings", message=message, count=warnings)
    run.succeed(target, message=said, checks=checks, evidence=evidence)


# --- drain -----------------------------------------------------------------------------------


def drain(run: StepRun) -> list[Leaving]:
    leaving = [
        Leaving(
            target,
            _node_name(target),
            total=int(_evidence(target, "preCheck").get("moves", 0)),
            before=_owners_before(target),
        )
        for target in run.targets
    ]
    _move(run, run.targets, State.DRAINING)
    # A cancel must be seen within seconds, also while the API server hangs.
    with client_for(run.cluster, timeout=5) as client:
        Drainer(run, client, leaving).drain()
        _put_back(run, client)
    return leaving


def _put_back(run: StepRun, client: KubernetesClient) -> None:
    if run.params.raise_owner:
        put_back(client.workloads, operation=name_of(run.operation), say=run.say)


def after_drain(run: StepRun) -> None:
    """After a cancel or a failure of the whole step: what stays as it is, and what does not."""
    for target in run.targets:
        run.say(
            f"Node {_node_name(target)} stays cordoned; pods that have moved stay where they are.",
            target=target,
            level="warning",
        )
    try:
        with client_for(run.cluster, timeout=5) as client:
            _put_back(run, client)
    except ExternalError as error:
        run.say(f"Additional copies were not taken away: {error.message}", level="warning")


def confirm_drain(run: StepRun, leaving: Sequence[Leaving]) -> None:
    """Empty means: cordoned, and nothing there but what stays until the node is gone."""
    by_target = {each.target.pk: each for each in leaving}
    with client_for(run.cluster, timeout=15) as client:
        for target in list(run.targets):
            run.stop_if_asked()
            each = by_target[target.pk]
            try:
                node = client.get_node(each.node)
            except kube_errors.NotFound:
                run.succeed(target, message=Sentence("the node is gone"), evidence=each.evidence)
                continue
            except ExternalError as error:
                run.fail(target, error.message)
                continue
            if not node.unschedulable:
                run.fail(
                    target, Sentence("Somebody uncordoned node %(node)s meanwhile.", node=each.node)
                )
            else:
                moved = Sentence("%(count)s pods have moved", count=each.total)
                run.succeed(target, message=moved, evidence=each.evidence)


# --- scaleDown -------------------------------------------------------------------------------


@dataclass
class Reset:
    results: PlaybookResults
    unreached: dict[int, str]


def scale_down(run: StepRun) -> Reset:
    reasons = _why_not_reached(run)
    unreached = {key: reason for key, reason in reasons.items() if reason}
    for target in list(run.targets):
        if target.pk in unreached and not run.params.force_unreachable:
            why = unreached[target.pk].rstrip(".")
            run.fail(
                target,
                Sentence(
                    "The host was not reached: %(why)s. Mend the connection; or, if the host is "
                    "lost, retry with force_unreachable.",
                    why=why,
                ),
            )
    _move(run, run.targets, State.LEAVING)
    reached = [target for target in run.targets if target.pk not in unreached]
    with client_for(run.cluster, timeout=15) as client:
        variables = reset_variables(run, client) if reached else {}
        results = playbook.run_playbook(
            run,
            "clean_up",
            variables=variables,
            per_machine={target.pk: {"node_name": _node_name(target)} for target in reached},
            members=reached,
        )
        # The host first: a kubelet that still ran would register its node again.
        for target in list(run.targets):
            run.stop_if_asked()
            if target.pk not in results.failed:
                _delete_node(run, client, target)
    return Reset(results, unreached)


def _delete_node(run: StepRun, client: KubernetesClient, target: OperationMachine) -> None:
    name = _node_name(target)
    try:
        node = client.get_node(name)
        uid = _evidence(target, "preCheck").get("uid")
        is_own = node.uid == uid or target.address in [text for _kind, text in node.addresses]
        if not is_own:
            run.fail(
                target,
                Sentence("Node %(node)s is another machine by now; it is left alone.", node=name),
            )
            return
        client.delete_node(name)
        run.say(f"Node {name} was deleted.", target=target)
    except kube_errors.NotFound:
        return
    except ExternalError as error:
        run.fail(target, error.message)


def confirm_scale_down(run: StepRun, reset: Reset) -> None:
    with client_for(run.cluster, timeout=15) as client:
        for target in list(run.targets):
            run.stop_if_asked()
            name = _node_name(target)
            checks = reset.results.checks(target)
            if target.pk in reset.results.failed:
                run.fail(target, reset.results.failed[target.pk], checks=checks)
            elif (why := _why_node_is_there(client, name)) is not None:
                run.fail(target, why, checks=checks)
            elif target.pk in reset.unreached:
                run.succeed(
                    target,
                    message=Sentence("node %(node)s deleted; the host was not reset", node=name),
                    evidence={"node": name, "unreached": reset.unreached[target.pk]},
                )
            else:
                run.succeed(
                    target,
                    message=Sentence("reset, node %(node)s deleted", node=name),
                    checks=checks,
                    evidence={"node": name, "done": reset.results.find(target, "done") or []},
                )


def _why_node_is_there(client: KubernetesClient, name: str) -> str | None:
    try:
        client.get_node(name)
    except kube_errors.NotFound:
        return None
    except ExternalError as error:
        return error.message
    return Sentence("Node %(node)s is still in the cluster.", node=name)


# --- postCheck -------------------------------------------------------------------------------


def post_check(run: StepRun) -> Reset:
    _move(run, run.targets, State.LEAVING)
    unreached = {
        target.pk: str(reason)
        for target in run.targets
        if (reason := _evidence(target, "scaleDown").get("unreached"))
    }
    reached = [target for target in run.targets if target.pk not in unreached]
    results = playbook.run_playbook(run, "leftovers", variables={}, members=reached)
    return Reset(results, unreached)


def confirm_post_check(run: StepRun, reset: Reset) -> None:
    for target in list(run.targets):
        if target.pk in reset.results.failed:
            run.fail(target, reset.results.failed[target.pk], checks=reset.results.checks(target))
    before = {target.pk: _owners_before(target) for target in run.targets}
    with client_for(run.cluster, timeout=15) as client:
        missing = _wait_until_whole(run, client, before.values())
        for target in list(run.targets):
            run.stop_if_asked()
            name = _node_name(target)
            why = _why_node_is_there(client, name)
            checks = [
                *(reset.results.find(target, "checks") or _no_host_checks(reset, target)),
                check(
                    "node",
                    why is None,
                    why or "gone",
                    f"no node {name} in the cluster",
                    "see what registers it again, then retry",
                ),
                *_workload_checks(before[target.pk], missing),
            ]
            evidence = {"node": name, "workloads": sorted(before[target.pk])}
            _settle(run, target, checks, evidence, Sentence("the cluster is whole without it"))


def _no_host_checks(reset: Reset, target: OperationMachine) -> list[dict[str, Any]]:
    reason = reset.unreached.get(target.pk, "")
    return [
        check(
            "leftovers",
            False,
            f"not looked at: {reason}" if reason else "the checks gave no result",
            "nothing left on the host",
            "clean the machine up when it is back",
            "warning" if reason else "error",
        )
    ]


def _wait_until_whole(
    run: StepRun, client: KubernetesClient, before: Iterable[Mapping[str, int]]
) -> dict[str, str]:
    """Workload → what it lacks, after as long as pods may need to start."""
    wanted = {key: count for counts in before for key, count in counts.items()}
    owners = Owners(client.workloads, wanted, allow_pending=run.params.allow_pending)
    owners.expect_all(wanted)
    deadline = time.monotonic() + WHOLE_SECONDS
    while True:
        run.stop_if_asked()
        owners.look()
        if not owners.awaited or time.monotonic() > deadline:
            break
        for target in run.targets:
            names = ", ".join(sorted(owners.awaited))[:300]
            run.note(target, Sentence("waiting for %(names)s", names=names))
        time.sleep(1)
    return {
        key: f"{awaited.ready} of {awaited.target} ready {awaited.nowhere}".strip()
        for key, awaited in owners.awaited.items()
    }


def _workload_checks(before: Mapping[str, int], missing: Mapping[str, str]) -> list[dict[str, Any]]:
    lacking = [f"{key}: {missing[key]}" for key in sorted(before) if key in missing]
    return [
        check(
            "workloads",
            not lacking,
            "; ".join(lacking) or f"{len(before)} whole",
            "as many ready copies as before",
            "see why their pods are not ready, then retry",
        )
    ]


# --- the machines' lives ---------------------------------------------------------------------


def _move(run: StepRun, targets: Sequence[OperationMachine], to: str) -> None:
    """To *Draining* or *Leaving*, by the states between; also said again by a retry."""
    for target in targets:
        machine = target.machine
        if machine is None:
            continue
        machine.refresh_from_db(fields=["state"])
        reason = Sentence(
            "%(operation)s: %(step)s", operation=run.operation.name, step=run.step_name
        )
        if to == State.LEAVING and machine.state in (State.IN_SERVICE, State.CORDONED):
            lifecycle.move(machine, State.DRAINING, operation=run.operation, reason=reason)
        lifecycle.move(machine, to, operation=run.operation, reason=reason)


def reserve(operation: Operation, machine: Machine) -> None:
    """The machine stays what it is until it is drained; one that failed half way is a node
    again."""
    if machine.state == State.FAULTY:
        lifecycle.move(
            machine,
            State.CORDONED,
            operation=operation,
            reason=Sentence("%(operation)s goes on", operation=operation.name),
        )


def release(member: OperationMachine, reached: str | None) -> None:
    """Free, still a node, or faulty half way."""
    machine, operation = member.machine, member.operation
    if machine is None:
        return
    machine.refresh_from_db(fields=["state"])
    if member.state == OperationMachine.State.SUCCEEDED:
        _release_gone(machine, member)
    elif machine.state == State.DRAINING:
        lifecycle.move(
            machine, State.CORDONED, operation=operation,
            reason=Sentence(
                "%(operation)s left it cordoned: %(message)s",
                operation=operation.name, message=member.message,
            ),
        )  # fmt: skip
    elif machine.state == State.LEAVING or reached in ("scaleDown", "postCheck"):
        lifecycle.move(
            machine, State.FAULTY, operation=operation,
            reason=Sentence(
                "%(operation)s got as far as %(step)s: %(message)s",
                operation=operation.name, step=reached or "", message=member.message,
            ),
        )  # fmt: skip


def _release_gone(machine: Machine, member: OperationMachine) -> None:
    operation = member.operation
    unreached = _evidence(member, "scaleDown").get("unreached")
    if unreached:
        lifecycle.move(
            machine, State.FAULTY, operation=operation, node=None,
            reason=Sentence(
                "%(operation)s deleted its node without reaching it (%(why)s); "
                "what it was as a node is still on it: clean it up when it is back",
                operation=operation.name, why=unreached,
            ),
        )  # fmt: skip
        lifecycle.remember_residue(machine, operation=operation)
        return
    if machine.state != State.LEAVING:  # scaleDown and postCheck were skipped
        lifecycle.move(
            machine, State.FAULTY, operation=operation,
            reason=Sentence(
                "%(operation)s ended, but did not see it leave", operation=operation.name
            ),
        )  # fmt: skip
        return
    lifecycle.move(
        machine, State.AVAILABLE, operation=operation,
        reason=Sentence("%(operation)s took it out of the cluster", operation=operation.name),
        cluster=None, node=None,
    )  # fmt: skip
    lifecycle.forget_residue(machine)


SCALE_DOWN = register(
    Kind(
        name="ScaleDown",
        title=_("Scale down"),
        description=_("Take machines out of the cluster without losing what runs there."),
        icon="do_not_disturb_on",
        params=ScaleDownParams,
        answers=ANSWERS,
        approvals=APPROVALS,
        startable_states=frozenset({State.IN_SERVICE, State.CORDONED}),
        fresh_states=frozenset({State.IN_SERVICE}),  # it takes pods again, so it is drained again
        blockers=blockers,
        notices=sight.lost_outside,
        retry_blockers=retry_blockers,
        reserve=reserve,
        release=release,
        steps=(
            StepKind(
                name="preCheck",
                title=_("See what will happen to each pod"),
                act=pre_check,
                confirm=confirm_pre_check,
                timeout_seconds=300,
                seconds_per_round=60,
            ),
            StepKind(
                name="drain",
                title=_("Move the pods away"),
                act=drain,
                confirm=confirm_drain,
                timeout_seconds=(LIMIT_MINUTES + 10) * 60,
                cleanup=after_drain,
            ),
            StepKind(
                name="scaleDown",
                title=_("Reset the machines, delete the nodes"),
                act=scale_down,
                confirm=confirm_scale_down,
                timeout_seconds=600,
                seconds_per_round=300,
                touches=True,
                cleanup=playbook.stop_units,
            ),
            StepKind(
                name="postCheck",
                title=_("Prove that nothing is left"),
                act=post_check,
                confirm=confirm_post_check,
                timeout_seconds=WHOLE_SECONDS + 300,
                seconds_per_round=120,
            ),
        ),
    )
)
