"""What a dry run found, for people: differences per row, mistakes with line and column."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from import_export.results import Result, RowResult
from openpyxl.utils import get_column_letter

from beidou.base.errors import BeidouError
from machines.models import Machine

HEADING: Final = "heading"  # what an error is about that stands in line 1
UNCLEAR: Final = "unclear_heading"  # the code of one under which the rows say nothing


class Difference:
    """What a row changes, as (column, before, after); stands where the library shows HTML."""

    def __init__(self, resource: Any, instance: Machine, new: bool) -> None:
        self._before = {} if new else _texts(resource, instance)
        self._after: dict[str, str] = {}

    def compare_with(self, resource: Any, instance: Machine) -> None:
        self._after = _texts(resource, instance)

    def as_html(self) -> list[tuple[str, str, str]]:
        return [
            (name, self._before.get(name, ""), text)
            for name, text in self._after.items()
            if text != self._before.get(name, "")
        ]


def _texts(resource: Any, instance: Machine) -> dict[str, str]:
    return {
        field.column_name: str(field.export(instance)) for field in resource.get_import_fields()
    }


@dataclass(frozen=True)
class Mistake:
    """Where a file is wrong, and why: line (1 is the heading) and column as in a spreadsheet."""

    line: int | None
    column: str
    letter: str
    message: str


def mistakes_of(result: Result, headers: Iterable[str]) -> list[Mistake]:
    """Every mistake of a dry run in the order of the lines."""
    letters = {name: get_column_letter(n) for n, name in enumerate(headers, start=1)}
    found = [
        Mistake(_line_of(each.error), "", "", _sentence(each.error)) for each in result.base_errors
    ]
    if any(getattr(each.error, "code", UNCLEAR) == UNCLEAR for each in result.base_errors):
        return found
    for invalid in result.invalid_rows:
        for name, sentences in invalid.error_dict.items():
            column = name if name in letters else ""
            found += [
                Mistake(invalid.number + 1, column, letters.get(name, ""), sentence)
                for sentence in sentences
            ]
    for row in result.error_rows:
        found += [Mistake(row.number + 1, "", "", _sentence(each.error)) for each in row.errors]
    return sorted(found, key=lambda each: (each.line or 0, each.letter))


def _line_of(error: Exception) -> int | None:
    return 1 if HEADING in getattr(error, "fields", {}) else None


def _sentence(error: Exception) -> str:
    return error.message if isinstance(error, BeidouError) else str(error)


@dataclass(frozen=True)
class RowChange:
    """One row that would change something."""

    line: int
    machine: str
    is_new: bool
    changes: list[tuple[str, str, str]]


def changes_of(result: Result) -> list[RowChange]:
    """The rows of a dry run that are new or differ."""
    return [
        RowChange(
            line=number + 1,
            machine=row.object_repr or "",
            is_new=row.import_type == RowResult.IMPORT_TYPE_NEW,
            changes=row.diff or [],
        )
        for number, row in enumerate(result.rows, start=1)
        if row.import_type in (RowResult.IMPORT_TYPE_NEW, RowResult.IMPORT_TYPE_UPDATE)
    ]


def digest_of(result: Result) -> str:
    """The same for the same differences: what a person agreed to and what is written are one."""
    shown = [(each.line, each.machine, each.is_new, each.changes) for each in changes_of(result)]
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()
