"""Adopting a cluster, replacing its credential, and asking again what we may do there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.urls import reverse
from django.utils.translation import gettext as _

from beidou.base import audit
from beidou.base.errors import Conflict, InvalidInput
from beidou.base.models import User
from clusters.drivers import kubeconfig
from clusters.models import VERSION_LENGTH, Cluster, ClusterCredential, ClusterGrant
from clusters.services import capabilities, connections, grants
from clusters.services.checking import Check, Findings, Source


class AlreadyAdopted(Conflict):
    """The cluster is known; ``cluster_id`` and ``url`` lead to it."""

    code = "already_adopted"

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(
            _("This cluster is adopted already, under the name %(name)s.") % {"name": cluster.name}
        )
        self.cluster_id = cluster.pk
        self.url = reverse("admin:clusters_cluster_change", args=[cluster.pk])
        self.fields = {"cluster": self.url}


@dataclass(frozen=True)
class Details:
    """What people say about a cluster.

    ``team_owns``: the owner team is granted the role Owner, or nobody but superusers and teams
    with a matching label grant would see the new cluster.  Always so when somebody else adopts.
    """

    name: str
    description: str = ""
    environment: str = ""
    region: str = ""
    contact: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    team: Group | None = None
    team_owns: bool = False


def refuse_known(uid: str) -> None:
    """Raise ``AlreadyAdopted`` when a cluster with this identity exists."""
    known = Cluster.objects.filter(uid=uid).first()
    if known is not None:
        raise AlreadyAdopted(known)


def check(source: Source) -> Findings:
    """Run all steps for a new cluster; nothing is written, here or there."""
    run = Check(source, accept_uid=refuse_known)
    for _step in run.run():
        pass
    return run.findings


def adopt(*, source: Source, details: Details, user: User | None = None) -> Cluster:
    """Check the cluster once more and store it.

    ``user`` is the person who adopts, None for a program.  Raises what the failed step raised, and
    ``InvalidInput`` for the details.
    """
    if user is not None and not user.is_superuser:
        details = owned_by_own_team(details, user)
    cluster = Cluster(
        name=details.name,
        description=details.description,
        environment=details.environment,
        region=details.region,
        contact=details.contact,
        labels=validate_labels(details.labels),
        team=details.team,
        type=Cluster.Type.ADOPTED,
        phase=Cluster.Phase.RUNNING,
    )
    validate(cluster)
    findings = check(source)
    connection, identity, version = findings.complete()
    cluster.uid = findings.uid
    cluster.server = connection.server
    cluster.insecure_tls = connection.insecure_skip_tls_verify
    cluster.version = version.git_version[:VERSION_LENGTH]
    cluster.pod_cidr, cluster.service_cidr = (text[:200] for text in findings.networks)
    cluster.capabilities = findings.capabilities
    cluster.server_certificate_expires_at = findings.server_certificate_expires_at
    try:
        with grants.changing_rights():
            cluster.save()
            ClusterCredential.objects.create(
                cluster=cluster,
                kubeconfig=kubeconfig.to_kubeconfig(connection),
                subject=identity.username[:300],
                expires_at=findings.credential_expires_at,
            )
            if details.team and details.team_owns:
                ClusterGrant.objects.create(
                    team=details.team, cluster=cluster, role=ClusterGrant.Role.OWNER
                )
            grants.derive(cluster)
            audit.record("adopt", cluster, after=audit.snapshot(cluster))
    except IntegrityError:
        # Somebody adopted it, or took the name, between the check and the write.
        refuse_known(findings.uid)
        raise Conflict(
            _("There is a cluster named %(name)s already.") % {"name": details.name},
            code="name_taken",
        ) from None
    return cluster


def owned_by_own_team(details: Details, user: User) -> Details:
    """Who sees clusters by grants alone must not lose the new one out of sight."""
    if details.team is None or not user.groups.filter(pk=details.team.pk).exists():
        text = _("Choose one of your own teams; it becomes the owner of the cluster.")
        raise InvalidInput(text, code="not_own_team", fields={"team": text})
    return replace(details, team_owns=True)


def same_cluster(cluster: Cluster) -> Callable[[str], None]:
    """For a check: raises Conflict when the credential leads to another cluster."""

    def accept(uid: str) -> None:
        if uid != cluster.uid:
            raise Conflict(
                _(
                    "The credential leads to another cluster: its identity is %(found)s, "
                    "that of %(name)s is %(wanted)s."
                )
                % {"found": uid, "name": cluster.name, "wanted": cluster.uid},
                code="another_cluster",
            )

    return accept


def replace_credential(*, cluster: Cluster, source: Source, reason: str = "") -> Findings:
    """Sign in differently at the same cluster; Conflict when it is another one."""

    run = Check(source, accept_uid=same_cluster(cluster))
    for _step in run.run():
        pass
    findings = run.findings
    connection, identity, version = findings.complete()
    with transaction.atomic():
        old = ClusterCredential.objects.filter(cluster=cluster).first()
        before = _credential_facts(cluster, old)
        credential, _created = ClusterCredential.objects.update_or_create(
            cluster=cluster,
            defaults={
                "kubeconfig": kubeconfig.to_kubeconfig(connection),
                "subject": identity.username[:300],
                "expires_at": findings.credential_expires_at,
            },
        )
        cluster.server = connection.server
        cluster.insecure_tls = connection.insecure_skip_tls_verify
        cluster.version = version.git_version[:VERSION_LENGTH]
        cluster.capabilities = findings.capabilities
        cluster.save(update_fields=["server", "insecure_tls", "version", "capabilities"])
        audit.record(
            "replace_credential",
            cluster,
            before=before,
            after=_credential_facts(cluster, credential),
            reason=reason,
        )
    return findings


def refresh_capabilities(*, cluster: Cluster) -> list[dict[str, Any]]:
    """Ask the cluster again what its credential may do, and store the answer."""
    with connections.client_for(cluster) as client:
        rows = capabilities.report(client, client.whoami())
    with transaction.atomic():
        before = {row["key"]: row["ok"] for row in cluster.capabilities}
        cluster.capabilities = rows
        Cluster.objects.filter(pk=cluster.pk).update(capabilities=rows)
        old, new = audit.difference(before, {row["key"]: row["ok"] for row in rows})
        audit.record("refresh_capabilities", cluster, before=old, after=new)
    return rows


def edit(*, cluster: Cluster, changes: Mapping[str, Any], reason: str = "") -> Cluster:
    """Change what people say about a cluster; rights by label follow its labels."""
    before = audit.snapshot(Cluster.objects.get(pk=cluster.pk))
    for name, value in changes.items():
        setattr(cluster, name, validate_labels(value) if name == "labels" else value)
    validate(cluster)
    # simple-history takes its reason from an attribute of this name.
    setattr(cluster, "_change_reason", reason[:100])  # noqa: B010 - the model does not declare it
    with grants.changing_rights():
        # These fields alone: the collector writes the others at the same time.
        cluster.save(update_fields=list(changes))
        grants.derive(cluster)
        after = {name: audit.snapshot(cluster)[name] for name in changes}
        old, new = audit.difference(before, after)
        if new:
            audit.record("change", cluster, before=old, after=new, reason=reason)
    return cluster


def validate_labels(labels: Any) -> dict[str, str]:
    """Labels as a flat mapping of texts, without outer blanks; InvalidInput otherwise.

    Grants and filters name them as key=value and must be able to: see ``listing.with_label``.
    """
    if not isinstance(labels, Mapping) or not all(
        isinstance(key, str) and isinstance(value, str) for key, value in labels.items()
    ):
        text = _('Labels are a mapping of texts, for example {"tier": "gold"}.')
        raise InvalidInput(text, fields={"labels": text})
    trimmed = {key.strip(): value.strip() for key, value in labels.items()}
    for key in trimmed:
        if not key or not key.isprintable() or any(sign in key for sign in '="\\'):
            text = _('“%(key)s” is no label key: it is a text without =, " and \\.') % {"key": key}
            raise InvalidInput(text, fields={"labels": text})
    return trimmed


def _credential_facts(cluster: Cluster, credential: ClusterCredential | None) -> dict[str, Any]:
    return {
        "server": cluster.server,
        "insecure_tls": cluster.insecure_tls,
        "subject": credential.subject if credential else "",
        "expires_at": credential.expires_at if credential else None,
    }


def validate(cluster: Cluster) -> None:
    try:
        cluster.full_clean(exclude=["uid", "server"])
    except ValidationError as error:
        fields = {name: " ".join(texts) for name, texts in error.message_dict.items()}
        first = next(iter(fields.items()))
        raise InvalidInput(f"{first[0]}: {first[1]}", fields=fields) from error
