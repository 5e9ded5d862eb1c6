"""Grants of roles to teams, and the object permissions that follow from them.

People edit ``ClusterGrant`` rows; guardian's rows are derived.  ``derive`` compares what should be
with what is, so it may be called at any time and any number of times: overlapping grants add up,
and removing one leaves what the others give.  Whatever changes grants or labels does so inside
``changing_rights``, or two changes at the same time would each miss what the other one wrote.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.auth.models import Group, Permission
from django.db import IntegrityError
from django.db.models import Q
from django.utils.translation import gettext as _

from beidou.base import audit, permissions
from beidou.base.errors import Conflict, Forbidden, InvalidInput
from beidou.base.permissions import ROLES
from beidou.base.sentences import Sentence
from clusters.models import Cluster, ClusterGrant, ClusterGroupObjectPermission


@contextmanager
def changing_rights() -> Iterator[None]:
    """A transaction that waits for the others of its kind; entered before anything is written.
    Its audit entries come last, so that nobody who waits for those waits for rights too.

    The lock is a row that is always there: the permission to view clusters.
    """
    with audit.entries_last():
        locked = Permission.objects.select_for_update(no_key=True, of=("self",)).filter(
            content_type__app_label="clusters", codename="view_cluster"
        )
        list(locked.order_by("pk"))
        yield


def matches(grant: ClusterGrant, cluster: Cluster) -> bool:
    """Whether the grant is about this cluster, by name or by label."""
    if grant.cluster_id is not None:
        return grant.cluster_id == cluster.pk
    key, _equals, value = grant.label.partition("=")
    return key in cluster.labels and str(cluster.labels[key]) == value


def derive(cluster: Cluster) -> None:
    """Make guardian's rows of one cluster equal to what the grants say."""
    derive_all([cluster])


def derive_all(clusters: Iterable[Cluster] | None = None) -> None:
    """The same for several clusters, or for all of them; labels are read anew."""
    with changing_rights():
        chosen = Cluster.objects.only("pk", "labels")
        if clusters is not None:
            chosen = chosen.filter(pk__in=[cluster.pk for cluster in clusters])
        granted = list(ClusterGrant.objects.all())
        ids = _permission_ids()
        for cluster in chosen:
            _apply(cluster, _wanted(cluster, granted, ids))


def _wanted(
    cluster: Cluster, granted: list[ClusterGrant], ids: dict[str, int]
) -> set[tuple[int, int]]:
    return {
        (grant.team_id, ids[action])
        for grant in granted
        if matches(grant, cluster)
        for action in ROLES[grant.role]
    }


def _apply(cluster: Cluster, wanted: set[tuple[int, int]]) -> None:
    rows = ClusterGroupObjectPermission.objects.filter(content_object=cluster)
    present = {(row.group_id, row.permission_id): row.pk for row in rows}
    gone = [pk for pair, pk in present.items() if pair not in wanted]
    new = wanted - present.keys()
    if gone:
        ClusterGroupObjectPermission.objects.filter(pk__in=gone).delete()
    ClusterGroupObjectPermission.objects.bulk_create(
        [
            ClusterGroupObjectPermission(
                content_object=cluster, group_id=group, permission_id=permission
            )
            for group, permission in sorted(new)
        ],
        ignore_conflicts=True,
    )


def _permission_ids() -> dict[str, int]:
    """Keys of the model permissions by action."""
    names = {f"{action}_cluster": action for action in permissions.ACTIONS}
    rows = Permission.objects.filter(
        content_type__app_label="clusters",
        content_type__model="cluster",
        codename__in=names,
    ).values_list("codename", "pk")
    return {names[codename]: pk for codename, pk in rows}


def require_may_grant(user: Any, cluster: Cluster | None) -> None:
    """Owners grant roles on their cluster; grants by label need the model permission."""
    if user.has_perm("clusters.add_clustergrant"):
        return
    if cluster is not None and permissions.may(user, cluster, permissions.CHANGE):
        return
    raise Forbidden(
        _("Roles are granted by owners of the cluster; grants by label by administrators.")
    )


def require_may_grant_somewhere(user: Any) -> None:
    """As above, for whoever has not said yet on what."""
    if not permissions.may_anywhere(user, Cluster, permissions.CHANGE):
        require_may_grant(user, None)


def create_grant(
    *, team: Group, role: str, cluster: Cluster | None = None, label: str = "", user: Any
) -> ClusterGrant:
    """Grant a role on a cluster or on all clusters with a label ``key=value``."""
    require_may_grant(user, cluster)
    label = checked_target(cluster, label)
    if role not in ROLES:
        text = _("There is no role %(role)s; roles are %(all)s.") % {
            "role": role,
            "all": ", ".join(ROLES),
        }
        raise InvalidInput(text, fields={"role": text})
    try:
        with changing_rights():
            grant = ClusterGrant.objects.create(team=team, role=role, cluster=cluster, label=label)
            derive_all(None if cluster is None else [cluster])
            audit.record("grant", grant, after=audit.snapshot(grant), name=str(grant))
    except IntegrityError:
        raise Conflict(
            _("Team %(team)s has this role there already.") % {"team": team.name},
            code="already_granted",
        ) from None
    return grant


def checked_target(cluster: Cluster | None, label: str) -> str:
    """The label in its one spelling; InvalidInput unless there is a cluster or a label."""
    label = label.strip()
    if (cluster is None) == (not label):
        text = _("Name either a cluster or a label.")
        raise InvalidInput(text, fields={"cluster": text, "label": text})
    key, equals, value = label.partition("=")
    if label and not (key.strip() and equals and value.strip()):
        text = _("Write the label as key=value.")
        raise InvalidInput(text, fields={"label": text})
    return f"{key.strip()}={value.strip()}" if label else ""


def delete_grant(*, grant: ClusterGrant, user: Any, reason: str = "") -> None:
    """Take a role back; what other grants give stays."""
    cluster = grant.cluster
    require_may_grant(user, cluster)
    with changing_rights():
        audit.record("revoke", grant, before=audit.snapshot(grant), reason=reason, name=str(grant))
        grant.delete()
        derive_all(None if cluster is None else [cluster])


def gone_with_team(*, instance: ClusterGrant, origin: Any, **kwargs: Any) -> None:
    """A deleted team takes its grants along: each is revoked, which their clusters' owners read."""
    if getattr(origin, "model", type(origin)) is Group:
        audit.record(
            "revoke",
            instance,
            before=audit.snapshot(instance),
            name=str(instance),
            reason=Sentence("the team was deleted"),
        )


def grants_of(cluster: Cluster) -> list[ClusterGrant]:
    """All grants that are about the cluster, by name or by label."""
    rows = ClusterGrant.objects.select_related("team").filter(
        Q(cluster=cluster) | Q(cluster__isnull=True)
    )
    return [grant for grant in rows.order_by("team__name", "role") if matches(grant, cluster)]
