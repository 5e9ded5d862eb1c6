"""workers: in waves, and the whole cluster well again after each."""

from collections.abc import Sequence
from functools import partial

from beidou.base.errors import BeidouError, PermanentError
from beidou.base.sentences import Sentence
from clusters.drivers.kubernetes import KubernetesClient
from clusters.services.connections import client_for
from operations.kinds.base import StepRun
from operations.kinds.draining.budgets import listed
from operations.kinds.upgrade_cluster import facts, gate, node
from operations.models import OperationMachine


def upgrade(run: StepRun) -> list[OperationMachine]:
    with client_for(run.cluster, timeout=15) as client:
        _planes, workers = facts.planes_and_workers(run, client)
        if workers:
            _require_new_control_planes(run, client)
            node.upgrade(run, client, workers)
    return workers


def _require_new_control_planes(run: StepRun, client: KubernetesClient) -> None:
    """A kubelet must not be newer than any API server; a retry of one worker might forget it."""
    version = run.params.kubernetes_version
    planes = [
        each.name for each in facts.asked(run, client.list_nodes) if facts.is_control_plane(each)
    ]
    old = [
        name
        for name in planes
        if facts.asked(run, partial(node.why_old_pods, client, name, version))
    ]
    if old:
        raise PermanentError(
            Sentence(
                "Control planes come first, and these are not in %(version)s yet: %(nodes)s. Retry "
                "all machines.",
                version=version,
                nodes=listed(old),
            ),
            code="control_planes_first",
        )


def confirm(run: StepRun, workers: Sequence[OperationMachine]) -> None:
    with client_for(run.cluster, timeout=15) as client:
        why = gate.why_not_well(run, client) if any(w in run.targets for w in workers) else ""
        for target in list(run.targets):
            if target not in workers:
                run.succeed(target, message=Sentence("a control plane; upgraded before"))
                continue
            try:
                evidence = node.proof_of(run, client, target)
            except BeidouError as error:
                run.stop_if_asked()
                run.fail(target, error.message)
                continue
            if why:
                run.fail(target, why, evidence=evidence)
                continue
            message = Sentence("%(version)s, Ready", version=run.params.kubernetes_version)
            run.succeed(target, message=message, evidence=evidence)
