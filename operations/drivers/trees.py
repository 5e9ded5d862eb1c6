"""The content of a source of playbooks: read once, named by what is in it, kept and written out
again.

A tree is a list of files, executable files and symbolic links below one folder.  Whatever could
lead out of it (``..``, absolute links, devices) is refused when it is read, and once more when it
is written.  The digest is over paths, kinds and contents alone, so the same content has the same
one wherever it came from.
"""

import hashlib
import io
import itertools
import os
import posixpath
import stat
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from beidou.base.errors import InvalidInput, PermanentError
from beidou.base.sentences import Sentence
from beidou.base.storable import is_storable

FILES_MAX = 5000
PATH_MAX = 300
FILE, PROGRAM, LINK = "file", "program", "link"


@dataclass(frozen=True)
class Entry:
    """One file, by its path below the root; of a link ``content`` is where it leads."""

    path: str
    kind: str
    content: bytes


@dataclass(frozen=True)
class Tree:
    """``revision`` is the commit or, of a folder, the digest; ``left_out`` are submodules."""

    revision: str
    entries: tuple[Entry, ...]
    left_out: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return sum(len(entry.content) for entry in self.entries)

    @property
    def digest(self) -> str:
        return digest_of(self.entries)


def digest_of(entries: Iterable[Entry]) -> str:
    total = hashlib.sha256()
    for entry in entries:
        content = hashlib.sha256(entry.content).hexdigest()
        total.update(f"{entry.kind} {content} {entry.path}\n".encode())
    return f"sha256:{total.hexdigest()}"


def checked(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """In order; ``InvalidInput`` for a path or a link that leads out of the tree."""
    found = sorted(entries, key=lambda entry: entry.path)
    for entry in found:
        _check_path(entry.path)
        if entry.kind == LINK:
            _check_link(entry)
    if len(found) > FILES_MAX:
        raise _refused(
            Sentence("It has more than %(count)s files; name a subfolder.", count=FILES_MAX)
        )
    return tuple(found)


def read_folder(root: Path, *, folders: Sequence[Path], size_max: int) -> Tree:
    """What lies below ``root``, which must lie in one of ``folders``; links are kept as links."""
    place = Path(os.path.realpath(root))
    check_place(place, folders)
    if not place.is_dir():
        raise PermanentError(
            Sentence("There is no folder %(folder)s on the worker's machine.", folder=root),
            code="no_folder",
        )
    left = size_max
    entries = []
    for path in _walk(place):
        entry = _read(path, path.relative_to(place).as_posix(), left)
        left -= len(entry.content)
        entries.append(entry)
        if len(entries) > FILES_MAX:
            break
    found = checked(entries)
    return Tree(digest_of(found), found)


def check_place(place: Path, folders: Sequence[Path]) -> None:
    """What links lead to counts, not what a path looks like."""
    real = Path(os.path.realpath(place))
    if any(real.is_relative_to(os.path.realpath(folder)) for folder in folders):
        return
    sentence = Sentence(
        "The portal may not read playbooks here; it may in %(folders)s. Put them there, or have "
        "the folder added to BEIDOU_PLAYBOOK_FOLDERS.",
        folders=", ".join(str(folder) for folder in folders),
    )
    raise InvalidInput(sentence, code="folder_not_allowed", fields={"location": sentence})


def _walk(folder: Path) -> Iterator[Path]:
    """Everything but folders, which are empty in a tree; a link to a folder is not followed."""
    try:
        found = sorted(os.scandir(folder), key=lambda each: each.name)
    except OSError as error:
        raise _unreadable(folder) from error
    for each in found:
        if each.name == ".git":
            continue
        if each.is_dir(follow_symlinks=False):
            yield from _walk(Path(each.path))
        else:
            yield Path(each.path)


def _read(path: Path, name: str, left: int) -> Entry:
    """Opened before it is judged, so that nobody puts another thing in its place meanwhile."""
    try:
        if path.is_symlink():
            return Entry(name, LINK, os.readlink(path).encode())
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        with os.fdopen(os.open(path, flags), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise _refused(Sentence("%(path)s is neither a file nor a link.", path=name))
            content = file.read(left + 1)
    except OSError as error:
        raise _unreadable(path) from error
    if len(content) > left:
        raise too_large()
    return Entry(name, PROGRAM if found.st_mode & stat.S_IXUSR else FILE, content)


def too_large() -> InvalidInput:
    return _refused(
        Sentence(
            "It is larger than the portal takes (BEIDOU_PLAYBOOK_MAX_MIB). Name a subfolder, or "
            "leave out what playbooks do not need."
        )
    )


def _unreadable(path: Path) -> PermanentError:
    return PermanentError(
        Sentence("The worker cannot read %(path)s.", path=path), code="unreadable"
    )


def _refused(sentence: Sentence) -> InvalidInput:
    return InvalidInput(sentence, code="bad_tree")


def _check_path(path: str) -> None:
    parts = path.split("/")
    if (
        not is_storable(path)
        or len(path) > PATH_MAX
        or any(part in ("", ".", "..") for part in parts)
        or any(ord(char) < 32 for char in path)
    ):
        raise _refused(Sentence("The path %(path)s cannot be kept.", path=repr(path)[:PATH_MAX]))


def _check_link(entry: Entry) -> None:
    target = entry.content.decode("utf-8", "replace")
    end = posixpath.normpath(posixpath.join(posixpath.dirname(entry.path), target))
    parts = [part for part in target.split("/") if part not in ("", ".")]
    names = itertools.dropwhile(lambda part: part == "..", parts)
    # A name may be a link itself: what ".." behind it means is not to be seen from the words.
    if target.startswith("/") or end == ".." or end.startswith("../") or ".." in names:
        raise _refused(Sentence("The link %(path)s leads out of the source.", path=entry.path))


# --- keeping ---------------------------------------------------------------------------------


def pack(entries: Sequence[Entry]) -> bytes:
    """A compressed tar file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=6) as archive:
        for entry in entries:
            info = tarfile.TarInfo(entry.path)
            if entry.kind == LINK:
                info.type, info.linkname = tarfile.SYMTYPE, entry.content.decode()
                archive.addfile(info)
                continue
            info.mode = 0o700 if entry.kind == PROGRAM else 0o600
            info.size = len(entry.content)
            archive.addfile(info, io.BytesIO(entry.content))
    return out.getvalue()


def unpack(packed: bytes) -> tuple[Entry, ...]:
    """What ``pack`` made; ``PermanentError`` when it is no longer that."""
    entries = []
    try:
        with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
            for info in archive:
                if info.issym():
                    entries.append(Entry(info.name, LINK, info.linkname.encode()))
                    continue
                file = archive.extractfile(info)
                content = file.read() if file is not None else b""
                kind = PROGRAM if info.mode & stat.S_IXUSR else FILE
                entries.append(Entry(info.name, kind, content))
    except (tarfile.TarError, EOFError, OSError) as error:
        raise PermanentError(
            Sentence("What was kept of the playbook's source cannot be read."), code="bad_archive"
        ) from error
    return checked(entries)


def write(entries: Sequence[Entry], folder: Path) -> None:
    """Write them below ``folder``, which is made; links come last, so that nothing is written
    through one."""
    folder.mkdir(mode=0o700)
    for entry in sorted(entries, key=lambda each: each.kind == LINK):
        path = folder / entry.path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if entry.kind == LINK:
            path.symlink_to(entry.content.decode())
            continue
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        mode = 0o700 if entry.kind == PROGRAM else 0o600
        with os.fdopen(os.open(path, flags, mode), "wb") as file:
            file.write(entry.content)
