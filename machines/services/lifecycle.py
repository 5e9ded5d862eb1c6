"""Machines change state: what people may do by hand, and what operations do.

The table of all transitions stands at the model.  People may do a part of it: they may say that a
machine is free, aside, back or gone; everything between *Reserved* and *Leaving* describes what an
operation does at the moment and is left to operations.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

from django.db import models, transaction
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from beidou.base import audit, permissions
from beidou.base.errors import Conflict, InvalidInput
from beidou.base.state import change_status
from machines.models import Machine

State = Machine.State
REASON_LIMIT: Final = 500
_FROM_CLUSTER_FREE: Final = frozenset({State.AVAILABLE, State.RETIRED})


class Action(models.TextChoices):
    """What a person can do to a machine's state."""

    MAKE_AVAILABLE = "make_available", gettext_lazy("Make available")
    MAINTENANCE = "maintenance", gettext_lazy("To maintenance")
    FAULTY = "faulty", gettext_lazy("Mark as faulty")
    BACK = "back", gettext_lazy("Bring back")
    RETIRE = "retire", gettext_lazy("Retire")


BY_HAND: Final[dict[str, frozenset[str]]] = {
    State.DISCOVERED: frozenset({State.AVAILABLE, State.MAINTENANCE, State.FAULTY}),
    State.AVAILABLE: frozenset({State.MAINTENANCE, State.FAULTY, State.RETIRED}),
    State.RESERVED: frozenset({State.MAINTENANCE, State.FAULTY}),
    State.JOINING: frozenset({State.MAINTENANCE, State.FAULTY}),
    State.IN_SERVICE: frozenset({State.MAINTENANCE, State.FAULTY}),
    State.CORDONED: frozenset({State.MAINTENANCE, State.FAULTY}),
    State.DRAINING: frozenset({State.MAINTENANCE, State.FAULTY}),
    State.LEAVING: frozenset({State.MAINTENANCE, State.FAULTY}),
    State.MAINTENANCE: frozenset(
        {State.AVAILABLE, State.IN_SERVICE, State.CORDONED, State.FAULTY, State.RETIRED}
    ),
    State.FAULTY: frozenset(
        {State.AVAILABLE, State.IN_SERVICE, State.CORDONED, State.MAINTENANCE, State.RETIRED}
    ),
    State.RETIRED: frozenset(),
}

FIXED_WHILE_HELD: Final = frozenset(
    {"address", "hostname", "credential", "owner_team", "system_uuid"}
)
"""What an operation reaches a machine by, and knows it by: the same from its first step to its
last."""

Blocker = Callable[[Machine], str | None]
_blockers: dict[str, Blocker] = {}


def register_blocker(name: str, blocker: Blocker) -> None:
    """Let an app above say why a machine must be left alone (a sentence), from its ``ready``."""
    _blockers[name] = blocker


def held_by(machine: Machine) -> str | None:
    """Why no person may change this machine's state now, or None."""
    return next((reason for block in _blockers.values() if (reason := block(machine))), None)


def edit_refusal(machine: Machine, fields: Collection[str]) -> str | None:
    """Why no person may change these fields of ``machine`` now, as a sentence, or None."""
    fixed = sorted(FIXED_WHILE_HELD & set(fields))
    why = held_by(machine) if fixed else None
    if why is None:
        return None
    names = [str(Machine._meta.get_field(name).verbose_name) for name in fixed]  # type: ignore[union-attr]
    return _("%(why)s Until it has ended these stay as they are: %(fields)s.") % {
        "why": why,
        "fields": ", ".join(names),
    }


def require_editable(machine: Machine, fields: Collection[str]) -> None:
    """Raises ``Conflict`` with the sentence of ``edit_refusal``."""
    if refused := edit_refusal(machine, fields):
        raise Conflict(refused, code="machine_held")


def transition(
    *,
    machine: Machine,
    to: str,
    reason: str,
    operation: int | None = None,
    **belonging: Any,
) -> None:
    """Move ``machine`` to ``to`` on behalf of the product; the model's table alone decides.

    ``operation`` is the key of the operation that does it.  ``cluster`` and ``node`` may be set in
    the same UPDATE; a machine that becomes free or retired loses both.  Raises ``Conflict``.
    """
    unknown = set(belonging) - {"cluster", "node"}
    if unknown:
        raise TypeError(f"transition() sets cluster and node, not {', '.join(sorted(unknown))}")
    if to in _FROM_CLUSTER_FREE:
        belonging = {"cluster": None, "node": None}
    before = {"state": machine.state}
    with transaction.atomic():
        change_status(
            machine,
            to=to,
            reason=reason,
            fields={"state_since": timezone.now(), **belonging},
            extra={"operation": operation},
        )
        audit.record(
            "change state",
            machine,
            before=before,
            after={"state": to, **({"operation": operation} if operation else {})},
            reason=reason,
        )


def ensure_state(
    *, machine: Machine, to: str, reason: str, operation: int | None = None, **belonging: Any
) -> bool:
    """Like ``transition``, but content when the machine already is there; True when it moved."""
    machine.refresh_from_db(fields=["state"])
    if machine.state == to:
        return False
    transition(machine=machine, to=to, reason=reason, operation=operation, **belonging)
    return True


def refusal(machine: Machine, to: str) -> str | None:
    """Why a person may not move ``machine`` to ``to`` by hand, as a sentence; None when they may.

    Rights and the reason are not looked at; ``transition_by_hand`` does.
    """
    words = {
        "machine": str(machine),
        "old": machine.state_label(machine.state),
        "new": machine.state_label(to),
    }
    if to not in State.values:
        return _("“%(new)s” is no state of a machine.") % {"new": to}
    if not machine.may_become(to):
        return _("%(machine)s is %(old)s and cannot become %(new)s.") % words
    if to not in BY_HAND[machine.state]:
        return (
            _("%(machine)s is %(old)s; only an operation makes it %(new)s, not a person.") % words
        )
    if to in _FROM_CLUSTER_FREE and machine.node_id is not None:
        words["node"] = str(machine.node)
        return (
            _(
                "%(machine)s is still the node %(node)s of a cluster and cannot become %(new)s; "
                "remove the node first."
            )
            % words
        )
    if to in Machine.IN_CLUSTER and machine.node_id is None:
        return _("%(machine)s is no node of a cluster and cannot become %(new)s.") % words
    return held_by(machine)


def transition_by_hand(*, machine: Machine, to: str, reason: str, acting_user: Any) -> None:
    """A person moves a machine; raises ``Forbidden``, ``InvalidInput`` or ``Conflict``."""
    permissions.require(acting_user, machine, permissions.OPERATE)
    reason = reason.strip()
    if not reason:
        sentence = _("Say why: the reason stays with the machine.")
        raise InvalidInput(sentence, fields={"reason": sentence})
    if len(reason) > REASON_LIMIT:
        sentence = _("The reason has more than %(limit)d characters.") % {"limit": REASON_LIMIT}
        raise InvalidInput(sentence, fields={"reason": sentence})
    refused = refusal(machine, to)
    if refused:
        raise Conflict(refused, code="wrong_state")
    transition(machine=machine, to=to, reason=reason)


def target_of(machine: Machine, action: str) -> str:
    """The state in which ``action`` ends; coming back means where the machine belongs now."""
    if action == Action.BACK:
        if machine.node_id is None:
            return State.AVAILABLE
        node = machine.node
        return State.CORDONED if node is not None and node.unschedulable else State.IN_SERVICE
    return {
        Action.MAKE_AVAILABLE: State.AVAILABLE,
        Action.MAINTENANCE: State.MAINTENANCE,
        Action.FAULTY: State.FAULTY,
        Action.RETIRE: State.RETIRED,
    }[Action(action)]


def act(*, machine: Machine, action: str, reason: str, acting_user: Any) -> None:
    """Do one of the ``Action``s; raises like ``transition_by_hand``."""
    if action not in Action.values:
        sentence = _("“%(action)s” is no action; there are %(all)s.") % {
            "action": action,
            "all": ", ".join(Action.values),
        }
        raise InvalidInput(sentence, fields={"action": sentence})
    refused = action_refusal(machine, action)
    if refused:
        permissions.require(acting_user, machine, permissions.OPERATE)
        raise Conflict(refused, code="wrong_state")
    transition_by_hand(
        machine=machine, to=target_of(machine, action), reason=reason, acting_user=acting_user
    )


def action_refusal(machine: Machine, action: str) -> str | None:
    """Why ``action`` is not possible now; coming *back* is for machines that are aside."""
    aside = machine.state in (State.MAINTENANCE, State.FAULTY)
    words = {"machine": str(machine), "old": machine.state_label(machine.state)}
    if action == Action.BACK and not aside:
        return _("%(machine)s is %(old)s: there is nothing to bring it back from.") % words
    if action == Action.MAKE_AVAILABLE and aside:
        return _("%(machine)s is %(old)s; bring it back instead.") % words
    return refusal(machine, target_of(machine, action))


@dataclass(frozen=True)
class Offer:
    """An action a page may offer as a button."""

    action: str
    label: str | Promise
    to: str


def offers(machine: Machine) -> list[Offer]:
    """The actions that are possible for ``machine`` as it is now."""
    return [
        Offer(action=action.value, label=action.label, to=target_of(machine, action))
        for action in Action
        if action_refusal(machine, action) is None
    ]
