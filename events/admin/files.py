"""Events as files: one line each, in the order of the page.

Of more than ``ROWS_MAX`` the newest come, and a last line that says so.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from beidou.base import exports
from events.services.search import FoundEvent

ROWS_MAX = 1_000_000
COLUMNS = (
    "last_seen", "first_seen", "cluster", "type", "reason", "count", "namespace", "kind", "name",
    "node", "component", "message", "uid", "object_uid",
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    write: Callable[[Iterable[FoundEvent]], Iterator[str]]
    content_type: str


def _as_csv(events: Iterable[FoundEvent]) -> Iterator[str]:
    rows = iter(events)
    yield exports.csv_line(COLUMNS)
    for event in islice(rows, ROWS_MAX):
        yield exports.csv_line(exports.csv_cell(getattr(event, name)) for name in COLUMNS)
    if next(rows, None) is not None:
        yield exports.csv_line(_cut() if name == "message" else "" for name in COLUMNS)


def _as_json(events: Iterable[FoundEvent]) -> Iterator[str]:
    """One array; without its closing bracket the file broke off."""
    rows = iter(events)
    before = "[\n"
    for event in islice(rows, ROWS_MAX):
        yield before + json.dumps(_values(event), ensure_ascii=False)
        before = ",\n"
    if next(rows, None) is not None:
        yield before + json.dumps({"cut_off": _cut()})
    yield "\n]\n" if before == ",\n" else "[]\n"


def _cut() -> str:
    return f"There are more than {ROWS_MAX:,} events; these are the newest."


def _values(event: FoundEvent) -> dict[str, object]:
    return {
        **{name: getattr(event, name) for name in COLUMNS},
        "last_seen": event.last_seen.isoformat(),
        "first_seen": event.first_seen.isoformat(),
        "cluster": event.cluster.name,
    }


KINDS = {
    "csv": Kind(_as_csv, "text/csv; charset=utf-8"),
    "json": Kind(_as_json, "application/json; charset=utf-8"),
}
