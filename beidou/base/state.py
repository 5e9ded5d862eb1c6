"""The one writer of status fields: compare-and-set, and a row for every change.

A stateful model declares ``STATUS_FIELD``, ``TRANSITIONS`` (state -> states that may follow) and a
concrete subclass of ``StatusChange`` with ``related_name="status_changes"``.  ``change_status``
refuses what the table does not list, and it refuses to overwrite a state that somebody else has
changed meanwhile: the row count of the conditional UPDATE decides, no lock is held.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from beidou.base import context
from beidou.base.errors import Conflict


class Stateful(models.Model):
    """A model whose status is changed by ``change_status`` only."""

    STATUS_FIELD: ClassVar[str] = "status"
    TRANSITIONS: ClassVar[Mapping[str, frozenset[str]]] = {}

    class Meta:
        abstract = True

    def may_become(self, to: str) -> bool:
        return to in self.TRANSITIONS.get(getattr(self, self.STATUS_FIELD), frozenset())

    def state_label(self, state: str) -> str:
        """The word a person reads for ``state``."""
        field = self._meta.get_field(self.STATUS_FIELD)
        choices: dict[str, Any] = dict(field.flatchoices)  # type: ignore[union-attr]
        return str(choices.get(state, state))


class StatusChange(models.Model):
    """One change of state: the history, the audit trail and the clock of a stateful row.

    Concrete classes add the foreign key ``subject`` to the stateful model.
    """

    old = models.CharField(_("from"), max_length=32)
    new = models.CharField(_("to"), max_length=32)
    reason = models.CharField(_("reason"), max_length=500, blank=True)
    actor = models.CharField(_("by"), max_length=150, blank=True)
    at = models.DateTimeField(_("at"), default=timezone.now)

    class Meta:
        abstract = True
        ordering = ["at", "id"]

    def __str__(self) -> str:
        return f"{self.old} → {self.new}"


def change_status(
    obj: Stateful,
    *,
    to: str,
    reason: str = "",
    fields: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Move ``obj`` from the state it was read in to ``to``, and set ``fields`` in the same UPDATE.

    ``extra`` goes into the StatusChange row (for example the operation that caused it).  Raises
    ``Conflict`` when the table forbids the transition or when the row is no longer in the state it
    was read in.  The actor is taken from the context of the request, command or task.
    """
    name = obj.STATUS_FIELD
    old: str = getattr(obj, name)
    if to not in obj.TRANSITIONS.get(old, frozenset()):
        raise Conflict(
            gettext("%(kind)s %(name)s is %(old)s and cannot become %(new)s.")
            % {
                "kind": obj._meta.verbose_name,
                "name": obj,
                "old": obj.state_label(old),
                "new": obj.state_label(to),
            },
            code="wrong_state",
        )
    values = {name: to, **(fields or {})}
    with transaction.atomic():
        changed = type(obj)._base_manager.filter(pk=obj.pk, **{name: old}).update(**values)
        if changed != 1:
            raise Conflict(
                gettext(
                    "%(kind)s %(name)s is no longer %(old)s: "
                    "somebody else was faster. Load it again."
                )
                % {
                    "kind": obj._meta.verbose_name,
                    "name": obj,
                    "old": obj.state_label(old),
                },
                code="changed_meanwhile",
            )
        obj.status_changes.create(  # type: ignore[attr-defined]
            old=old,
            new=to,
            reason=reason[:500],
            actor=context.current().actor_name,
            **(extra or {}),
        )
    for field, value in values.items():
        setattr(obj, field, value)
