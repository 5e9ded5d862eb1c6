"""Grants of namespaces: given and taken by whoever may grant roles on the cluster, many at once.

What a store has labelled by them is noted as stale in the same transaction: see ``relabelling``.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from django.contrib.auth.models import Group
from django.db.models import Exists, OuterRef, QuerySet, Value
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from beidou.base import audit, tasks
from beidou.base.errors import Conflict, InvalidInput, shorten
from beidou.base.sentences import Sentence
from clusters.models import Cluster
from clusters.services import grants
from events.models import NamespaceGrant, StaleLabel
from events.services.stores import chosen

AT_ONCE: Final = 2000
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def give(
    *, team: Group, cluster: Cluster, namespaces: Iterable[str], user: Any
) -> list[NamespaceGrant]:
    """The team sees their events from now on; gives the new grants.  Conflict without any."""
    grants.require_may_grant(user, cluster)
    wanted = checked(namespaces)
    with grants.changing_rights():
        names = new(team, cluster, wanted)
        made = NamespaceGrant.objects.bulk_create(
            NamespaceGrant(team=team, cluster=cluster, namespace=name) for name in names
        )
        _note(team.pk, cluster.uid, names)
        for row in made:
            audit.record("grant", row, after=audit.snapshot(row), name=str(row))
    return made


def new(team: Group, cluster: Cluster, wanted: list[str]) -> list[str]:
    """Those that the team has not; Conflict where it has them all."""
    there = set(_of(team, cluster, wanted).values_list("namespace", flat=True))
    names = [name for name in wanted if name not in there]
    if not names:
        raise Conflict(
            _("Team %(team)s was granted all of this already.") % {"team": team.name},
            code="already_granted",
        )
    return names


def take(*, rows: Iterable[NamespaceGrant], user: Any) -> int:
    """Take back what is given by these rows, from now on; gives how many that was."""
    by_place: dict[tuple[Group, Cluster], list[NamespaceGrant]] = {}
    for row in rows:
        by_place.setdefault((row.team, row.cluster), []).append(row)
    for _team, cluster in by_place:
        grants.require_may_grant(user, cluster)
    with grants.changing_rights():
        for (team, cluster), found in by_place.items():
            _note(team.pk, cluster.uid, [row.namespace for row in found])
            for row in found:
                audit.record("revoke", row, before=audit.snapshot(row), name=str(row))
            NamespaceGrant.objects.filter(pk__in=[row.pk for row in found]).delete()
    return sum(map(len, by_place.values()))


def given(team: Group, cluster: Cluster, namespaces: Iterable[str]) -> list[NamespaceGrant]:
    """Those of these namespaces that are granted."""
    return list(_of(team, cluster, checked(namespaces)).select_related("team", "cluster"))


def checked(namespaces: Iterable[str]) -> list[str]:
    """Each once, in order; InvalidInput where there is none, too many, or one that cannot be."""
    wanted = list(dict.fromkeys(name for each in namespaces if (name := each.strip())))
    if not wanted:
        raise _refusal(_("Name at least one namespace."))
    if len(wanted) > AT_ONCE:
        sentence = ngettext(
            "At most %(count)d namespace at once.", "At most %(count)d namespaces at once.", AT_ONCE
        )
        raise _refusal(sentence % {"count": AT_ONCE})
    wrong = next((name for name in wanted if not _NAME.fullmatch(name)), None)
    if wrong is not None:
        raise _refusal(_("“%(name)s” is no name of a namespace.") % {"name": shorten(wrong, 80)})
    return wanted


def with_state(rows: QuerySet[NamespaceGrant]) -> QuerySet[NamespaceGrant]:
    """Each with whether older events ``follow``: they are not labelled yet."""
    if chosen.store().label_delay is None:
        return rows.annotate(follow=Value(value=False))
    stale = StaleLabel.objects.filter(
        team_key=OuterRef("team"),
        cluster_uid=OuterRef("cluster__uid"),
        namespace=OuterRef("namespace"),
        looked_at=None,
    )
    return rows.annotate(follow=Exists(stale))


# --- what goes with others ------------------------------------------------------------------------


def gone_with_team(*, instance: Group, **kwargs: Any) -> None:
    """A deleted team takes its grants along: each is revoked, which the clusters' owners read."""
    rows = NamespaceGrant.objects.filter(team=instance).select_related("team", "cluster")
    by_cluster: dict[str, list[str]] = {}
    found = list(rows.order_by("pk"))
    for row in found:
        by_cluster.setdefault(row.cluster.uid, []).append(row.namespace)
    for uid, names in by_cluster.items():
        _note(instance.pk, uid, names)
    for row in found:
        audit.record(
            "revoke",
            row,
            before=audit.snapshot(row),
            name=str(row),
            reason=Sentence("the team was deleted"),
        )


def gone_with_cluster(cluster: Cluster, _reason: str) -> None:
    """Its events may still be there when the same cluster is adopted anew."""
    by_team: dict[int, list[str]] = {}
    rows = NamespaceGrant.objects.filter(cluster=cluster).order_by("pk")
    for team, name in rows.values_list("team_id", "namespace"):
        by_team.setdefault(team, []).append(name)
    for team, names in by_team.items():
        _note(team, cluster.uid, names)


def _of(team: Group, cluster: Cluster, namespaces: list[str]) -> QuerySet[NamespaceGrant]:
    return NamespaceGrant.objects.filter(team=team, cluster=cluster, namespace__in=namespaces)


def _note(team: int, cluster_uid: str, namespaces: Sequence[str]) -> None:
    """Noted whatever the store: tomorrow it may be another, which was labelled long ago."""
    now = timezone.now()
    StaleLabel.objects.bulk_create(
        [
            StaleLabel(team_key=team, cluster_uid=cluster_uid, namespace=name, changed_at=now)
            for name in namespaces
        ],
        update_conflicts=True,
        unique_fields=["team_key", "cluster_uid", "namespace"],
        update_fields=["changed_at", "looked_at"],
        batch_size=500,
    )
    if chosen.store().label_delay is not None:
        tasks.enqueue_on_commit("events.tasks.relabel")


def _refusal(sentence: str) -> InvalidInput:
    return InvalidInput(sentence, fields={"namespaces": sentence})
