"""Read a host's files below a root folder, so that every probe can be tried on a made-up host."""

from __future__ import annotations

import os


class HostFiles:
    """Files of the host whose ``/`` is ``root``; what is missing or unreadable reads as empty."""

    def __init__(self, root: str = "/") -> None:
        self.root = root

    def real(self, path: str) -> str:
        return os.path.join(self.root, path.lstrip("/"))

    def text(self, path: str) -> str:
        try:
            with open(self.real(path), encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    def names(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(self.real(path)))
        except OSError:
            return []

    def exists(self, path: str) -> bool:
        return os.path.lexists(self.real(path))

    def is_dir(self, path: str) -> bool:
        return os.path.isdir(self.real(path))

    def is_link(self, path: str) -> bool:
        return os.path.islink(self.real(path))

    def is_writable(self, path: str) -> bool:
        return os.access(self.real(path), os.W_OK)

    def files_below(self, path: str) -> list[str]:
        """All files (not folders) below ``path``, as paths of the host; empty folders count not."""
        found = []
        for folder, folders, files in os.walk(self.real(path)):
            relative = os.path.relpath(folder, self.real(path))
            # os.walk sorts links to folders under the folders, though there is something there.
            links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
            for name in files + links:
                found.append(os.path.normpath(os.path.join(path, relative, name)))
        return sorted(found)
