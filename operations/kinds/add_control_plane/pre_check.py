"""preCheck: the machines as for a new cluster's control planes, and whether the cluster can have
more of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.conf import settings as conf

from beidou.base.errors import ExternalError
from beidou.base.sentences import Sentence
from clusters.drivers.answers import KubeadmConfig
from clusters.drivers.objects import NodeInfo
from clusters.services.connections import client_for
from operations.drivers import artifacts
from operations.kinds import hosts, joining, playbook, versions
from operations.kinds.base import Check, StepRun, asking, check
from operations.kinds.control_planes import alone, etcd, setup
from operations.kinds.control_planes.endpoint import leads_to
from operations.kinds.create_cluster import members
from operations.kinds.create_cluster.params import endpoint
from operations.kinds.create_cluster.pre_check import policy_for
from operations.kinds.joining import reported
from operations.kinds.playbook import PlaybookResults
from operations.kinds.scale_down.settling import settle


@dataclass
class Found:
    """Of each machine what its host told, and what holds for all of them."""

    results: PlaybookResults
    checks: list[Check]


def pre_check(run: StepRun) -> Found:
    alone.require(run)
    settings = hosts.require_settings(run.cluster)
    with client_for(run.cluster, timeout=15) as client:
        kubeadm = client.kubeadm_config()
        nodes = client.list_nodes()
        server = client.version().git_version
    checks = [
        setup.stacked_check(kubeadm),
        setup.version_check(kubeadm, server),
        endpoint_check(kubeadm, nodes, accepted=run.params.accept_single_endpoint),
    ]
    checks += _etcd_checks(run) if checks[0]["ok"] else []
    place = setup.endpoint_of(kubeadm)
    listed = artifacts.for_control_plane(
        settings.artifact_source, version=versions.canonical(server), folders=conf.ARTIFACT_FOLDERS
    )
    variables = members.site_variables(
        settings,
        api_server_endpoint=endpoint(*place) if place else "",
        artifacts=[each.as_variable() for each in listed],
        cluster_nodes=joining.as_known(nodes),
    )
    per_machine = {
        target.pk: {
            "node_name": joining.node_name(target),
            "policy": policy_for(target, settings.policy),
        }
        for target in run.targets
    }
    results = playbook.run_playbook(run, "pre_check", variables=variables, per_machine=per_machine)
    return Found(results, checks)


def endpoint_check(config: KubeadmConfig, nodes: Sequence[NodeInfo], *, accepted: bool) -> Check:
    """None: kubeadm joins no further control plane.  One that leads to a single machine: the
    cluster is lost with that machine, however many there are, so somebody has to accept it."""
    wanted = Sentence("an endpoint that leads to all control planes")
    place = setup.endpoint_of(config)
    if place is None:
        return check(
            "endpoint",
            False,
            Sentence("the cluster was made without controlPlaneEndpoint"),
            wanted,
            Sentence(
                "give the cluster a stable endpoint first (controlPlaneEndpoint in the ConfigMap "
                "kubeadm-config, the certificates of the API server, the kubeconfigs of the nodes)"
            ),
        )
    host = place[0]
    for node in nodes:
        _leads, alone_there = leads_to(host, reported(node))
        if alone_there:
            told = Sentence("%(host)s leads to %(node)s alone", host=host, node=node.name)
            if accepted:
                advice = Sentence("goes on, because accept_single_endpoint was chosen")
                return check("endpoint", False, told, wanted, advice, "warning")
            advice = Sentence(
                "let the endpoint lead to all control planes; or retry with "
                "accept_single_endpoint: the API is lost with %(node)s all the same",
                node=node.name,
            )
            failed = check("endpoint", False, told, wanted, advice)
            return asking(failed, "accept_single_endpoint")
    return check("endpoint", True, endpoint(*place), wanted)


def _etcd_checks(run: StepRun) -> list[Check]:
    try:
        found = etcd.look(run)
    except ExternalError as error:
        return [
            check(
                "etcd-members",
                False,
                error.message,
                Sentence("every member of etcd healthy and voting"),
                Sentence("see why it does not answer, then retry"),
            )
        ]
    # What an earlier attempt left of these machines is taken away before they join.
    found = found.without([joining.node_name(each) for each in run.operation.machines.all()])
    after = found.voters + run.operation.machines.count()
    return [etcd.whole_check(found), even_check(after)]


def even_check(after: int) -> Check:
    """An even number bears no more losses than one less, and more machines can be lost."""
    return check(
        "etcd-number",
        after % 2 == 1,
        Sentence("%(count)s members of etcd afterwards", count=after),
        Sentence("an odd number"),
        Sentence("add one more: an even number bears no more losses than one less"),
        "warning",
    )


def confirm(run: StepRun, found: Found) -> None:
    playbook.fail_unreached(run, found.results)
    for target in list(run.targets):
        own = found.results.checks(target)
        if not own:
            run.fail(target, Sentence("The checks gave no result."), checks=found.checks)
            continue
        checks = [*found.checks, *own]
        evidence = {"facts": found.results.find(target, "facts") or {}}
        settle(run, target, checks, evidence, Sentence("%(checks)s checks", checks=len(checks)))
