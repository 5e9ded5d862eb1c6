"""With whose rights a task goes on, and what is said when that person was removed."""

from beidou.base import permissions
from beidou.base.models import User
from beidou.base.sentences import Sentence
from clusters.models import Cluster
from operations.flows.models import AutoOperationTask
from operations.models import Operation
from operations.services import acting


def person(task: AutoOperationTask) -> User | None:
    """None for one who was removed, or may not sign in any more."""
    user: User | None = task.acting_user
    return user if user is not None and user.is_active else None


def priority(wished: str, cluster: Cluster, user: User) -> str:
    """Of what begins now: high as long as the one with whose rights it goes on may have it so."""
    is_high = wished == Operation.Priority.HIGH
    if is_high and not permissions.may(user, cluster, permissions.APPROVE):
        return Operation.Priority.NORMAL
    return wished


def gone(task: AutoOperationTask) -> Sentence:
    return acting.gone(task.acting_name)
