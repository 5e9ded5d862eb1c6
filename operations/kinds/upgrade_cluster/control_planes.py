"""controlPlanes: one after the other, with etcd whole again before the next."""

from dataclasses import dataclass, field

from beidou.base.errors import BeidouError, PermanentError
from beidou.base.sentences import Sentence
from clusters.services.connections import client_for
from operations.kinds import hosts
from operations.kinds.base import StepRun
from operations.kinds.control_planes import alone, etcd
from operations.kinds.upgrade_cluster import facts, freshness, gate, node
from operations.models import OperationMachine


@dataclass
class Upgraded:
    planes: list[OperationMachine] = field(default_factory=list)


def upgrade(run: StepRun) -> Upgraded:
    alone.require(run)
    freshness.require_fresh(run)
    with client_for(run.cluster, timeout=15) as client:
        planes, _workers = facts.planes_and_workers(run, client)
        for plane in planes:  # one, unless the collector took some for workers
            run.stop_if_asked()
            node.upgrade(run, client, [plane])
            if plane not in run.targets:
                break
    return Upgraded(planes)


def confirm(run: StepRun, upgraded: Upgraded) -> None:
    planes = [plane for plane in upgraded.planes if plane in run.targets]
    if len(planes) < len(upgraded.planes):
        for target in list(run.targets):
            run.fail(target, Sentence("A control plane before it failed; it was not begun."))
        return
    with client_for(run.cluster, timeout=15) as client:
        why = gate.why_not_well(run, client) if planes else ""
        for target in list(run.targets):
            if target not in planes:
                run.succeed(target, message=Sentence("no control plane"))
                continue
            try:
                evidence = dict(node.proof_of(run, client, target))
                if facts.has_etcd(run, client, target):
                    evidence |= _etcd_evidence(run, target)
            except BeidouError as error:
                run.stop_if_asked()
                run.fail(target, error.message)
                continue
            if why:
                run.fail(target, why, evidence=evidence)
                continue
            message = Sentence(
                "%(version)s, static pods ready", version=run.params.kubernetes_version
            )
            run.succeed(target, message=message, evidence=evidence)


def _etcd_evidence(run: StepRun, target: OperationMachine) -> dict[str, int]:
    settings = hosts.require_settings(run.cluster)
    try:
        found = etcd.ask(run, target, settings.overrides)
    except PermanentError as error:
        raise PermanentError(
            Sentence("etcd does not answer after the upgrade: %(why)s", why=error.message),
            code="etcd",
        ) from error
    whole = etcd.whole_check(found)
    if not whole["ok"]:
        raise PermanentError(
            Sentence("etcd after the upgrade: %(found)s", found=whole["found"]), code="etcd"
        )
    return {"etcd_members": len(found.members)}
