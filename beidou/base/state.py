"""The one writer of status fields: compare-and-set, and a row for every change.

A stateful model declares ``STATUS_FIELD``, ``TRANSITIONS`` (state -> states that may follow) and a
concrete subclass of ``StatusChange`` with ``related_name="status_changes"``.  ``change_status``
refuses what the table does not list, and it refuses to overwrite a state that somebody else has
changed meanwhile: the row count of the conditional UPDATE decides, no lock is held.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from django.db import connection, models, transaction
from django.db.models.functions import Cast
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from beidou.base import context
from beidou.base.errors import Conflict
from beidou.base.sentence_fields import SentenceField
from beidou.base.sentences import Sentence, untranslated


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
        return str(self._label(state))

    def state_sentence(self, state: str) -> Sentence:
        """The same for sentences that are stored."""
        return untranslated(self._label(state))

    def _label(self, state: str) -> Any:
        field = self._meta.get_field(self.STATUS_FIELD)
        choices: dict[str, Any] = dict(field.flatchoices)  # type: ignore[union-attr]
        return choices.get(state, state)


class StatusChange(models.Model):
    """One change of state: the history, the audit trail and the clock of a stateful row.

    Concrete classes add the foreign key ``subject`` to the stateful model.
    """

    old = models.CharField(_("from"), max_length=32)
    new = models.CharField(_("to"), max_length=32)
    reason = SentenceField(_("reason"), limit=500, blank=True)
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
    if not obj.may_become(to):
        raise _forbidden(obj, to)
    values = {name: to, **(fields or {})}
    with transaction.atomic():
        changed = type(obj)._base_manager.filter(pk=obj.pk, **{name: old}).update(**values)
        if changed != 1:
            raise _overtaken(obj)
        obj.status_changes.create(  # type: ignore[attr-defined]
            old=old,
            new=to,
            reason=reason,
            actor=context.current().actor_name,
            **(extra or {}),
        )
    for key, value in values.items():
        setattr(obj, key, value)


@dataclass(frozen=True)
class Change:
    """One of many changes of state: the row as it was read, and what ``change_status`` takes."""

    obj: Stateful
    to: str
    reason: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


ROWS_AT_ONCE = 200


def change_statuses(changes: Iterable[Change]) -> dict[Any, Conflict]:
    """``change_status`` for many rows of one model in few queries, in one transaction.

    A change that cannot be made keeps no other from being made: what is refused is returned by key
    instead of raised, and nothing was written for it.
    """
    refused: dict[Any, Conflict] = {}
    alike: dict[tuple[str, str, tuple[str, ...]], list[Change]] = {}
    for change in changes:
        if not change.obj.may_become(change.to):
            refused[change.obj.pk] = _forbidden(change.obj, change.to)
            continue
        old = getattr(change.obj, change.obj.STATUS_FIELD)
        alike.setdefault((old, change.to, tuple(sorted(change.fields))), []).append(change)
    with transaction.atomic():
        for group in alike.values():
            for first in range(0, len(group), ROWS_AT_ONCE):
                refused |= _change_alike(group[first : first + ROWS_AT_ONCE])
    return refused


def _change_alike(changes: Sequence[Change]) -> dict[Any, Conflict]:
    """Changes from one state to one other, all with the same names of fields."""
    model = type(changes[0].obj)
    name, to = model.STATUS_FIELD, changes[0].to
    old: str = getattr(changes[0].obj, name)
    rows = model._base_manager.filter(pk__in=[each.obj.pk for each in changes], **{name: old})
    # Locked, so that exactly these are changed and logged.
    found = set(rows.order_by("pk").select_for_update().values_list("pk", flat=True))
    done = [each for each in changes if each.obj.pk in found]
    values = {key: _values_of(model, key, done) for key in changes[0].fields} if done else {}
    model._base_manager.filter(pk__in=found).update(**{name: to, **values})
    subject: Any = model._meta
    log = subject.get_field("status_changes").related_model
    log._base_manager.bulk_create(
        log(
            subject=each.obj,
            old=old,
            new=to,
            reason=each.reason,
            actor=context.current().actor_name,
            **each.extra,
        )
        for each in done
    )
    for each in done:
        for key, value in {name: to, **each.fields}.items():
            setattr(each.obj, key, value)
    return {each.obj.pk: _overtaken(each.obj) for each in changes if each.obj.pk not in found}


def _values_of(model: type[models.Model], name: str, changes: Sequence[Change]) -> Any:
    """What ``update`` sets the field to: one value, or one for each row."""
    first = changes[0].fields[name]
    if all(each.fields[name] == first for each in changes):
        return first
    target: Any = model._meta.get_field(name)
    cases = []
    for each in changes:
        value = each.fields[name]
        plain = value.pk if isinstance(value, models.Model) else value
        cases.append(models.When(pk=each.obj.pk, then=models.Value(plain, output_field=target)))
    chosen = models.Case(*cases, output_field=target)
    if connection.features.requires_casted_case_in_updates:
        return Cast(chosen, output_field=target)
    return chosen


def _forbidden(obj: Stateful, to: str) -> Conflict:
    return Conflict(
        Sentence(
            "%(kind)s %(name)s is %(old)s and cannot become %(new)s.",
            kind=untranslated(obj._meta.verbose_name or ""),
            name=obj,
            old=obj.state_sentence(getattr(obj, obj.STATUS_FIELD)),
            new=obj.state_sentence(to),
        ),
        code="wrong_state",
    )


def _overtaken(obj: Stateful) -> Conflict:
    return Conflict(
        Sentence(
            "%(kind)s %(name)s is no longer %(old)s: somebody else was faster. Load it again.",
            kind=untranslated(obj._meta.verbose_name or ""),
            name=obj,
            old=obj.state_sentence(getattr(obj, obj.STATUS_FIELD)),
        ),
        code="changed_meanwhile",
    )
