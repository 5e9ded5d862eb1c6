"""PostgreSQL 15 of Debian with a database of its own, without durability (it is for tests)."""

import os
import secrets
import shutil
import signal
from pathlib import Path
from urllib.parse import urlsplit

from lab.errors import LabError
from lab.process import Server, run, start_server, wait_for
from lab.services.endpoint import Endpoint, accepts
from lab.state import LabRecord, claim_port

USER = "beidou"
DATABASE = "beidou"


def start_postgres(record: LabRecord, name: str) -> Endpoint:
    """Make a fresh cluster folder, start the server and create the database."""
    programs = _programs()
    port = claim_port(record)
    password = secrets.token_urlsafe(12)
    folder = record.folder / name
    folder.mkdir()
    password_file = folder / "password"
    password_file.write_text(password)
    run_as: tuple[str, ...] = ()
    if user := _user():
        run_as = ("setpriv", "--reuid", user, "--regid", user, "--clear-groups")
        for path in (folder, password_file):
            shutil.chown(path, user, user)
    run(
        *run_as, programs / "initdb", "--pgdata", folder / "data", "--username", USER,
        "--pwfile", password_file, "--auth", "scram-sha-256", "--encoding", "UTF8",
        "--locale", "C.UTF-8", "--no-sync",
        cwd=folder,
    )  # fmt: skip
    server = _serve(record, name, port)
    psql = (programs / "psql", "-h", "127.0.0.1", "-p", str(port), "-U", USER, "-d", "postgres")
    run(*psql, "-c", f"CREATE DATABASE {DATABASE}", env={"PGPASSWORD": password})
    url = f"postgresql://{USER}:{password}@127.0.0.1:{port}/{DATABASE}"
    return Endpoint.of(server, url)


def restart_postgres(record: LabRecord, name: str, endpoint: Endpoint) -> Endpoint:
    """End the server with all its sessions, and start it again on the same data and port."""
    os.kill(endpoint.process.pid, signal.SIGINT)  # without waiting for its sessions
    running = endpoint.process.is_running
    wait_for("The end of PostgreSQL", lambda: not running(), timeout=60)
    return Endpoint.of(_serve(record, name, int(urlsplit(endpoint.url).port or 0)), endpoint.url)


def _serve(record: LabRecord, name: str, port: int) -> Server:
    folder = record.folder / name
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": str(folder),
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "max_connections": "200",
    }
    options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    server = start_server(
        name,
        _programs() / "postgres",
        "-D",
        folder / "data",
        *options,
        folder=record.folder,
        user=_user(),
        cwd=folder,
    )
    server.wait_until(lambda: accepts(port), timeout=60)
    return server


def _user() -> str | None:
    """Whose the server is; it refuses to run as root."""
    return "postgres" if os.getuid() == 0 else None


def _programs() -> Path:
    """The folder of the newest PostgreSQL installed; Debian keeps it off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name)
    if not found:
        raise LabError("PostgreSQL is missing; `python -m lab setup` installs it.")
    return found[-1]
