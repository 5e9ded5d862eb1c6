"""What every started back end is: an address, and the server to stop."""

import socket
import urllib.error
import urllib.request
from dataclasses import dataclass

from lab.process import Server


@dataclass(frozen=True)
class Endpoint:
    """A running server and the URL under which clients reach it."""

    url: str
    server: Server

    def stop(self) -> None:
        self.server.stop()


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
