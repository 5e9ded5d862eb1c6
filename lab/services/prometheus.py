"""Prometheus and the node exporter of Debian."""

import json
from collections.abc import Sequence

from lab.process import start_server
from lab.services.endpoint import Endpoint, answers
from lab.state import LabRecord, claim_port


def start_prometheus(record: LabRecord, folder_name: str, targets: Sequence[str]) -> Endpoint:
    """Start a server that scrapes ``/metrics`` of the targets ("host:port") every second."""
    port = claim_port(record)
    folder = record.folder / folder_name
    folder.mkdir()
    config = folder / "prometheus.json"  # JSON is YAML
    job = {"job_name": "lab", "static_configs": [{"targets": list(targets)}]}
    settings = {"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}
    config.write_text(json.dumps(settings))
    server = start_server(
        folder_name,
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
        folder=record.folder,
    )
    url = f"http://127.0.0.1:{port}"
    server.wait_until(lambda: answers(f"{url}/-/ready"), timeout=60)
    return Endpoint.of(server, url)


def start_node_exporter(record: LabRecord, folder_name: str) -> Endpoint:
    """Start an exporter of this machine's own figures."""
    port = claim_port(record)
    server = start_server(
        folder_name,
        "prometheus-node-exporter",
        f"--web.listen-address=127.0.0.1:{port}",
        folder=record.folder,
    )
    url = f"http://127.0.0.1:{port}"
    server.wait_until(lambda: answers(f"{url}/metrics"), timeout=30)
    return Endpoint.of(server, url)
