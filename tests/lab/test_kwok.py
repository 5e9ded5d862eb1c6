"""Fake nodes on a real API server."""

import json
from pathlib import Path

import pytest

from lab import Lab, LabCluster
from lab.process import wait_for
from lab.workloads import web_deployment

pytestmark = pytest.mark.lab

LATE_POD = """
apiVersion: v1
kind: Pod
metadata: {name: late}
spec: {nodeName: node-00001, containers: [{name: app, image: app}]}
"""


@pytest.fixture(scope="module")
def kwok(real_lab: Lab) -> LabCluster:
    return real_lab.kwok_cluster("kwok", nodes=30, pods=200, controllers=True)


def test_the_nodes_are_ready(kwok: LabCluster):
    assert len(kwok.ready_nodes()) == 30


def test_the_pods_run(kwok: LabCluster):
    def phases() -> list[str]:
        pods = json.loads(kwok.kubectl("get pods -A -o json"))["items"]
        return [pod["status"]["phase"] for pod in pods]

    # Those that the lab made run from the start; the controllers' own take kwok a moment.
    wait_for("All pods to run", lambda: set(phases()) == {"Running"}, timeout=60)
    assert len(phases()) >= 200


def test_the_cluster_has_an_identity(kwok: LabCluster):
    uid = kwok.kubectl("get namespace kube-system -o jsonpath={.metadata.uid}")
    assert len(uid) == 36


def test_a_new_pod_becomes_ready_and_goes_again(kwok: LabCluster):
    kwok.apply(LATE_POD)
    kwok.kubectl("wait --for=condition=Ready pod/late --timeout=60s")
    kwok.kubectl("delete pod late --timeout=60s")


def test_controllers_make_deployments_real(kwok: LabCluster):
    kwok.apply(web_deployment("shop", replicas=3))
    kwok.kubectl("rollout status deployment/shop --timeout=90s")


def test_the_administrator_s_key_is_for_its_owner_alone(kwok: LabCluster):
    assert kwok.kubeconfig_path.stat().st_mode & 0o077 == 0
    assert Path(kwok.kubeconfig_path.parent / "admin.key").stat().st_mode & 0o077 == 0
