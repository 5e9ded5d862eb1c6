"""join: one by one, each a healthy voting member of etcd before the next is begun.

An attempt that was lost or failed half way leaves a machine with the credentials of a node that is
no control plane yet.  Whoever comes next waits for a join that still runs, and else takes away what
that one left in etcd and on the host, and joins it anew: never twice, and never on top of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.crypto import salted_hmac

from beidou.base.errors import BeidouError, ExternalError, PermanentError
from beidou.base.sentences import Sentence
from clusters.drivers import errors as kube_errors
from clusters.drivers.answers import KubeadmConfig
from clusters.drivers.kubernetes import KubernetesClient
from clusters.services.connections import client_for
from operations.kinds import hosts, join_tokens, joining, names, playbook, scale_up
from operations.kinds.base import StepRun
from operations.kinds.control_planes import alone, etcd, keeper, setup
from operations.kinds.create_cluster import configuration, members
from operations.kinds.create_cluster.params import endpoint
from operations.kinds.playbook import PlaybookResults
from operations.kinds.scale_up import JOINING_TAINT
from operations.models import OperationMachine

MEMBER_SECONDS = 90


@dataclass
class Joined:
    results: PlaybookResults
    members: etcd.Members


def join(run: StepRun) -> Joined:
    alone.require(run)
    joining.to_joining(run)
    with client_for(run.cluster, timeout=15) as client:
        info, kubeadm = client.cluster_info(), client.kubeadm_config()
        place = setup.endpoint_of(kubeadm)
        if place is None:
            raise PermanentError(
                Sentence("The cluster has no controlPlaneEndpoint any more."), code="no_endpoint"
            )
        key = certificate_key(run)
        own = {
            "certificate_key": key,
            "node_taints": taints_of_others(run, client),
        }
        with join_tokens.token(run, client) as token:
            variables = members.site_variables(
                hosts.require_settings(run.cluster),
                api_server_endpoint=endpoint(*place),
                bootstrap_token=token,
                ca_cert_hashes=list(info.ca_cert_hashes),
                join_cluster_joining_taint={"key": JOINING_TAINT, "effect": "NoSchedule"},
            )
            try:
                _upload_certificates(run, kubeadm, key)
                return _join_all(run, client, variables, own)
            finally:
                delete_certificates(run, client)


def certificate_key(run: StepRun) -> str:
    """The same for each attempt of the step, so that a join which still runs can read what a later
    attempt has uploaded; nobody can work it out without the portal's secret."""
    asked = f"{run.cluster.uid}/{names.name_of(run.operation)}/{run.step_name}"
    return salted_hmac("beidou.certificates", asked, algorithm="sha256").hexdigest()


def taints_of_others(run: StepRun, client: KubernetesClient) -> list[dict[str, str]]:
    """The taint of control planes, unless those that are there take pods."""
    own = {joining.node_name(each) for each in run.operation.machines.all()}
    others = [
        node for node in client.list_nodes() if keeper.ROLE in node.roles and node.name not in own
    ]
    key = configuration.CONTROL_PLANE_TAINT["key"]
    if others and all(key not in {taint.key for taint in node.taints} for node in others):
        return []
    return [configuration.CONTROL_PLANE_TAINT]


def _upload_certificates(run: StepRun, kubeadm: KubeadmConfig, key: str) -> None:
    """Encrypted, for two hours at most; deleted when the step ends."""
    init = {
        "apiVersion": configuration.KUBEADM,
        "kind": "InitConfiguration",
        "certificateKey": key,
    }
    text = configuration.as_text([init, setup.document(kubeadm)])
    settings = hosts.require_settings(run.cluster)
    keeper.run_there(
        run,
        "upload_certificates",
        {"kubeadm_configuration": text},
        variables=members.site_variables(settings),
    )


def delete_certificates(run: StepRun, client: KubernetesClient) -> None:
    try:
        if client.delete_uploaded_certificates():
            run.say(Sentence("The uploaded certificates were deleted."))
    except ExternalError as error:
        run.say(
            Sentence(
                "The uploaded certificates could not be deleted and expire by themselves: %(why)s",
                why=error.message,
            ),
            level="warning",
        )


def clean_up(run: StepRun) -> None:
    """End what still joins, then what lets it."""
    scale_up.stop_joining(run)
    try:
        with client_for(run.cluster, timeout=5) as client:
            delete_certificates(run, client)
    except BeidouError as error:
        run.say(error.message, level="warning")


def _join_all(
    run: StepRun,
    client: KubernetesClient,
    variables: Mapping[str, Any],
    own: Mapping[str, Any],
) -> Joined:
    joined = Joined(PlaybookResults(), etcd.Members(()))
    addresses = joining.own_addresses(run)
    waiting = list(run.targets)
    while waiting:
        run.stop_if_asked()
        plane = waiting.pop(0)
        try:
            is_clear = _forget_stale(run, client, plane, addresses[plane.pk], variables, joined)
            if is_clear:
                names = [joining.node_name(each) for each in (plane, *waiting)]
                etcd.require_whole(run, MEMBER_SECONDS, but=names)
            if is_clear and _join_one(run, plane, variables, own, joined):
                _cordon(run, client, plane, addresses[plane.pk])
        except ExternalError as error:
            joined.results.failed[plane.pk] = error.message
        if plane.pk in joined.results.failed:
            etcd.leave_waiting(run, waiting, plane)
            break
    return joined


def _forget_stale(
    run: StepRun,
    client: KubernetesClient,
    plane: OperationMachine,
    addresses: set[str],
    variables: Mapping[str, Any],
    joined: Joined,
) -> bool:
    """A member of the same name or address that belongs to no node: what a control plane left that
    was lost, or a join that never came to its node.  kubeadm would stumble over it.

    kubeadm makes the member before the node: a join that still runs is waited for first.  Whether
    the machine may be joined.
    """
    name = joining.node_name(plane)
    if _is_own_node(client, name, addresses):
        return True
    found = etcd.look(run, leaving=name, address=plane.address)
    if not found.found:
        return True
    found.require_own(name, addresses)
    if not _play(run, "wait_for_join", plane, variables, {"node_name": name}, joined):
        return False
    if _is_own_node(client, name, addresses):
        return True
    run.say(
        Sentence("etcd has a member of %(node)s that is no node: removed.", node=name),
        target=plane,
        level="warning",
    )
    etcd.remove(run, leaving=name, address=plane.address)
    return True


def _is_own_node(client: KubernetesClient, name: str, addresses: set[str]) -> bool:
    """Whether there is one; ``PermanentError`` when it is another machine's."""
    try:
        joining.require_own(client.get_node(name), addresses)
    except kube_errors.NotFound:
        return False
    return True


def _join_one(
    run: StepRun,
    plane: OperationMachine,
    variables: Mapping[str, Any],
    own: Mapping[str, Any],
    joined: Joined,
) -> bool:
    """Whether the playbook went well; that it is a member is for ``confirm`` to say."""
    name = joining.node_name(plane)
    mine = {**own, "node_name": name, "advertise_address": plane.address}
    if not _play(run, "join_cluster", plane, variables, mine, joined):
        return False
    run.note(plane, Sentence("waiting for etcd"))
    joined.members = etcd.wait_for(run, name, MEMBER_SECONDS)
    if name in joined.members.whole:
        return True
    # It has the credentials of a node and is no member: an attempt before was interrupted.
    run.say(
        Sentence("%(node)s was interrupted while it joined; it is joined anew.", node=name),
        target=plane,
        level="warning",
    )
    etcd.remove(run, leaving=name, address=plane.address)
    anew = {**mine, "join_anew": True}
    if not _play(run, "join_cluster", plane, variables, anew, joined):
        return False
    joined.members = etcd.wait_for(run, name, MEMBER_SECONDS)
    return True


def _play(
    run: StepRun,
    name: str,
    plane: OperationMachine,
    variables: Mapping[str, Any],
    mine: Mapping[str, Any],
    joined: Joined,
) -> bool:
    results = playbook.run_playbook(
        run, name, variables=variables, per_machine={plane.pk: mine}, members=[plane]
    )
    members.merge(joined.results, results)
    return plane.pk not in results.failed


def _cordon(
    run: StepRun, client: KubernetesClient, plane: OperationMachine, addresses: set[str]
) -> None:
    """As long as our own taint still keeps pods away."""
    name = joining.node_name(plane)
    joining.require_own(joining.wait_for_node(run, client, name), addresses)
    client.set_unschedulable(name, True)
    client.patch_node(
        name, labels=joining.role_labels(plane.role, {}), remove_taints=[JOINING_TAINT]
    )


def confirm(run: StepRun, joined: Joined) -> None:
    """Joined means: the API server knows its node as a control plane, and etcd counts it among its
    healthy members."""
    playbook.fail_unreached(run, joined.results)
    if not run.targets:
        return
    addresses = joining.own_addresses(run)
    found = etcd.look(run)
    with client_for(run.cluster, timeout=15) as client:
        for target in list(run.targets):
            run.stop_if_asked()
            name = joining.node_name(target)
            try:
                node = client.get_node(name)
                joining.require_own(node, addresses[target.pk])
            except ExternalError as error:
                run.fail(target, error.message)
                continue
            why = _why_not_joined(name, node.roles, found)
            if why:
                run.fail(target, why)
                continue
            run.succeed(
                target,
                message=Sentence("joined as %(node)s, member of etcd, cordoned", node=node.name),
                evidence={
                    "node": node.name,
                    "uid": node.uid,
                    "kubelet": node.kubelet_version,
                    "etcd_members": found.voters,
                },
            )


def _why_not_joined(name: str, roles: Sequence[str], found: etcd.Members) -> str:
    if keeper.ROLE not in roles:
        return Sentence("Node %(node)s joined, but not as a control plane; retry.", node=name)
    if name not in found.whole:
        return Sentence(
            "%(node)s is no healthy member of etcd; healthy are %(members)s. Look at its etcd, "
            "then retry.",
            node=name,
            members=", ".join(sorted(found.whole)) or "–",
        )
    if found.sick:
        return Sentence(
            "%(node)s joined, but these members of etcd are not healthy: %(members)s.",
            node=name,
            members=", ".join(found.sick),
        )
    return ""
