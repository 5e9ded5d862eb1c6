"""forget: once every machine is reset or given up, nothing signs in at the cluster any more.

A machine that is reset is free, whether or not others have come that far: the last ones, done
again, let the cluster go.
"""

from beidou.base.sentences import Sentence
from clusters.models import Cluster
from clusters.services import deletion
from operations.kinds.base import StepRun
from operations.kinds.create_cluster.members import has_passed
from operations.kinds.delete_cluster.reset import STEP
from operations.models import Operation, OperationMachine


def forget(run: StepRun) -> None:
    if _not_reset(run.operation) is None:
        reason = Sentence("%(operation)s took it down", operation=run.operation.name)
        deletion.finish(cluster=run.cluster, reason=reason)


def _not_reset(operation: Operation) -> OperationMachine | None:
    members = operation.machines.filter(machine__isnull=False)  # the others are not reset here
    return next((member for member in members if not has_passed(member, STEP)), None)


def confirm(run: StepRun, _result: None) -> None:
    cluster = Cluster.objects.get(pk=run.cluster.pk)
    waits_for = _not_reset(run.operation)
    for target in list(run.targets):
        if cluster.is_deleted:
            run.succeed(target, message=Sentence("the cluster is no more"))
        elif waits_for is not None:
            run.succeed(
                target,
                message=Sentence(
                    "free; the cluster waits for %(machine)s, which is not reset yet",
                    machine=str(waits_for),
                ),
            )
        else:
            run.fail(target, Sentence("The cluster is “%(phase)s”.", phase=cluster.phase))
