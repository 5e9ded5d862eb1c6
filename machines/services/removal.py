"""Deleting machines: refused while something in an app above still works on them."""

from collections.abc import Callable, Collection

from beidou.base.errors import Conflict
from machines.models import Machine

Blocker = Callable[[Collection[int]], list[str]]
_blockers: dict[str, Blocker] = {}
NAMED_AT_MOST = 3


def register_blocker(name: str, blocker: Blocker) -> None:
    """``blocker(keys)`` gives one sentence per machine that cannot be deleted now."""
    _blockers[name] = blocker


def blockers_of(keys: Collection[int]) -> list[str]:
    """Why these machines cannot be deleted now; empty when they can."""
    return [sentence for blocker in _blockers.values() for sentence in blocker(keys)]


def refuse_needed(keys: Collection[int]) -> None:
    """``Conflict`` unless all may be deleted."""
    if sentences := blockers_of(keys):
        raise Conflict(" ".join(sentences[:NAMED_AT_MOST]), code="machine_is_held")


def lock_for_deletion(keys: Collection[int]) -> None:
    """The same inside the transaction that deletes them: the rows are locked first, so that nothing
    begins with them in the same moment."""
    rows = Machine.objects.select_for_update().filter(pk__in=keys).order_by("pk")
    list(rows.values_list("pk", flat=True))
    refuse_needed(keys)
