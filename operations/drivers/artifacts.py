"""The artifact source: where hosts install Kubernetes from, and the checksums they must find.

Layout below the source (an http(s) address, or a folder of the portal's machine)::

    kubernetes/v1.36.3/amd64/{kubelet,kubeadm,kubectl,images.tar,control-plane-images.tar,…}
    kubernetes/v1.36.3/amd64/SHA256SUMS      "<sha256>  <name>" per line

Whoever may edit a cluster names its source, and must not thereby read what else lies on the
portal's machine: a folder has to be one that the portal was configured with, or lie below one.

The portal reads SHA256SUMS once per operation; each host gets addresses and expected checksums and
verifies what it downloads itself.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection, IncompleteRead
from pathlib import Path
from urllib.parse import urlsplit

from beidou.base.deadline import Deadline
from beidou.base.errors import InvalidInput, PermanentError, TemporaryError
from beidou.base.network import in_words
from beidou.base.sentences import Sentence

REQUIRED = ("kubelet", "kubeadm", "kubectl")
FOR_WORKERS = (*REQUIRED, "images.tar", "containerd.tar.gz", "cni-plugins.tgz", "runc")
FOR_CONTROL_PLANES = (*FOR_WORKERS, "control-plane-images.tar")
SUMS_LIMIT = 1 << 20
READ_SECONDS = 15.0
FETCH_SECONDS = 30.0
_LINE = re.compile(r"([0-9a-f]{64}) [ *]([A-Za-z0-9][A-Za-z0-9._-]*)")


@dataclass(frozen=True)
class Artifact:
    """``url`` for a source on the network, ``src`` for one in a folder."""

    name: str
    sha256: str
    url: str = ""
    src: str = ""

    def as_variable(self) -> dict[str, str]:
        place = {"url": self.url} if self.url else {"src": self.src}
        return {"name": self.name, "sha256": self.sha256, **place}


def check_source(source: str, *, folders: Sequence[Path]) -> None:
    """``InvalidInput`` unless ``source`` is an http(s) address, or a folder in one of ``folders``.

    What links lead to counts, not what a path looks like.
    """
    if _is_web_address(source):
        return
    if source.startswith("/"):
        _check_folder(source, folders)
        return
    raise InvalidInput(
        Sentence(
            "This is no artifact source: give an http(s) address without user, query and fragment, "
            "or an absolute folder."
        ),
        code="bad_artifact_source",
        fields={"artifact_source": Sentence("An http(s) address, or a folder that begins with /.")},
    )


def _check_folder(source: str, folders: Sequence[Path]) -> None:
    place = Path(os.path.realpath(source))
    if any(place.is_relative_to(os.path.realpath(folder)) for folder in folders):
        return
    sentence = Sentence(
        "The portal may not install from this folder; it may from %(folders)s and from http(s) "
        "addresses. Put the files there, or have the folder added to BEIDOU_ARTIFACT_FOLDERS.",
        folders=", ".join(str(folder) for folder in folders),
    )
    raise InvalidInput(
        sentence, code="artifact_folder_not_allowed", fields={"artifact_source": sentence}
    )


def _is_web_address(source: str) -> bool:
    try:
        url = urlsplit(source)
        port_is_right = url.port != 0
    except ValueError:  # brackets that do not close, a port that is no number
        return False
    plain = not (url.query or url.fragment or url.username or url.password)
    return url.scheme in ("http", "https") and bool(url.hostname) and plain and port_is_right


def for_worker(
    source: str, *, version: str, folders: Sequence[Path], arch: str = "amd64"
) -> list[Artifact]:
    """What a worker node of ``version`` needs, with checksums; ``PermanentError`` when some is
    missing."""
    return _listed(source, version, arch, FOR_WORKERS, folders)


def for_control_plane(
    source: str, *, version: str, folders: Sequence[Path], arch: str = "amd64"
) -> list[Artifact]:
    """The same for a control plane; images that the source lacks are pulled by kubeadm."""
    return _listed(source, version, arch, FOR_CONTROL_PLANES, folders)


def _listed(
    source: str, version: str, arch: str, names: tuple[str, ...], folders: Sequence[Path]
) -> list[Artifact]:
    check_source(source, folders=folders)
    base = f"{source.rstrip('/')}/kubernetes/{version}/{arch}"
    remote = "://" in source
    sums = parse_sums(_fetch(f"{base}/SHA256SUMS") if remote else _read(Path(base) / "SHA256SUMS"))
    missing = [name for name in REQUIRED if name not in sums]
    if missing:
        raise PermanentError(
            Sentence(
                "The artifact source %(source)s lacks %(names)s in its SHA256SUMS.",
                source=base,
                names=", ".join(missing),
            ),
            code="artifacts_missing",
        )
    return [
        Artifact(
            name=name,
            sha256=sums[name],
            url=f"{base}/{name}" if remote else "",
            src="" if remote else f"{base}/{name}",
        )
        for name in names
        if name in sums
    ]


def parse_sums(text: str) -> dict[str, str]:
    """Name -> SHA-256 of each line of a ``sha256sum`` file; anything else in it is refused."""
    sums = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise PermanentError(
                Sentence(
                    "Line %(number)s of SHA256SUMS of the artifact source is no checksum and name.",
                    number=number,
                ),
                code="bad_checksums",
            )
        sums[match[2]] = match[1]
    return sums


def _fetch(url: str, *, seconds: float = FETCH_SECONDS) -> str:
    """The text at ``url``: from there and from nowhere else, within ``seconds`` altogether.

    A redirect could lead to any address that the portal reaches, and a source that sends a byte now
    and then would hold a worker for ever: each read by itself is in time.
    """
    place = urlsplit(url)
    protocol = HTTPSConnection if place.scheme == "https" else HTTPConnection
    connection = protocol(place.hostname or "", place.port, timeout=min(seconds, READ_SECONDS))
    too_late = Sentence("not done within %(seconds)s s", seconds=f"{seconds:g}")
    deadline = Deadline(seconds)
    try:
        connection.connect()
        # The socket itself: the connection forgets it once the answer's end closes it.
        deadline.watch(connection.sock)
        connection.request("GET", place.path)
        answer = connection.getresponse()
        body = answer.read(SUMS_LIMIT) if answer.status == HTTPStatus.OK else b""
        if answer.status == HTTPStatus.OK and answer.length:
            raise IncompleteRead(body, answer.length)  # half of it may look whole
    except (OSError, ValueError, HTTPException) as error:
        why = too_late if deadline.is_over else in_words(error)
        raise _unreachable(url, why) from error
    finally:
        deadline.end()
        connection.close()
    if deadline.is_over:  # what was cut off may look whole as well
        raise _unreachable(url, too_late)
    if answer.status != HTTPStatus.OK:
        is_redirect = answer.status // 100 == 3
        hint = Sentence(" Redirects are not followed.") if is_redirect else ""
        raise PermanentError(
            Sentence(
                "The artifact source answered %(status)s for %(url)s.%(hint)s",
                status=answer.status,
                url=url,
                hint=hint,
            ),
            code="artifacts_missing",
        )
    return body.decode("utf-8", "replace")


def _unreachable(url: str, why: str) -> TemporaryError:
    return TemporaryError(
        Sentence("The artifact source did not answer: %(url)s (%(why)s).", url=url, why=why),
        code="artifacts_unreachable",
    )


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise PermanentError(
            Sentence(
                "The artifact source has no readable %(path)s: %(why)s.",
                path=path,
                why=error.strerror,
            ),
            code="artifacts_missing",
        ) from error
