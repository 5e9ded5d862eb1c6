"""drain: cordon, move the pods away, take additional copies away again."""

from collections.abc import Sequence
from functools import partial

from django.utils.translation import gettext_lazy as _

from beidou.base.errors import ExternalError
from beidou.base.sentences import Sentence
from clusters.drivers import errors as kube_errors
from clusters.drivers.kubernetes import KubernetesClient
from clusters.services.connections import client_for
from machines.models import Machine
from operations.kinds.base import StepKind, StepRun
from operations.kinds.draining.budgets import listed
from operations.kinds.draining.drainer import Drainer
from operations.kinds.draining.leaving import Leaving
from operations.kinds.draining.raising import put_back
from operations.kinds.draining.reading import running_pods
from operations.kinds.names import name_of
from operations.kinds.patience import patiently
from operations.kinds.scale_down.machines import move
from operations.kinds.scale_down.params import LIMIT_MINUTES
from operations.kinds.scale_down.settling import evidence_of, node_name, owners_before


def drain(run: StepRun) -> list[Leaving]:
    leaving = [
        Leaving(
            target,
            node_name(target),
            total=int(evidence_of(target, "preCheck").get("moves", 0)),
            before=owners_before(target),
        )
        for target in run.targets
    ]
    move(run, run.targets, Machine.State.DRAINING)
    # A cancel must be seen within seconds, also while the API server hangs.
    with client_for(run.cluster, timeout=5) as client:
        Drainer(run, client, leaving).drain()
        patiently(run, partial(_put_back, run, client))
    return leaving


def _put_back(run: StepRun, client: KubernetesClient) -> None:
    """Also without ``raise_owner``: an earlier attempt may have been told to raise."""
    put_back(client.workloads, operation=name_of(run.operation), say=run.say)


def after_drain(run: StepRun) -> None:
    """After a cancel or a failure of the whole step: what stays as it is, and what does not."""
    for target in run.targets:
        run.say(
            f"Node {node_name(target)} stays cordoned; pods that have moved stay where they are.",
            target=target,
            level="warning",
        )
    try:
        with client_for(run.cluster, timeout=5) as client:
            _put_back(run, client)
    except ExternalError as error:
        run.say(f"Additional copies were not taken away: {error.message}", level="warning")


def confirm(run: StepRun, leaving: Sequence[Leaving]) -> None:
    """Empty means: cordoned, and nothing there but what stays until the node is gone."""
    by_target = {each.target.pk: each for each in leaving}
    with client_for(run.cluster, timeout=15) as client:
        for target in list(run.targets):
            run.stop_if_asked()
            each = by_target[target.pk]
            try:
                why = patiently(run, partial(_why_not_empty, client, each))
            except kube_errors.NotFound:
                run.succeed(target, message=Sentence("the node is gone"), evidence=each.evidence)
                continue
            except ExternalError as error:
                why = error.message
            if why:
                run.fail(target, why)
            else:
                moved = Sentence("%(count)s pods have moved", count=each.total)
                run.succeed(target, message=moved, evidence=each.evidence)


def _why_not_empty(client: KubernetesClient, each: Leaving) -> str:
    """As the cluster has it now, which may be long after this node was empty."""
    if not client.get_node(each.node).unschedulable:
        return Sentence(
            "Somebody uncordoned node %(node)s meanwhile. Retry: it is cordoned and drained again.",
            node=each.node,
        )
    if "left_behind" in each.evidence:
        return ""  # given up with what cannot end there
    came = running_pods(client, each.node)
    if not came:
        return ""
    return Sentence(
        "Pods came to node %(node)s after it was empty: %(pods)s. See what puts them on a cordoned "
        "node, then retry.",
        node=each.node,
        pods=listed(came),
    )


DRAIN = StepKind(
    name="drain",
    title=_("Move the pods away"),
    act=drain,
    confirm=confirm,
    timeout_seconds=(LIMIT_MINUTES + 10) * 60,
    cleanup=after_drain,
)
