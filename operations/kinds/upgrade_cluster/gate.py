"""Whether the whole cluster is well: nodes Ready, its own parts ready, workloads whole."""

import time
from collections.abc import Iterator

from beidou.base.errors import ExternalError
from beidou.base.sentences import Sentence, joined
from clusters.drivers.kubernetes import KubernetesClient
from clusters.drivers.workloads import WORKLOAD_KINDS
from operations.kinds.base import StepRun
from operations.kinds.draining.budgets import listed
from operations.kinds.upgrade_cluster import facts

PAUSE_SECONDS = 5.0  # each look lists all nodes and workloads
MINUTE = 60.0
LOOKS = 2  # one good look may have come before what is going on shows


def why_not_well(run: StepRun, client: KubernetesClient) -> str:
    """Waits as long as ``gate_minutes`` allows; empty as soon as everything is well."""
    known = facts.was_not_whole(run.operation)
    deadline = time.monotonic() + run.params.gate_minutes * MINUTE
    said, good = "", 0
    while True:
        run.stop_if_asked()
        why = _look(client, known)
        good = 0 if why else good + 1
        if good >= LOOKS:
            return ""
        if why and time.monotonic() > deadline:
            return Sentence(
                "The cluster is not well again after %(minutes)s min: %(why)s. Nothing further is "
                "begun; mend that, then retry.",
                minutes=run.params.gate_minutes,
                why=why,
            )
        if why != said:
            said = why
            for target in run.targets if why else ():
                run.note(target, Sentence("waiting: %(why)s", why=why))
        time.sleep(PAUSE_SECONDS)


def _look(client: KubernetesClient, known: frozenset[str]) -> str:
    try:
        return joined(list(_problems(client, known)), "; ")
    except ExternalError as error:
        return error.message


def _problems(client: KubernetesClient, known: frozenset[str]) -> Iterator[str]:
    unready = [node.name for node in client.list_nodes() if node.is_ready is not True]
    if unready:
        yield Sentence("not Ready: %(nodes)s", nodes=listed(unready))
    for part in client.component_health():
        if part.is_healthy is False:
            yield Sentence("%(name)s: %(message)s", name=part.name, message=part.message)
    lacking = [key for key in not_whole(client) if key not in known]
    if lacking:
        yield Sentence("not whole: %(workloads)s", workloads=listed(lacking))


def not_whole(client: KubernetesClient) -> list[str]:
    """Workloads with fewer ready copies than they want."""
    return sorted(
        workload.key
        for kind in WORKLOAD_KINDS
        for workload in client.workloads.all(kind)
        if workload.owner is None and workload.ready < workload.wanted
    )
