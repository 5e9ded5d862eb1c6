"""postCheck: the services on the hosts, the cluster's DNS, test pods between the nodes."""

import time

from beidou.base.errors import ExternalError, PermanentError
from beidou.base.sentences import Sentence
from clusters.drivers import errors as kube_errors
from clusters.drivers.kubernetes import KubernetesClient
from clusters.services.connections import client_for
from operations.kinds import playbook, scale_up
from operations.kinds.base import StepRun
from operations.kinds.checks import in_short
from operations.kinds.playbook import PlaybookResults

DNS_SECONDS = 240

post_check = scale_up.post_check


def confirm_post_check(run: StepRun, results: PlaybookResults) -> None:
    """Without DNS no test pod can prove anything, so it is waited for first."""
    with client_for(run.cluster, timeout=15) as client:
        _wait_for_dns(run, client)
        alone = len(client.list_nodes()) == 1
    if alone:
        _confirm_single(run, results)
    else:
        scale_up.confirm_post_check(run, results)


def _wait_for_dns(run: StepRun, client: KubernetesClient) -> None:
    run.say(Sentence("Waiting for the cluster's DNS."))
    deadline = time.monotonic() + DNS_SECONDS
    while True:
        run.stop_if_asked()
        try:
            found = client.workloads.get("Deployment", "kube-system", "coredns")
        except kube_errors.NotFound:
            return  # a site with a DNS of its own; the test pods ask it
        except ExternalError:
            if time.monotonic() > deadline:
                raise
        else:
            if found.ready:
                return
            if time.monotonic() > deadline:
                raise PermanentError(
                    Sentence(
                        "No pod of coredns was ready within %(limit)s s: look at its pods in "
                        "kube-system.",
                        limit=DNS_SECONDS,
                    ),
                    code="no_dns",
                )
        time.sleep(1)


def _confirm_single(run: StepRun, results: PlaybookResults) -> None:
    """A cluster of one node has nobody to test its pods against; coredns is a pod that answers."""
    playbook.fail_unreached(run, results)
    for target in list(run.targets):
        checks = results.checks(target)
        bad = [check for check in checks if not check["ok"] and check.get("severity") != "warning"]
        if bad or not checks:
            nothing = Sentence("The checks gave no result.")
            run.fail(target, in_short(bad) if bad else nothing, checks=checks)
        else:
            message = Sentence("Ready; the only node, so no test pods between nodes")
            run.succeed(target, message=message, checks=checks, evidence={"ready": True})
