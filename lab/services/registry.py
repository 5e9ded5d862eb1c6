"""An OCI registry on a folder, open to everybody on this machine."""

import hashlib
import json
import tarfile
import tempfile
import urllib.request
from pathlib import Path

from lab import binaries
from lab.errors import LabError
from lab.images import Image, write_archive
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


def push(url: str, image: Image) -> None:
    """Put an image into the registry at ``url``, under its name without the registry in it."""
    name, _colon, tag = image.name.partition("/")[2].rpartition(":")
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "image.tar"
        write_archive([image], archive)
        with tarfile.open(archive) as opened:
            (entry,) = json.loads(_content(opened, "manifest.json"))
            config = _content(opened, entry["Config"])
            layers = [_content(opened, layer) for layer in entry["Layers"]]
    kind = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{kind}.manifest.v1+json",
        "config": _upload(url, name, config, f"{kind}.config.v1+json"),
        "layers": [_upload(url, name, layer, f"{kind}.layer.v1.tar") for layer in layers],
    }
    _send(
        "PUT",
        f"{url}/v2/{name}/manifests/{tag}",
        json.dumps(manifest).encode(),
        str(manifest["mediaType"]),
    )


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(name)
    if member is None:
        raise LabError(f"{name} is no file of the image's archive.")
    return member.read()


def _upload(url: str, name: str, content: bytes, media_type: str) -> dict[str, object]:
    """Upload a blob; what a manifest says of it."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    place = _send("POST", f"{url}/v2/{name}/blobs/uploads/", b"", "application/octet-stream")
    _send("PUT", f"{place}&digest={digest}", content, "application/octet-stream")
    return {"mediaType": media_type, "digest": digest, "size": len(content)}


def _send(method: str, url: str, content: bytes, media_type: str) -> str:
    """Send it; where the answer says that it lies."""
    request = urllib.request.Request(
        url, data=content, method=method, headers={"Content-Type": media_type}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return str(response.headers.get("Location", ""))
