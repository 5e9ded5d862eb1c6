"""scaleDown: reset the hosts, then delete the Node objects."""

from dataclasses import dataclass
from typing import Any

from beidou.base.errors import ExternalError
from beidou.base.sentences import Sentence
from clusters.drivers import errors as kube_errors
from clusters.drivers.kubernetes import KubernetesClient
from clusters.services.connections import client_for
from machines.models import Machine
from operations.kinds import lifecycle, playbook
from operations.kinds.base import StepRun
from operations.kinds.clean_up import reset_variables
from operations.kinds.patience import patiently
from operations.kinds.playbook import PlaybookResults
from operations.kinds.scale_down.emptiness import is_own, not_its_own, require_empty
from operations.kinds.scale_down.machines import move
from operations.kinds.scale_down.settling import node_name, why_node_is_there, why_not_reached
from operations.models import OperationMachine


@dataclass
class Reset:
    results: PlaybookResults
    unreached: dict[int, str]


def take_out(run: StepRun, **more: Any) -> Reset:
    """``more`` is told to the role that resets."""
    reasons = why_not_reached(run)
    unreached = {key: reason for key, reason in reasons.items() if reason}
    for target in list(run.targets):
        if target.pk in unreached and not run.params.force_unreachable:
            run.fail(
                target,
                Sentence(
                    "The host was not reached. %(why)s → Mend the connection; or, if the host is "
                    "lost, retry with force_unreachable.",
                    why=unreached[target.pk],
                ),
            )
    with client_for(run.cluster, timeout=15) as client:
        require_empty(run, client, run.targets)
        move(run, run.targets, Machine.State.LEAVING)
        reached = [target for target in run.targets if target.pk not in unreached]
        variables = {**more, **reset_variables(run, client)} if reached else {}
        results = playbook.run_playbook(
            run,
            "clean_up",
            variables=variables,
            per_machine={target.pk: {"node_name": node_name(target)} for target in reached},
            members=reached,
        )
        # The host first: a kubelet that still ran would register its node again.
        for target in list(run.targets):
            run.stop_if_asked()
            if target.pk not in results.failed:
                _delete_node(run, client, target)
    return Reset(results, unreached)


def _delete_node(run: StepRun, client: KubernetesClient, target: OperationMachine) -> None:
    name = node_name(target)
    try:
        node = patiently(run, lambda: client.get_node(name))
        if not is_own(target, node):
            run.fail(target, not_its_own(name))
            return
        patiently(run, lambda: client.delete_node(name))
        run.say(f"Node {name} was deleted.", target=target)
    except kube_errors.NotFound:
        return
    except ExternalError as error:
        run.fail(target, error.message)


def confirm(run: StepRun, reset: Reset) -> None:
    with client_for(run.cluster, timeout=15) as client:
        for target in list(run.targets):
            run.stop_if_asked()
            name = node_name(target)
            checks = reset.results.checks(target)
            if target.pk in reset.results.failed:
                run.fail(target, reset.results.failed[target.pk], checks=checks)
            elif (why := why_node_is_there(run, client, name)) is not None:
                run.fail(target, why, checks=checks)
            elif target.pk in reset.unreached:
                lifecycle.remember_residue(target)
                run.succeed(
                    target,
                    message=Sentence("node %(node)s deleted; the host was not reset", node=name),
                    evidence={"node": name, "unreached": reset.unreached[target.pk]},
                )
            else:
                lifecycle.forget_residue(target)
                run.succeed(
                    target,
                    message=Sentence("reset, node %(node)s deleted", node=name),
                    checks=checks,
                    evidence={"node": name, "done": reset.results.find(target, "done") or []},
                )
