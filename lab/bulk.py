"""Thousands of nodes and pods at once, written straight into etcd of a local control plane.

Through the API 25,000 objects take minutes on two cores; etcd takes them in seconds, in
transactions over its JSON gateway.  The objects are complete and look like those of a kubelet, so
that sizes and decoding times are honest.
"""

import base64
import http.client
import json
import urllib.parse
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice

from lab.errors import LabError

BATCH = 250
"""Objects per transaction."""

NAMESPACES = 20
NODE_CPUS, NODE_MEMORY = "32", "131072Mi"

Json = dict[str, object]


def node_name(index: int) -> str:
    return f"node-{index:05d}"


def node(index: int, *, version: str) -> Json:
    """A Ready node with the figures of a 32-core machine, managed by kwok."""
    name, now = node_name(index), _now()
    address = f"10.{64 + index // 65536}.{index // 256 % 256}.{index % 256}"
    resources = {
        "cpu": NODE_CPUS,
        "memory": NODE_MEMORY,
        "ephemeral-storage": "512Gi",
        "pods": "110",
        "hugepages-2Mi": "0",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "uid": _uid("node", name),
            "creationTimestamp": now,
            "labels": {
                "beta.kubernetes.io/arch": "amd64",
                "beta.kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "node-role.kubernetes.io/compute": "",
                "topology.kubernetes.io/zone": f"zone-{index % 3}",
                "rack": f"rack-{index // 20:03d}",
                "type": "kwok",
            },
            "annotations": {
                "kwok.x-k8s.io/node": "fake",
                "node.alpha.kubernetes.io/ttl": "0",
                "volumes.kubernetes.io/controller-managed-attach-detach": "true",
            },
        },
        "spec": {
            "podCIDR": f"10.{128 + index // 256 % 64}.{index % 256}.0/24",
            "podCIDRs": [f"10.{128 + index // 256 % 64}.{index % 256}.0/24"],
        },
        "status": {
            "phase": "Running",
            "addresses": [
                {"type": "InternalIP", "address": address},
                {"type": "Hostname", "address": name},
            ],
            "capacity": resources,
            "allocatable": resources,
            "conditions": [_condition(*fields, now=now) for fields in _NODE_CONDITIONS],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "nodeInfo": {
                "architecture": "amd64",
                "bootID": _uid("boot", name),
                "containerRuntimeVersion": "containerd://1.7.24",
                "kernelVersion": "6.1.0-31-amd64",
                "kubeProxyVersion": version,
                "kubeletVersion": version,
                "machineID": _uid("machine", name).replace("-", ""),
                "operatingSystem": "linux",
                "osImage": "Debian GNU/Linux 12 (bookworm)",
                "systemUUID": _uid("system", name),
            },
            "images": [
                {"names": [f"registry.k8s.io/{image}"], "sizeBytes": 70_000_000}
                for image in _NODE_IMAGES
            ],
        },
    }


_NODE_CONDITIONS = (
    ("MemoryPressure", "False", "KubeletHasSufficientMemory", "enough memory available"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure", "no disk pressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "enough PIDs available"),
    ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
)
_NODE_IMAGES = ("kube-proxy:v1.36.3", "pause:3.10.2", "coredns/coredns:v1.14.2", "app:1.0.0")


def pod(index: int, *, nodes: int, owned: bool = True) -> Json:
    """A running pod of a ReplicaSet with one container, spread over nodes and namespaces.

    The ReplicaSet itself is not there: a garbage collector removes what is ``owned``.
    """
    deployment, now = f"app-{index // 50:04d}", _now()
    namespace = namespace_name(index // 50 % NAMESPACES)
    replica_set = f"{deployment}-6d4cf56db6"
    name = f"{replica_set}-{index:06x}"
    host = node_name(index % nodes)
    owner = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": replica_set,
        "uid": _uid("replicaset", f"{namespace}/{replica_set}"),
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "generateName": f"{replica_set}-",
            "namespace": namespace,
            "uid": _uid("pod", f"{namespace}/{name}"),
            "creationTimestamp": now,
            "labels": {"app": deployment, "pod-template-hash": "6d4cf56db6", "team": "payments"},
            "ownerReferences": [owner] if owned else [],
        },
        "spec": {
            "nodeName": host,
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "serviceAccountName": "default",
            "serviceAccount": "default",
            "schedulerName": "default-scheduler",
            "priority": 0,
            "preemptionPolicy": "PreemptLowerPriority",
            "enableServiceLinks": True,
            "securityContext": {},
            "containers": [_container()],
            "tolerations": [
                {
                    "key": f"node.kubernetes.io/{key}",
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": 300,
                }
                for key in ("not-ready", "unreachable")
            ],
        },
        "status": {
            "phase": "Running",
            "qosClass": "Burstable",
            "startTime": now,
            "hostIP": "10.64.0.1",
            "hostIPs": [{"ip": "10.64.0.1"}],
            "podIP": f"10.128.{index // 250 % 256}.{index % 250 + 2}",
            "podIPs": [{"ip": f"10.128.{index // 250 % 256}.{index % 250 + 2}"}],
            "conditions": [
                {"type": kind, "status": "True", "lastProbeTime": None, "lastTransitionTime": now}
                for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
            ],
            "containerStatuses": [_container_status(name, now)],
        },
    }


def _container() -> Json:
    return {
        "name": "app",
        "image": "registry.example.com/payments/app:1.0.0",
        "imagePullPolicy": "IfNotPresent",
        "command": ["/usr/local/bin/app", "--listen=:8080", "--log-format=json"],
        "env": [{"name": f"SETTING_{number}", "value": "a usual value"} for number in range(8)],
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "resources": {
            "requests": {"cpu": "250m", "memory": "256Mi"},
            "limits": {"cpu": "1", "memory": "512Mi"},
        },
        "readinessProbe": {
            "httpGet": {"path": "/healthz", "port": "http", "scheme": "HTTP"},
            "periodSeconds": 10,
            "timeoutSeconds": 1,
            "successThreshold": 1,
            "failureThreshold": 3,
        },
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    }


def _container_status(pod_name: str, now: str) -> Json:
    digest = uuid.uuid5(uuid.NAMESPACE_OID, pod_name).hex * 2
    return {
        "name": "app",
        "image": "registry.example.com/payments/app:1.0.0",
        "imageID": f"registry.example.com/payments/app@sha256:{digest}",
        "containerID": f"containerd://{digest}",
        "ready": True,
        "started": True,
        "restartCount": 0,
        "lastState": {},
        "state": {"running": {"startedAt": now}},
    }


def namespace_name(index: int) -> str:
    return f"team-{index:02d}"


def namespace(index: int) -> Json:
    name = namespace_name(index)
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": name,
            "uid": _uid("namespace", name),
            "creationTimestamp": _now(),
            "labels": {"kubernetes.io/metadata.name": name},
        },
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


def write_objects(
    etcd_url: str, *, nodes: int, pods: int, version: str, owned: bool = True
) -> None:
    """Write namespaces, nodes and pods; existing objects of the same names are replaced."""
    if pods and not nodes:
        raise LabError("Pods need at least one node to run on.")
    entries: list[Iterable[tuple[str, Json]]] = [
        (("namespaces/" + namespace_name(i), namespace(i)) for i in range(NAMESPACES)),
        (("minions/" + node_name(i), node(i, version=version)) for i in range(nodes)),
        (_pod_entry(pod(i, nodes=nodes, owned=owned)) for i in range(pods)),
    ]
    address = urllib.parse.urlsplit(etcd_url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    for one in entries:
        for batch in _batches(one):
            _write(connection, batch)
    connection.close()


def _pod_entry(one: Json) -> tuple[str, Json]:
    metadata = one["metadata"]
    assert isinstance(metadata, dict)  # noqa: S101 - narrows the type of what pod() has made
    return f"pods/{metadata['namespace']}/{metadata['name']}", one


def _batches(entries: Iterable[tuple[str, Json]]) -> Iterator[list[tuple[str, Json]]]:
    iterator = iter(entries)
    while batch := list(islice(iterator, BATCH)):
        yield batch


def _write(connection: http.client.HTTPConnection, batch: list[tuple[str, Json]]) -> None:
    puts = [
        {
            "requestPut": {
                "key": _base64(f"/registry/{key}"),
                "value": _base64(json.dumps(value, separators=(",", ":"))),
            }
        }
        for key, value in batch
    ]
    connection.request("POST", "/v3/kv/txn", body=json.dumps({"success": puts}))
    response = connection.getresponse()
    answer = response.read().decode(errors="replace")
    if response.status != 200:
        raise LabError(f"etcd refused {len(batch)} objects ({response.status}): {answer[:300]}")


def _condition(kind: str, status: str, reason: str, message: str, *, now: str) -> Json:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _uid(kind: str, name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{kind}/{name}"))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
