"""Segments of the archive: events as JSON lines, the documents of an event server, in gzip.

The same events give the same bytes, whoever writes them and whenever.
"""

import gzip
import hashlib
import tempfile
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import msgspec

from beidou.base.sentences import Sentence
from events.drivers.elastic import documents
from events.drivers.errors import ArchiveAway, SegmentLost
from events.drivers.kube_events import Record

LINE_BYTES = 32 * 1024 * 1024
"""Several times the largest object that an API server takes."""
PORTION_BYTES = 16 * 1024 * 1024
_GZIP = 31


class Draft:
    """A segment on its way, in a file without a name: whatever ends the process leaves nothing."""

    def __init__(self, folder: Path, cluster_uid: str, cluster_name: str) -> None:
        self._cluster = cluster_uid, cluster_name
        self.events = 0
        self.first_seen = datetime.max.replace(tzinfo=UTC)
        self.last_seen = datetime.min.replace(tzinfo=UTC)
        self.file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by us
        self._packer = zlib.compressobj(wbits=_GZIP)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.file.close()

    def add(self, record: Record) -> None:
        line = documents.encoded(documents.document(*self._cluster, record)) + b"\n"
        self._write(self._packer.compress(line))
        self.events += 1
        self.first_seen = min(self.first_seen, record.first_seen)
        self.last_seen = max(self.last_seen, record.last_seen)

    def close(self) -> tuple[str, int]:
        """Nothing more comes; gives the checksum and the size."""
        self._write(self._packer.flush())
        self.file.seek(0)
        digest = hashlib.file_digest(self.file, "sha256").hexdigest()  # type: ignore[arg-type]
        return digest, self.file.tell()

    def _write(self, piece: bytes) -> None:
        try:
            self.file.write(piece)
            self.file.flush()
        except OSError as error:
            raise ArchiveAway(
                Sentence(
                    "The data folder takes no segment of events (%(why)s).",
                    why=error.strerror or str(error),
                )
            ) from error


def records(file: IO[bytes], at_once: int) -> Iterator[list[Record]]:
    """The events of a segment in portions of so many at most, fewer where their objects are large;
    SegmentLost where it cannot be read as one."""
    file.seek(0)
    portion: list[Record] = []
    size = 0
    for record in _lines(file):
        portion.append(record)
        size += len(record.raw)
        if len(portion) >= at_once or size >= PORTION_BYTES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def _lines(file: IO[bytes]) -> Iterator[Record]:
    try:
        with gzip.GzipFile(fileobj=file, mode="rb") as unpacked:
            while line := unpacked.readline(LINE_BYTES):
                yield Record(**documents.values(msgspec.json.decode(line)))
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise SegmentLost(
            Sentence("A segment of the archive cannot be read (%(why)s).", why=str(error))
        ) from error
