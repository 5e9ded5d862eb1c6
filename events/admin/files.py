"""Events as files: one line each, in the order of the page."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

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
    yield exports.csv_line(COLUMNS)
    for event in events:
        yield exports.csv_line(exports.csv_cell(getattr(event, name)) for name in COLUMNS)


def _as_json(events: Iterable[FoundEvent]) -> Iterator[str]:
    """One array; the closing bracket tells that nothing is missing."""
    before = "[\n"
    for event in events:
        yield before + json.dumps(_values(event), ensure_ascii=False)
        before = ",\n"
    yield "\n]\n" if before == ",\n" else "[]\n"


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
