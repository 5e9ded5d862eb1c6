"""The folder of one collector's spools; each process has one of its own.

Several collectors of a host share the data folder: each takes the first place that nobody holds,
so that the next one to start ships what a killed one left behind.  Spools are named after the
cluster's UID, which outlives its row.
"""

import contextlib
import fcntl
import os
import re
from pathlib import Path

from events.collector.spool import Room, Spool

_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Home:
    """A folder that this process alone writes to, until ``close``."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self._lock = lock

    @classmethod
    def take(cls, root: Path) -> "Home":
        """The first that is free."""
        number = 0
        while True:
            folder = root / str(number)
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            home = cls._lock_if_free(folder)
            if home is not None:
                return home
            number += 1

    @classmethod
    def take_left(cls, root: Path) -> "Home | None":
        """One that nobody holds and that has something in it."""
        for folder in sorted(path for path in root.iterdir() if path.is_dir()):
            home = cls._lock_if_free(folder)
            if home is not None:
                if home.names():
                    return home
                home.close()
        return None

    @classmethod
    def _lock_if_free(cls, folder: Path) -> "Home | None":
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return cls(folder, lock)

    def names(self) -> list[str]:
        """The UIDs of the clusters of which there is a spool."""
        return sorted(
            path.name
            for path in self.folder.iterdir()
            if path.is_dir() and _UID.fullmatch(path.name)
        )

    def open(self, uid: str, room: Room) -> Spool:
        if not _UID.fullmatch(uid):
            raise ValueError(f"{uid!r} names no folder")
        return Spool(self.folder / uid, room)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._lock)
