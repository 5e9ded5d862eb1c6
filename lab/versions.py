"""Every version the lab builds and runs; a change here changes the keys of the cache."""

from dataclasses import dataclass

from lab.errors import LabError

ARCHITECTURE = "amd64"
REGISTRY = "registry.k8s.io"


@dataclass(frozen=True)
class KubernetesRelease:
    """One Kubernetes release and the image tags its kubeadm asks for."""

    minor: str
    version: str
    etcd_tag: str
    coredns_tag: str
    pause_tag: str

    @property
    def number(self) -> str:
        """The version without its ``v``, as Go modules and build flags use it."""
        return self.version.removeprefix("v")


RELEASES = {
    "1.36": KubernetesRelease(
        minor="1.36",
        version="v1.36.3",
        etcd_tag="3.6.8-0",
        coredns_tag="v1.14.2",
        pause_tag="3.10.2",
    ),
    "1.35": KubernetesRelease(
        minor="1.35",
        version="v1.35.4",
        etcd_tag="3.6.6-0",
        coredns_tag="v1.13.1",
        pause_tag="3.10.1",
    ),
}
DEFAULT_MINOR = "1.36"


def release(version: str = DEFAULT_MINOR) -> KubernetesRelease:
    """Find a release by minor ("1.36") or full version ("v1.36.3", "1.36.3")."""
    number = version.removeprefix("v")
    for known in RELEASES.values():
        if number in (known.minor, known.number):
            return known
    raise LabError(
        f"The lab has no Kubernetes {version}; it has "
        + ", ".join(known.version for known in RELEASES.values())
        + "."
    )
