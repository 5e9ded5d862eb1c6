"""A host made of files in a folder, for probes that read /proc, /sys, /etc and /var."""

from pathlib import Path

from tests.operations.ansible.host_code import host_files


class MadeUpHost:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = host_files.HostFiles(str(root))

    def write(self, path: str, text: str = "") -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def folder(self, path: str) -> None:
        (self.root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def link(self, path: str, target: str) -> None:
        link = self.root / path.lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)

    def process(self, pid: int, *arguments: str, cgroup: str = "0::/init.scope") -> None:
        self.write(f"/proc/{pid}/cmdline", "\0".join(arguments) + "\0")
        self.write(f"/proc/{pid}/comm", arguments[0].rsplit("/", 1)[-1][:15] + "\n")
        self.write(f"/proc/{pid}/cgroup", cgroup + "\n")
