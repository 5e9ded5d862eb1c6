"""What was heard and is not stored yet, on disk: a store that is down costs delay and nothing else.

One folder per cluster with numbered segments of frames.  A frame is a batch of events and the
position in the cluster's stream behind them::

    magic (2) | length (4) | events in it (4) | received (8) | CRC-32 (4) | zlib(msgpack(Frame))

Whoever listens appends to the last segment; whoever ships reads in order and acknowledges, and
segments that are wholly acknowledged are deleted.  The file ``acknowledged`` says how far that is,
and keeps the position when no segment says it any more.  After kill -9 the last segment may end in
half a frame: it is cut off, as its position is gone with it, and the cluster is asked again from
the position before.  Where the disk has spoilt something in the middle, the positions behind it
prove nothing: the file ``damaged`` says so until the cluster was listed anew.  All methods may be
called from any thread, and all of them may wait for the disk.
"""

import contextlib
import io
import os
import re
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

from beidou.base.errors import TemporaryError
from beidou.base.sentences import Sentence
from events.drivers.kube_events import KubeEvent

logger = structlog.get_logger(__name__)
MAGIC = b"\xbe\x1d"
_HEADER = struct.Struct("<2sIIdI")
SEGMENT_BYTES = 8 * 1024 * 1024
PORTION_BYTES = 8 * 1024 * 1024
"""Of whole objects, read at a time."""
SYNC_SECONDS = 5.0
"""A power failure may take what is younger; the cluster still has it then."""
_SEGMENT = re.compile(r"\d{12}\.segment")


class SpoolFull(TemporaryError):
    """There is no room for more; reading of the cluster stops until there is."""

    code = "spool_full"


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
    """On disk, with what could not be read."""
    raw_bytes: int = 0
    is_damaged: bool = False

    @property
    def events(self) -> int:
        return sum(len(frame.events) for frame in self.frames)

    @property
    def place(self) -> Place | None:
        """The last position of the frames."""
        return next((frame.place for frame in reversed(self.frames) if frame.position), None)


@dataclass(frozen=True)
class Standing:
    """How much waits, since when, and up to where everything is stored."""

    events: int
    bytes: int
    oldest_at: float | None
    acknowledged: Place


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
    """How much all spools of a process may take together.

    When it is full, a spool may still grow to its even share: the storm of one cluster must not
    silence the others.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.used_bytes = 0
        self.spools = 0
        self._lock = threading.Lock()

    @property
    def percent(self) -> int:
        return self.used_bytes * 100 // self.most_bytes

    def take(self, count: int, *, beside: int) -> None:
        """For a spool that has ``beside`` bytes; SpoolFull when there is not so much left."""
        with self._lock:
            share = self.most_bytes // max(1, self.spools)
            if self.used_bytes + count > self.most_bytes and beside + count > share:
                raise SpoolFull(
                    Sentence(
                        "The spool of events is full (%(most)s MiB), so that no more is read from "
                        "the clusters until the event store takes what waits; Kubernetes forgets "
                        "its events after an hour.",
                        most=self.most_bytes >> 20,
                    )
                )
            self.used_bytes += count

    def enter(self, count: int) -> None:
        """A spool that has so much already."""
        with self._lock:
            self.spools += 1
            self.used_bytes += count

    def leave(self, count: int) -> None:
        with self._lock:
            self.spools -= 1
            self.used_bytes -= count

    def give(self, count: int) -> None:
        with self._lock:
            self.used_bytes -= count


class Spool:
    """The spool of one cluster; one process at a time may have it open."""

    def __init__(self, folder: Path, room: Room, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = folder
        self.events_waiting = 0
        self.bytes_waiting = 0
        self._room = room
        self._segment_bytes = segment_bytes
        self._lock = threading.RLock()
        self._synced_at = 0.0
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._known_damages: set[Cursor] = set()
        self.must_list = (folder / "damaged").exists()
        """Something is lost here, and the positions that follow it prove nothing."""
        known = self._read_acknowledged()
        self._numbers = sorted(
            int(name[:12]) for name in os.listdir(folder) if _SEGMENT.fullmatch(name)
        ) or [known.segment + 1]
        self._path(self._numbers[-1]).touch(mode=0o600)
        heard = self._cut_off_what_is_half() or Place()
        self.acknowledged = known.place
        """Everything before it is stored."""
        self.reached = max(heard, known.place, key=lambda place: place.reached_at)
        self._reader = Cursor(self._numbers[0], 0)  # to ship once more changes nothing
        if known.segment in self._numbers:
            # After a power failure the segment may be behind what is known of it.
            size = self._path(known.segment).stat().st_size
            self._reader = Cursor(known.segment, min(known.offset, size))
        self._writer = self._path(self._numbers[-1]).open("ab", buffering=0)
        self._measure()
        self._room.enter(self.bytes_waiting)

    # --- writing ----------------------------------------------------------------------------------

    def append(self, frame: Frame) -> None:
        """Keep a frame.  SpoolFull or OSError when that is not possible; then nothing of it is."""
        data = pack(frame)
        with self._lock:
            self._room.take(len(data), beside=self.bytes_waiting)
            try:
                self._append(data)
            except OSError:
                self._room.give(len(data))
                raise
            self.bytes_waiting += len(data)
            self.events_waiting += len(frame.events)
            self.reached = frame.place if frame.position else self.reached

    def _append(self, data: bytes) -> None:
        if os.fstat(self._writer.fileno()).st_nlink == 0:
            self._begin_again()
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

    def _begin_again(self) -> None:
        """Somebody has deleted the files."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        number = self._numbers[-1] + 1
        writer = self._path(number).open("ab", buffering=0)
        self._writer.close()
        self._writer, self._numbers, self._reader = writer, [number], Cursor(number, 0)
        self._room.give(self.bytes_waiting)
        self.events_waiting = self.bytes_waiting = 0
        self._note_damage(self._reader)

    def lose(self) -> None:
        """Something of this cluster was lost elsewhere: list it anew."""
        with self._lock:
            self._note_damage(Cursor(0, len(self._known_damages)))

    def listed(self) -> None:
        """All that the cluster has is in here: what was lost is here again, if it still had it."""
        with self._lock:
            self.must_list = False
            (self.folder / "damaged").unlink(missing_ok=True)

    # --- reading ----------------------------------------------------------------------------------

    def read(self, most_events: int) -> Portion:
        """The next frames, at least one if there is any; the same again until acknowledged."""
        with self._lock:
            portion = Portion(self._reader)
            while (
                portion.events < most_events
                and portion.raw_bytes < PORTION_BYTES
                and self._read_one(portion)
            ):
                pass
            return portion

    def _read_one(self, portion: Portion) -> bool:
        """Add the frame behind the portion; False at the end."""
        segment, offset = portion.cursor
        path = self._path(segment)
        size = path.stat().st_size if path.exists() else 0
        if offset >= size:
            if segment == self._numbers[-1]:
                return False
            portion.cursor = Cursor(self._numbers[self._numbers.index(segment) + 1], 0)
            return True
        begin = _next_frame(path, offset)
        if begin != offset:
            portion.is_damaged = True
            self._note_damage(portion.cursor)
        if begin is None:  # new frames must not be taken for a part of what is broken
            if segment == self._numbers[-1]:
                self._begin_segment()
            end = size
        else:
            frame, end = _decode_frame(path, begin)
            portion.frames.append(frame)
            portion.raw_bytes += sum(len(event.raw) for event in frame.events)
        portion.bytes += end - offset
        portion.cursor = Cursor(segment, end)
        return True

    def _note_damage(self, place: Cursor) -> None:
        if place not in self._known_damages:
            self._known_damages.add(place)
            logger.error("spool_damaged", folder=self.folder.name, segment=place.segment)
            (self.folder / "damaged").touch(mode=0o600)
            self.must_list = True

    def acknowledge(self, portion: Portion) -> None:
        """The portion, the last one that was read, is stored.

        A disk that does not take the note of it changes nothing: it is shipped once more then.
        """
        with self._lock:
            if not self.must_list and portion.place is not None:
                self.acknowledged = portion.place
            self._reader = portion.cursor
            while self._numbers[0] < self._reader.segment:
                self._path(self._numbers.pop(0)).unlink(missing_ok=True)
            self._room.give(portion.bytes)
            self.bytes_waiting -= portion.bytes
            self.events_waiting -= portion.events
            if portion.is_damaged:
                self.events_waiting = sum(header.events for header in self._headers())
            try:
                self._write_acknowledged(_Acknowledged(*portion.cursor, self.acknowledged))
            except OSError as error:
                logger.warning("spool_not_noted", folder=self.folder.name, error=str(error))

    def standing(self) -> Standing:
        with self._lock:
            oldest = next((each.received_at for each in self._headers() if each.events), None)
            return Standing(self.events_waiting, self.bytes_waiting, oldest, self.acknowledged)

    def _headers(self) -> Iterator[_Header]:
        """The heads of what waits."""
        for number in self._numbers:
            if number >= self._reader.segment:
                begin = self._reader.offset if number == self._reader.segment else 0
                yield from _headers(self._path(number), begin)

    # --- ends -------------------------------------------------------------------------------------

    def close(self) -> None:
        with self._lock:
            if not self._writer.closed:
                self._writer.close()
                self._room.leave(self.bytes_waiting)

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
        for number in reversed(self._numbers):
            path = self._path(number)
            begins, end = [], 0
            while (begin := _next_frame(path, end)) is not None:
                begins.append(begin)
                end = begin + _HEADER.size + _header_at(path, begin).length
            if number == self._numbers[-1] and end < path.stat().st_size:
                os.truncate(path, end)
            for begin in reversed(begins):
                frame, _ = _decode_frame(path, begin)
                if frame.position:
                    return frame.place
        return None

    def _measure(self) -> None:
        for number in self._numbers:
            if number >= self._reader.segment:
                begin = self._reader.offset if number == self._reader.segment else 0
                self.bytes_waiting += max(0, self._path(number).stat().st_size - begin)
        self.events_waiting = sum(header.events for header in self._headers())

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


def _next_frame(path: Path, offset: int) -> int | None:
    """Where the first whole frame at or behind the offset begins; None when there is none."""
    with path.open("rb") as file:
        file.seek(offset)
        if _is_whole(file.read(_HEADER.size), file.read):
            return offset
        file.seek(offset)
        rest = file.read()
    begin = 0
    while (begin := rest.find(MAGIC, begin + 1)) >= 0:
        if _is_whole(
            rest[begin : begin + _HEADER.size], io.BytesIO(rest[begin + _HEADER.size :]).read
        ):
            return offset + begin
    return None


def _is_whole(head: bytes, read: Callable[[int], bytes]) -> bool:
    header = _unpack(head)
    if header is None:
        return False
    body = read(header.length)
    return (
        len(body) == header.length
        and zlib.crc32(body, _checksum_of(*header[:4])) == header.checksum
    )


def _decode_frame(path: Path, begin: int) -> tuple[Frame, int]:
    """A frame that is whole, and where it ends."""
    with path.open("rb") as file:
        file.seek(begin)
        header = _Header(*_HEADER.unpack(file.read(_HEADER.size)))
        frame = _FRAMES.decode(zlib.decompress(file.read(header.length)))
        return frame, file.tell()


def _header_at(path: Path, begin: int) -> _Header:
    with path.open("rb") as file:
        file.seek(begin)
        return _Header(*_HEADER.unpack(file.read(_HEADER.size)))


def _unpack(data: bytes) -> _Header | None:
    if len(data) < _HEADER.size:
        return None
    header = _Header(*_HEADER.unpack(data))
    return header if header.magic == MAGIC else None


def _headers(path: Path, offset: int) -> Iterator[_Header]:
    """The heads of the frames from the offset on, up to what is broken."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(offset)
        while (header := _unpack(file.read(_HEADER.size))) is not None:
            yield header
            file.seek(header.length, os.SEEK_CUR)
