"""What ansible builds of our modules, kept between runs; see the callback plugin of this name.

The files are read as pickles on this machine and run on hosts, so the folder must be our user's
alone.  Whatever is wrong with it, a run goes on without it and builds as ever.
"""

import hashlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import structlog

from operations.drivers import processes

KEPT_SECONDS = 7 * 24 * 3600
_BOOT = Path("/proc/sys/kernel/random/boot_id")

logger = structlog.get_logger(__name__)


def variables(ansible: Path, base: Path) -> dict[str, str]:
    """Environment of a run of our own playbooks that shares what is built, in a folder below
    ``base``; empty when that cannot be.  ``ansible`` is the folder of library and callback plugins.
    """
    try:
        kept = _folder(ansible, base / "built-modules")
    except OSError as error:
        logger.warning("built_modules_not_kept", why=str(error))
        return {}
    return {
        "ANSIBLE_CALLBACK_PLUGINS": str(ansible / "callback_plugins"),
        "ANSIBLE_CALLBACKS_ENABLED": "built_modules",
        "BEIDOU_BUILT_MODULES": str(kept),
    }


def _folder(ansible: Path, parent: Path) -> Path:
    kept = parent / _digest(ansible)
    for folder in (parent, kept):
        folder.mkdir(mode=0o700, parents=folder == parent, exist_ok=True)
        if not processes.is_ours_alone(folder):
            raise PermissionError(f"{folder} is not our user's alone")
    os.utime(kept)
    for old in _unused(parent):
        shutil.rmtree(old, ignore_errors=True)
    return kept


def _digest(ansible: Path) -> str:
    """Of everything that is built from, so that no run meets what was built of others.

    A file that was changed and changed back is another one by its time: what was built meanwhile
    may stand under the old content.  So is every boot of the machine, after which a file may be
    empty that had not reached the disk.
    """
    boot = _BOOT.read_text() if _BOOT.exists() else ""
    digest = hashlib.sha256(f"{version('ansible-core')} {sys.version} {boot}".encode())
    for name in ("library", "module_utils"):
        for path in sorted((ansible / name).rglob("*.py")):
            found = path.stat()
            place = path.relative_to(ansible)
            digest.update(f"{place} {found.st_mtime_ns} {found.st_size} ".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _unused(parent: Path) -> Iterator[Path]:
    """Folders that no run has used for long."""
    limit = time.time() - KEPT_SECONDS
    for folder in parent.iterdir():
        try:
            if folder.lstat().st_mtime < limit:
                yield folder
        except FileNotFoundError:
            continue  # removed by another worker
