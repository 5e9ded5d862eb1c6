"""Kubernetes events as an API server gives them."""

import json
from typing import Any

import msgspec

from events.drivers.kube_events import KubeEvent, kube_event


def modern(name: str = "web.1", **changes: Any) -> dict[str, Any]:
    """An event of ``events.k8s.io/v1``, as the kubelet writes it; ``changes`` by dotted paths."""
    made = {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": f"uid-{name}",
            "resourceVersion": "100",
            "creationTimestamp": "2026-11-20T08:00:00Z",
        },
        "reason": "BackOff",
        "regarding": {
            "kind": "Pod",
            "namespace": "shop",
            "name": "web-6f9c-x2",
            "uid": "uid-of-pod",
            "apiVersion": "v1",
            "fieldPath": "spec.containers{web}",
        },
        "note": "Back-off restarting failed container web",
        "type": "Warning",
        "eventTime": None,
        "deprecatedSource": {"component": "kubelet", "host": "n1"},
        "deprecatedFirstTimestamp": "2026-11-20T08:00:00Z",
        "deprecatedLastTimestamp": "2026-11-20T08:05:00Z",
        "deprecatedCount": 3,
        "reportingController": "kubelet",
        "reportingInstance": "n1",
    }
    return _changed(made, changes)


def core(name: str = "web.1", **changes: Any) -> dict[str, Any]:
    """The same event under the older name, ``v1``."""
    made = {
        "metadata": modern(name)["metadata"],
        "reason": "BackOff",
        "involvedObject": modern(name)["regarding"],
        "message": "Back-off restarting failed container web",
        "type": "Warning",
        "eventTime": None,
        "source": {"component": "kubelet", "host": "n1"},
        "firstTimestamp": "2026-11-20T08:00:00Z",
        "lastTimestamp": "2026-11-20T08:05:00Z",
        "count": 3,
        "reportingComponent": "kubelet",
        "reportingInstance": "n1",
    }
    return _changed(made, changes)


def _changed(made: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    for path, value in changes.items():
        *folders, last = path.split("__")
        place = made
        for folder in folders:
            place = place[folder]
        place[last] = value
    return made


def kube(made: dict[str, Any]) -> KubeEvent:
    return kube_event(msgspec.Raw(json.dumps(made).encode()))
