"""postCheck: every node in the new version, seen from its host too, and the cluster whole."""

from beidou.base.errors import BeidouError
from beidou.base.sentences import Sentence
from clusters.services.connections import client_for
from operations.kinds import hosts, playbook
from operations.kinds.base import StepRun, check
from operations.kinds.draining.budgets import listed
from operations.kinds.playbook import PlaybookResults
from operations.kinds.scale_down.settling import settle
from operations.kinds.upgrade_cluster import facts, gate, node


def post_check(run: StepRun) -> PlaybookResults:
    settings = hosts.require_settings(run.cluster)
    with client_for(run.cluster, timeout=15) as client:
        has_proxy = client.has_daemon_set(*node.PROXY)
    variables = {
        "kubernetes_version": run.params.kubernetes_version,
        "node_processes": ["kube-proxy"] if has_proxy else [],
        "staged_dir": facts.STAGED,
        **facts.BIN_DIR,
        **settings.overrides,
    }
    return playbook.run_playbook(run, "upgrade_done", variables=variables)


def confirm(run: StepRun, results: PlaybookResults) -> None:
    playbook.fail_unreached(run, results)
    with client_for(run.cluster, timeout=15) as client:
        why = gate.why_not_well(run, client) if run.targets else ""
        server = client.version().git_version
        old = [
            each.name
            for each in client.list_nodes()
            if each.kubelet_version != run.params.kubernetes_version
        ]
        whole = [
            check("cluster", not why, why or Sentence("well"), Sentence("well")),
            check(
                "version",
                server == run.params.kubernetes_version,
                server,
                run.params.kubernetes_version,
                Sentence("retry all machines"),
            ),
            check(
                "nodes",
                not old,
                listed(old) if old else Sentence("all"),
                Sentence("every node in %(version)s", version=run.params.kubernetes_version),
                Sentence("nodes that joined meanwhile: upgrade once more"),
                "warning",
            ),
        ]
        for target in list(run.targets):
            run.stop_if_asked()
            own = list(results.checks(target))
            if not own:
                run.fail(target, Sentence("The checks gave no result."))
                continue
            try:
                evidence = node.proof_of(run, client, target)
            except BeidouError as error:
                run.stop_if_asked()
                run.fail(target, error.message, checks=own)
                continue
            settle(run, target, [*own, *whole], evidence, Sentence("in the new version"))
