"""What was heard and is not stored yet, on disk: a store that is down costs delay and nothing else.

One folder per cluster with numbered segments of frames.  A frame is a batch of events and the
position in the cluster's stream behind them::

    magic (2) | length (4) | events in it (4) | received (8) | CRC-32 (4) | zlib(msgpack(Frame))

Whoever listens appends to the last segment; whoever ships reads in order and acknowledges, and
segments that are wholly acknowledged are deleted.  The file ``acknowledged`` says how far that is,
and keeps the position when no segment says it any more.  After kill -9 the last segment may end in
half a frame: it is cut off, as its position is gone with it, and the cluster is asked again from
the position before.  All methods may be called from any thread.
"""

import contextlib
import os
import re
import struct
import threading
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec

from beidou.base.errors import TemporaryError
from beidou.base.sentences import Sentence
from events.drivers.kube_events import KubeEvent

MAGIC = b"\xbe\x1d"
_HEADER = struct.Struct("<2sIIdI")
SEGMENT_BYTES = 8 * 1024 * 1024
SYNC_SECONDS = 1.0
"""A power failure may take what is younger; the cluster still has it then."""
_SEGMENT = re.compile(r"\d{12}\.segment")


class SpoolFull(TemporaryError):
    """There is no room for more; reading of the cluster stops until there is."""

    default_code = "spool_full"


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """``position`` is where to go on behind these events; empty while a list is being read."""

    position: str
    received_at: float
    """Seconds since 1970."""
    events: list[KubeEvent]

    @property
    def place(self) -> "Place":
        return Place(self.position, self.received_at)


class Place(msgspec.Struct, frozen=True):
    """A position in a cluster's stream and when it was reached: positions say no order."""

    position: str = ""
    reached_at: float = 0.0


class Cursor(NamedTuple):
    """The place behind a frame, or the beginning of a segment."""

    segment: int
    offset: int


@dataclass
class Portion:
    """What is shipped at a time: the frames, the place behind them, and how much that is."""

    cursor: Cursor
    frames: list[Frame] = field(default_factory=list)
    bytes: int = 0

    @property
    def events(self) -> int:
        return sum(len(frame.events) for frame in self.frames)

    @property
    def place(self) -> "Place | None":
        """The last position of the frames."""
        return next((frame.place for frame in reversed(self.frames) if frame.position), None)


class _Header(NamedTuple):
    magic: bytes
    length: int
    events: int
    received_at: float
    checksum: int


class _Acknowledged(msgspec.Struct, frozen=True):
    segment: int = 1
    offset: int = 0
    place: Place = Place()


class Room:
    """How much all spools of a process may take together."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.used_bytes = 0
        self._lock = threading.Lock()

    def take(self, count: int, *, anyhow: bool = False) -> None:
        """SpoolFull when there is not so much left, unless it is taken already."""
        with self._lock:
            if not anyhow and self.used_bytes + count > self.most_bytes:
                raise SpoolFull(
                    Sentence(
                        "The spool of events is full (%(most)s MiB), so that no more is read from "
                        "the clusters until the event store takes what waits; Kubernetes forgets "
                        "its events after an hour.",
                        most=self.most_bytes >> 20,
                    )
                )
            self.used_bytes += count

    def give(self, count: int) -> None:
        with self._lock:
            self.used_bytes -= count


class Spool:
    """The spool of one cluster; one process at a time may have it open."""

    def __init__(self, folder: Path, room: Room, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = folder
        self.events_waiting = 0
        self.bytes_waiting = 0
        self.damages = 0
        """How often something could not be read: then the cluster must be listed anew."""
        self._room = room
        self._segment_bytes = segment_bytes
        self._lock = threading.RLock()
        self._synced_at = 0.0
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = self._read_acknowledged()
        self._numbers = sorted(
            int(name[:12]) for name in os.listdir(folder) if _SEGMENT.fullmatch(name)
        )
        if not self._numbers:
            self._numbers = [known.segment + 1]
        if known.segment in self._numbers:
            self._reader = Cursor(known.segment, known.offset)
        else:  # deleted already, or not known: to ship once more changes nothing
            self._reader = Cursor(self._numbers[0], 0)
        self.acknowledged = known.place
        """Everything before it is stored."""
        self.reached = self._cut_off_what_is_half() or known.place
        self._writer = self._path(self._numbers[-1]).open("ab", buffering=0)
        self._measure()

    # --- writing ----------------------------------------------------------------------------------

    def append(self, frame: Frame) -> None:
        """Keep a frame.  SpoolFull or OSError when that is not possible; then nothing of it is."""
        data = pack(frame)
        with self._lock:
            self._room.take(len(data))
            try:
                self._append(data)
            except OSError:
                self._room.give(len(data))
                raise
            self.bytes_waiting += len(data)
            self.events_waiting += len(frame.events)
            self.reached = frame.place if frame.position else self.reached

    def _append(self, data: bytes) -> None:
        if self._writer.tell() >= self._segment_bytes:
            self._begin_segment()
        path, before = Path(self._writer.name), self._writer.tell()
        try:
            if self._writer.write(data) != len(data):
                raise OSError("the disk took a part of it only")
            if time.monotonic() - self._synced_at >= SYNC_SECONDS:
                os.fsync(self._writer.fileno())
                self._synced_at = time.monotonic()
        except OSError:
            os.truncate(path, before)  # half a frame would hide all that follow
            self._writer.seek(before)
            raise

    def _begin_segment(self) -> None:
        os.fsync(self._writer.fileno())
        number = self._numbers[-1] + 1
        writer = self._path(number).open("ab", buffering=0)
        self._writer.close()
        self._writer = writer
        self._numbers.append(number)

    # --- reading ----------------------------------------------------------------------------------

    def read(self, most_events: int) -> Portion:
        """The next frames, at least one if there is any; the same again until acknowledged."""
        with self._lock:
            portion = Portion(self._reader)
            while portion.events < most_events and self._read_one(portion):
                pass
            return portion

    def _read_one(self, portion: Portion) -> bool:
        """Add the frame behind the portion, or what is broken there without it."""
        segment, offset = portion.cursor
        size = self._path(segment).stat().st_size
        if offset < size:
            found = _read_frame(self._path(segment), offset)
            if found is not None:
                frame, end = found
                portion.frames.append(frame)
                portion.bytes += end - offset
                portion.cursor = Cursor(segment, end)
                return True
            # Where the next frame begins cannot be known; the cluster is asked for all of it again.
            self.damages += 1
            portion.bytes += size - offset
            if segment == self._numbers[-1]:
                self._begin_segment()
        elif segment == self._numbers[-1]:
            return False
        portion.cursor = Cursor(self._numbers[self._numbers.index(segment) + 1], 0)
        return True

    def acknowledge(self, portion: Portion) -> None:
        """The portion, the last one that was read, is stored."""
        with self._lock:
            place = portion.place or self.acknowledged
            self._write_acknowledged(_Acknowledged(*portion.cursor, place))
            self.acknowledged = place
            self._reader = portion.cursor
            while self._numbers[0] < self._reader.segment:
                self._path(self._numbers.pop(0)).unlink()
            self.events_waiting -= portion.events
            self.bytes_waiting -= portion.bytes
            self._room.give(portion.bytes)

    def oldest_at(self) -> float | None:
        """When the oldest of what waits was received; None when nothing waits."""
        with self._lock:
            if not self.events_waiting:
                return None
            for number in self._numbers[self._numbers.index(self._reader.segment) :]:
                begin = self._reader.offset if number == self._reader.segment else 0
                for header in _headers(self._path(number), begin):
                    if header.events:
                        return header.received_at
        return None

    # --- ends -------------------------------------------------------------------------------------

    def close(self) -> None:
        with self._lock:
            if not self._writer.closed:
                self._writer.close()
                self._room.give(self.bytes_waiting)

    def remove(self) -> None:
        """Delete it with whatever waits."""
        self.close()
        for path in list(self.folder.iterdir()):
            path.unlink()
        self.folder.rmdir()

    # --- files ------------------------------------------------------------------------------------

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:012d}.segment"

    def _cut_off_what_is_half(self) -> Place | None:
        """Mend the end of the last segment and give the last place that the segments know."""
        place = None
        for number in reversed(self._numbers):
            path = self._path(number)
            if not path.exists():
                path.touch(mode=0o600)
            offset = 0
            while (found := _read_frame(path, offset)) is not None:
                frame, offset = found
                place = frame.place if frame.position else place
            if number == self._numbers[-1] and offset < path.stat().st_size:
                os.truncate(path, offset)
            if place is not None:
                return place
        return None

    def _measure(self) -> None:
        for number in self._numbers:
            if number >= self._reader.segment:
                begin = self._reader.offset if number == self._reader.segment else 0
                path = self._path(number)
                self.bytes_waiting += max(0, path.stat().st_size - begin)
                self.events_waiting += sum(header.events for header in _headers(path, begin))
        self._room.take(self.bytes_waiting, anyhow=True)

    def _read_acknowledged(self) -> _Acknowledged:
        with contextlib.suppress(FileNotFoundError, ValueError):
            return msgspec.json.decode(
                (self.folder / "acknowledged").read_bytes(), type=_Acknowledged
            )
        return _Acknowledged()

    def _write_acknowledged(self, known: _Acknowledged) -> None:
        part = self.folder / "acknowledged.part"
        part.write_bytes(msgspec.json.encode(known))
        part.replace(self.folder / "acknowledged")


def pack(frame: Frame) -> bytes:
    body = zlib.compress(msgspec.msgpack.encode(frame), 1)
    head = (MAGIC, len(body), len(frame.events), frame.received_at)
    return _HEADER.pack(*head, zlib.crc32(body, _checksum_of(*head))) + body


def _checksum_of(magic: bytes, length: int, events: int, received_at: float) -> int:
    return zlib.crc32(_HEADER.pack(magic, length, events, received_at, 0))


_FRAMES = msgspec.msgpack.Decoder(Frame)


def _read_frame(path: Path, offset: int) -> tuple[Frame, int] | None:
    """The frame at the offset and where it ends; None when there is no whole one."""
    with path.open("rb") as file:
        file.seek(offset)
        header = _unpack(file.read(_HEADER.size))
        if header is None or header.length > path.stat().st_size:
            return None
        body = file.read(header.length)
    if len(body) < header.length:
        return None
    if zlib.crc32(body, _checksum_of(*header[:4])) != header.checksum:
        return None
    return _FRAMES.decode(zlib.decompress(body)), offset + _HEADER.size + header.length


def _unpack(data: bytes) -> _Header | None:
    if len(data) < _HEADER.size:
        return None
    header = _Header(*_HEADER.unpack(data))
    return header if header.magic == MAGIC else None


def _headers(path: Path, offset: int) -> list[_Header]:
    """The heads of the frames from the offset on, up to what is broken."""
    found = []
    with path.open("rb") as file:
        file.seek(offset)
        while (header := _unpack(file.read(_HEADER.size))) is not None:
            found.append(header)
            file.seek(header.length, os.SEEK_CUR)
    return found
