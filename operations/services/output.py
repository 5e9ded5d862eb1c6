"""The output of an operation: written many lines at a time, numbered without gaps, packed
afterwards.

One attempt writes at a time (the lease sees to that), so the numbers come from the writer.  A
writer that lost its lease collides with the unique first line of a chunk, or is refused by the
fence before.
"""

import json
import re
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Max

from beidou.base.storable import storable
from operations.models import Attempt, OutputChunk

FLUSH_LINES = 500
PACKED_LINES = 5000
CHUNKS_PER_PACK = 40  # bounds the memory that packing takes
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # ANSI sequences: noise on a page
LINE_LIMIT = 4000  # characters; longer lines are cut and say so


@dataclass(frozen=True)
class Line:
    """``at`` is milliseconds since the epoch; ``machine`` is the key of the OperationMachine or
    0."""

    number: int
    at: int
    machine: int
    level: str
    text: str


class OutputWriter:
    """Buffers the lines of one attempt; ``flush`` stores them.  Safe to use from several
    threads."""

    def __init__(self, attempt: Attempt, *, fence: Callable[[], None]) -> None:
        self.attempt = attempt
        self.operation_id = attempt.step.operation_id
        self._fence = fence
        self._next = last_line(self.operation_id) + 1
        self._lines: list[tuple[int, int, str, str]] = []
        self._lock = threading.Lock()

    def write(self, text: str, *, machine: int = 0, level: str = "info") -> None:
        now = int(time.time() * 1000)
        with self._lock:
            for line in clean(text).splitlines() or [""]:
                if len(line) > LINE_LIMIT:
                    line = f"{line[:LINE_LIMIT]} … ({len(line) - LINE_LIMIT} characters cut)"
                self._lines.append((now, machine, level, line))
            full = len(self._lines) >= FLUSH_LINES
        if full:
            self.flush()

    def flush(self) -> None:
        with self._lock:
            if not self._lines:
                return
            first = self._next
            rows = [[first + i, *line] for i, line in enumerate(self._lines)]
            with transaction.atomic():
                self._fence()
                OutputChunk.objects.create(
                    operation_id=self.operation_id,
                    attempt=self.attempt,
                    first=first,
                    last=first + len(rows) - 1,
                    lines=json.dumps(rows, separators=(",", ":"), ensure_ascii=False),
                )
            self._lines.clear()
            self._next = first + len(rows)


def clean(text: str) -> str:
    """Without colours, and with a visible sign for what cannot be stored."""
    cleaned: str = storable(_COLOURS.sub("", text))
    return cleaned


def last_line(operation_id: int) -> int:
    """Number of the newest stored line; 0 when there is none."""
    found = OutputChunk.objects.filter(operation_id=operation_id).aggregate(Max("last"))
    return found["last__max"] or 0


def unpack(chunk: OutputChunk) -> list[tuple[int, int, int, str, str]]:
    text = zlib.decompress(bytes(chunk.packed)).decode() if chunk.packed else chunk.lines
    return [tuple(row) for row in json.loads(text)] if text else []


def pack(attempt: Attempt) -> None:
    """Put the ended attempt's chunks together and compress them; readers notice nothing."""
    open_chunks = OutputChunk.objects.filter(attempt=attempt, packed=None).order_by("first")
    while chunks := list(open_chunks[:CHUNKS_PER_PACK]):
        _pack(attempt, chunks)


def _pack(attempt: Attempt, chunks: list[OutputChunk]) -> None:
    rows = [row for chunk in chunks for row in unpack(chunk)]
    with transaction.atomic():
        OutputChunk.objects.filter(pk__in=[chunk.pk for chunk in chunks]).delete()
        OutputChunk.objects.bulk_create(
            OutputChunk(
                operation_id=chunks[0].operation_id,
                attempt=attempt,
                first=part[0][0],
                last=part[-1][0],
                packed=zlib.compress(
                    json.dumps(part, separators=(",", ":"), ensure_ascii=False).encode(), 6
                ),
            )
            for part in (rows[i : i + PACKED_LINES] for i in range(0, len(rows), PACKED_LINES))
        )
