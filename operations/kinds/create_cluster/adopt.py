"""adopt: the cluster becomes one like others, proven by the collector that sees its nodes."""

import time

from beidou.base.errors import PermanentError
from beidou.base.sentences import Sentence, joined
from clusters.models import Cluster, Node
from clusters.services import creation
from operations.kinds import joining
from operations.kinds.base import StepRun
from operations.kinds.create_cluster import members

SEEN_SECONDS = 180
STEP = "postCheck"


def adopt(run: StepRun) -> None:
    _require_control_planes(run)
    reason = Sentence("%(operation)s created it", operation=run.operation.name)
    creation.finish(cluster=run.cluster, reason=reason)
    run.say(Sentence("The cluster is watched from now on."))


def _require_control_planes(run: StepRun) -> None:
    """Workers that failed may come later; a control plane that is missing makes another cluster
    than was asked for."""
    for member in members.control_planes(run.operation):
        if not members.has_passed(member, STEP):
            raise PermanentError(
                Sentence(
                    "Control plane %(machine)s is not through yet. Mend what is wrong with it, "
                    "then retry.",
                    machine=str(member),
                ),
                code="control_plane_missing",
            )


def confirm_adopt(run: StepRun, _result: None) -> None:
    deadline = time.monotonic() + SEEN_SECONDS
    while run.targets:
        run.stop_if_asked()
        late = time.monotonic() > deadline
        cluster = Cluster.objects.get(pk=run.cluster.pk)
        if cluster.health == Cluster.Health.HEALTHY or late:
            _confirm_seen(run, cluster)
        if run.targets and late:
            for target in list(run.targets):
                run.fail(
                    target,
                    Sentence(
                        "The collector has not reported node %(node)s within %(limit)s s: is it "
                        "running, and does it reach the cluster?",
                        node=joining.node_name(target),
                        limit=SEEN_SECONDS,
                    ),
                )
        elif run.targets:
            time.sleep(1)


def _confirm_seen(run: StepRun, cluster: Cluster) -> None:
    """A cluster whose nodes are there and which is not well yet says so: it is made all the same,
    and its page tells the rest."""
    seen = set(Node.objects.filter(cluster=cluster, is_ready=True).values_list("name", flat=True))
    message: str = Sentence("in service")
    if cluster.health != Cluster.Health.HEALTHY:
        message = joined([message, cluster.health_reason], "; ")
    for target in list(run.targets):
        name = joining.node_name(target)
        if name in seen:
            run.succeed(target, message=message, evidence={"node": name})
