"""Clusters that are made and taken down by the portal: what is asked for and what is looked at."""

import itertools
import json

import pytest

from lab import site
from lab.client import PortalError
from lab.versions import DEFAULT_MINOR, release

SECONDS = 2400
VERSION = release(DEFAULT_MINOR).version
_numbers = itertools.count(1)


def wish_for(portal, lab, hosts, *, control_planes=1, params=None, **more):
    """The body of the request; each cluster has networks of its own."""
    number = next(_numbers)
    return {
        "name": f"created-{number}",
        "machines": [
            {"address": host.address, "role": "ControlPlane" if index < control_planes else ""}
            for index, host in enumerate(hosts)
        ],
        "params": {
            "kubernetes_version": VERSION,
            "pod_network": f"10.{150 + number}.0.0/16",
            "service_network": f"10.{200 + number}.0.0/16",
            "kubeadm_config": site.KUBEADM_CONFIG,
            **(params or {}),
        },
        "credential": portal.credential["id"],
        "artifact_source": lab.artifacts().url,
        "policy": site.POLICY,
        "overrides": site.OVERRIDES,
        **more,
    }


def begin(portal, body):
    return portal.api.post("operations/create-cluster/", body)["id"]


def kubectl(host, command):
    return json.loads(
        host.run(f"kubectl --kubeconfig /etc/kubernetes/admin.conf {command} -o json")
    )


def ready_nodes(host):
    return {
        item["metadata"]["name"]
        for item in kubectl(host, "get nodes")["items"]
        for condition in item["status"]["conditions"]
        if condition["type"] == "Ready" and condition["status"] == "True"
    }


def inits(host):
    """How often kubeadm init was begun on the host, by its own journal."""
    return int(host.run("journalctl --no-pager -q | grep -c 'Started beidou-.*-init' || true"))


def states(portal, machines):
    return {portal.api.get(f"machines/{key}/")["state"] for key in machines}


def assert_like_an_adopted_one(portal, row, hosts, machines, version=VERSION):
    assert row["status"] == "succeeded", row
    cluster = portal.api.get(f"clusters/{row['cluster']}/")
    assert (cluster["phase"], cluster["type"]) == ("running", "native")
    assert cluster["version"] == version
    assert cluster["health"] == "healthy", cluster["health_reason"]
    report = portal.api.get(f"clusters/{row['cluster']}/capabilities/")
    assert [item["key"] for item in report if not item["ok"]] == []
    assert ready_nodes(hosts[0]) == {host.name for host in hosts}
    assert states(portal, machines) == {"in_service"}
    nodes = portal.api.get(f"nodes/?cluster={row['cluster']}")["results"]
    assert {node["machine"] for node in nodes} == set(machines)
    secrets = kubectl(hosts[0], "get secrets -n kube-system")["items"]
    tokens = [item for item in secrets if item["type"] == "bootstrap.kubernetes.io/token"]
    descriptions = [item["data"].get("description", "") for item in tokens]
    assert len(tokens) <= 1, descriptions  # of the uploaded certificates alone; it expires


def failed_checks(row):
    return {
        check["check"]
        for machine in row["machines"]
        for cell in machine["steps"]
        for check in cell["checks"]
        if not check["ok"] and check["severity"] == "error"
    }


def take_down(portal, approver, machines, **params):
    """Approved by somebody else; a lost machine is given up by its name."""
    name = portal.api.get(f"clusters/{portal.cluster['id']}/")["name"]
    deletion = portal.start_operation("DeleteCluster", machines, params={"confirm": name, **params})
    row = portal.api.wait_for(deletion, seconds=300)
    assert (row["status"], failed_checks(row)) == ("failed", {"approval"})
    approval = {"answers": {"approved": True}}
    with pytest.raises(PortalError) as refused:
        portal.api.post(f"operations/{deletion}/retry/", approval)
    assert refused.value.status == 403
    approver.post(f"operations/{deletion}/retry/", {**approval, "seen": row["seen"]})
    row = portal.api.wait_for(deletion, seconds=SECONDS)
    assert row["status"] == "succeeded", row
    cluster = portal.api.get(f"clusters/{portal.cluster['id']}/")
    assert (cluster["phase"], cluster["nodes_total"]) == ("deleted", 0)
