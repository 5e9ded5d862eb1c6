"""The values that ``KubernetesClient`` returns besides nodes and pods."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """The API server's version; ``minor`` is a number even where a provider writes "28+"."""

    git_version: str
    major: int
    minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whom the API server takes us for.

    ``is_confirmed`` is False when the server is too old to tell: then the name is the credential's
    own claim, which the server accepted without naming it.
    """

    username: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    is_confirmed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """One thing one might want to do; an empty namespace means all of them (or none)."""

    verb: str
    resource: str
    group: str = ""
    namespace: str = ""
    subresource: str = ""
    name: str = ""

    def __str__(self) -> str:
        resource = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        qualified = f"{resource}.{self.group}" if self.group else resource
        return f"{self.verb} {qualified}" + (f" in {self.namespace}" if self.namespace else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessAnswer:
    """Whether it is allowed; ``reason`` is the authorizer's own explanation, often empty."""

    access: Access
    is_allowed: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of ``/readyz?verbose``."""

    name: str
    is_ok: bool
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentHealth:
    """One part of the cluster.

    ``is_healthy`` is None when it cannot be known; ``message`` then says why.  ``ready`` and
    ``desired`` count pods and are None where the component has none that can be seen.
    """

    name: str
    is_healthy: bool | None
    message: str
    ready: int | None = None
    desired: int | None = None
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadCounts:
    """How many objects of each kind; kinds that could not be counted are in ``unknown``."""

    counts: Mapping[str, int]
    unknown: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapToken:
    """A short-lived token with which machines join; ``token`` is the secret as kubeadm takes it."""

    token_id: str
    token: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterInfo:
    """What the cluster tells joining machines: its address, its CA and the hashes to pin it by."""

    server: str
    ca_pem: str
    ca_cert_hashes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeletConfig:
    """What joining kubelets will be told; ``text`` is the whole KubeletConfiguration (YAML)."""

    cgroup_driver: str
    cluster_domain: str
    cluster_dns: tuple[str, ...]
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeadmConfig:
    """How the cluster was made; ``text`` is the whole ClusterConfiguration (YAML)."""

    kubernetes_version: str
    control_plane_endpoint: str
    image_repository: str
    pod_subnet: str
    service_subnet: str
    dns_domain: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodDetail:
    """One pod; ``waiting`` explains the containers that do not run (reason and message).

    ``said`` is what ended containers wrote as their termination message.
    """

    namespace: str
    name: str
    uid: str
    node_name: str
    phase: str
    is_ready: bool
    is_terminating: bool
    pod_ip: str
    host_ip: str
    exit_code: int | None
    message: str
    waiting: tuple[str, ...]
    said: str = ""
    images: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceInfo:
    namespace: str
    name: str
    cluster_ip: str
    ports: tuple[int, ...]
