"""join: further control planes one by one, then the workers side by side.

A machine has joined when the API server knows its own node; a control plane moreover when etcd
counts it among its healthy members.
"""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from beidou.base.errors import BeidouError, ExternalError, PermanentError
from beidou.base.sentences import Sentence
from clusters.drivers.kubernetes import KubernetesClient
from clusters.services.connections import client_for
from operations.kinds import hosts, join_tokens, joining, playbook
from operations.kinds.base import StepRun
from operations.kinds.control_planes import etcd
from operations.kinds.create_cluster import configuration, members
from operations.kinds.playbook import PlaybookResults
from operations.models import OperationMachine

CONTROL_PLANE_LABEL = "control-plane"
MEMBER_SECONDS = 90


def join(run: StepRun) -> PlaybookResults:
    joining.to_joining(run)
    first = members.first_of(run.operation)
    others = [target for target in run.targets if target.pk != first.pk]
    planes = [target for target in others if members.is_control_plane(target)]
    workers = [target for target in others if not members.is_control_plane(target)]
    results = PlaybookResults()
    if not others:
        return results
    with client_for(run.cluster, timeout=15) as client:
        info = client.cluster_info()
        with join_tokens.token(run, client) as token:
            variables = members.site_variables(
                hosts.require_settings(run.cluster),
                api_server_endpoint=members.endpoint_of(run),
                bootstrap_token=token,
                ca_cert_hashes=list(info.ca_cert_hashes),
            )
            failed = _join_control_planes(run, first, planes, variables, results)
            if failed is not None and workers:
                workers = _keep_from_joining(run, workers, failed)
            if workers:
                per_machine = {
                    worker.pk: {"node_name": joining.node_name(worker)} for worker in workers
                }
                members.merge(results, _run(run, "join_cluster", variables, per_machine, workers))
    return results


def _join_control_planes(
    run: StepRun,
    first: OperationMachine,
    planes: Sequence[OperationMachine],
    variables: Mapping[str, Any],
    results: PlaybookResults,
) -> OperationMachine | None:
    """One after the other: each is a new member of etcd, which must be whole before the next.
    Returns the one that did not become one.

    That nobody could be begun with keeps no worker from joining.
    """
    if not planes:
        return None
    key = secrets.token_hex(32)
    try:
        _upload_certificates(run, first, key)
    except BeidouError as error:
        results.failed |= {plane.pk: error.message for plane in planes}
        return None
    taints = [] if members.takes_pods(run.operation) else [configuration.CONTROL_PLANE_TAINT]
    waiting = list(planes)
    while waiting:
        run.stop_if_asked()
        plane = waiting.pop(0)
        own = {
            "node_name": joining.node_name(plane),
            "certificate_key": key,
            "advertise_address": plane.address,
            "node_taints": taints,
        }
        members.merge(results, _run(run, "join_cluster", variables, {plane.pk: own}, [plane]))
        if plane.pk not in results.failed and (why := _why_no_member(run, plane)):
            results.failed[plane.pk] = why
        if plane.pk in results.failed:
            etcd.leave_waiting(run, waiting, plane)
            return plane
    return None


def _why_no_member(run: StepRun, plane: OperationMachine) -> str:
    run.note(plane, Sentence("waiting for etcd"))
    try:
        found = etcd.wait_for(run, joining.node_name(plane), MEMBER_SECONDS, ask=_ask_first)
        _require_member(plane, found.whole)
    except ExternalError as error:
        return error.message
    return ""


def _ask_first(run: StepRun) -> etcd.Members:
    """The members of etcd, as the first control plane tells them."""
    first = members.first_of(run.operation)
    return etcd.read({"members": on_first(run, "etcd_members", {}).find(first, "members") or []})


def _keep_from_joining(
    run: StepRun, workers: Sequence[OperationMachine], plane: OperationMachine
) -> list[OperationMachine]:
    """Those of the workers that may be joined all the same: all, unless nothing can be written any
    more since a control plane did not become a member."""
    why: str = Sentence("etcd lacks a majority of its members")
    try:
        if _ask_first(run).has_majority:
            return list(workers)
    except ExternalError as error:
        why = error.message
    for worker in workers:
        run.fail(
            worker,
            Sentence(
                "%(machine)s did not join, and the cluster takes nobody any more: %(why)s. This "
                "machine is prepared and was not begun with. Mend what is wrong there, then retry.",
                machine=str(plane),
                why=why,
            ),
        )
    return []


def _upload_certificates(run: StepRun, first: OperationMachine, key: str) -> None:
    documents = configuration.upload_documents(
        cluster_name=run.cluster.name,
        endpoint=members.endpoint_of(run),
        params=run.params,
        certificate_key=key,
    )
    own = {"kubeadm_configuration": configuration.as_text(documents)}
    on_first(run, "upload_certificates", own)


def on_first(run: StepRun, name: str, own: Mapping[str, Any]) -> PlaybookResults:
    """Run a playbook on the first control plane, whose part in this step may be over already;
    ``PermanentError`` when it failed there."""
    first = members.first_of(run.operation)
    settings = hosts.require_settings(run.cluster)
    hosts.ansible_host(first, settings, {})  # raises what keeps us from signing in
    variables = members.site_variables(settings)
    results = playbook.run_playbook(
        run, name, variables=variables, per_machine={first.pk: own}, members=[first]
    )
    if first.pk in results.failed:
        raise PermanentError(results.failed[first.pk], code="first_control_plane")
    return results


def _run(
    run: StepRun,
    name: str,
    variables: Mapping[str, Any],
    per_machine: Mapping[int, Mapping[str, Any]],
    chosen: Sequence[OperationMachine],
) -> PlaybookResults:
    return playbook.run_playbook(
        run, name, variables=variables, per_machine=per_machine, members=chosen
    )


def confirm_join(run: StepRun, results: PlaybookResults) -> None:
    playbook.fail_unreached(run, results)
    addresses = joining.own_addresses(run)
    healthy: set[str] | None = None
    with client_for(run.cluster, timeout=15) as client:
        for target in list(run.targets):
            run.stop_if_asked()
            try:
                evidence = _prove(run, client, target, addresses[target.pk])
                if members.is_control_plane(target):
                    healthy = _ask_first(run).whole if healthy is None else healthy
                    _require_member(target, healthy)
                    evidence["etcd_members"] = len(healthy)
            except ExternalError as error:
                run.stop_if_asked()
                run.fail(target, error.message)
                continue
            message = Sentence("joined as %(node)s", node=evidence["node"])
            run.succeed(target, message=message, evidence=evidence)


def _prove(
    run: StepRun, client: KubernetesClient, target: OperationMachine, addresses: set[str]
) -> dict[str, Any]:
    node = joining.wait_for_node(run, client, joining.node_name(target))
    joining.require_own(node, addresses)
    if members.is_control_plane(target) and CONTROL_PLANE_LABEL not in node.roles:
        raise PermanentError(
            Sentence(
                "Node %(node)s joined, but not as a control plane: clean the machine up, then "
                "retry.",
                node=node.name,
            ),
            code="half_joined",
        )
    # kubeadm itself labels control planes; kubelets may not set such labels.
    client.patch_node(node.name, labels=joining.role_labels(target.role, {}))
    return {"node": node.name, "uid": node.uid, "kubelet": node.kubelet_version}


def _require_member(target: OperationMachine, healthy: set[str]) -> None:
    name = joining.node_name(target)
    if name not in healthy:
        raise PermanentError(
            Sentence(
                "%(node)s is no healthy member of etcd; healthy are %(members)s. Clean the machine "
                "up, then retry.",
                node=name,
                members=", ".join(sorted(healthy)) or "–",
            ),
            code="no_etcd_member",
        )
