"""One Kubernetes API server, called from pages and workers: blocking, typed, bounded in time.

Answers are decoded straight from the raw bytes into the few fields that are used.  Every failure is
one of ``clusters.drivers.errors`` and names the cluster and the action.  For what is followed all
the time (nodes, pods, events) there is ``clusters.drivers.watch``; it shares objects and errors
with this module, not the transport.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import msgspec

from beidou.base.sentences import Sentence
from clusters.drivers import errors, health, joining, kubeconfig, listing, pods, tls
from clusters.drivers.answers import (
    Access,
    AccessAnswer,
    BootstrapToken,
    ClusterInfo,
    ComponentHealth,
    Identity,
    KubeadmConfig,
    KubeletConfig,
    PodDetail,
    ServiceInfo,
    Version,
    WorkloadCounts,
)
from clusters.drivers.applying import Applier
from clusters.drivers.connection import Connection
from clusters.drivers.objects import (
    NODES,
    PODS,
    ListMetadata,
    NodeInfo,
    PodInfo,
    Taint,
)
from clusters.drivers.transport import JSON, MERGE_PATCH, Transport
from clusters.drivers.upgrading import Upgrading
from clusters.drivers.workloads import Workloads

CONFLICT_ATTEMPTS = 5
PARALLEL_REVIEWS = 4

COUNTED = {
    "namespaces": "/api/v1/namespaces",
    "deployments": "/apis/apps/v1/deployments",
    "statefulsets": "/apis/apps/v1/statefulsets",
    "daemonsets": "/apis/apps/v1/daemonsets",
    "jobs": "/apis/batch/v1/jobs",
    "services": "/api/v1/services",
}
# Only names are needed for counting; the server then leaves out everything else.
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"


class _Version(msgspec.Struct, frozen=True, rename="camel"):
    git_version: str
    major: str
    minor: str


class _UserInfo(msgspec.Struct, frozen=True):
    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] | None = None


class _SelfSubjectStatus(msgspec.Struct, frozen=True, rename="camel"):
    user_info: _UserInfo = _UserInfo()


class _SelfSubjectReview(msgspec.Struct, frozen=True):
    status: _SelfSubjectStatus


class _AccessStatus(msgspec.Struct, frozen=True):
    allowed: bool = False
    reason: str = ""


class _AccessReview(msgspec.Struct, frozen=True):
    status: _AccessStatus


class _Uid(msgspec.Struct, frozen=True):
    uid: str


class _Object(msgspec.Struct, frozen=True):
    metadata: _Uid


class _ConfigMap(msgspec.Struct, frozen=True):
    data: dict[str, str] | None = None


class _CountPage(msgspec.Struct, frozen=True):
    metadata: ListMetadata
    items: list[msgspec.Raw] | None = None


class _ServicePort(msgspec.Struct, frozen=True):
    port: int


class _ServiceSpec(msgspec.Struct, frozen=True):
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    ports: list[_ServicePort] | None = None


class _Service(msgspec.Struct, frozen=True):
    spec: _ServiceSpec


class KubernetesClient:
    """Talks to one API server; ``timeout`` in seconds holds for every single call.

    Use it as a context manager, or call ``close``.
    """

    def __init__(self, connection: Connection, *, cluster_name: str, timeout: float = 10) -> None:
        self.connection = connection
        self.cluster_name = cluster_name
        self.timeout = timeout
        self._transport = Transport(connection, cluster_name=cluster_name, timeout=timeout)
        self.workloads = Workloads(self._transport)
        self.applier = Applier(self._transport)
        self.upgrading = Upgrading(self._transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the kept connections."""
        self._transport.close()

    # --- reaching it, step by step ----------------------------------------------------------------

    def reach(self) -> tls.Reached:
        """Resolve and connect without TLS; Unreachable says what failed and how long it took."""
        return tls.reach(self.connection, cluster_name=self.cluster_name, timeout=self.timeout)

    def check_tls(self) -> tls.ServerCertificate:
        """Verify the server's certificate; CertificateProblem says what is wrong with it."""
        return tls.check_server_certificate(
            self.connection, cluster_name=self.cluster_name, timeout=self.timeout
        )

    def server_certificate_expiry(self) -> datetime:
        """When the API server's certificate ends, whether it is accepted or not."""
        return tls.read_server_certificate(
            self.connection, cluster_name=self.cluster_name, timeout=self.timeout
        ).not_after

    def version(self) -> Version:
        raw = self._transport.get("/version", _Version, action=Sentence("read the version"))
        return Version(
            git_version=raw.git_version, major=_number(raw.major), minor=_number(raw.minor)
        )

    def whoami(self) -> Identity:
        """Whom the server takes us for; Unauthorized when it takes us for nobody."""
        for version in ("v1", "v1beta1"):
            try:
                review = self._transport.post(
                    f"/apis/authentication.k8s.io/{version}/selfsubjectreviews",
                    {
                        "apiVersion": f"authentication.k8s.io/{version}",
                        "kind": "SelfSubjectReview",
                    },
                    _SelfSubjectReview,
                    action=Sentence("ask who we are"),
                )
            except (errors.NotFound, errors.Forbidden):
                continue  # without the rights to it, an older server answers 403 to what it lacks
            user = review.status.user_info
            return Identity(username=user.username, uid=user.uid, groups=user.groups or ())
        # Servers before 1.27 do not tell; that they answer at all proves the credential.
        self.can_i([Access(verb="list", resource="nodes")])
        return Identity(username=kubeconfig.subject(self.connection), is_confirmed=False)

    def kube_system_uid(self) -> str:
        """The UID of the namespace kube-system: the identity of the cluster."""
        path = "/api/v1/namespaces/kube-system"
        action = Sentence("read the namespace kube-system")
        return self._transport.get(path, _Object, action=action).metadata.uid

    def can_i(self, accesses: Sequence[Access]) -> list[AccessAnswer]:
        """Ask the server for each access, a few at a time; the answers keep the order."""
        with ThreadPoolExecutor(max_workers=PARALLEL_REVIEWS) as executor:
            return list(executor.map(self._can_i, accesses))

    def _can_i(self, access: Access) -> AccessAnswer:
        attributes = {
            "verb": access.verb,
            "group": access.group,
            "resource": access.resource,
            "subresource": access.subresource,
            "namespace": access.namespace,
            "name": access.name,
        }
        review = self._transport.post(
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes},
            },
            _AccessReview,
            action=Sentence("ask whether we may %(access)s", access=access),
        )
        status = review.status
        return AccessAnswer(access=access, is_allowed=status.allowed, reason=status.reason)

    # --- inventory --------------------------------------------------------------------------------

    def list_nodes(self) -> list[NodeInfo]:
        return list(listing.iterate(self._transport, NODES))

    def get_node(self, name: str) -> NodeInfo:
        """One node; NotFound when there is none of that name."""
        action = Sentence("read node %(node)s", node=name)
        data = self._transport.call("GET", _node_path(name), action=action)
        return self._transport.decode(NODES.decode_object, data, action=action)

    def iter_pods(self, page: int = listing.PAGE, *, node_name: str = "") -> Iterator[PodInfo]:
        """All pods (of one node), page by page; Gone when reading them takes many minutes."""
        query = {"fieldSelector": f"spec.nodeName={node_name}"} if node_name else {}
        return listing.iterate(self._transport, PODS, page=page, query=query)

    def component_health(self) -> list[ComponentHealth]:
        """API server, control plane, DNS, proxy, network; unknown where rights do not suffice."""
        return health.component_health(self._transport)

    def workload_counts(self) -> WorkloadCounts:
        """Numbers of namespaces and workloads, for the price of one object each."""
        counts: dict[str, int] = {}
        unknown: dict[str, str] = {}
        for kind, path in COUNTED.items():
            try:
                counts[kind] = self._count(path, action=Sentence("count the %(what)s", what=kind))
            except (errors.Forbidden, errors.NotFound) as error:
                unknown[kind] = error.message
        return WorkloadCounts(counts=counts, unknown=unknown)

    def has_daemon_set(self, namespace: str, name: str) -> bool:
        path = f"/apis/apps/v1/namespaces/{quote(namespace, safe='')}/daemonsets/{quote(name)}"
        action = Sentence("read %(kind)s %(key)s", kind="DaemonSet", key=f"{namespace}/{name}")
        try:
            self._transport.call("GET", path, action=action)
        except errors.NotFound:
            return False
        return True

    def _count(self, path: str, *, action: str) -> int:
        page = self._transport.get(
            path, _CountPage, action=action, query={"limit": 1}, accept=METADATA_ONLY
        )
        return len(page.items or ()) + (page.metadata.remaining_item_count or 0)

    # --- nodes ------------------------------------------------------------------------------------

    def set_unschedulable(self, name: str, unschedulable: bool) -> NodeInfo:
        """Cordon or uncordon a node."""
        return self._patch_node(
            name,
            {"spec": {"unschedulable": unschedulable}},
            action=Sentence("cordon node %(node)s", node=name)
            if unschedulable
            else Sentence("uncordon node %(node)s", node=name),
        )

    def patch_node(
        self,
        name: str,
        *,
        labels: Mapping[str, str | None] | None = None,
        taints: Sequence[Taint] = (),
        remove_taints: Sequence[str] = (),
    ) -> NodeInfo:
        """Set labels (None removes one), add or replace taints, remove taints by their key.

        Kubernetes replaces the list of taints as a whole and changes it itself, so the patch holds
        only for the version that was read; after a collision it is read and tried again.
        """
        for _ in range(CONFLICT_ATTEMPTS - 1):
            try:
                return self._patch_node_once(name, labels or {}, taints, remove_taints)
            except errors.Conflict409:
                continue
        return self._patch_node_once(name, labels or {}, taints, remove_taints)

    def _patch_node_once(
        self,
        name: str,
        labels: Mapping[str, str | None],
        taints: Sequence[Taint],
        remove_taints: Sequence[str],
    ) -> NodeInfo:
        patch: dict[str, Any] = {"metadata": {"labels": dict(labels)}}
        if taints or remove_taints:
            node = self.get_node(name)
            replaced = {(taint.key, taint.effect) for taint in taints}
            kept = [
                taint
                for taint in node.taints
                if taint.key not in remove_taints and (taint.key, taint.effect) not in replaced
            ]
            patch["metadata"]["resourceVersion"] = node.resource_version
            patch["spec"] = {"taints": [_taint(taint) for taint in (*kept, *taints)]}
        action = Sentence("change labels and taints of node %(node)s", node=name)
        return self._patch_node(name, patch, action=action)

    def _patch_node(self, name: str, patch: Mapping[str, Any], *, action: str) -> NodeInfo:
        data = self._transport.call(
            "PATCH", _node_path(name), action=action, body=patch, content_type=MERGE_PATCH
        )
        return self._transport.decode(NODES.decode_object, data, action=action)

    def delete_node(self, name: str) -> None:
        """Remove the Node object; NotFound when there is none."""
        self._transport.call(
            "DELETE", _node_path(name), action=Sentence("delete node %(node)s", node=name)
        )

    # --- joining machines -------------------------------------------------------------------------

    def create_bootstrap_token(
        self, *, ttl: timedelta, description: str, token_id: str = ""
    ) -> BootstrapToken:
        """A new token with which kubeadm may join nodes until it ends or is deleted."""
        token = joining.new_token(ttl, token_id=token_id)
        secret = joining.token_secret(token, description)
        self._transport.call(
            "POST",
            "/api/v1/namespaces/kube-system/secrets",
            action=Sentence("create a bootstrap token"),
            body=secret,
            secrets=(token.token, token.token.split(".")[1]),
        )
        return token

    def delete_bootstrap_token(self, token_id: str) -> bool:
        """Revoke a token; False when it was gone already (Kubernetes deletes expired ones)."""
        path = f"/api/v1/namespaces/kube-system/secrets/{joining.secret_name(token_id)}"
        try:
            self._transport.call("DELETE", path, action=Sentence("delete a bootstrap token"))
        except errors.NotFound:
            return False
        return True

    def delete_uploaded_certificates(self) -> bool:
        """Delete what ``kubeadm init phase upload-certs`` keeps, encrypted, for further control
        planes; False when it was gone already."""
        path = "/api/v1/namespaces/kube-system/secrets/kubeadm-certs"
        try:
            self._transport.call(
                "DELETE", path, action=Sentence("delete the uploaded certificates")
            )
        except errors.NotFound:
            return False
        return True

    def cluster_info(self) -> ClusterInfo:
        """Address, CA and CA hashes for joining machines; NotFound without kubeadm's ConfigMap."""
        data = self._config_map("kube-public", "cluster-info")
        return joining.parse_cluster_info(data, cluster_name=self.cluster_name)

    def kubelet_config(self) -> KubeletConfig:
        """The kubelet configuration that kubeadm gives to joining nodes."""
        data = self._config_map("kube-system", "kubelet-config")
        return joining.parse_kubelet_config(data, cluster_name=self.cluster_name)

    def kubeadm_config(self) -> KubeadmConfig:
        """The ClusterConfiguration that kubeadm keeps; NotFound in clusters made otherwise."""
        data = self._config_map("kube-system", "kubeadm-config")
        return joining.parse_kubeadm_config(data, cluster_name=self.cluster_name)

    def has_config_map(self, namespace: str, name: str) -> bool:
        try:
            self._config_map(namespace, name)
        except errors.NotFound:
            return False
        return True

    def _config_map(self, namespace: str, name: str) -> Mapping[str, str]:
        path = f"/api/v1/namespaces/{namespace}/configmaps/{name}"
        action = Sentence("read the ConfigMap %(name)s", name=f"{namespace}/{name}")
        return self._transport.get(path, _ConfigMap, action=action).data or {}

    # --- pods and services ------------------------------------------------------------------------

    def create_pod(self, namespace: str, manifest: Mapping[str, Any]) -> PodDetail:
        """Create a pod; Conflict409 with code ``already_exists`` when the name is taken."""
        action = Sentence("create a pod in %(namespace)s", namespace=namespace)
        raw = self._transport.post(
            _pods_path(namespace), manifest, pods.RawPodDetail, action=action
        )
        return pods.pod_detail(raw)

    def get_pod(self, namespace: str, name: str) -> PodDetail:
        """One pod; NotFound when there is none of that name."""
        action = Sentence("read pod %(pod)s", pod=f"{namespace}/{name}")
        raw = self._transport.get(_pods_path(namespace, name), pods.RawPodDetail, action=action)
        return pods.pod_detail(raw)

    def find_pods(self, namespace: str, labels: Mapping[str, str]) -> list[PodDetail]:
        """The pods of a namespace that carry all of these labels."""
        query = {"labelSelector": ",".join(f"{key}={value}" for key, value in labels.items())}
        path = _pods_path(namespace)
        return list(listing.iterate(self._transport, pods.POD_DETAILS, path=path, query=query))

    def delete_pod(self, namespace: str, name: str, *, grace_seconds: int = 30) -> bool:
        """Ask for a pod's end; False when it was gone already."""
        try:
            self._transport.call(
                "DELETE",
                _pods_path(namespace, name),
                action=Sentence("delete pod %(pod)s", pod=f"{namespace}/{name}"),
                query={"gracePeriodSeconds": grace_seconds},
            )
        except errors.NotFound:
            return False
        return True

    def pod_log(
        self,
        namespace: str,
        name: str,
        *,
        container: str = "",
        tail_lines: int = 1000,
        limit_bytes: int = 1024 * 1024,
    ) -> str:
        """The last lines of a container's log; bytes that are no UTF-8 are replaced."""
        query: dict[str, str | int] = {"tailLines": tail_lines, "limitBytes": limit_bytes}
        if container:
            query["container"] = container
        data = self._transport.call(
            "GET",
            _pods_path(namespace, name) + "/log",
            action=Sentence("read the log of pod %(pod)s", pod=f"{namespace}/{name}"),
            query=query,
            accept=f"text/plain, {JSON}",
        )
        return data.decode("utf-8", "replace")

    def get_service(self, namespace: str = "default", name: str = "kubernetes") -> ServiceInfo:
        path = f"/api/v1/namespaces/{quote(namespace)}/services/{quote(name)}"
        action = Sentence("read Service %(service)s", service=f"{namespace}/{name}")
        spec = self._transport.get(path, _Service, action=action).spec
        ports = tuple(item.port for item in spec.ports or ())
        return ServiceInfo(namespace=namespace, name=name, cluster_ip=spec.cluster_ip, ports=ports)


def _number(text: str) -> int:
    """The leading number of a version part; some providers write "28+"."""
    match = re.match(r"\d+", text)
    return int(match.group()) if match else 0


def _node_path(name: str) -> str:
    return f"/api/v1/nodes/{quote(name, safe='')}"


def _pods_path(namespace: str, name: str = "") -> str:
    path = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods"
    return f"{path}/{quote(name, safe='')}" if name else path


def _taint(taint: Taint) -> dict[str, str]:
    return {"key": taint.key, "value": taint.value, "effect": taint.effect}
