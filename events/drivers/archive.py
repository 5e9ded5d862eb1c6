"""The archive of events: objects in a folder or a bucket, by Django's interface of storages.

``ArchiveAway`` where it cannot now, ``SegmentLost`` where one object is gone or not what it was;
nothing else comes out.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from django.core.files import File
from django.core.files.storage import FileSystemStorage, Storage

from beidou.base.config import EventArchive
from beidou.base.errors import shorten
from beidou.base.sentences import Sentence
from events.drivers.errors import ArchiveAway, SegmentLost

MARK = "beidou-archive"
"""An object by which the archive is known: an empty folder may be one that is not mounted."""
_PIECE = 1 << 20


class Archive:
    """``folder`` is where files may lie for a while."""

    def __init__(self, address: EventArchive, folder: Path) -> None:
        self._label = address.label
        self._folder = folder
        self._secrets = [each for each in (address.secret_key, address.access_key) if each]
        self._storage: Storage
        self._errors: tuple[type[Exception], ...] = (OSError,)
        if address.folder is not None:
            self._storage = _Folder(location=address.folder, allow_overwrite=True)
            return
        # Only here: what S3 needs takes much memory.
        from events.drivers import archive_s3  # noqa: PLC0415

        self._storage = archive_s3.storage(address)
        self._errors += archive_s3.ERRORS

    def require(self, *, is_new: bool) -> None:
        """ArchiveAway unless this is the archive; a new one is marked as such."""
        with self._away():
            if self._storage.exists(MARK):
                return
            if is_new:
                with tempfile.TemporaryFile(dir=self._folder) as file:
                    file.write(b"Segments of events, written by Beidou.\n")
                    self._save(MARK, file)
                return
        raise ArchiveAway(
            Sentence(
                "The archive of events (%(place)s) holds no “%(mark)s”: it is another place, or "
                "not mounted.",
                place=self._label,
                mark=MARK,
            )
        )

    def put(self, name: str, file: IO[bytes], sha256: str) -> None:
        """Once it returns the object is there, and was read back."""
        with self._away():
            self._save(name, file)
        try:
            self._copy(name, sha256, None)
        except SegmentLost as error:
            raise ArchiveAway(
                Sentence(
                    "The archive of events (%(place)s) gives something else back than was written.",
                    place=self._label,
                )
            ) from error

    @contextmanager
    def fetched(self, name: str, sha256: str) -> Iterator[IO[bytes]]:
        """The object as a file, once all of it is here and is what was put there."""
        with tempfile.TemporaryFile(dir=self._folder) as file:
            self._copy(name, sha256, file)
            file.seek(0)
            yield file

    def delete(self, name: str) -> None:
        with self._away():
            self._storage.delete(name)

    def _save(self, name: str, file: IO[bytes]) -> None:
        file.seek(0)
        self._storage.save(name, File(file, name=name))

    def _copy(self, name: str, sha256: str, target: IO[bytes] | None) -> None:
        found = hashlib.sha256()
        with self._away(name), self._storage.open(name, "rb") as source:
            while piece := source.read(_PIECE):
                found.update(piece)
                if target is not None:
                    target.write(piece)
        if found.hexdigest() != sha256:
            raise SegmentLost(
                Sentence("“%(name)s” in the archive is not what was put there.", name=name)
            )

    @contextmanager
    def _away(self, read: str = "") -> Iterator[None]:
        """``read`` is an object that is read: it may lack although the archive is there."""
        try:
            yield
        except FileNotFoundError:
            if isinstance(self._storage, _Folder) and not self._storage.is_there():
                raise self._refusal(f"{self._label} is no folder") from None
            if not read:
                raise
            raise SegmentLost(
                Sentence("“%(name)s” is not in the archive any more.", name=read)
            ) from None
        except self._errors as error:
            raise self._refusal(getattr(error, "strerror", None) or str(error)) from error

    def _refusal(self, why: str) -> ArchiveAway:
        for secret in self._secrets:
            why = why.replace(secret, "…")
        return ArchiveAway(
            Sentence(
                "The archive of events (%(place)s) cannot be used: %(why)s. What is not in it yet "
                "stays in the event store.",
                place=self._label,
                why=shorten(why, 200).rstrip("."),
            )
        )


class _Folder(FileSystemStorage):
    """Made by nobody but the site; what was saved is on the disk."""

    def is_there(self) -> bool:
        return Path(self.location).is_dir()

    def exists(self, name: str | None) -> bool:
        self._require()
        return super().exists(name)  # type: ignore[arg-type]

    def _save(self, name: str, content: Any) -> str:
        self._require()
        saved: str = super()._save(name, content)  # type: ignore[misc]
        path = Path(self.path(saved))
        for each in (path, *path.relative_to(self.location).parents):
            _sync(Path(self.location) / each)
        return saved

    def _require(self) -> None:
        if not self.is_there():
            raise FileNotFoundError(self.location)


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
