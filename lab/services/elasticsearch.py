"""Elasticsearch from its Maven artifact: the server without its optional modules.

Index, bulk, search, aggregations, templates, aliases and point in time work; there is no index life
cycle, no data stream, no painless, and ``GET /`` answers 405.
"""

import json
import os
import shutil
from pathlib import Path

from lab.errors import LabError
from lab.paths import building, cache_root, locked
from lab.process import run, start_server
from lab.services.endpoint import Endpoint, answers
from lab.state import LabRecord, claim_port

VERSION = "8.19.0"
ARTIFACT = f"org.elasticsearch.distribution.integ-test-zip:elasticsearch:{VERSION}:zip"
USER = "nobody"
"""The server refuses to run as root."""


def start_elasticsearch(record: LabRecord, folder_name: str) -> Endpoint:
    """Start one node with 512 MiB of heap; returns when its state is at least yellow."""
    distribution = ensure_elasticsearch()
    http_port, transport_port = claim_port(record), claim_port(record)
    folder = record.folder / folder_name
    # The user of the server cannot enter the cache; hard links cost neither time nor space.
    _link_tree(distribution, folder)
    settings = {
        "cluster.name": record.name,
        "discovery.type": "single-node",
        "network.host": "127.0.0.1",
        "http.port": http_port,
        "transport.port": transport_port,
        "node.store.allow_mmap": False,
        "xpack.security.enabled": False,
        "path.data": str(folder / "data"),
        "path.logs": str(folder / "logs"),
        "cluster.routing.allocation.disk.threshold_enabled": False,
    }
    config = folder / "config" / "elasticsearch.yml"
    config.unlink()  # a hard link to the cache until now
    lines = [f"{key}: {json.dumps(value)}" for key, value in settings.items()]
    config.write_text("\n".join(lines) + "\n")
    user = USER if os.getuid() == 0 else None
    for path in (folder, folder / "config", folder / "data", folder / "logs"):
        path.mkdir(exist_ok=True)
        if user:
            shutil.chown(path, user)
    server = start_server(
        folder_name,
        folder / "bin" / "elasticsearch",
        folder=record.folder,
        user=user,
        cwd=folder,
        env={
            "ES_JAVA_HOME": str(java_home()),
            "ES_JAVA_OPTS": "-Xms512m -Xmx512m",
            "ES_TMPDIR": str(folder / "data"),
            "HOME": str(folder / "data"),
        },
    )
    url = f"http://127.0.0.1:{http_port}"
    health = f"{url}/_cluster/health?wait_for_status=yellow&timeout=1s"
    server.wait_until(lambda: answers(health), timeout=180)
    return Endpoint.of(server, url)


def ensure_elasticsearch() -> Path:
    """Return the unpacked distribution, fetching it with Maven when the cache lacks it."""
    folder = cache_root() / f"elasticsearch-{VERSION}"
    with locked("elasticsearch"):
        if not folder.exists():
            _fetch(folder)
    return folder


def _fetch(folder: Path) -> None:
    if not shutil.which("mvn"):
        raise LabError(
            "Maven is missing, with which Elasticsearch is fetched; "
            "`python -m lab setup --with elasticsearch` installs it."
        )
    with building(folder) as target:
        run(
            "mvn", "--batch-mode", "--quiet", "dependency:copy",
            f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={target}", "-Dtransitive=false",
            timeout=900, cwd=target,
        )  # fmt: skip
        (archive,) = target.glob("*.zip")
        # Python's own zip reader loses the permissions of the programs.
        shutil.unpack_archive(archive, target / "unpacked")
        archive.unlink()
        (content,) = (target / "unpacked").iterdir()
        for path in content.iterdir():
            path.rename(target / path.name)
        shutil.rmtree(target / "unpacked")
        for program in (target / "bin").iterdir():
            program.chmod(0o755)


def _link_tree(source: Path, target: Path) -> None:
    def link_or_copy(one: str, other: str) -> None:
        try:
            os.link(one, other)
        except OSError:
            shutil.copy2(one, other)

    shutil.copytree(source, target, copy_function=link_or_copy)


def java_home() -> Path:
    """The Java 17 of Debian, or whatever java is on the PATH."""
    debian = Path("/usr/lib/jvm/java-17-openjdk-amd64")
    if debian.exists():
        return debian
    java = shutil.which("java")
    if java is None:
        raise LabError("Java is missing; `python -m lab setup --with elasticsearch` installs it.")
    return Path(java).resolve().parent.parent
