"""What nodes of Elasticsearch and OpenSearch have in common: Maven, Java, a tree and settings."""

import json
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from lab.errors import LabError
from lab.process import run, start_server, wait_for
from lab.services.endpoint import Endpoint, answers
from lab.state import LabRecord, claim_port

HEAP = ("-Xms512m", "-Xmx512m")
USER = "nobody"
"""Both servers refuse to run as root."""

INSTALLS = (
    "`python -m lab setup --with elasticsearch`, or `--with opensearch`, installs Maven and Java."
)


def start_node(
    record: LabRecord,
    name: str,
    *command: str | Path,
    distribution: Path,
    settings_file: str,
    settings: Mapping[str, object] | None = None,
    env: Mapping[str, str] | None = None,
    again: Endpoint | None = None,
) -> Endpoint:
    """Start one node in a folder of the lab named after it; returns when its state is yellow.

    The command is run in that folder, which has the content of the distribution by then.  With
    ``again`` the node is started once more, on the data and the address that it had.
    """
    folder = record.folder / name
    user = USER if os.getuid() == 0 else None
    url = again.url if again else f"http://127.0.0.1:{claim_port(record)}"
    if not again:
        _prepare(record, folder, distribution, settings_file, {**_port(url), **(settings or {})})
        for path in (folder, folder / "config", folder / "data", folder / "logs"):
            path.mkdir(exist_ok=True)
            if user:
                shutil.chown(path, user)
    server = start_server(
        name,
        *command,
        folder=record.folder,
        user=user,
        cwd=folder,
        env={"HOME": str(folder / "data"), **(env or {})},
    )
    health = f"{url}/_cluster/health?wait_for_status=yellow&timeout=1s"
    server.wait_until(lambda: answers(health), timeout=180)
    return Endpoint.of(server, url)


def kill_node(endpoint: Endpoint) -> None:
    """With SIGKILL, and whatever it started; returns when it is gone."""
    os.killpg(endpoint.process.pid, signal.SIGKILL)
    running = endpoint.process.is_running
    wait_for("The end of the node", lambda: not running(), timeout=60)


def _port(url: str) -> dict[str, object]:
    return {"http.port": urlsplit(url).port}


def _prepare(
    record: LabRecord,
    folder: Path,
    distribution: Path,
    settings_file: str,
    settings: Mapping[str, object],
) -> None:
    # The user of the server cannot enter the cache; hard links cost neither time nor space.
    _link_tree(distribution, folder)
    every = {
        "cluster.name": record.name,
        "node.name": folder.name,
        "discovery.type": "single-node",
        "network.host": "127.0.0.1",
        "transport.port": claim_port(record),
        "node.store.allow_mmap": False,
        "path.data": str(folder / "data"),
        "path.logs": str(folder / "logs"),
        "cluster.routing.allocation.disk.threshold_enabled": False,
        **settings,
    }
    config = folder / "config" / settings_file
    config.unlink(missing_ok=True)  # a hard link to the cache until now
    lines = [f"{key}: {json.dumps(value)}" for key, value in every.items()]
    config.write_text("\n".join(lines) + "\n")


def maven(*words: str | Path, cwd: Path) -> None:
    """Run one goal of Maven, which fetches what its own cache lacks."""
    if not shutil.which("mvn"):
        raise LabError(f"Maven is missing, with which search servers are fetched; {INSTALLS}")
    run("mvn", "--batch-mode", "--quiet", *words, timeout=900, cwd=cwd)


def java_home() -> Path:
    """The Java 17 of Debian, or whatever java is on the PATH."""
    debian = Path("/usr/lib/jvm/java-17-openjdk-amd64")
    if debian.exists():
        return debian
    java = shutil.which("java")
    if java is None:
        raise LabError(f"Java is missing; {INSTALLS}")
    return Path(java).resolve().parent.parent


def _link_tree(source: Path, target: Path) -> None:
    def link_or_copy(one: str, other: str) -> None:
        try:
            os.link(one, other)
        except OSError:
            shutil.copy2(one, other)

    shutil.copytree(source, target, copy_function=link_or_copy)
