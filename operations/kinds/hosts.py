"""How the machines of a step are reached: credentials and pinned keys as the drivers want them."""

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _

from beidou.base.errors import PermanentError
from beidou.base.sentences import Sentence
from clusters.models import Cluster
from machines.drivers import ssh
from machines.models import Machine, SshCredential
from machines.services import credentials, host_keys, signing
from operations.drivers.ansible import Host
from operations.models import ClusterSettings, OperationMachine


def require_settings(cluster: Cluster) -> ClusterSettings:
    """The cluster's operation settings; ``PermanentError`` where there are none."""
    settings = settings_of(cluster.pk)
    if settings is None:
        raise PermanentError(
            Sentence("Cluster %(cluster)s has no operation settings.", cluster=cluster),
            code="no_settings",
        )
    return settings


def api_endpoint(server: str) -> str:
    """``host:port`` of an https address, as kubeadm's join configuration wants it."""
    place = server.split("://", 1)[-1].split("/", 1)[0]
    return place if ":" in place.rsplit("]", 1)[-1] else f"{place}:443"


def credential_of(machine: Machine, settings: ClusterSettings | None) -> SshCredential:
    """The machine's own credential, else the cluster's; ``PermanentError`` without one."""
    credential = signing.choose(machine, settings.credential if settings else None)
    if credential is None:
        raise PermanentError(
            Sentence(
                "No SSH credential is set for %(machine)s, nor for the cluster's machines.",
                machine=machine,
            ),
            code="no_credential",
        )
    return credential


def why_unreachable(machine: Machine, settings: ClusterSettings | None) -> list[str]:
    """Why we would not even try to sign in, as known here, the cause of the others first."""
    reasons = []
    if not _has_credential(machine, settings):
        reasons.append(_("no SSH credential is set for it"))
    if machine.offered_host_key:
        reasons.append(_("its host key changed; look at it and accept or reject it first"))
    elif not machine.host_key:
        reasons.append(
            _seen_by_visit(
                machine,
                settings,
                _("its host key is not pinned yet"),
                _("its host key is not pinned yet; gather its facts first"),
            )
        )
    return reasons


def why_no_node(machine: Machine, settings: ClusterSettings | None) -> list[str]:
    """The same, and what else a machine needs to become a node: a hostname."""
    reasons = why_unreachable(machine, settings)
    if not machine.hostname:
        reasons.append(
            _seen_by_visit(
                machine,
                settings,
                _("its hostname is not known"),
                _("its hostname is not known; gather its facts first"),
            )
        )
    return reasons


def _seen_by_visit(
    machine: Machine, settings: ClusterSettings | None, missing: str, advice: str
) -> str:
    """``advice`` is to gather the facts: nothing for a machine that cannot be visited."""
    return advice if _has_credential(machine, settings) else missing


def _has_credential(machine: Machine, settings: ClusterSettings | None) -> bool:
    return signing.choose(machine, settings.credential if settings else None) is not None


def machine_of(member: OperationMachine) -> Machine:
    if member.machine is None:
        raise PermanentError(
            Sentence("Machine %(machine)s was deleted meanwhile.", machine=member), code="gone"
        )
    return member.machine


def ssh_target(machine: Machine, settings: ClusterSettings | None) -> ssh.Target:
    """How the drivers reach it; ``Conflict`` while a changed key waits for a person."""
    return credentials.target_for(machine, credential=credential_of(machine, settings))


def ansible_host(
    member: OperationMachine, settings: ClusterSettings | None, variables: Mapping[str, Any]
) -> Host:
    """The inventory entry of one machine; its key there is ``m<OperationMachine key>``.

    ``Conflict`` while a changed host key waits for a person.
    """
    machine = machine_of(member)
    host_keys.require_unblocked(machine)
    credential = credential_of(machine, settings)
    key = credential.private_key
    if key:
        key = ssh.decrypt_private_key(key, credential.passphrase or None)
    return Host(
        key=f"m{member.pk}",
        address=machine.address,
        port=credential.port,
        user=credential.user,
        host_key=machine.host_key,
        private_key=key,
        password=credential.password,
        become=credential.become,
        become_password=credential.become_password,
        variables=variables,
    )


def settings_of(cluster_id: int) -> ClusterSettings | None:
    return ClusterSettings.objects.select_related("credential").filter(cluster=cluster_id).first()
