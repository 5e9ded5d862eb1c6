"""What hosts install Kubernetes from: a folder per release, with checksums, and its HTTP server."""

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from lab import binaries, images
from lab.paths import building, cache_root, content_key, locked
from lab.process import run
from lab.versions import ARCHITECTURE, REGISTRY, RELEASES, KubernetesRelease

log = logging.getLogger("lab")

NODE_PROGRAMS = ("kubelet", "kubeadm", "kubectl")
IMAGES = "images.tar"
CONTROL_PLANE_IMAGES = "control-plane-images.tar"
PROBE_IMAGE = f"{REGISTRY}/beidou/probe:1"
CNI_IMAGE = f"{REGISTRY}/lab-cni:1"
OTHER_COMPONENTS = ("etcd", "etcdctl", "etcdutl", "coredns")
_RECIPE = "3"


@dataclass(frozen=True)
class ArtifactServer:
    """The artifact source in both its forms: the address hosts use, and the same as a folder."""

    url: str
    root: Path


def release_path(release: KubernetesRelease) -> str:
    """Where a release lies below the base of an artifact source."""
    return f"kubernetes/{release.version}/{ARCHITECTURE}"


def release_folder(release: KubernetesRelease) -> Path:
    """The cache's folder of a release, whether it is there or not."""
    components = [f"kubernetes-{release.minor}", *OTHER_COMPONENTS]
    folders = [binaries.COMPONENTS[name].folder().name for name in components]
    key = content_key(_RECIPE, *folders)
    return cache_root() / "artifacts" / f"{release.version}-{key}"


def ensure_release(release: KubernetesRelease) -> Path:
    """Return the folder with everything a host needs of one release, making it if needed."""
    folder = release_folder(release)
    if folder.exists():
        return folder
    with locked(f"artifacts-{release.version}"):
        if not folder.exists():
            kubernetes = binaries.kubernetes_folder(release)
            log.info("Making the artifacts of Kubernetes %s.", release.version)
            with building(folder) as target:
                _fill(release, kubernetes, target)
    return folder


def _fill(release: KubernetesRelease, kubernetes: Path, target: Path) -> None:
    for program in NODE_PROGRAMS:
        _link_or_copy(kubernetes / program, target / program)
    images.write_archive(node_images(release, kubernetes), target / IMAGES)
    images.write_archive(control_plane_images(release, kubernetes), target / CONTROL_PLANE_IMAGES)
    names = sorted(path.name for path in target.iterdir())
    (target / "SHA256SUMS").write_text(run("sha256sum", *names, cwd=target))


def node_images(release: KubernetesRelease, kubernetes: Path) -> list[images.Image]:
    """The images every node needs, and the probe with which a joined node is tested."""
    return [
        images.kube_proxy_image(
            f"{REGISTRY}/kube-proxy:{release.version}", kubernetes / "kube-proxy"
        ),
        images.program_image(
            f"{REGISTRY}/pause:{release.pause_tag}",
            kubernetes / "pause",
            entrypoint=["/usr/local/bin/pause"],
        ),
        images.program_image(
            f"{REGISTRY}/coredns/coredns:{release.coredns_tag}",
            binaries.ensure_binary("coredns"),
            entrypoint=["/usr/local/bin/coredns"],
        ),
        images.shell_image(CNI_IMAGE, files={"usr/local/bin/kubectl": kubernetes / "kubectl"}),
        images.shell_image(PROBE_IMAGE),
    ]


def control_plane_images(release: KubernetesRelease, kubernetes: Path) -> list[images.Image]:
    """The images only control planes need."""
    servers = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
    etcd = [binaries.ensure_binary(name) for name in ("etcd", "etcdctl", "etcdutl")]
    return [
        *(
            images.program_image(f"{REGISTRY}/{name}:{release.version}", kubernetes / name)
            for name in servers
        ),
        images.program_image(f"{REGISTRY}/etcd:{release.etcd_tag}", *etcd),
    ]


def _link_or_copy(source: Path, target: Path) -> None:
    """A hard link costs no space; across file systems a copy does."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def add_release(root: Path, release: KubernetesRelease) -> None:
    """Add one release to an artifact source, as a link to its folder in the cache."""
    link = root / release_path(release)
    if not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(ensure_release(release))


def built_releases() -> list[KubernetesRelease]:
    """The releases whose programs lie in the cache."""
    return [
        release
        for release in RELEASES.values()
        if binaries.COMPONENTS[f"kubernetes-{release.minor}"].folder().exists()
    ]
