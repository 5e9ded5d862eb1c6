"""An OCI registry on a folder, open to everybody on this machine."""

import json

from lab import binaries
from lab.process import start_server
from lab.services.endpoint import Endpoint, answers
from lab.state import LabRecord, claim_port


def start_registry(record: LabRecord, folder_name: str) -> Endpoint:
    """Start an empty registry; images may be deleted in it."""
    port = claim_port(record)
    folder = record.folder / folder_name
    folder.mkdir()
    config = folder / "config.yml"
    settings = {
        "version": 0.1,
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "data")},
            "delete": {"enabled": True},
        },
        "http": {"addr": f"127.0.0.1:{port}", "secret": "only for the lab"},
        "log": {"level": "warn", "accesslog": {"disabled": True}},
    }
    config.write_text(json.dumps(settings))
    server = start_server(
        folder_name,
        binaries.ensure_binary("registry"),
        "serve",
        config,
        folder=record.folder,
        env={"OTEL_TRACES_EXPORTER": "none"},
    )
    url = f"http://127.0.0.1:{port}"
    server.wait_until(lambda: answers(f"{url}/v2/"), timeout=30)
    return Endpoint.of(server, url)
