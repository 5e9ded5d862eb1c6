"""postCheck: nothing is left on the hosts, the nodes are gone, the workloads are whole again."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from beidou.base.sentences import Sentence, joined
from clusters.drivers.kubernetes import KubernetesClient
from clusters.services.connections import client_for
from machines.models import Machine
from operations.kinds import playbook
from operations.kinds.base import StepRun, check
from operations.kinds.draining.budgets import listed
from operations.kinds.draining.owners import Owners
from operations.kinds.patience import patiently
from operations.kinds.scale_down.machines import move
from operations.kinds.scale_down.settling import (
    node_name,
    owners_before,
    settle,
    why_given_up,
    why_node_is_there,
)
from operations.kinds.scale_down.take_out import Reset
from operations.models import OperationMachine

WHOLE_SECONDS = 300


def post_check(run: StepRun) -> Reset:
    move(run, run.targets, Machine.State.LEAVING)
    unreached = {target.pk: reason for target in run.targets if (reason := why_given_up(target))}
    reached = [target for target in run.targets if target.pk not in unreached]
    results = playbook.run_playbook(run, "leftovers", variables={}, members=reached)
    return Reset(results, unreached)


def confirm(run: StepRun, reset: Reset) -> None:
    for target in list(run.targets):
        if target.pk in reset.results.failed:
            run.fail(target, reset.results.failed[target.pk], checks=reset.results.checks(target))
    before = {target.pk: owners_before(target) for target in run.targets}
    with client_for(run.cluster, timeout=15) as client:
        missing = _wait_until_whole(run, client, before.values())
        for target in list(run.targets):
            run.stop_if_asked()
            name = node_name(target)
            why = why_node_is_there(run, client, name)
            checks = [
                *(reset.results.find(target, "checks") or _no_host_checks(reset, target)),
                check(
                    "node",
                    why is None,
                    why or Sentence("gone"),
                    Sentence("no node %(node)s in the cluster", node=name),
                    Sentence("see what registers it again, then retry"),
                ),
                *_workload_checks(before[target.pk], missing),
            ]
            evidence = {"node": name, "workloads": sorted(before[target.pk])}
            settle(run, target, checks, evidence, Sentence("the cluster is whole without it"))


def _no_host_checks(reset: Reset, target: OperationMachine) -> list[dict[str, Any]]:
    reason = reset.unreached.get(target.pk, "")
    return [
        check(
            "leftovers",
            False,
            Sentence("not looked at: %(reason)s", reason=reason)
            if reason
            else Sentence("the checks gave no result"),
            Sentence("nothing left on the host"),
            Sentence("clean the machine up when it is back"),
            "warning" if reason else "error",
        )
    ]


def _wait_until_whole(
    run: StepRun, client: KubernetesClient, before: Iterable[Mapping[str, int]]
) -> dict[str, str]:
    """Workload → what it lacks, after as long as pods may need to start."""
    wanted = {key: count for counts in before for key, count in counts.items()}
    owners = Owners(client.workloads, wanted, allow_pending=run.params.allow_pending)
    patiently(run, lambda: owners.expect_all(wanted))
    deadline = time.monotonic() + WHOLE_SECONDS
    while True:
        run.stop_if_asked()
        patiently(run, owners.look)
        if not owners.awaited or time.monotonic() > deadline:
            break
        for target in run.targets:
            names = listed(sorted(owners.awaited))
            run.note(target, Sentence("waiting for %(names)s", names=names))
        time.sleep(1)
    return {key: awaited.lacking for key, awaited in owners.awaited.items()}


def _workload_checks(before: Mapping[str, int], missing: Mapping[str, str]) -> list[dict[str, Any]]:
    lacking = [
        Sentence("%(owner)s: %(lacking)s", owner=key, lacking=missing[key])
        for key in sorted(before)
        if key in missing
    ]
    return [
        check(
            "workloads",
            not lacking,
            joined(lacking, "; ") or Sentence("%(count)s whole", count=len(before)),
            Sentence("as many ready copies as before"),
            Sentence("see why their pods are not ready, then retry"),
        )
    ]
