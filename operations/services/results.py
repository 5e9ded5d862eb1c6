"""The checks of an operation as a table: machines × checks, what is wrong, and who reaches whom.

For kinds that compare their checks with those of the last time (HealthCheck).  Everything comes
from one query, whatever the number of machines.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from django.db.models import QuerySet
from django.utils.dateparse import parse_datetime

from operations.kinds.health import last, pairs
from operations.kinds.health.changes import NOT_TRIED, Change, level, worst
from operations.models import MachineStep, Operation, OperationMachine

PROBLEMS, CHANGED, ALL = "problems", "changed", "all"
VIEWS: Final = (PROBLEMS, CHANGED, ALL)
ROWS_MAX: Final = 500
GRID_MAX: Final = 40
PAIRS_MAX: Final = 50
_ORDER: Final = {"error": 0, "warning": 1, "ok": 2}


@dataclass(frozen=True)
class Found:
    """One check of one machine; ``since`` is a moment, or None."""

    name: str
    level: str
    change: str
    found: str
    wanted: str
    advice: str
    since: Any
    is_tried: bool = True


@dataclass(frozen=True)
class Row:
    """One machine; ``cells`` stand under the table's columns, None where it was not looked at."""

    member: OperationMachine
    message: str
    level: str
    checks: Mapping[str, Found]
    evidence: Mapping[str, Any]
    cells: Sequence[Found | None] = ()

    @property
    def told(self) -> list[Found]:
        """What stands in the cells, the worst first."""
        found = [each for each in self.cells if each is not None]
        return sorted(found, key=lambda each: _ORDER[each.level])


@dataclass(frozen=True)
class Grid:
    """Who reaches whom; ``rows`` are a name and, per name, True, False or None (not tried).

    Without ``rows`` there are too many names for a grid: ``failed`` says the pairs all the same.
    """

    key: str
    names: Sequence[str]
    rows: Sequence[tuple[str, Sequence[bool | None]]]
    failed: Sequence[tuple[str, str]]
    more: int
    asked: int


@dataclass(frozen=True)
class Table:
    view: str
    columns: Sequence[str]
    rows: Sequence[Row]
    total: int
    more: int
    counts: Mapping[str, int]
    grids: Sequence[Grid] = field(default_factory=list)


def of(operation: Operation, *, view: str = PROBLEMS) -> Table:
    """The results as far as there are any; an unknown ``view`` is the one of problems."""
    view = view if view in VIEWS else PROBLEMS
    rows = [_row(cell) for cell in _cells(operation)]
    rows.sort(key=lambda row: (_ORDER[row.level], row.member.pk))
    columns = _columns(rows, view)
    shown = [row for row in rows if _is_shown(row, view)]
    return Table(
        view=view,
        columns=columns,
        rows=[_placed(row, columns) for row in shown[:ROWS_MAX]],
        total=len(rows),
        more=max(0, len(shown) - ROWS_MAX),
        counts=_counts(rows),
        grids=[grid for key in ("nodes_reached", "pods_reached") if (grid := _grid(key, rows))],
    )


def _cells(operation: Operation) -> QuerySet[MachineStep]:
    rows = MachineStep.objects.filter(step__operation=operation, status__in=last.ENDED)
    return rows.select_related("machine").order_by("machine_id")


def _row(cell: MachineStep) -> Row:
    checks = {
        str(each.get("check")): Found(
            name=str(each.get("check")),
            level=level(each),
            change=str(each.get("change") or ""),
            found=each.get("found", ""),
            wanted=each.get("wanted", ""),
            advice=each.get("advice", ""),
            since=parse_datetime(str(each.get("since") or "")),
            is_tried=not each.get(NOT_TRIED),
        )
        for each in cell.checks
    }
    failed = cell.status == MachineStep.Status.FAILED
    return Row(
        member=cell.machine,
        message=cell.message,
        level="error" if failed else worst(cell.checks),
        checks=checks,
        evidence=cell.evidence,
    )


def _fits(each: Found, view: str) -> bool:
    if view == CHANGED:
        return each.change in (Change.NEW, Change.WORSE, Change.REPAIRED)
    return each.level != "ok"


def _columns(rows: Iterable[Row], view: str) -> list[str]:
    """Checks in the order in which they were made, without those of which nothing is to be told."""
    names: dict[str, None] = {}
    for row in rows:
        for each in row.checks.values():
            if view == ALL or _fits(each, view):
                names.setdefault(each.name)
    return list(names)


def _is_shown(row: Row, view: str) -> bool:
    """A machine that failed without any check (out of time, say) is a problem, too."""
    if view == ALL or (view == PROBLEMS and not row.checks):
        return True
    return any(_fits(each, view) for each in row.checks.values())


def _placed(row: Row, columns: Sequence[str]) -> Row:
    return replace(row, cells=[row.checks.get(name) for name in columns])


def _counts(rows: Iterable[Row]) -> dict[str, int]:
    """Checks by what is to be told of them, and machines by their verdict."""
    counts = dict.fromkeys(("error", "warning", "new", "worse", "still", "repaired"), 0)
    machines = dict.fromkeys(("machines_error", "machines_warning", "machines_ok"), 0)
    for row in rows:
        machines[f"machines_{row.level}"] += 1
        for each in row.checks.values():
            if each.level != "ok":
                counts[each.level] += 1
            if each.change:
                counts[each.change] = counts.get(each.change, 0) + 1
    return {**counts, **machines}


def _grid(key: str, rows: Iterable[Row]) -> Grid | None:
    matrix = {
        str(row.evidence.get("node")): row.evidence[key]
        for row in rows
        if isinstance(row.evidence.get(key), Mapping)
    }
    names = pairs.names_in(matrix)
    if len(names) < 2:
        return None
    failed = sorted(pairs.failed(matrix))
    lines = [(name, [matrix.get(name, {}).get(other) for other in names]) for name in names]
    return Grid(
        key=key,
        names=names,
        rows=lines if len(names) <= GRID_MAX else [],
        failed=failed[:PAIRS_MAX],
        more=max(0, len(failed) - PAIRS_MAX),
        asked=sum(len(row) for row in matrix.values()),
    )
