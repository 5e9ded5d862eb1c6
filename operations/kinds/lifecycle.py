"""Moving machines through their lives on behalf of an operation."""

from django.utils import timezone

from beidou.base.state import change_status
from machines.models import Machine
from operations.models import Operation


def move(machine: Machine, to: str, *, operation: Operation, reason: str, **fields: object) -> None:
    """Change the machine's state because of ``operation``; nothing happens when it is there
    already."""
    machine.refresh_from_db(fields=["state"])
    if machine.state == to:
        return
    change_status(
        machine,
        to=to,
        reason=reason,
        fields={"state_since": timezone.now(), **fields},
        extra={"operation": operation.pk},
    )
