"""Which labs exist on this machine: one folder each, owned by a process or kept until taken down.

A lab is dead when the process that started it is gone, or when the machine was started anew since
(nothing the lab started survives that, yet containers stay behind as corpses).
"""

import json
import os
import re
import shutil
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from lab.errors import LabError
from lab.paths import locked, run_root
from lab.process import Process

SUBNETS = 256
"""How many labs can live at once: the /24 networks of 10.99.0.0/16."""

PORTS = range(21000, 29000)

NAME_PATTERN = re.compile(r"[a-z][a-z0-9-]{0,28}[a-z0-9]")


@dataclass(frozen=True)
class LabRecord:
    """What is written down about a lab; ``owner`` is None for one that outlives its starter."""

    name: str
    subnet: int
    boot_id: str
    created: str
    owner: Process | None

    @property
    def folder(self) -> Path:
        return run_root() / self.name

    def is_alive(self) -> bool:
        if self.boot_id != _boot_id():
            return False
        return self.owner is None or self.owner.is_running()

    def network(self, last: int | str = "0/24") -> str:
        """An address of the lab's subnet, or the subnet itself."""
        return f"10.99.{self.subnet}.{last}"

    @property
    def gateway(self) -> str:
        """The address under which hosts reach this machine."""
        return self.network(1)


def claim(name: str, *, keep: bool) -> LabRecord:
    """Write down a new lab with a subnet nobody has; the caller has removed a dead one before."""
    if not NAME_PATTERN.fullmatch(name):
        raise LabError(f"{name!r} is no name for a lab: 2 to 30 small letters, digits and hyphens.")
    with locked("labs", folder=run_root()):
        known = records()
        if any(other.name == name for other in known):
            raise LabError(f"The lab {name} is running already; `python -m lab down` ends it.")
        taken = {other.subnet for other in known}
        free = next((number for number in range(SUBNETS) if number not in taken), None)
        if free is None:
            raise LabError(f"All {SUBNETS} subnets are taken; `python -m lab clean` frees them.")
        record = LabRecord(
            name=name,
            subnet=free,
            boot_id=_boot_id(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            owner=None if keep else Process.of(os.getpid()),
        )
        record.folder.mkdir(mode=0o755)
        (record.folder / "new").write_text(json.dumps(asdict(record)))
        (record.folder / "new").rename(record.folder / "lab.json")  # others read without a lock
    return record


def records() -> list[LabRecord]:
    """All labs written down, living and dead."""
    found = []
    for path in sorted(run_root().glob("*/lab.json")):
        try:
            data = json.loads(path.read_text())
        except FileNotFoundError:  # removed between the listing and the reading
            continue
        owner = data.pop("owner")
        found.append(LabRecord(**data, owner=Process(**owner) if owner else None))
    return found


def find(name: str) -> LabRecord | None:
    """The lab of this name, living or dead."""
    return next((record for record in records() if record.name == name), None)


def forget(record: LabRecord) -> None:
    """Remove the lab's folder and with it the claims on its subnet and ports."""
    for claimed in _ports_folder().iterdir():
        with suppress(FileNotFoundError):  # other labs come and go meanwhile
            if claimed.read_text() == record.name:
                claimed.unlink()
    shutil.rmtree(record.folder, ignore_errors=True)


def claim_port(record: LabRecord) -> int:
    """A port on 127.0.0.1 that stays the lab's own until the lab is forgotten.

    The range lies below the kernel's range for outgoing connections, so that none takes it
    between this claim and the start of the server.
    """
    for port in PORTS:
        path = _ports_folder() / str(port)
        try:
            with path.open("x") as claimed:
                claimed.write(record.name)
        except FileExistsError:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                path.unlink()
                continue
        return port
    raise LabError("No port is left for the lab's servers; `python -m lab clean` frees them.")


def _ports_folder() -> Path:
    folder = run_root() / "ports"
    folder.mkdir(exist_ok=True)
    return folder


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
