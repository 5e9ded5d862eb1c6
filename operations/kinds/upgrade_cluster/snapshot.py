"""snapshot: of etcd, on one control plane, verified before anything is upgraded."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.utils import timezone

from beidou.base.sentences import Sentence
from clusters.services.connections import client_for
from machines.models import Machine
from operations.kinds import hosts, playbook
from operations.kinds.base import StepRun
from operations.kinds.playbook import PlaybookResults
from operations.kinds.upgrade_cluster import facts, freshness
from operations.models import MachineStep, OperationMachine

STEP = "snapshot"


@dataclass
class Taken:
    """``plane`` is None when none had to be taken now."""

    plane: OperationMachine | None = None
    results: PlaybookResults = field(default_factory=PlaybookResults)


def part(params: Any, machines: Sequence[Machine]) -> list[Machine]:
    """Of a plan: the first control plane, unless none is to be taken."""
    return [] if params.snapshot == "skip" else facts.planes_of(params, machines)[:1]


def take(run: StepRun) -> Taken:
    if run.params.snapshot == "skip" or is_there(run):
        return Taken()
    with client_for(run.cluster, timeout=15) as client:
        planes, _workers = facts.planes_and_workers(run, client)
        planes = [target for target in planes if facts.has_etcd(run, client, target)]
    if not planes:
        return Taken()
    settings = hosts.require_settings(run.cluster)
    variables = {
        "snapshot_folder": run.params.snapshot_folder,
        "snapshots_kept": run.params.snapshots_kept,
        **settings.overrides,
    }
    plane = planes[0]
    run.note(plane, Sentence("taking the snapshot"))
    results = playbook.run_playbook(run, "etcd_snapshot", variables=variables, members=[plane])
    return Taken(plane, results)


def is_there(run: StepRun) -> bool:
    """Whether this operation has one already, and not an old one; a retry of other machines takes
    no second."""
    cells = MachineStep.objects.filter(
        step__operation=run.operation,
        step__name=STEP,
        status=MachineStep.Status.SUCCEEDED,
        finished_at__gte=timezone.now() - freshness.KEEPS,
    )
    return cells.filter(evidence__has_key="sha256").exists()


def confirm(run: StepRun, taken: Taken) -> None:
    """``etcdutl snapshot status`` has read it on the host; without its answer there is none."""
    if taken.plane is None:
        _pass_all(run)
        return
    answer = taken.results.find(taken.plane, "answer") or {}
    if taken.plane.pk in taken.results.failed or not answer.get("sha256"):
        why = taken.results.failed.get(taken.plane.pk) or Sentence("it gave no answer")
        for target in list(run.targets):
            run.fail(
                target,
                Sentence(
                    "No snapshot of etcd was taken on %(machine)s, so nothing was begun: %(why)s",
                    machine=str(taken.plane),
                    why=why,
                ),
            )
        return
    for target in list(run.targets):
        if target.pk == taken.plane.pk:
            message = Sentence(
                "%(path)s: %(keys)s keys, %(mib)s MiB, verified",
                path=answer["path"],
                keys=answer["total_keys"],
                mib=round(answer["size"] / 2**20, 1),
            )
            run.succeed(target, message=message, evidence=answer)
        else:
            message = Sentence("kept on %(machine)s", machine=str(taken.plane))
            run.succeed(target, message=message)


def _pass_all(run: StepRun) -> None:
    """Chosen so, or taken already; else the preCheck would not have let anybody through."""
    has_one = is_there(run)
    if not has_one and run.params.snapshot == "take":
        for target in list(run.targets):
            run.fail(
                target,
                Sentence(
                    "There is no snapshot of etcd yet, and no control plane takes part in this "
                    "retry: retry all machines."
                ),
            )
        return
    message = Sentence("taken before") if has_one else Sentence("none was wanted")
    for target in list(run.targets):
        run.succeed(target, message=message)
