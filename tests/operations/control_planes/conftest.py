"""A fake cluster of three control planes with the real guard of etcd; one is about to leave."""

from typing import Any

import pytest
import yaml

from beidou.base.errors import PermanentError
from clusters.models import Cluster
from machines.models import Machine
from operations.kinds.control_planes import keeper
from operations.models import ClusterSettings
from operations.services import start
from tests import factories
from tests.clusters.conftest import connect
from tests.fakes.emptying import EmptyingCluster
from tests.fakes.kube_api import Reply
from tests.operations.ansible.host_code import etcd as host_etcd
from tests.operations.ansible.host_code import load_file

State = Machine.State
CONTROL_PLANE = {"node-role.kubernetes.io/control-plane": ""}
ENDPOINT = "10.9.9.9"
KUBEADM_PATH = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"


@pytest.fixture(autouse=True)
def haste(monkeypatch):
    names = ("LAG_SECONDS", "ASK_AGAIN_SECONDS", "PAUSE_SECONDS", "BUDGETS_EVERY_SECONDS")
    for name in (*names, "BELIEVE_SECONDS"):
        monkeypatch.setattr(f"operations.kinds.draining.pace.{name}", 0)
    monkeypatch.setattr("operations.kinds.control_planes.etcd.PAUSE_SECONDS", 0)


class Etcd:
    """The members by name; asked through the module that runs on hosts, its guard included."""

    def __init__(self, *names: str) -> None:
        self.health = dict.fromkeys(names, True)
        self.learners: set[str] = set()
        self.addresses: dict[str, str] = {}
        self.asked: list[str] = []
        self.removed: list[str] = []
        self.down = ""

    def members(self) -> list[Any]:
        return [
            host_etcd.Member(
                id=name,
                name=name,
                url="x",
                peer_urls=(f"https://{self.addresses.get(name, '127.0.1.1')}:2380",),
                is_healthy=is_healthy,
                is_learner=name in self.learners,
            )
            for name, is_healthy in self.health.items()
        ]

    def remove(self, member: Any) -> None:
        self.removed.append(member.name)
        del self.health[member.name]

    def __call__(self, run: Any, name: str, own: Any, *, variables: Any) -> Any:
        """In the place of a playbook on a control plane that stays."""
        self.asked.append(name)
        if self.down:
            raise PermanentError(self.down)
        if name != "etcd_members":
            return {}
        values = {
            "leaving": own["etcd_leaving"],
            "leaving_address": own["etcd_leaving_address"],
            "remove": own["etcd_remove"],
            "patience_seconds": 0,
        }
        answer = load_file("library/etcd_members.py").work(self, values)
        if values["remove"] and answer["why_it_stays"]:
            raise PermanentError(f"Nothing was removed: {answer['why_it_stays']}.")
        return answer


@pytest.fixture
def etcd(monkeypatch):
    fake = Etcd("n1", "n2", "n3")
    monkeypatch.setattr(keeper, "run_there", fake)
    return fake


@pytest.fixture
def kubeadm(kube):
    """``kubeadm(controlPlaneEndpoint="")``: what kubeadm keeps about the cluster."""

    def keep(**values):
        document = {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "ClusterConfiguration",
            "kubernetesVersion": "v1.36.3",
            "controlPlaneEndpoint": f"{ENDPOINT}:6443",
            "etcd": {"local": {"dataDir": "/var/lib/etcd"}},
            "networking": {"podSubnet": "10.244.0.0/16"},
            **values,
        }
        data = {"data": {"ClusterConfiguration": yaml.safe_dump(document)}}
        kube.on("GET", KUBEADM_PATH, Reply(data))

    return keep


@pytest.fixture
def kube():
    with EmptyingCluster(is_hasty=True) as api:
        for name in ("n1", "n2", "n3"):
            api.add_node(name, **CONTROL_PLANE)
        yield api


@pytest.fixture
def cluster(cluster_a, kube, kubeadm, etcd):
    kubeadm()
    ClusterSettings.objects.create(cluster=cluster_a, artifact_source="https://files.example")
    Cluster.objects.filter(pk=cluster_a.pk).update(server=f"https://{ENDPOINT}:6443")
    cluster_a.refresh_from_db()
    return connect(cluster_a, kube)


@pytest.fixture
def planes(cluster, host):
    """The machines of n1, n2 and n3; nothing answers at their SSH port but for n1's."""
    made = []
    for number in (1, 2, 3):
        node = factories.make_node(cluster, f"n{number}", roles=["control-plane"])
        port = host.port if number == 1 else 9
        credential = factories.make_credential(password="", private_key=host.text, port=port)
        made.append(
            factories.make_machine(
                host.address if number == 1 else f"127.0.0.{number}",
                hostname=f"n{number}",
                cluster=cluster,
                node=node,
                state=State.IN_SERVICE,
                credential=credential,
                host_key=host.host_key,
            )
        )
    return made


@pytest.fixture
def lost(planes):
    """n1's host does not answer any more."""
    credential = planes[0].credential
    credential.port = 9
    credential.save()
    return planes[0]


@pytest.fixture
def remove(cluster, operator, django_capture_on_commit_callbacks):
    def begin(*machines, **params):
        with django_capture_on_commit_callbacks(execute=True):
            return start.start_operation(
                kind="RemoveControlPlane",
                cluster=cluster,
                machines=machines,
                params=params,
                acting_user=operator,
            )

    return begin


@pytest.fixture
def blocked(cluster, operator):
    """The reasons of a plan."""

    def ask(kind, *machines, **params):
        plan = start.plan_operation(
            kind=kind, cluster=cluster, machines=machines, params=params, acting_user=operator
        )
        return [reason for blocker in plan.blockers for reason in blocker.reasons]

    return ask
