"""Container images made from the built binaries, written straight as docker archives.

No builder and no daemon is needed: an image here is one tar layer, a configuration and a manifest.
The archives are reproducible (no times, no owners) and are imported on hosts with
``ctr -n k8s.io images import``.
"""

import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab.errors import LabError
from lab.paths import building, cache_root, locked
from lab.process import run
from lab.versions import ARCHITECTURE

PROTOCOLS = Path(__file__).parent / "protocols"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Image:
    """An image to be written: file contents by path, links by path, and how it starts."""

    name: str
    files: Mapping[str, Path]
    links: Mapping[str, str] = field(default_factory=dict)
    entrypoint: Sequence[str] = ()
    path: str = SYSTEM_PATH


def write_archive(images: Sequence[Image], target: Path) -> None:
    """Write several images as one docker archive."""
    manifest = []
    with (
        tarfile.open(target, "w") as archive,
        tempfile.TemporaryDirectory(dir=target.parent) as work,
    ):
        for number, image in enumerate(images):
            layer = Path(work) / f"{number}.tar"
            _write_layer(image, layer)
            digest = _sha256(layer)
            config = _config(image, digest)
            config_name = f"{hashlib.sha256(config).hexdigest()}.json"
            _add_file(archive, f"{digest}.tar", layer)
            _add_bytes(archive, config_name, config)
            layer.unlink()
            manifest.append(
                {"Config": config_name, "RepoTags": [image.name], "Layers": [f"{digest}.tar"]}
            )
        _add_bytes(archive, "manifest.json", json.dumps(manifest).encode())


def _config(image: Image, digest: str) -> bytes:
    settings: dict[str, object] = {"Env": [f"PATH={image.path}"]}
    if image.entrypoint:
        settings["Entrypoint"] = list(image.entrypoint)
    config = {
        "architecture": ARCHITECTURE,
        "os": "linux",
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created_by": "beidou lab"}],
    }
    return json.dumps(config, sort_keys=True).encode()


def _write_layer(image: Image, target: Path) -> None:
    with tarfile.open(target, "w") as layer:
        folders = {"tmp", "etc"}
        for name in (*image.files, *image.links):
            folders.update(str(parent) for parent in Path(name).parents if str(parent) != ".")
        for folder in sorted(folders):
            entry = tarfile.TarInfo(folder)
            entry.type = tarfile.DIRTYPE
            entry.mode = 0o1777 if folder == "tmp" else 0o755
            layer.addfile(entry)
        for name, source in sorted(image.files.items()):
            _add_file(layer, name, source, mode=0o755)
        for name, link in sorted(image.links.items()):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, link
            layer.addfile(entry)


def _add_file(archive: tarfile.TarFile, name: str, source: Path, *, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = source.stat().st_size, mode
    with source.open("rb") as content:
        archive.addfile(entry, content)


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    archive.addfile(entry, io.BytesIO(content))


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def program_image(
    name: str,
    *programs: Path,
    entrypoint: Sequence[str] = (),
    files: Mapping[str, Path] | None = None,
) -> Image:
    """An image of static programs under /usr/local/bin, as kubeadm's manifests expect them."""
    contents = {f"usr/local/bin/{program.name}": program for program in programs}
    return Image(
        name=name,
        files={**contents, **(files or {})},
        entrypoint=entrypoint,
        path="/usr/local/bin",
    )


def shell_image(name: str, *, files: Mapping[str, Path] | None = None) -> Image:
    """An image with a shell and the usual small programs, all links to one busybox."""
    applets = run(ensure_busybox(), "--list").split()
    return Image(
        name=name,
        files={**_busybox_files(), **(files or {})},
        links={f"bin/{applet}": "busybox" for applet in applets if applet != "busybox"},
    )


def kube_proxy_image(name: str, kube_proxy: Path) -> Image:
    """kube-proxy with the nft, iptables and conntrack of this machine and their libraries.

    Without the names of protocols nft lists numbers, and a kube-proxy that begins where another one
    ran takes the rules of all Services for leftovers.
    """
    files = {"usr/local/bin/kube-proxy": kube_proxy, "etc/protocols": PROTOCOLS}
    for program in ("nft", "iptables-nft", "conntrack"):
        found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if not found:
            raise LabError(f"{program} is missing; `python -m lab setup` installs it.")
        files[f"usr/sbin/{program}"] = Path(found).resolve()
        files.update(_libraries(Path(found)))
    for plugin in Path("/usr/lib/x86_64-linux-gnu/xtables").glob("*.so"):
        files[str(plugin).lstrip("/")] = plugin.resolve()
    return Image(
        name=name,
        files={**files, **_busybox_files()},
        links={"usr/sbin/iptables": "iptables-nft", "bin/sh": "busybox"},
    )


def busybox_folder() -> Path:
    return cache_root() / "bin" / "busybox"


def ensure_busybox() -> Path:
    """Debian's dynamic busybox, unpacked into the cache.

    The static one, which may be installed, crashes as soon as it looks up a name; both cannot be
    installed at once.
    """
    folder = busybox_folder()
    with locked("busybox"):
        if not folder.exists():
            with building(folder) as target:
                apt = ("apt-get", "-o", "APT::Sandbox::User=root", "--quiet")
                run(*apt, "download", "busybox", cwd=target, timeout=300)
                (package,) = target.glob("busybox_*.deb")
                run("dpkg-deb", "--extract", package, target / "root")
                package.unlink()
    return folder / "root/bin/busybox"


def _busybox_files() -> dict[str, Path]:
    busybox = ensure_busybox()
    return {"bin/busybox": busybox, **_libraries(busybox)}


def _libraries(program: Path) -> dict[str, Path]:
    """The shared libraries of a program, at the paths where its loader looks for them."""
    found = {}
    for word in run("ldd", program).split():
        if word.startswith("/"):
            found[word.lstrip("/")] = Path(word).resolve()
    return found
