"""What people do with nodes."""

from collections.abc import Callable

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from beidou.base import audit, permissions
from beidou.base.errors import Conflict, ExternalError, InvalidInput
from beidou.base.models import AuditEntry, User
from beidou.base.sentences import Sentence
from clusters.models import Cluster, Node
from clusters.services import connections

Blocker = Callable[[Node], str | None]
Hold = Callable[[Cluster], Sentence | None]
_blockers: list[Blocker] = []
_holds: list[Hold] = []


def register_blocker(blocker: Blocker) -> None:
    """Let an app above say why a node must not be opened by hand now (a sentence), from its
    ``ready``."""
    if blocker not in _blockers:
        _blockers.append(blocker)


def register_hold(hold: Hold) -> None:
    """Let an app above say what changes of a cluster have to wait for now (“the window …”), from
    its ``ready``."""
    if hold not in _holds:
        _holds.append(hold)


def hold_of(cluster: Cluster) -> Sentence | None:
    """What changes of the cluster have to wait for; None when they may begin now."""
    return next((what for hold in _holds if (what := hold(cluster)) is not None), None)


def set_cordoned(
    *, node: Node, cordoned: bool, reason: str, acting_user: User, break_glass: bool = False
) -> Node:
    """Close a node for new pods, or open it again; audited, also when the cluster refuses.

    The row is changed at once with what the cluster answered; the collector confirms it.
    ``Conflict`` when a node is to be opened that something keeps closed, and while changes of the
    cluster have to wait, unless the glass is broken, which needs the right to approve.
    """
    verb = "cordon" if cordoned else "uncordon"
    reason = reason.strip()
    if not reason:
        text = _("Say why; the reason is kept in the audit trail.")
        raise InvalidInput(text, fields={"reason": text})
    why = next((why for block in _blockers if (why := block(node))), None)
    if why is not None and not cordoned:
        raise Conflict(why, code="node_held")
    if (hold := hold_of(node.cluster)) is not None:
        if not break_glass:
            raise Conflict(held_sentence(node.cluster, hold), code="held")
        permissions.require(acting_user, node, permissions.APPROVE)
        after = {"waited_for": hold.english, "to": verb}
        audit.record("break glass", node, after=after, reason=reason)
    before = {"unschedulable": node.unschedulable}
    try:
        with connections.client_for(node.cluster) as client:
            answer = client.set_unschedulable(node.name, cordoned)
    except ExternalError as error:
        audit.record(
            verb,
            node,
            before=before,
            after={"error": error.message},
            reason=reason,
            outcome=AuditEntry.Outcome.FAILED,
        )
        raise
    with transaction.atomic():
        Node.objects.filter(pk=node.pk).update(
            unschedulable=answer.unschedulable,
            resource_version=answer.resource_version,
            observed_at=timezone.now(),
        )
        node.unschedulable = answer.unschedulable
        audit.record(
            verb,
            node,
            before=before,
            after={"unschedulable": answer.unschedulable},
            reason=reason,
        )
    return node


def held_sentence(cluster: Cluster, hold: Sentence) -> str:
    return _(
        "Changes of %(cluster)s wait for %(what)s. Whoever may approve there can do it in spite of "
        "that."
    ) % {"cluster": cluster.name, "what": hold}
