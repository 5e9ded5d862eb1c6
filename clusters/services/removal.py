"""Un-adopting: a cluster leaves the portal but for its audit trail; it is not touched itself.

This app knows no app above it: those register in ``BLOCKERS`` what speaks against it, as operations
that have not ended, in ``CONSEQUENCES`` what a person should know before, in ``FOLLOWERS`` what
they do with rows of their own that outlive the cluster, and in ``SWEEPERS`` what they remove once
it is gone.
"""

from collections.abc import Callable

from django.db.models import ProtectedError, RestrictedError
from django.utils.translation import gettext as _

from beidou.base import audit
from beidou.base.errors import Conflict, InvalidInput
from beidou.base.models import Notice
from clusters.models import Cluster
from clusters.services import grants

Blocker = Callable[[Cluster], list[str]]
Consequence = Callable[[Cluster], list[str]]
Follower = Callable[[Cluster, str], None]
Sweeper = Callable[[int], None]
BLOCKERS: list[Blocker] = []
CONSEQUENCES: list[Consequence] = []
FOLLOWERS: list[Follower] = []
SWEEPERS: list[Sweeper] = []


def register_blocker(blocker: Blocker) -> None:
    """``blocker(cluster)`` gives one sentence per reason why it cannot be un-adopted now."""
    if blocker not in BLOCKERS:
        BLOCKERS.append(blocker)


def register_consequence(consequence: Consequence) -> None:
    """``consequence(cluster)`` gives sentences about what un-adopting it means for other rows."""
    if consequence not in CONSEQUENCES:
        CONSEQUENCES.append(consequence)


def register_follower(follower: Follower) -> None:
    """``follower(cluster, reason)`` is called in the transaction, while the cluster is there."""
    if follower not in FOLLOWERS:
        FOLLOWERS.append(follower)


def register_sweeper(sweeper: Sweeper) -> None:
    """``sweeper(key)`` is called in the transaction, when the cluster with this key is gone.

    For rows that no foreign key takes along: histories keep all versions of what was deleted.
    """
    if sweeper not in SWEEPERS:
        SWEEPERS.append(sweeper)


def consequences_of(cluster: Cluster) -> list[str]:
    return [sentence for consequence in CONSEQUENCES for sentence in consequence(cluster)]


def blockers_of(cluster: Cluster) -> list[str]:
    """Why the cluster cannot be un-adopted now; empty when it can."""
    return [sentence for blocker in BLOCKERS for sentence in blocker(cluster)]


def unadopt(*, cluster: Cluster, confirmation: str, reason: str = "") -> None:
    """Remove the cluster and all its rows; its audit entries stay.

    ``confirmation`` must be the cluster's name, typed by the person (InvalidInput otherwise).
    Conflict while something still needs the cluster.
    """
    if confirmation != cluster.name:
        text = _("Type the cluster's name, %(name)s, to confirm.") % {"name": cluster.name}
        raise InvalidInput(text, code="not_confirmed", fields={"confirm": text})
    pk = cluster.pk
    with grants.changing_rights():
        Cluster.objects.select_for_update().filter(pk=pk).first()
        sentences = blockers_of(cluster)
        if sentences:
            raise Conflict(" ".join(sentences), code="in_use")
        audit.record("unadopt", cluster, before=audit.snapshot(cluster), reason=reason)
        for follow in FOLLOWERS:
            follow(cluster, reason)
        try:
            cluster.delete()
        except (ProtectedError, RestrictedError) as error:
            raise Conflict(
                _("Other objects still depend on cluster %(name)s.") % {"name": cluster.name},
                code="in_use",
            ) from error
        Cluster.history.filter(id=pk).delete()
        Notice.objects.filter(cluster_id=pk).delete()
        for sweep in SWEEPERS:
            sweep(pk)
