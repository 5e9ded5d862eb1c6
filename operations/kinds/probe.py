"""Proof that a node runs pods and reaches the others: a test pod on it, and one elsewhere.

Both pods serve a word over HTTP and are asked by each other; the test pod also resolves a Service
name and connects to it.  Pods are placed by ``nodeName``, so a cordoned node can be tested before
anything else is scheduled on it.  What a pod found out it writes as its termination message, so no
exec right is needed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from beidou.base.errors import TemporaryError
from beidou.base.sentences import Sentence
from clusters.drivers.kubernetes import KubernetesClient

IMAGE = "registry.k8s.io/beidou/probe:1"
PORT = 18080
LABELS = {"app.kubernetes.io/managed-by": "beidou", "app.kubernetes.io/component": "probe"}


@dataclass(frozen=True)
class Probe:
    """Where and how to test; ``image`` must be on the nodes already or be pullable."""

    namespace: str
    image: str
    dns_name: str
    wait_seconds: int


def serving_pod(name: str, node: str, probe: Probe) -> dict[str, Any]:
    """A pod that serves the word ``beidou`` on ``PORT``."""
    script = (
        "mkdir -p /tmp/www && echo beidou > /tmp/www/index.html "
        f"&& exec httpd -f -p {PORT} -h /tmp/www"
    )
    return probe_pod(name, node, probe, script, restart="Always", ready=True)


def asking_pod(name: str, node: str, probe: Probe, *, peer: str) -> dict[str, Any]:
    """A pod that asks ``peer`` (an address) and, when set, resolves and reaches the Service
    name."""
    checks = [f"timeout 5 wget -qO- http://{peer}:{PORT}/ | grep -q beidou && echo peer=ok"]
    if probe.dns_name:
        checks.append(f"timeout 5 nslookup {probe.dns_name} >/dev/null 2>&1 && echo dns=ok")
    # Each check is repeated until it holds: routes and rules of a new node come within seconds.
    body = "; ".join(
        f"i=0; while [ $i -lt 10 ]; do if {check}; then break; fi; i=$((i+1)); sleep 1; done"
        for check in checks
    )
    return probe_pod(name, node, probe, f"({body}) > /dev/termination-log 2>&1", restart="Never")


def probe_pod(
    name: str, node: str, probe: Probe, script: str, *, restart: str, ready: bool = False
) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": "probe",
        "image": probe.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
        "resources": {
            "requests": {"cpu": "10m", "memory": "16Mi"},
            "limits": {"cpu": "200m", "memory": "64Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "runAsUser": 65534,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if ready:
        container["readinessProbe"] = {
            "httpGet": {"path": "/", "port": PORT},
            "periodSeconds": 1,
            "failureThreshold": 30,
        }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": probe.namespace, "labels": LABELS},
        "spec": {
            "nodeName": node,
            "restartPolicy": restart,
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "activeDeadlineSeconds": max(probe.wait_seconds * 4, 300),
            "tolerations": [{"operator": "Exists"}],
            "containers": [container],
        },
    }


def pod_names(prefix: str) -> dict[str, str]:
    """The pods of one node's test."""
    return {key: f"{prefix}-{key}"[:63] for key in ("new", "peer", "ask-new", "ask-peer")}


def check_node(
    client: KubernetesClient,
    *,
    prefix: str,
    node: str,
    peer_node: str,
    probe: Probe,
    should_stop: Callable[[], bool],
) -> dict[str, Any]:
    """Run the whole test for one node; returns the evidence, raises ``ExternalError`` with what
    failed.

    All pods are deleted on the way out, also when something failed.
    """
    names = pod_names(prefix)
    evidence: dict[str, Any] = {"node": node, "peer_node": peer_node}
    try:
        for name in names.values():
            _remove(client, probe, name)
        began = time.monotonic()
        for key, place in (("new", node), ("peer", peer_node)):
            client.create_pod(probe.namespace, serving_pod(names[key], place, probe))
        new = _wait_until_serving(client, names["new"], node, probe, should_stop)
        evidence |= {"pod_address": new, "pod_seconds": round(time.monotonic() - began, 1)}
        peer = _wait_until_serving(client, names["peer"], peer_node, probe, should_stop)
        evidence["peer_address"] = peer
        # Only the new node's view of the cluster's DNS is of interest.
        without_dns = replace(probe, dns_name="")
        for key, place, about, asked in (
            ("ask-peer", peer_node, without_dns, new),
            ("ask-new", node, probe, peer),
        ):
            pod = asking_pod(names[key], place, about, peer=asked)
            client.create_pod(probe.namespace, pod)
        _wait_until_told(client, names["ask-peer"], peer_node, without_dns, new, should_stop)
        evidence["reached_from_peer"] = True
        _wait_until_told(client, names["ask-new"], node, probe, peer, should_stop)
        evidence |= {"reaches_peer": True, "resolved": probe.dns_name}
    finally:
        for name in names.values():
            _remove(client, probe, name)
    evidence["removed"] = True
    return evidence


def _wait_until_serving(
    client: KubernetesClient, name: str, node: str, probe: Probe, should_stop: Callable[[], bool]
) -> str:
    """The address of the pod ``name`` once it is Ready."""
    began = time.monotonic()
    last = ""
    while time.monotonic() - began < probe.wait_seconds and not should_stop():
        pod = client.get_pod(probe.namespace, name)
        if pod.is_ready and pod.pod_ip:
            return pod.pod_ip
        last = "; ".join(pod.waiting) or pod.message or pod.phase
        time.sleep(0.5)
    raise TemporaryError(
        Sentence(
            "A test pod on %(node)s was not ready within %(limit)s s: %(last)s.",
            node=node,
            limit=probe.wait_seconds,
            last=last,
        ),
        code="probe_not_ready",
    )


def _wait_until_told(
    client: KubernetesClient,
    name: str,
    node: str,
    probe: Probe,
    peer: str,
    should_stop: Callable[[], bool],
) -> None:
    """Return when the pod ``name`` has found ``peer``, and the Service name if one was asked."""
    deadline = time.monotonic() + probe.wait_seconds
    while time.monotonic() < deadline and not should_stop():
        pod = client.get_pod(probe.namespace, name)
        if pod.phase in ("Succeeded", "Failed"):
            said = pod.said.split()
            if "peer=ok" not in said:
                raise TemporaryError(
                    Sentence(
                        "A pod on %(node)s does not reach the pod at %(peer)s: check the pod "
                        "network's routes and firewalls between the nodes.",
                        node=node,
                        peer=peer,
                    ),
                    code="probe_no_route",
                )
            if probe.dns_name and "dns=ok" not in said:
                raise TemporaryError(
                    Sentence(
                        "A pod on %(node)s cannot resolve %(name)s: check kube-proxy on it and "
                        "the cluster's DNS.",
                        node=node,
                        name=probe.dns_name,
                    ),
                    code="probe_no_dns",
                )
            return
        time.sleep(0.5)
    raise TemporaryError(
        Sentence(
            "A test pod on %(node)s did not end within %(limit)s s.",
            node=node,
            limit=probe.wait_seconds,
        ),
        code="probe_not_ended",
    )


def _remove(client: KubernetesClient, probe: Probe, name: str) -> None:
    client.delete_pod(probe.namespace, name, grace_seconds=0)
