"""A fake cluster with one control plane and two workers, an owner who asks and one who approves."""

import pytest

from machines.models import Machine
from operations.kinds import playbook
from operations.kinds.playbook import PlaybookResults
from operations.models import ClusterSettings
from operations.services import start
from tests import factories
from tests.clusters.conftest import connect, prepare
from tests.fakes.emptying import EmptyingCluster
from tests.fakes.kube_api import Reply, list_reply

State = Machine.State
KUBEADM = "kind: ClusterConfiguration\nnetworking: {podSubnet: 10.244.0.0/16}\n"
GOOD = {"check": "leftover:programs", "ok": True, "found": "none", "wanted": "", "advice": ""}


@pytest.fixture
def kube():
    with EmptyingCluster(is_hasty=True) as api:
        prepare(api, uid="uid")
        api.add_node("n1", **{"node-role.kubernetes.io/control-plane": ""})
        for name in ("n2", "n3"):
            api.add_node(name)
        path = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"
        api.on("GET", path, Reply({"data": {"ClusterConfiguration": KUBEADM}}))
        for path in ("/api/v1/services", "/apis/apps/v1/daemonsets", "/apis/batch/v1/jobs"):
            api.on("GET", path, list_reply([]))
        yield api


@pytest.fixture
def cluster(cluster_a, kube):
    ClusterSettings.objects.create(cluster=cluster_a)
    return connect(cluster_a, kube)


@pytest.fixture
def machines(cluster, host):
    """Of n1, n2 and n3, in this order; all are signed in to at one fake host."""
    credential = factories.make_credential(password="", private_key=host.text, port=host.port)
    made = []
    for number in (1, 2, 3):
        roles = ["control-plane"] if number == 1 else []
        node = factories.make_node(cluster, f"n{number}", roles=roles)
        made.append(
            factories.make_machine(
                f"127.0.0.{number}",
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
def reached(monkeypatch):
    """Which hosts are not reached, by hostname; the others are."""
    lost: dict[str, str] = {}

    def look(run):
        return {target.pk: lost.get(target.hostname, "") for target in run.targets}

    for module in ("pre_check", "reset"):
        monkeypatch.setattr(f"operations.kinds.delete_cluster.{module}.why_not_reached", look)
    return lost


@pytest.fixture
def owners(cluster):
    team = factories.make_team("owners")
    factories.grant(team, cluster, "owner")
    return team


@pytest.fixture
def owner(owners):
    return factories.make_user("owner", teams=(owners,))


@pytest.fixture
def other_owner(owners):
    return factories.make_user("other-owner", teams=(owners,))


class Played:
    """On whom clean_up was played, and with what; those that are ``failing`` fail."""

    def __init__(self):
        self.runs, self.variables, self.failing = [], {}, {}

    def __call__(self, run, name, *, variables, per_machine=None, members=None):
        chosen = list(run.targets if members is None else members)
        self.runs.append([member.hostname for member in chosen])
        self.variables = dict(variables)
        results = PlaybookResults()
        for member in chosen:
            if why := self.failing.get(member.hostname):
                results.failed[member.pk] = why
            else:
                results.tasks[member.pk] = {"task": {"checks": [GOOD], "done": []}}
        return results


@pytest.fixture
def played(monkeypatch):
    fake = Played()
    monkeypatch.setattr(playbook, "run_playbook", fake)
    return fake


@pytest.fixture
def delete(cluster, machines, owner, django_capture_on_commit_callbacks):
    def begin(*chosen, user=owner, **params):
        with django_capture_on_commit_callbacks(execute=True):
            return start.start_operation(
                kind="DeleteCluster",
                cluster=cluster,
                machines=chosen or machines,
                params={"confirm": cluster.name, **params},
                acting_user=user,
            )

    return begin
