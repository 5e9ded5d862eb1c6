"""Whose deeds an operation's are: of whoever asked for it or, later, had it go on."""

from typing import Any

from beidou.base import permissions
from beidou.base.errors import Forbidden
from beidou.base.models import User
from beidou.base.sentences import Sentence
from operations.kinds import base as kinds
from operations.models import Operation


def name_of(operation: Operation) -> str:
    """The name of then."""
    asked = operation.status_changes.filter(new=Operation.Status.WAITING).last()
    return asked.actor if asked else operation.requested_by_name


def on_behalf_of(operation: Operation) -> dict[str, Any]:
    """For the entries of what a worker does."""
    name = name_of(operation)
    if name == operation.requested_by_name:
        key = operation.requested_by_id
    else:
        key = User.objects.filter(username=name).values_list("pk", flat=True).first()
    return {"actor_id": key, "actor_name": name or "system"}


def why_not_begin(operation: Operation) -> str:
    """Why it may not begin in that person's name any more; empty when it may.

    It may have waited for days: they were dismissed meanwhile, or moved to another team.
    """
    acting = on_behalf_of(operation)
    user = User.objects.filter(pk=acting["actor_id"], is_active=True).first()
    if user is None:
        return gone(name_of(operation))
    kind = kinds.get(operation.kind)
    try:
        permissions.require(user, operation, kind.permission)
        kind.require(operation, user)
    except Forbidden:
        return Sentence(
            "%(who)s, who asked for it, may not do this any more; whoever retries it carries it "
            "on.",
            who=user.get_username(),
        )
    return ""


def gone(name: str) -> Sentence:
    """The name is that of then: nothing else is left of them."""
    if not name:
        return Sentence(
            "Whoever asked for it has no account any more; whoever retries it carries it on."
        )
    return Sentence(
        "%(who)s, who asked for it, has no account any more; whoever retries it carries it on.",
        who=name,
    )
