"""The audit trail: one entry per write, in the same transaction, chained by hash.

digest(n) = SHA-256 over the canonical JSON (sorted keys, no spaces) of entry n's fields, which
include ``previous`` = digest(n-1).  Changing, removing or inserting an entry therefore breaks the
chain from there on, and ``AuditHead`` names the last entry so that a removed tail is seen too.
``verify`` walks it.

Whoever writes an entry holds the row of ``AuditHead`` until its transaction ends, and everybody
else waits.  A transaction that locks further rows afterwards can therefore wait for somebody who
waits for it.  So entries come last: by the order of the statements, or, where a transaction is
composed of several audited writes, by ``entries_last``.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from decimal import Decimal
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.functions import Cast
from django.utils import timezone
from django.utils.crypto import salted_hmac

from beidou.base import attempts, context, sentences, verbs
from beidou.base.fields import EncryptedTextField
from beidou.base.models import AuditEntry, AuditHead, AuditWords
from beidou.base.storable import storable

_CHAINED = (
    "id",
    "at",
    "actor_id",
    "actor",
    "address",
    "request_id",
    "verb",
    "object_type",
    "object_id",
    "object_name",
    "cluster_id",
    "before",
    "after",
    "reason",
    "outcome",
    "previous",
)
HIDDEN = "(not shown)"
_REASON = AuditEntry._meta.get_field("reason")

# The connection whose transaction keeps its entries for its end.
_kept_for: ContextVar[BaseDatabaseWrapper | None] = ContextVar("beidou_entries_last", default=None)


_LEAST_WITH_EXPONENT = 1e16  # from here on Python writes a float with an exponent


def _canonical(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), default=str).encode()


def digest_of(entry: AuditEntry) -> str:
    """Of what is stored: the reason, which may be a sentence, without any language."""
    values = {name: getattr(entry, name) for name in _CHAINED}
    values["at"] = entry.at.isoformat()
    stored: str | None = getattr(entry, "stored_reason", None)
    values["reason"] = _REASON.get_prep_value(entry.reason) if stored is None else stored
    return hashlib.sha256(_canonical(values)).hexdigest()


def record(
    verb: str,
    obj: models.Model | None = None,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    reason: str = "",
    outcome: str = AuditEntry.Outcome.DONE,
    name: str = "",
) -> AuditEntry:
    """One entry for the current actor; call it inside the transaction of the write itself, last.

    Inside ``entries_last`` the entry is written, and gets its key, when that ends.
    """
    who = context.current()
    entry = AuditEntry(
        at=timezone.now(),
        actor_id=who.actor_id,
        actor=who.actor_name[:150],
        address=who.address[:45],
        request_id=who.request_id[:64],
        verb=verb,
        object_type=obj._meta.label_lower if obj is not None else "",
        object_id=str(obj.pk or "") if obj is not None else "",
        object_name=(name or (str(obj) if obj is not None else ""))[:200],
        cluster_id=cluster_id_of(obj),
        before=_plain(before),
        after=_plain(after),
        reason=reason,
        outcome=outcome,
    )
    connection = connections[DEFAULT_DB_ALIAS]
    if _kept_for.get() is connection:
        connection.on_commit(_Kept(entry))
    else:
        _write([entry])
    return entry


class _Kept:
    """An entry that waits for the end of its transaction.

    It stands in the list of what is to be done after the commit, because Django takes out of that
    list what a rolled-back savepoint has put into it: then the entry goes with the write that it
    speaks of.
    """

    def __init__(self, entry: AuditEntry) -> None:
        self.entry = entry

    def __call__(self) -> None:
        """Nothing is left to do: it was written before the commit."""


@contextmanager
def entries_last() -> Iterator[None]:
    """A transaction that writes its audit entries as the last thing before it ends.

    Inside another one it is a savepoint, and the outermost writes the entries of all.
    """
    connection = connections[DEFAULT_DB_ALIAS]
    if _kept_for.get() is connection:
        with transaction.atomic():
            yield
        return
    with transaction.atomic():
        first = len(connection.run_on_commit)
        token = _kept_for.set(connection)
        try:
            yield
        finally:
            _kept_for.reset(token)
        left = [item[1] for item in connection.run_on_commit[first:]]
        _write([each.entry for each in left if isinstance(each, _Kept)])


def _write(entries: Sequence[AuditEntry]) -> None:
    """Put them at the end of the chain, which is locked from here to the end of the transaction."""
    if not entries:
        return
    with transaction.atomic():
        head, _ = AuditHead.objects.select_for_update().get_or_create(pk=1)
        for entry in entries:
            entry.id = head.entry_id + 1
            entry.previous = head.digest
            entry.digest = digest_of(entry)
            models.Model.save(entry, force_insert=True)
            head.entry_id, head.digest, head.count = entry.id, entry.digest, head.count + 1
        head.save()
        AuditWords.objects.bulk_create(
            AuditWords(entry_id=entry.id, text=words_of(entry)) for entry in entries
        )


def words_of(entry: AuditEntry) -> str:
    """Actor, action and reason as pages show them, one line for each language."""
    reason = sentences.from_column(_REASON.get_prep_value(entry.reason))
    lines: dict[str, None] = {}
    for _language in sentences.languages():
        shown = reason.now() if isinstance(reason, sentences.Sentence) else reason
        line = f"{verbs.actor(entry.actor)} {attempts.told(entry)} {shown}"
        lines[storable(line.strip())] = None
    return "\n".join(lines)


def _plain(values: Mapping[str, Any] | None) -> dict[str, Any]:
    """As JSON gives it back, so that the digest of the stored row equals that of the new one."""
    plain: dict[str, Any] = json.loads(
        json.dumps(sentences.in_english(dict(values or {})), default=str), parse_float=_as_stored
    )
    return plain


def _as_stored(text: str) -> float | int:
    """PostgreSQL keeps 1e+16 as a number without exponent, and so gives it back as an integer; it
    knows no -0.0."""
    number = float(text) + 0.0  # makes 0.0 of -0.0
    return int(Decimal(text)) if abs(number) >= _LEAST_WITH_EXPONENT else number


def cluster_id_of(obj: models.Model | None) -> int | None:
    """The key of the cluster that ``obj`` belongs to, by its ``access``; None without one."""
    access = getattr(obj, "access", None)
    if obj is None or access is None or access.cluster is None:
        return None
    value: Any = obj
    for part in filter(None, access.cluster.split("__")):
        value = getattr(value, part, None)
    return getattr(value, "pk", None)


def snapshot(obj: models.Model) -> dict[str, Any]:
    """The row's fields for ``before``/``after``, and the many-to-many fields that its class names
    in ``audited_relations``; secrets are named and marked, never copied."""
    values: dict[str, Any] = {}
    for field in obj._meta.concrete_fields:
        if getattr(field, "is_derived", False):
            continue  # it says again what another field says
        value = field.value_from_object(obj)
        if isinstance(field, EncryptedTextField) or field.name == "password":
            value = _masked(obj, field.name, value)
        values[field.name] = value
    return {**values, **relations(obj, getattr(obj, "audited_relations", ()))}


def _masked(obj: models.Model, name: str, secret: str) -> str:
    """A mark that differs when the secret does, so that replacing it is seen.

    It is keyed with SECRET_KEY and holds for this row and field alone: nobody can guess the secret
    with it, nor see that two rows have the same one.
    """
    if not secret:
        return ""
    salt = f"beidou.audit:{obj._meta.label_lower}:{obj.pk}:{name}"
    return f"{HIDDEN} #{salted_hmac(salt, secret, algorithm='sha256').hexdigest()[:8]}"


def relations(obj: models.Model, names: Iterable[str]) -> dict[str, list[str]]:
    """The members of the many-to-many fields ``names``, by their names in order."""
    if obj.pk is None:
        return {}
    return {name: sorted(str(other) for other in getattr(obj, name).all()) for name in names}


def difference(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Only the fields that differ, on both sides."""
    changed = [name for name in after if before.get(name) != after[name]]
    return {name: before.get(name) for name in changed}, {name: after[name] for name in changed}


def verify() -> Iterator[str]:
    """One sentence per flaw of the chain, streamed in id order; nothing when it is whole.

    The portal may be in use: what is looked at ends where the chain ended at the beginning.
    """
    head, newest = _end()
    if head is None and newest:
        head, newest = _end()  # unless the first entry ever came in between, which brings the head
    previous, last_id, count = "", 0, 0
    # As it stands in the column: what a sentence is read from must not have been changed either.
    stored = Cast("reason", models.TextField())
    entries = AuditEntry.objects.filter(id__lte=newest).annotate(stored_reason=stored)
    entries = entries.order_by("id")
    for entry in entries.iterator(chunk_size=2000):
        if entry.id != last_id + 1:
            yield f"Between entry {last_id} and entry {entry.id} entries are missing."
        if entry.previous != previous:
            yield f"Entry {entry.id} does not follow entry {last_id}: the chain is broken here."
        if digest_of(entry) != entry.digest:
            yield f"Entry {entry.id} ({entry.at:%Y-%m-%d %H:%M:%S}, {entry.verb}) was changed."
        previous, last_id, count = entry.digest, entry.id, count + 1
    if head is None:
        yield "The record of the chain's end is missing."
        return
    if (head.entry_id, head.digest, head.count) != (last_id, previous, count):
        yield (
            f"The chain ends at entry {last_id} of {count}, "
            f"but entry {head.entry_id} of {head.count} was written last."
        )


def _end() -> tuple[AuditHead | None, int]:
    """The end of the chain as it is on record, and the key of the newest entry.

    One statement, so that no entry comes in between: both are of the same moment.
    """
    newest = AuditEntry.objects.order_by("-id").values("id")[:1]
    head = AuditHead.objects.filter(pk=1).annotate(newest=models.Subquery(newest)).first()
    if head is not None:
        return head, head.newest or 0
    return None, newest.values_list("id", flat=True).first() or 0
