"""A cluster that is made here: its row is there from the first moment on, its API comes later.

Until it is ``finish``ed it is in the phase PROVISIONING: nobody watches it, and nothing but its
creation is done to it (``docs/adr/0012``).
"""

import uuid

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from beidou.base import audit
from beidou.base.errors import Conflict, Forbidden, InvalidInput
from beidou.base.models import User
from beidou.base.state import change_status
from clusters.drivers import kubeconfig
from clusters.drivers.connection import Connection
from clusters.models import VERSION_LENGTH, Cluster, ClusterCredential, ClusterGrant
from clusters.services import adoption, grants
from clusters.services.adoption import Details
from clusters.services.checking import Check, Findings, Source

ADD = "clusters.add_cluster"
_NO_IDENTITY = "being-created-"


def require_may_create(user: User) -> None:
    if not user.has_perm(ADD):
        raise Forbidden(_("Creating clusters needs the permission to add clusters."))


def begin(
    *, details: Details, version: str, server: str, pod_cidr: str, service_cidr: str, user: User
) -> Cluster:
    """The row of a cluster that is to be made; who may adopt clusters may also create them.

    ``InvalidInput`` for the details, as with adopting; the owner team is granted the role Owner.
    """
    require_may_create(user)
    if not user.is_superuser:
        details = adoption.owned_by_own_team(details, user)
    cluster = Cluster(
        name=details.name,
        description=details.description,
        environment=details.environment,
        region=details.region,
        contact=details.contact,
        labels=adoption.validate_labels(details.labels),
        team=details.team,
        type=Cluster.Type.NATIVE,
        phase=Cluster.Phase.PROVISIONING,
        uid=f"{_NO_IDENTITY}{uuid.uuid4().hex}",
        server=server,
        version=version[:VERSION_LENGTH],
        pod_cidr=pod_cidr,
        service_cidr=service_cidr,
    )
    adoption.validate(cluster)
    try:
        with grants.changing_rights():
            cluster.save()
            cluster.status_changes.create(old="", new=cluster.phase, actor=user.get_username())
            if details.team and details.team_owns:
                ClusterGrant.objects.create(
                    team=details.team, cluster=cluster, role=ClusterGrant.Role.OWNER
                )
            grants.derive(cluster)
            audit.record("create cluster", cluster, after=audit.snapshot(cluster))
    except IntegrityError:
        sentence = _("There is a cluster named %(name)s already.") % {"name": details.name}
        raise Conflict(sentence, code="name_taken") from None
    return cluster


def store_access(*, cluster: Cluster, text: str) -> Findings:
    """Sign in with the administrator's kubeconfig of the new cluster, look, and keep it.

    Raises what the failed step of the look raised.  A creation that was begun anew has made another
    cluster than before: then its identity follows.
    """

    def accept(uid: str) -> None:
        other = Cluster.objects.filter(uid=uid).exclude(pk=cluster.pk).first()
        if other is not None:
            raise adoption.AlreadyAdopted(other)
        if not cluster.is_unmade and uid != cluster.uid:
            adoption.same_cluster(cluster)(uid)

    check = Check(Source(kubeconfig=text), accept_uid=accept)
    for _step in check.run():
        pass
    findings = check.findings
    connection, identity, version = findings.complete()
    cluster.uid = findings.uid
    cluster.server = connection.server
    cluster.version = version.git_version[:VERSION_LENGTH]
    cluster.capabilities = findings.capabilities
    cluster.server_certificate_expires_at = findings.server_certificate_expires_at
    with transaction.atomic():
        cluster.save(
            update_fields=[
                "uid", "server", "version", "capabilities", "server_certificate_expires_at",
            ]
        )  # fmt: skip
        _keep(cluster, connection, identity.username, findings)
        audit.record("replace_credential", cluster, after={"subject": identity.username})
    return findings


def _keep(cluster: Cluster, connection: Connection, subject: str, findings: Findings) -> None:
    ClusterCredential.objects.update_or_create(
        cluster=cluster,
        defaults={
            "kubeconfig": kubeconfig.to_kubeconfig(connection),
            "subject": subject[:300],
            "expires_at": findings.credential_expires_at,
        },
    )


def finish(*, cluster: Cluster, reason: str) -> None:
    """From here on it is a cluster like others: the collector watches it, everything may be done.

    Asks once more what may be done there, since the network and the rest have come meanwhile.
    """
    if not cluster.is_unmade:
        return
    if not ClusterCredential.objects.filter(cluster=cluster).exists():
        raise InvalidInput(_("The cluster has no credential yet."), code="no_credential")
    adoption.refresh_capabilities(cluster=cluster)
    with audit.entries_last():
        change_status(cluster, to=Cluster.Phase.RUNNING, reason=reason)
        audit.record("finish cluster", cluster, after={"phase": cluster.phase}, reason=reason)
