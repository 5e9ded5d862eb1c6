"""Nodes that leave: what runs where, and what the operation says of it."""

import json

import yaml

from tests.operations.lab.portal import wait_until


def names_of(lab_cluster, kind, selector=""):
    chosen = ["-l", selector] if selector else []
    text = lab_cluster.kubectl(["get", kind, *chosen, "-o", "json"])
    return [item["metadata"]["name"] for item in json.loads(text)["items"]]


def pods_of(lab_cluster, app):
    text = lab_cluster.kubectl(["get", "pods", "-l", f"app={app}", "-o", "json"])
    return json.loads(text)["items"]


def ready_elsewhere(lab_cluster, app, host):
    return sum(
        condition["status"] == "True"
        for pod in pods_of(lab_cluster, app)
        if pod["spec"].get("nodeName") != host.name and "deletionTimestamp" not in pod["metadata"]
        for condition in pod["status"].get("conditions", ())
        if condition["type"] == "Ready"
    )


def cell(row, step):
    return next(each for each in row["machines"][0]["steps"] if each["step"] == step)


def budget(name, **spec):
    return yaml.safe_dump(
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": name},
            "spec": {"selector": {"matchLabels": {"app": name}}, **spec},
        }
    )


def retry(portal, operation, **answers):
    portal.api.post(f"operations/{operation}/retry/", {"answers": answers})
    wait_until(
        lambda: portal.api.get(f"operations/{operation}/")["status"] != "failed", "the retry"
    )
