"""Redis of Debian, in memory only."""

from lab.process import start_server
from lab.services.endpoint import Endpoint, accepts
from lab.state import LabRecord, claim_port


def start_redis(record: LabRecord, name: str) -> Endpoint:
    """Start a server that keeps nothing on disk."""
    port = claim_port(record)
    folder = record.folder / name
    folder.mkdir()
    server = start_server(
        name,
        "redis-server",
        "--bind", "127.0.0.1",
        "--port", str(port),
        "--dir", folder,
        "--save", "",
        "--appendonly", "no",
        "--daemonize", "no",
        folder=record.folder,
    )  # fmt: skip
    server.wait_until(lambda: accepts(port), timeout=30)
    return Endpoint.of(server, f"redis://127.0.0.1:{port}/0")
