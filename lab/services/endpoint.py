"""What every started back end is: an address, how to sign in, and the process to stop."""

import json
import socket
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from lab.process import Process, Server


@dataclass(frozen=True)
class Endpoint:
    """A running server; the keys are empty where the URL says everything."""

    url: str
    process: Process
    access_key: str = ""
    secret_key: str = ""

    @classmethod
    def of(cls, server: Server, url: str, *, access_key: str = "", secret_key: str = "") -> Self:
        return cls(url, server.process, access_key=access_key, secret_key=secret_key)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """An endpoint written down earlier, unless its process has ended since."""
        if not path.exists():
            return None
        data = json.loads(path.read_text())
        endpoint = cls(**{**data, "process": Process(**data["process"])})
        return endpoint if endpoint.process.is_running() else None

    def write(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(json.dumps(asdict(self)))

    def stop(self) -> None:
        """End the server, as a fault would; the lab starts another one when asked again."""
        self.process.stop()


def accepts(port: int, address: str = "127.0.0.1") -> bool:
    """Whether something listens there."""
    try:
        with socket.create_connection((address, port), timeout=1):
            return True
    except OSError:
        return False


def answers(url: str) -> bool:
    """Whether an HTTP server answers there with success."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status < 400)
    except (urllib.error.URLError, OSError):
        return False
