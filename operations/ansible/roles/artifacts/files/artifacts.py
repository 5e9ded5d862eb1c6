"""Fetch, verify and install artifacts on a host; runs there by itself, with Python 3.9 or later.

    artifacts.py missing    names of the artifacts that are not in place        (request on stdin)
    artifacts.py install    fetch what is missing, verify it, put it in place   (request on stdin)
    artifacts.py load       load the fetched images into containerd

Nothing is used before its SHA-256 is the expected one. A request is JSON: ``artifacts`` (name,
sha256, url or src), ``bin_dir``, ``prefix_dir``, ``cni_bin_dir``. The last line of the output is
JSON: ``{"missing": [...]}`` or ``{"changed": [...]}``; the lines before it are for people.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

STATE = "/var/lib/beidou"
INCOMING = f"{STATE}/incoming"  # copied here by the portal
STAGED = f"{STATE}/images"  # verified archives that wait for containerd, and records of loaded ones
INSTALLED = f"{STATE}/installed"  # checksums of unpacked archives
PLACED = f"{STATE}/placed"  # every path we made, for its later removal
TRIES = 3
PAUSE_SECONDS = 2  # before the second try; twice as long before the third
BLOCK = 1 << 20
TIMEOUT_SECONDS = 30
FULL = (errno.ENOSPC, errno.EDQUOT)


class Problem(Exception):
    """Ends the program with a sentence and exit code 1."""


@dataclasses.dataclass(frozen=True)
class Artifact:
    name: str
    sha256: str
    url: str | None = None
    src: str | None = None

    @property
    def is_images(self) -> bool:
        return self.name.endswith(".tar")

    @property
    def is_archive(self) -> bool:
        return self.name.endswith((".tar.gz", ".tgz"))


@dataclasses.dataclass(frozen=True)
class Request:
    artifacts: tuple[Artifact, ...]
    bin_dir: str
    prefix_dir: str
    cni_bin_dir: str


def parse_request(text: str) -> Request:
    values: Mapping[str, Any] = json.loads(text)
    artifacts = tuple(
        Artifact(a["name"], a["sha256"].lower(), a.get("url"), a.get("src"))
        for a in values["artifacts"]
    )
    for artifact in artifacts:
        if "/" in artifact.name or artifact.name.startswith("."):
            raise Problem(f"{artifact.name!r} is not the name of an artifact.")
        if not artifact.url and not artifact.src:
            raise Problem(f"{artifact.name} has neither a URL nor a file.")
        if artifact.url and not artifact.url.startswith(("http://", "https://")):
            raise Problem(f"{artifact.url!r} is not an http(s) URL.")
    return Request(artifacts, values["bin_dir"], values["prefix_dir"], values["cni_bin_dir"])


def is_in_place(artifact: Artifact, request: Request) -> bool:
    if artifact.is_images:
        return is_staged(artifact) or is_loaded(artifact)
    if artifact.is_archive:
        return read(f"{INSTALLED}/{artifact.name}").strip() == artifact.sha256
    path = os.path.join(request.bin_dir, artifact.name)
    return os.path.isfile(path) and sha256_of(path) == artifact.sha256


def is_staged(artifact: Artifact) -> bool:
    path = f"{STAGED}/{artifact.name}"
    return os.path.isfile(path) and sha256_of(path) == artifact.sha256


def is_loaded(artifact: Artifact) -> bool:
    """By the record of the last load, and only while containerd still has every image of it."""
    record = json.loads(read(f"{STAGED}/{artifact.name}.json") or "{}")
    return record.get("sha256") == artifact.sha256 and set(record["images"]) <= known_images()


def known_images() -> set[str]:
    if shutil.which("ctr") is None:
        return set()
    done = subprocess.run(
        ["ctr", "-n", "k8s.io", "images", "list", "-q"], capture_output=True, text=True, check=False
    )
    return set(done.stdout.split()) if done.returncode == 0 else set()


def install(request: Request) -> list[str]:
    changed = []
    for artifact in request.artifacts:
        if is_in_place(artifact, request):
            say(f"{artifact.name} is in place")
            continue
        try:
            put(artifact, fetch(artifact, partial_folder(artifact, request)), request)
        except OSError as error:
            if error.errno in FULL:
                raise Problem(no_room(artifact, request)) from error
            raise
        changed.append(artifact.name)
    return changed


def no_room(artifact: Artifact, request: Request) -> str:
    """What to make room for and where; a part that lies there is only in the way of that."""
    folder = partial_folder(artifact, request)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(partial_path(artifact, folder))
    free = shutil.disk_usage(folder).free / 1e6
    return (
        f"The disk of {folder} is full: {artifact.name} does not fit, {free:.0f} MB are free."
        " Make room there, then try again."
    )


def partial_folder(artifact: Artifact, request: Request) -> str:
    """On the file system of the destination, so that the last step is a rename."""
    is_program = not artifact.is_images and not artifact.is_archive
    return request.bin_dir if is_program else STAGED


def partial_path(artifact: Artifact, folder: str) -> str:
    return os.path.join(folder, f".{artifact.name}.beidou-part")


def fetch(artifact: Artifact, folder: str) -> str:
    """Get the artifact into ``folder`` under a hidden name; refuse it if the checksum differs."""
    os.makedirs(folder, exist_ok=True)
    path = partial_path(artifact, folder)
    begin = time.monotonic()
    found = copy(artifact, path) if artifact.src else download(artifact, path)
    if found != artifact.sha256:
        os.unlink(path)
        raise Problem(
            f"{artifact.name} from {artifact.url or artifact.src} has the checksum {found},"
            f" not {artifact.sha256}: it is not installed."
        )
    size, seconds = os.path.getsize(path) / 1e6, time.monotonic() - begin
    say(f"{artifact.name}: {size:.0f} MB in {seconds:.1f} s, checksum verified")
    return path


def copy(artifact: Artifact, path: str) -> str:
    source = f"{INCOMING}/{artifact.name}"
    try:
        with open(source, "rb") as file:
            found = write(file, path)
    except FileNotFoundError:
        raise Problem(f"{artifact.name} was not copied to this machine.") from None
    os.unlink(source)
    return found


def download(artifact: Artifact, path: str) -> str:
    for attempt in range(1, TRIES + 1):
        try:
            # parse_request lets only http and https through.
            with urllib.request.urlopen(artifact.url or "", timeout=TIMEOUT_SECONDS) as response:  # noqa: S310
                found = write(response, path)
                require_whole(response, path)
                return found
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise Problem(f"{artifact.url} cannot be fetched: HTTP {error.code}.") from error
            reason = f"HTTP {error.code}"
        except http.client.IncompleteRead:
            reason = "the connection broke off"
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) in FULL:
                raise  # asking the source again makes no room
            cause = getattr(error, "reason", error)
            reason = str(getattr(cause, "strerror", None) or cause)
        say(f"{artifact.name}: try {attempt} of {TRIES} failed: {reason}")
        if attempt < TRIES:
            time.sleep(PAUSE_SECONDS * attempt)
    raise Problem(f"{artifact.url} cannot be fetched: {reason}.")


def require_whole(response: http.client.HTTPResponse, path: str) -> None:
    """A connection that breaks off looks like the end, unless the length was told."""
    wanted, got = response.headers.get("Content-Length", ""), os.path.getsize(path)
    if wanted.isdigit() and got < int(wanted):
        raise OSError(f"the connection broke off after {got} of {wanted} bytes")


def write(source: BinaryIO, path: str) -> str:
    """Write a stream to a file of our own and return its checksum."""
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        while block := source.read(BLOCK):
            digest.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def put(artifact: Artifact, path: str, request: Request) -> None:
    if artifact.is_images:
        os.replace(path, f"{STAGED}/{artifact.name}")
    elif artifact.is_archive:
        is_cni = artifact.name.startswith("cni-plugins")
        unpack(path, request.cni_bin_dir if is_cni else request.prefix_dir)
        os.unlink(path)
        os.makedirs(INSTALLED, exist_ok=True)
        with open(f"{INSTALLED}/{artifact.name}", "w", encoding="utf-8") as file:
            file.write(artifact.sha256)
    else:
        os.chmod(path, 0o755)  # noqa: S103 - a program for everyone
        destination = os.path.join(request.bin_dir, artifact.name)
        note(destination)
        os.replace(path, destination)


def unpack(path: str, folder: str) -> None:
    """Unpack regular files and links one by one: nothing of an archive may leave ``folder``."""
    with tarfile.open(path) as archive:
        for member in archive.getmembers():
            name = os.path.normpath(member.name)
            is_inside = not name.startswith(("/", ".."))
            if member.isdir():
                continue
            if not is_inside or not (member.isfile() or member.issym()):
                raise Problem(f"{os.path.basename(path)} holds {member.name!r}, which is refused.")
            target = os.path.join(folder, name)
            make_folders(os.path.dirname(target))
            note(target)
            extract(archive, member, target)
    say(f"unpacked into {folder}")


def extract(archive: tarfile.TarFile, member: tarfile.TarInfo, target: str) -> None:
    partial = f"{target}.beidou-part"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(partial)  # of a run that was killed
    if member.issym():
        if os.path.isabs(member.linkname) or ".." in member.linkname.split("/"):
            raise Problem(f"{member.name!r} leads out of the archive, which is refused.")
        os.symlink(member.linkname, partial)
    else:
        source = archive.extractfile(member)
        if source is None:
            raise Problem(f"{member.name!r} cannot be read.")
        with open(partial, "wb") as file:
            shutil.copyfileobj(source, file, BLOCK)
            os.fchmod(file.fileno(), 0o755 if member.mode & 0o111 else 0o644)
    os.replace(partial, target)


def make_folders(folder: str) -> None:
    if not os.path.isdir(folder):
        make_folders(os.path.dirname(folder))
        note(folder)
        os.mkdir(folder, 0o755)


def note(path: str) -> None:
    """Remember a path we are about to make; one that exists and is not noted is not ours."""
    if path in read(PLACED).splitlines() or os.path.lexists(path):
        return
    os.makedirs(STATE, mode=0o700, exist_ok=True)
    with open(PLACED, "a", encoding="utf-8") as file:
        file.write(f"{path}\n")


def load() -> list[str]:
    changed = []
    for name in sorted(os.listdir(STAGED)) if os.path.isdir(STAGED) else []:
        if not name.endswith(".tar"):
            continue
        path = f"{STAGED}/{name}"
        images, checksum = image_names(path), sha256_of(path)
        done = subprocess.run(
            ["ctr", "-n", "k8s.io", "images", "import", path],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Problem(f"{name} cannot be loaded: {(done.stderr or done.stdout).strip()}")
        with open(f"{path}.json", "w", encoding="utf-8") as file:
            json.dump({"sha256": checksum, "images": images}, file)
        os.unlink(path)
        say(f"loaded {', '.join(images)}")
        changed.append(name)
    return changed


def image_names(path: str) -> list[str]:
    """The names in a docker archive, or else in an OCI one."""
    with tarfile.open(path) as archive:
        manifest = read_member(archive, "manifest.json")
        if manifest is not None:
            return [tag for image in manifest for tag in image.get("RepoTags") or []]
        index = read_member(archive, "index.json") or {}
    return list(_oci_names(index))


def _oci_names(index: Mapping[str, Any]) -> Iterator[str]:
    for manifest in index.get("manifests", []):
        name = manifest.get("annotations", {}).get("io.containerd.image.name")
        if name:
            yield name


def read_member(archive: tarfile.TarFile, name: str) -> Any:
    try:
        file = archive.extractfile(name)
    except KeyError:
        return None
    return json.load(file) if file else None


def sha256_of(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(verb: str) -> int:
    try:
        if verb == "load":
            answer = {"changed": load()}
        else:
            request = parse_request(sys.stdin.read())
            if verb == "missing":
                os.makedirs(INCOMING, mode=0o700, exist_ok=True)  # the portal copies to it next
                missing = [a.name for a in request.artifacts if not is_in_place(a, request)]
                answer = {"missing": missing}
            else:
                answer = {"changed": install(request)}
    except (Problem, OSError, tarfile.TarError) as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    say(json.dumps(answer))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
