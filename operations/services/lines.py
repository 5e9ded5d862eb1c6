"""Reading an operation's output in pieces, forwards and backwards, with filters.

Lines are numbered without gaps, so a number is a cursor that stays right while more are written and
while chunks are packed together.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from operations.models import Operation, OperationMachine, OutputChunk
from operations.services.output import Line, last_line, unpack

LIMIT_MAX = 5000
CHUNKS = 4  # per query; a chunk holds some hundred to five thousand lines


@dataclass(frozen=True)
class Wanted:
    """Which lines: of these machines (keys of OperationMachine) and these levels; None: all."""

    machines: frozenset[int] | None = None
    levels: frozenset[str] | None = None

    def takes(self, machine: int, level: str) -> bool:
        of_machine = self.machines is None or machine in self.machines
        return of_machine and (self.levels is None or level in self.levels)


ALL = Wanted()


@dataclass(frozen=True)
class Piece:
    """``after`` continues forwards, ``before`` backwards; ``last`` is the newest line there is."""

    lines: list[Line]
    after: int
    before: int
    last: int


def forwards(operation: Operation, *, after: int, limit: int, wanted: Wanted = ALL) -> Piece:
    """The first ``limit`` wanted lines behind line ``after``.

    ``after`` of the answer moves on even when the filter drops every line, so a reader that repeats
    the call never stands still.
    """
    last = last_line(operation.pk)
    lines: list[Line] = []
    first = after + 1
    for line in _ascending(operation.pk, after=after, last=last):
        if line.number <= after:
            continue
        after = line.number
        if wanted.takes(line.machine, line.level):
            lines.append(line)
        if len(lines) >= limit:
            break
    return Piece(lines=lines, after=after, before=first, last=last)


def backwards(
    operation: Operation, *, before: int | None, limit: int, wanted: Wanted = ALL
) -> Piece:
    """The last ``limit`` wanted lines ahead of line ``before`` (None: of all), in their order."""
    last = last_line(operation.pk)
    before = last + 1 if before is None else min(before, last + 1)
    lines: list[Line] = []
    reached = before
    for line in _descending(operation.pk, before=before):
        if line.number >= reached:
            continue
        reached = line.number
        if wanted.takes(line.machine, line.level):
            lines.append(line)
        if len(lines) >= limit:
            break
    return Piece(lines=lines[::-1], after=before - 1, before=reached, last=last)


def _ascending(operation_id: int, *, after: int, last: int) -> Iterator[Line]:
    """Lines of the chunks with lines behind ``after``, a few chunks per query.

    No cursor stays open between them: whoever has enough lines just stops.
    """
    rows = OutputChunk.objects.filter(operation=operation_id, first__lte=last).order_by("first")
    while batch := list(rows.filter(last__gt=after)[:CHUNKS]):
        for chunk in batch:
            yield from (Line(*row) for row in unpack(chunk))
            after = chunk.last


def _descending(operation_id: int, *, before: int) -> Iterator[Line]:
    rows = OutputChunk.objects.filter(operation=operation_id).order_by("-first")
    while batch := list(rows.filter(first__lt=before)[:CHUNKS]):
        for chunk in batch:
            yield from (Line(*row) for row in reversed(unpack(chunk)))
            before = chunk.first


def wanted_by(
    operation: Operation, *, machine: int | None = None, only_failed: bool = False
) -> Wanted:
    """The filter of pages and API: one machine, or those that have failed."""
    if machine is not None:
        return Wanted(machines=frozenset({machine}))
    if only_failed:
        failed = operation.machines.filter(state=OperationMachine.State.FAILED)
        return Wanted(machines=frozenset(failed.values_list("pk", flat=True)))
    return ALL
