"""Files for a log agent to ship to Elasticsearch, from which the portal then reads.

One document a line, with the index and the key under which it belongs (``beidou.index``,
``beidou.id``): an agent that sends them so stores nothing twice, however often it sends.
"""

import os
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import structlog

from beidou.base.sentences import Sentence
from events.drivers.elastic import documents
from events.drivers.errors import StoreAway
from events.drivers.kube_events import Record
from events.services.stores.base import (
    NO_LABELS,
    Cursor,
    FoundEvent,
    Keeper,
    Labels,
    Limits,
    Page,
    Part,
    Query,
    Scope,
    SeenReason,
    Span,
)
from events.services.stores.elastic import ElasticStore

logger = structlog.get_logger(__name__)
FILE_BYTES = 64 * 1024 * 1024
NAMES = "events-*.ndjson"


class FilesStore:
    """See ``Store``: writes to ``folder``, at most ``most_bytes`` in all, and reads elsewhere.

    What was shipped is not known here.  Where the agent removes that, one ``waits`` for it; else
    the oldest files go.
    """

    portions_at_once = 1
    is_in_database = False
    label_delay: timedelta | None = timedelta(days=1)
    """An agent that was away ships what was written hours ago."""

    def __init__(
        self, reader: ElasticStore, folder: Path, most_bytes: int, *, waits: bool = False
    ) -> None:
        self._reader = reader
        self._waits = waits
        self._folder = folder
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._path: Path | None = None

    def write(
        self, keeper: Keeper, records: Sequence[Record], labels: Labels = NO_LABELS
    ) -> list[tuple[Record, str]]:
        lines = b"".join(self._line(keeper, record, labels) for record in records)
        with self._lock:
            try:
                self._append(lines)
            except OSError as error:
                self._path = None  # the last one may end within a line; a new one begins with one
                raise StoreAway(
                    Sentence(
                        "The folder of event files takes nothing (%(why)s).",
                        why=error.strerror or str(error),
                    )
                ) from error
        return []

    def _line(self, keeper: Keeper, record: Record, labels: Labels) -> bytes:
        teams = labels.get(record.namespace, ())
        found = documents.document(keeper.uid, keeper.name, record, teams)
        found["beidou"]["index"] = self._reader.indices.of(record.day)
        found["beidou"]["id"] = documents.identity(keeper.uid, record.uid)
        return documents.encoded(found) + b"\n"

    def _append(self, lines: bytes) -> None:
        path = self._path
        if path is None or not path.exists() or path.stat().st_size >= FILE_BYTES:
            self._path = path = self._begin()
        with path.open("ab", buffering=0) as file:
            rest = memoryview(lines)
            while rest:
                rest = rest[file.write(rest) or 0 :]
            os.fsync(file.fileno())

    def _begin(self) -> Path:
        """An empty file that no other process writes to."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._make_room()
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        name = f"events-{moment}-{socket.gethostname()[:60]}-{os.getpid()}"
        for number in count():
            path = self._folder / f"{name}-{number}.ndjson"
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640))
            except FileExistsError:
                continue
            return path
        raise AssertionError("numbers do not end")

    def _make_room(self) -> None:
        """The folder must not fill the disk: the oldest files go, shipped or not, or it waits."""
        files = sorted(self._folder.glob(NAMES), key=lambda path: (path.stat().st_mtime, path.name))
        total = sum(path.stat().st_size for path in files)
        for path in files:
            if total + FILE_BYTES <= self._most_bytes:
                return
            if self._waits:
                raise StoreAway(
                    Sentence(
                        "The folder of event files is full (%(most)s MiB): the log agent ships "
                        "nothing, or does not remove what it has shipped.",
                        most=self._most_bytes >> 20,
                    )
                )
            total -= path.stat().st_size
            path.unlink()
            logger.warning("event_file_removed", file=path.name, most_bytes=self._most_bytes)

    def template(self) -> dict[str, Any]:
        """What the server must know before an agent sends the first event."""
        return self._reader.indices.template()

    # --- reading ----------------------------------------------------------------------------------

    def page(
        self, query: Query, scope: Scope, *, after: Cursor | None, limit: int, with_raw: bool
    ) -> Page:
        return self._reader.page(query, scope, after=after, limit=limit, with_raw=with_raw)

    def one(self, key: str, scope: Scope) -> FoundEvent | None:
        return self._reader.one(key, scope)

    def counts(self, query: Query, scope: Scope, field: str, most: int) -> list[tuple[Any, int]]:
        return self._reader.counts(query, scope, field, most)

    def parts(self, query: Query, scope: Scope, begin: datetime, seconds: int) -> dict[int, Part]:
        return self._reader.parts(query, scope, begin, seconds)

    def tallies(
        self, queries: Mapping[str, Query], scope: Scope, spans: Sequence[Span]
    ) -> dict[str, list[int]]:
        return self._reader.tallies(queries, scope, spans)

    def firsts(self, scope: Scope, spans: Sequence[Span]) -> list[datetime | None]:
        return self._reader.firsts(scope, spans)

    def reasons(self, query: Query, scope: Scope, most: int) -> list[SeenReason]:
        return self._reader.reasons(query, scope, most)

    def relabel(
        self, cluster_uid: str, team: int, namespaces: Sequence[str], labels: Labels
    ) -> bool:
        return self._reader.relabel(cluster_uid, team, namespaces, labels)

    def forget(self, limits: Limits) -> int:
        return self._reader.forget(limits)

    def remove(self, keeper: Keeper, records: Sequence[Record]) -> int:
        return self._reader.remove(keeper, records)

    def refresh(self) -> None:
        self._reader.refresh()

    def forget_empty_days(self, before: date) -> None:
        self._reader.forget_empty_days(before)

    def forget_clusters(self) -> int:
        return self._reader.forget_clusters()
