"""S3: versitygw on a folder."""

import secrets

from lab import binaries
from lab.process import start_server
from lab.services.endpoint import Endpoint, accepts
from lab.state import LabRecord, claim_port

REGION = "us-east-1"


def start_s3(record: LabRecord, folder_name: str) -> Endpoint:
    """Start a server with one account; its buckets are made by whoever uses it."""
    port = claim_port(record)
    folder = record.folder / folder_name
    for part in ("data", "metadata"):  # apart: not every file system has extended attributes
        (folder / part).mkdir(parents=True)
    access_key, secret_key = secrets.token_hex(8), secrets.token_hex(16)
    server = start_server(
        folder_name,
        binaries.ensure_binary("versitygw"),
        "--port", f"127.0.0.1:{port}",
        "--region", REGION,
        "--quiet",
        "posix", "--sidecar", folder / "metadata", folder / "data",
        folder=record.folder,
        env={"ROOT_ACCESS_KEY": access_key, "ROOT_SECRET_KEY": secret_key},
    )  # fmt: skip
    server.wait_until(lambda: accepts(port), timeout=30)
    url = f"http://127.0.0.1:{port}"
    return Endpoint.of(server, url, access_key=access_key, secret_key=secret_key)
