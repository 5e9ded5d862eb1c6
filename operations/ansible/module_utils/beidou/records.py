"""What the product placed on a host, so that it can be taken away again.

``/var/lib/beidou/placed`` names one path per line, in the order of placing; a file that was there
before is kept below ``/var/lib/beidou/originals``. Kernel settings that were changed are noted in
``/var/lib/beidou/kernel-settings.json`` with their values from before. Undoing all of it brings the
host back to how it was delivered.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import urllib.parse

STATE_FOLDER = "/var/lib/beidou"


class Records:
    def __init__(self, folder: str = STATE_FOLDER) -> None:
        self.folder = folder
        self._placed = os.path.join(folder, "placed")
        self._settings = os.path.join(folder, "kernel-settings.json")

    def placed(self) -> list[str]:
        try:
            with open(self._placed, encoding="utf-8") as file:
                return file.read().splitlines()
        except FileNotFoundError:
            return []

    def note(self, path: str) -> None:
        """Remember that ``path`` is ours; what is there now is kept as the original."""
        if path in self.placed():
            return
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        if os.path.isfile(path):
            os.makedirs(os.path.dirname(self._original(path)), mode=0o700, exist_ok=True)
            shutil.copy2(path, self._original(path))
        with open(self._placed, "a", encoding="utf-8") as file:
            file.write(f"{path}\n")

    def undo(self) -> list[str]:
        """Put originals back and remove the rest, last first; return what changed."""
        done = []
        for path in reversed(self.placed()):
            original = self._original(path)
            if os.path.isfile(original):
                shutil.copy2(original, path)
                done.append(f"restored {path}")
            elif os.path.isdir(path) and not os.path.islink(path):
                with contextlib.suppress(OSError):  # others may keep files in it
                    os.rmdir(path)
                    done.append(f"removed {path}")
            elif os.path.lexists(path):
                os.unlink(path)
                done.append(f"removed {path}")
        return done

    def note_setting(self, name: str, value: str) -> None:
        """Remember the value from before our first change."""
        settings = self.settings()
        if name in settings:
            return
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        with open(self._settings, "w", encoding="utf-8") as file:
            json.dump({**settings, name: value}, file)

    def settings(self) -> dict[str, str]:
        try:
            with open(self._settings, encoding="utf-8") as file:
                return dict(json.load(file))
        except FileNotFoundError:
            return {}

    def _original(self, path: str) -> str:
        return os.path.join(self.folder, "originals", urllib.parse.quote(path, safe=""))


def make_parents(path: str, records: Records | None) -> None:
    """Make the missing parents of ``path`` and note each, so that undoing removes empty ones."""
    missing = []
    parent = os.path.dirname(path)
    while parent and not os.path.isdir(parent):
        missing.append(parent)
        parent = os.path.dirname(parent)
    for folder in reversed(missing):
        if records is not None:
            records.note(folder)
        os.mkdir(folder, 0o755)


def write_atomically(path: str, content: bytes, mode: int) -> None:
    """A reader sees the old file or the new one, and never with wider rights than ``mode``."""
    partial = f"{path}.beidou-part"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(partial)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    os.replace(partial, path)
