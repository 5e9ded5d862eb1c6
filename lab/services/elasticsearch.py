"""Elasticsearch from its Maven artifact: the server without its optional modules.

Index, bulk, search, aggregations, templates, aliases and point in time work; there is no index life
cycle, no data stream, no painless, and ``GET /`` answers 405.
"""

import shutil
from pathlib import Path

from lab.paths import building, cache_root, locked
from lab.services.endpoint import Endpoint
from lab.services.searchnode import HEAP, java_home, kill_node, maven, start_node
from lab.state import LabRecord

VERSION = "8.19.0"
ARTIFACT = f"org.elasticsearch.distribution.integ-test-zip:elasticsearch:{VERSION}:zip"


def restart_elasticsearch(record: LabRecord, folder_name: str, endpoint: Endpoint) -> Endpoint:
    """Kill the node, and start it again with the data and the address it had."""
    kill_node(endpoint)
    return start_elasticsearch(record, folder_name, again=endpoint)


def start_elasticsearch(
    record: LabRecord, folder_name: str, again: Endpoint | None = None
) -> Endpoint:
    """Start one node with 512 MiB of heap; returns when its state is at least yellow."""
    folder = record.folder / folder_name
    return start_node(
        record,
        folder_name,
        folder / "bin" / "elasticsearch",
        distribution=ensure_elasticsearch(),
        settings_file="elasticsearch.yml",
        settings={"xpack.security.enabled": False},
        env={
            "ES_JAVA_HOME": str(java_home()),
            "ES_JAVA_OPTS": " ".join(HEAP),
            "ES_TMPDIR": str(folder / "data"),
        },
        again=again,
    )


def ensure_elasticsearch() -> Path:
    """Return the unpacked distribution, fetching it with Maven when the cache lacks it."""
    folder = cache_root() / f"elasticsearch-{VERSION}"
    with locked("elasticsearch"):
        if not folder.exists():
            _fetch(folder)
    return folder


def _fetch(folder: Path) -> None:
    with building(folder) as target:
        maven(
            "dependency:copy",
            f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={target}", "-Dtransitive=false",
            cwd=target,
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
