"""A cluster to adopt: a fake API server on a real socket that answers all that adopting asks."""

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from clusters.drivers import kubeconfig
from clusters.models import Cluster, ClusterCredential
from tests import factories
from tests.fakes.kube_api import FakeKubeApi, Reply, Request

REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
KUBE_SYSTEM = "/api/v1/namespaces/kube-system"
_numbers = itertools.count(1)


def allow_all_but(*refused: tuple[str, str]) -> Callable[[Request], Reply]:
    """Answers access reviews: everything is allowed except these (verb, resource)."""

    def answer(request: Request) -> Reply:
        wanted = request.body["spec"]["resourceAttributes"]
        allowed = (wanted["verb"], wanted["resource"]) not in refused
        return Reply(body={"status": {"allowed": allowed}}, status=201)

    return answer


def prepare(api: FakeKubeApi, *, uid: str, version: str = "v1.36.3") -> None:
    """Let ``api`` be a healthy kubeadm cluster with this identity."""
    minor = version.split(".")[1]
    api.on("GET", "/version", Reply({"gitVersion": version, "major": "1", "minor": minor}))
    who = {"username": "kubernetes-admin", "groups": ["system:masters"]}
    api.on("POST", REVIEWS, Reply({"status": {"userInfo": who}}, status=201))
    api.on("POST", ACCESS_REVIEWS, allow_all_but())
    api.on("GET", KUBE_SYSTEM, Reply({"metadata": {"name": "kube-system", "uid": uid}}))
    kubelet = "cgroupDriver: systemd\nclusterDomain: cluster.local\nclusterDNS: [10.96.0.10]\n"
    path = f"{KUBE_SYSTEM}/configmaps/kubelet-config"
    api.on("GET", path, Reply({"data": {"kubelet": kubelet}}))
    info = {"data": {"kubeconfig": api.kubeconfig()}}
    api.on("GET", "/api/v1/namespaces/kube-public/configmaps/cluster-info", Reply(info))


@pytest.fixture
def kube() -> Iterator[FakeKubeApi]:
    """A healthy cluster that nobody has adopted."""
    with FakeKubeApi() as api:
        prepare(api, uid=f"fake-uid-{os.getpid()}-{next(_numbers)}")
        yield api


def connect(cluster: Cluster, api: FakeKubeApi, **changes: Any) -> Cluster:
    """Give a cluster's row the credential with which it is reached at ``api``."""
    text = kubeconfig.to_kubeconfig(kubeconfig.parse(api.kubeconfig(**changes)))
    ClusterCredential.objects.create(cluster=cluster, kubeconfig=text, subject="kubernetes-admin")
    return cluster


@pytest.fixture
def adopted(db: None, kube: FakeKubeApi) -> Cluster:
    """A cluster row that is connected to ``kube``."""
    return connect(factories.make_cluster("adopted", server=kube.server), kube)
