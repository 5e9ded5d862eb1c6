"""What people do with nodes."""

from collections.abc import Callable

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from beidou.base import audit
from beidou.base.errors import Conflict, ExternalError, InvalidInput
from beidou.base.models import AuditEntry
from clusters.models import Node
from clusters.services import connections

Blocker = Callable[[Node], str | None]
_blockers: list[Blocker] = []


def register_blocker(blocker: Blocker) -> None:
    """Let an app above say why a node must not be opened by hand now (a sentence), from its
    ``ready``."""
    if blocker not in _blockers:
        _blockers.append(blocker)


def set_cordoned(*, node: Node, cordoned: bool, reason: str) -> Node:
    """Close a node for new pods, or open it again; audited, also when the cluster refuses.

    The row is changed at once with what the cluster answered; the collector confirms it.
    ``Conflict`` when a node is to be opened that something keeps closed; closing one is always
    possible.
    """
    verb = "cordon" if cordoned else "uncordon"
    reason = reason.strip()
    if not reason:
        text = _("Say why; the reason is kept in the audit trail.")
        raise InvalidInput(text, fields={"reason": text})
    why = next((why for block in _blockers if (why := block(node))), None)
    if why is not None and not cordoned:
        raise Conflict(why, code="node_held")
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
        after = {"unschedulable": answer.unschedulable}
        audit.record(verb, node, before=before, after=after, reason=reason)
    return node
