"""Where the lab keeps things: the content-keyed cache, and the folder of each running lab."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_root() -> Path:
    """The cache of everything built; content-keyed, shared by all checkouts and parallel runs."""
    chosen = os.environ.get("BEIDOU_LAB_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "beidou-lab"


def run_root() -> Path:
    """The folder of all running labs of this user; readable by servers that drop privileges."""
    root = Path(f"/var/tmp/beidou-lab-{os.getuid()}")
    root.mkdir(mode=0o755, exist_ok=True)
    return root


@contextmanager
def locked(name: str, *, folder: Path | None = None) -> Iterator[None]:
    """Hold an exclusive lock between processes and threads until the block ends."""
    locks = (folder or cache_root()) / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with (locks / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def building(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``target`` when the block succeeds and vanishes otherwise."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield folder
        folder.chmod(0o755)
        folder.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def content_key(*parts: str | bytes) -> str:
    """Twelve hex digits that change whenever one of the parts does."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:12]
