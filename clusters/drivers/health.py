"""How well the parts of one cluster are, with whatever rights there are.

The API server reports on itself and its etcd (``/readyz``).  The other parts are judged by their
pods; where those cannot be seen (few rights, or a provider keeps the control plane to itself),
controller-manager and scheduler are judged by the lease they must renew.  What cannot be known is
"unknown, because …", never "healthy".
"""

import re
from datetime import UTC, datetime, timedelta

import msgspec

from beidou.base.errors import PermanentError
from beidou.base.sentences import Sentence, joined
from beidou.base.storable import storable
from clusters.drivers.answers import Check, ComponentHealth
from clusters.drivers.objects import RawCondition
from clusters.drivers.transport import Transport

# Leader leases are renewed every 2 s; clocks of two machines may differ a little.
LEASE_AGE_LIMIT = timedelta(seconds=90)
_LEASED = ("kube-controller-manager", "kube-scheduler")
_NETWORKS = re.compile(
    r"calico|canal|cilium|flannel|weave|antrea|kube-router|kindnet|ovn|ovs|aws-node|terway"
    r"|(^|-)cni(-|$)"
)
_CHECK_LINE = re.compile(r"\[(?P<sign>[+-])\](?P<name>\S+) (?P<message>.*)")


class _Labels(msgspec.Struct, frozen=True):
    name: str
    namespace: str = ""
    labels: dict[str, str] | None = None


class _PodStatus(msgspec.Struct, frozen=True):
    conditions: list[RawCondition] | None = None


class _Pod(msgspec.Struct, frozen=True):
    metadata: _Labels
    status: _PodStatus = _PodStatus()

    @property
    def is_ready(self) -> bool:
        conditions = self.status.conditions or ()
        return any(item.type == "Ready" and item.status == "True" for item in conditions)


class _WorkloadSpec(msgspec.Struct, frozen=True):
    replicas: int | None = None


class _WorkloadStatus(msgspec.Struct, frozen=True, rename="camel"):
    """Of a Deployment and of a DaemonSet; each fills its own fields."""

    ready_replicas: int = 0
    number_ready: int = 0
    desired_number_scheduled: int = 0


class _Workload(msgspec.Struct, frozen=True):
    metadata: _Labels
    spec: _WorkloadSpec = _WorkloadSpec()
    status: _WorkloadStatus = _WorkloadStatus()


class _Pods(msgspec.Struct, frozen=True):
    items: list[_Pod] | None = None


class _Workloads(msgspec.Struct, frozen=True):
    items: list[_Workload] | None = None


class _LeaseSpec(msgspec.Struct, frozen=True, rename="camel"):
    holder_identity: str = ""
    renew_time: datetime | None = None


class _Lease(msgspec.Struct, frozen=True):
    spec: _LeaseSpec


def component_health(transport: Transport) -> list[ComponentHealth]:
    """One entry per component, the API server first; only connection failures are raised."""
    api_server = _api_server(transport)
    return [
        api_server,
        *_control_plane(transport, api_server),
        _dns(transport),
        *_daemon_sets(transport),
    ]


def parse_checks(text: str) -> tuple[Check, ...]:
    """The lines of ``/readyz?verbose``."""
    matches = (_CHECK_LINE.match(line) for line in text.splitlines())
    return tuple(
        Check(name=match["name"], is_ok=match["sign"] == "+", message=match["message"])
        for match in matches
        if match
    )


def _api_server(transport: Transport) -> ComponentHealth:
    name = "kube-apiserver"
    try:
        ready = _endpoint(transport, "/readyz")
        alive = _endpoint(transport, "/livez")
    except PermanentError as error:
        return _unknown(name, error.message)
    bad = [check.name for check in (*ready, *alive) if not check.is_ok]
    if not ready:
        return _unknown(name, Sentence("The API server lists no checks at /readyz."))
    message = (
        Sentence("Failing: %(names)s.", names=", ".join(dict.fromkeys(bad)))
        if bad
        else Sentence("%(count)s checks passed.", count=len(ready))
    )
    return ComponentHealth(name=name, is_healthy=not bad, message=message, checks=ready)


def _endpoint(transport: Transport, path: str) -> tuple[Check, ...]:
    # Not ready is told with status 500 and the same list of checks.
    data = transport.call(
        "GET",
        path,
        action=Sentence("read %(path)s", path=path),
        query={"verbose": "true"},
        accept="text/plain, */*",
        accept_statuses=(500,),
    )
    return parse_checks(storable(data.decode("utf-8", "replace")))


def _control_plane(transport: Transport, api_server: ComponentHealth) -> list[ComponentHealth]:
    path = "/api/v1/namespaces/kube-system/pods?labelSelector=tier%3Dcontrol-plane"
    why: str = Sentence("No pods of it are visible in kube-system; its provider runs it elsewhere.")
    pods: list[_Pod] = []
    try:
        pods = (
            transport.get(path, _Pods, action=Sentence("list the control plane pods")).items or []
        )
    except PermanentError as error:
        why = error.message
    found = []
    # The API server's own pods would say less than its checks do.
    for name in ("etcd", *_LEASED):
        own = [pod for pod in pods if (pod.metadata.labels or {}).get("component") == name]
        if own:
            ready = sum(pod.is_ready for pod in own)
            found.append(_counted(name, ready=ready, desired=len(own)))
        elif name in _LEASED:
            found.append(_leased(transport, name, why))
        else:
            found.append(_etcd_by_api_server(api_server, why))
    return found


def _etcd_by_api_server(api_server: ComponentHealth, why: str) -> ComponentHealth:
    check = next((item for item in api_server.checks if item.name == "etcd"), None)
    if check is None:
        return _unknown("etcd", why)
    state = (
        Sentence("The API server reaches it.")
        if check.is_ok
        else Sentence("The API server does not reach it.")
    )
    return ComponentHealth(name="etcd", is_healthy=check.is_ok, message=joined([state, why]))


def _leased(transport: Transport, name: str, why: str) -> ComponentHealth:
    path = f"/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{name}"
    try:
        lease = transport.get(
            path, _Lease, action=Sentence("read the lease of %(name)s", name=name)
        ).spec
    except PermanentError:
        return _unknown(name, why)
    if lease.renew_time is None:
        return _unknown(name, why)
    age = datetime.now(UTC) - lease.renew_time
    seconds = max(0, round(age.total_seconds()))
    renewed = Sentence(
        "%(holder)s renewed its lease %(seconds)s s ago.",
        holder=lease.holder_identity or Sentence("Nobody"),
        seconds=seconds,
    )
    message = joined([renewed, why])
    return ComponentHealth(name=name, is_healthy=age < LEASE_AGE_LIMIT, message=message)


def _dns(transport: Transport) -> ComponentHealth:
    path = "/apis/apps/v1/namespaces/kube-system/deployments?labelSelector=k8s-app%3Dkube-dns"
    try:
        found = (
            transport.get(path, _Workloads, action=Sentence("read the DNS Deployment")).items or []
        )
    except PermanentError as error:
        return _unknown("coredns", error.message)
    if not found:
        return _unknown("coredns", Sentence("There is no Deployment labelled k8s-app=kube-dns."))
    desired = sum(1 if item.spec.replicas is None else item.spec.replicas for item in found)
    ready = sum(item.status.ready_replicas for item in found)
    return _counted("coredns", ready=ready, desired=desired)


def _daemon_sets(transport: Transport) -> list[ComponentHealth]:
    """kube-proxy and whatever looks like a network plugin, wherever it is installed."""
    path = "/apis/apps/v1/daemonsets?limit=500"
    try:
        found = transport.get(path, _Workloads, action=Sentence("list the DaemonSets")).items or []
    except PermanentError as error:
        return [_unknown("kube-proxy", error.message), _unknown("network", error.message)]
    proxy = [item for item in found if item.metadata.name.startswith("kube-proxy")]
    networks = [item for item in found if _NETWORKS.search(item.metadata.name)]
    health = [_daemon_set(item) for item in (*proxy, *networks)]
    if not proxy:
        text = Sentence("There is no DaemonSet kube-proxy; the network plugin may replace it.")
        health.insert(0, _unknown("kube-proxy", text))
    if not networks:
        text = Sentence("No DaemonSet of a known network plugin was found.")
        health.append(_unknown("network", text))
    return health


def _daemon_set(item: _Workload) -> ComponentHealth:
    """A DaemonSet that no node wants is well: some plugins come with one per kind of node."""
    status = item.status
    return _counted(
        item.metadata.name,
        ready=status.number_ready,
        desired=status.desired_number_scheduled,
        at_least=0,
    )


def _counted(name: str, *, ready: int, desired: int, at_least: int = 1) -> ComponentHealth:
    """Well when all that are wanted are ready, and no fewer than ``at_least`` are wanted."""
    return ComponentHealth(
        name=name,
        is_healthy=ready >= desired >= at_least,
        message=Sentence("%(ready)s of %(desired)s ready.", ready=ready, desired=desired),
        ready=ready,
        desired=desired,
    )


def _unknown(name: str, why: str) -> ComponentHealth:
    return ComponentHealth(
        name=name, is_healthy=None, message=Sentence("Unknown: %(why)s", why=why)
    )
