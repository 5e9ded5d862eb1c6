"""postCheck: as for ScaleUp, and the static pods of the control plane are ready."""

import time

from beidou.base.sentences import Sentence
from clusters.drivers.kubernetes import KubernetesClient
from clusters.services.connections import client_for
from operations.kinds import hosts, joining, playbook, scale_up
from operations.kinds.base import StepRun
from operations.kinds.create_cluster import members
from operations.kinds.playbook import PlaybookResults
from operations.kinds.scale_up import ROUTED_NETWORK

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
STATIC_PODS_SECONDS = 180


def post_check(run: StepRun) -> PlaybookResults:
    """The pod network first: without it no node is Ready."""
    joining.to_joining(run)
    with client_for(run.cluster, timeout=15) as client:
        is_routed = client.has_config_map(*ROUTED_NETWORK)
    if not is_routed:
        return scale_up.post_check(run)
    network = playbook.run_playbook(
        run,
        "routed_network",
        variables=members.site_variables(hosts.require_settings(run.cluster)),
        per_machine={each.pk: {"node_name": joining.node_name(each)} for each in run.targets},
    )
    playbook.fail_unreached(run, network)
    return scale_up.post_check(run) if run.targets else network


def confirm(run: StepRun, results: PlaybookResults) -> None:
    playbook.fail_unreached(run, results)
    _wait_for_static_pods(run)
    if run.targets:
        scale_up.confirm_post_check(run, results)


def _wait_for_static_pods(run: StepRun) -> None:
    deadline = time.monotonic() + STATIC_PODS_SECONDS
    open_ones = {joining.node_name(target): target for target in run.targets}
    with client_for(run.cluster, timeout=15) as client:
        while open_ones:
            run.stop_if_asked()
            for node in list(open_ones):
                missing = missing_programs(client, node)
                if not missing:
                    del open_ones[node]
                elif time.monotonic() > deadline:
                    run.fail(
                        open_ones.pop(node),
                        Sentence(
                            "Not ready on %(node)s within %(limit)s s: %(names)s. Look at their "
                            "pods in kube-system.",
                            node=node,
                            limit=STATIC_PODS_SECONDS,
                            names=", ".join(missing),
                        ),
                    )
            if open_ones:
                time.sleep(1)


def missing_programs(client: KubernetesClient, node: str) -> list[str]:
    """Programs of a control plane whose pod on ``node`` is not there or not ready."""
    ready = {
        pod.name
        for pod in client.workloads.pods(node_name=node)
        if pod.namespace == "kube-system" and pod.is_mirror and pod.is_ready
    }
    return [program for program in PROGRAMS if f"{program}-{node}" not in ready]
