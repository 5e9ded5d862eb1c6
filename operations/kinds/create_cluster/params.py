"""What may be asked of a new cluster, and which networks fit together."""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from django.utils.translation import gettext
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from beidou.base.errors import BeidouError
from clusters.drivers import applying
from operations.kinds import versions

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

API_PORT = 6443
NODE_PREFIX = {4: 24, 6: 64}
"""How the controller manager cuts the pod network into the ranges of nodes."""
POD_PREFIXES = {4: range(8, 24), 6: range(48, 64)}
SERVICE_PREFIXES = {4: range(12, 29), 6: range(108, 125)}

OURS = {
    "ClusterConfiguration": frozenset(
        {
            "certificatesDir",
            "clusterName",
            "controlPlaneEndpoint",
            "kubernetesVersion",
            "networking",
        }
    ),
    "KubeletConfiguration": frozenset({"clusterDNS", "staticPodPath"}),
    "KubeProxyConfiguration": frozenset({"clusterCIDR"}),
}
"""Documents of kubeadm's configuration that a site may add to; but not these keys."""
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,62})(\.[A-Za-z0-9]([A-Za-z0-9-]{0,62}))*")


class CreateClusterParams(BaseModel):
    """The version is that of the whole cluster; networks are of one address family."""

    model_config = ConfigDict(extra="forbid")

    kubernetes_version: str = Field(max_length=40)
    control_plane_endpoint: str = Field(
        default="",
        max_length=260,
        description="host:port of all control planes; empty: the first one's address.",
    )
    pod_network: str = Field(default="10.244.0.0/16", max_length=50)
    # Judged beside the fields before them, also where they were not given.
    service_network: str = Field(default="10.96.0.0/16", max_length=50, validate_default=True)
    network: Literal["routed", "manifest"] = "routed"
    network_manifest: str = Field(default="", max_length=400_000, validate_default=True)
    kubeadm_config: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Additions to ClusterConfiguration, KubeletConfiguration, "
        "KubeProxyConfiguration.",
    )
    probe_namespace: str = Field(default="kube-system", max_length=63)

    @field_validator("kubernetes_version")
    @classmethod
    def _is_known_version(cls, value: str) -> str:
        try:
            version = versions.canonical(value)
        except BeidouError as error:
            raise ValueError(error.message) from error
        supported = [f"1.{minor}" for minor in versions.SUPPORTED_MINORS]
        if ".".join(version.lstrip("v").split(".")[:2]) not in supported:
            raise ValueError(
                gettext("clusters of %(version)s are not created here; supported are %(known)s")
                % {"version": version, "known": ", ".join(supported)}
            )
        return version

    @field_validator("control_plane_endpoint")
    @classmethod
    def _is_endpoint(cls, value: str) -> str:
        return endpoint(*split_endpoint(value)) if value else ""

    @field_validator("pod_network", "service_network")
    @classmethod
    def _is_network(cls, value: str, info: ValidationInfo) -> str:
        try:
            network = ipaddress.ip_network(value.strip())
        except ValueError:
            raise ValueError(
                gettext("“%(text)s” is no network; write it like 10.244.0.0/16") % {"text": value}
            ) from None
        is_of_pods = info.field_name == "pod_network"
        if problem := network_problem(network, POD_PREFIXES if is_of_pods else SERVICE_PREFIXES):
            raise ValueError(problem)
        pods = info.data.get("pod_network", "")  # missing where it is wrong itself
        if pods and (problem := pair_problem(ipaddress.ip_network(pods), network)):
            raise ValueError(problem)
        return str(network)

    @field_validator("network_manifest")
    @classmethod
    def _is_manifest(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("network") == "manifest":
            try:
                applying.parse(value)
            except BeidouError as error:
                raise ValueError(error.message) from error
        elif value:
            raise ValueError(gettext("a manifest is given, but the network is not “manifest”"))
        return value

    @field_validator("kubeadm_config")
    @classmethod
    def _adds_only(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for kind, content in value.items():
            if kind not in OURS:
                raise ValueError(
                    gettext("“%(kind)s” cannot be added to; only %(known)s can")
                    % {"kind": kind, "known": ", ".join(OURS)}
                )
            for key in sorted({"apiVersion", "kind", *OURS[kind]} & content.keys()):
                raise ValueError(
                    gettext("%(key)s of %(kind)s is decided by the other parameters")
                    % {"key": key, "kind": kind}
                )
        return value

    @property
    def pods(self) -> Network:
        return ipaddress.ip_network(self.pod_network)

    @property
    def services(self) -> Network:
        return ipaddress.ip_network(self.service_network)


def split_endpoint(text: str) -> tuple[str, int]:
    """``host``, ``host:port`` or ``[address]:port``; ``ValueError`` with a sentence."""
    host, port = text.strip(), str(API_PORT)
    if host.startswith("["):
        host, _bracket, rest = host[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif host.count(":") == 1:
        host, _colon, port = host.partition(":")
    try:
        ipaddress.ip_address(host)
        is_host = True
    except ValueError:
        is_host = bool(_HOST.fullmatch(host)) and len(host) <= 253
    if not is_host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(
            gettext("“%(text)s” is no endpoint; write host:port") % {"text": text.strip()}
        )
    return host.lower(), int(port)


def endpoint(host: str, port: int = API_PORT) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def network_problem(network: Network, prefixes: Mapping[int, range]) -> str:
    """Why no cluster can have this network; empty when one can."""
    lengths = prefixes[network.version]
    if network.prefixlen not in lengths:
        return gettext("must be a /%(least)s to a /%(most)s") % {
            "least": lengths[0],
            "most": lengths[-1],
        }
    if network.is_loopback or network.is_link_local or network.is_multicast:
        return gettext("%(network)s is a network for other purposes") % {"network": network}
    return ""


def pair_problem(pods: Network, services: Network) -> str:
    """Why these two cannot be those of one cluster; empty when they can."""
    if pods.version != services.version:
        return gettext("the networks of pods and Services must be of one address family")
    if pods.overlaps(services):
        return gettext("the networks of pods and Services overlap")
    return ""


def nodes_at_most(pods: Network) -> int:
    """How many nodes have a range of their own in the pod network."""
    return int(2 ** (NODE_PREFIX[pods.version] - pods.prefixlen))


def overlapping(network: Network, others: Iterable[str]) -> str:
    """The first of ``others`` (texts as clusters tell them, perhaps several in one) that overlaps;
    what cannot be read as a network overlaps nothing."""
    for text in others:
        for part in text.split(","):
            try:
                other = ipaddress.ip_network(part.strip(), strict=False)
            except ValueError:
                continue
            if other.version == network.version and network.overlaps(other):
                return str(other)
    return ""
