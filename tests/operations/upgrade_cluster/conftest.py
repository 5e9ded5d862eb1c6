"""A cluster of two control planes and three workers, and hosts on which playbooks do as told."""

from typing import Any

import pytest

from machines.models import Machine
from operations.kinds import playbook
from operations.kinds.playbook import PlaybookResults
from operations.kinds.upgrade_cluster import gate, node
from operations.models import ClusterSettings, Operation
from operations.services import control as steering
from operations.services import start
from tests import factories
from tests.clusters.conftest import connect
from tests.fakes.ssh_server import new_key, public_line
from tests.fakes.upgrading import NEW, OLD, UpgradingCluster

PLANES, WORKERS = ("c1", "c2"), ("w1", "w2", "w3")
SUMS = [f"{digit * 64}  {name}" for digit, name in zip("abcdef", (
    "kubelet", "kubeadm", "kubectl", "images.tar", "control-plane-images.tar", "runc",
), strict=True)]  # fmt: skip


def host_check(name, ok=True, severity="error"):
    return {
        "check": name, "ok": ok, "found": "this", "wanted": "that", "advice": "do so",
        "severity": severity,
    }  # fmt: skip


class Hosts:
    """What playbooks do: ``failing`` are (playbook, node) that fail, ``during`` is told of each."""

    def __init__(self, kube: UpgradingCluster) -> None:
        self.kube = kube
        self.runs: list[tuple[str, list[str], dict[str, Any]]] = []
        self.failing: dict[tuple[str, str], str] = {}
        self.checks: dict[str, list[dict[str, Any]]] = {}
        self.members = [{"name": name, "is_healthy": True, "is_learner": False} for name in PLANES]
        self.has_etcd = True
        self.during: Any = lambda name, nodes: None

    def run_playbook(self, run, name, *, variables, per_machine=None, members=None):
        chosen = list(run.targets if members is None else members)
        nodes = {member.pk: member.machine.node.name for member in chosen}
        values = {"own": {nodes[k]: v for k, v in (per_machine or {}).items()}, **variables}
        self.runs.append((name, list(nodes.values()), values))
        self.during(name, list(nodes.values()))
        results = PlaybookResults()
        for key, each in nodes.items():
            if why := self.failing.get((name, each)):
                results.failed[key] = why
            else:
                results.tasks[key] = {"task": self._answer(name, each, variables)}
        return results

    def _answer(self, name: str, each: str, variables: Any) -> dict[str, Any]:
        if name == "upgrade_check":
            is_plane = each in PLANES
            checks = self.checks.get(each, [host_check("service:kubelet")])
            return {"checks": checks, "etcd_here": is_plane and self.has_etcd}
        if name == "upgrade_node":
            self.kube.upgrade(each, apply=variables["upgrade_verb"] == "apply")
        if name == "etcd_snapshot":
            return {"answer": {"path": "/var/backups/x.db", "size": 2**20, "sha256": "ab",
                               "revision": 7, "total_keys": 300, "removed": []}}  # fmt: skip
        if name == "etcd_members":
            return {"members": self.members}
        if name == "upgrade_done":
            return {"checks": [host_check("kubelet-version")]}
        return {"answer": {"changed": ["images.tar"]}}

    def of(self, playbook_name):
        return [nodes for name, nodes, _values in self.runs if name == playbook_name]

    def values(self, playbook_name):
        return [values for name, _nodes, values in self.runs if name == playbook_name]


@pytest.fixture(autouse=True)
def haste(monkeypatch):
    """A step that lasted a second would meet its own lease thread in the test's transaction."""
    for name in ("LAG_SECONDS", "ASK_AGAIN_SECONDS", "PAUSE_SECONDS", "BUDGETS_EVERY_SECONDS",
                 "BELIEVE_SECONDS"):  # fmt: skip
        monkeypatch.setattr(f"operations.kinds.draining.pace.{name}", 0)
    monkeypatch.setattr("operations.kinds.patience.PAUSE_SECONDS", 0)
    monkeypatch.setattr(node, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(gate, "PAUSE_SECONDS", 0)


@pytest.fixture
def kube():
    with UpgradingCluster() as api:
        for name in PLANES:
            api.add(name, is_plane=True)
        for name in WORKERS:
            api.add(name)
        yield api


@pytest.fixture
def hosts(monkeypatch, kube):
    made = Hosts(kube)
    monkeypatch.setattr(playbook, "run_playbook", made.run_playbook)
    monkeypatch.setattr(playbook, "stop_units", lambda run: None)
    return made


@pytest.fixture
def source(tmp_path, settings):
    """An artifact source in a folder that the portal may install from."""
    folder = tmp_path / "kubernetes" / NEW / "amd64"
    folder.mkdir(parents=True)
    (folder / "SHA256SUMS").write_text("\n".join(SUMS))
    settings.ARTIFACT_FOLDERS = [tmp_path]
    return str(tmp_path)


@pytest.fixture
def cluster(cluster_a, kube, source):
    ClusterSettings.objects.create(cluster=cluster_a, artifact_source=source)
    cluster_a.version = OLD
    cluster_a.save()
    return connect(cluster_a, kube)


@pytest.fixture
def machines(cluster, hosts):
    credential = factories.make_credential()
    key = public_line(new_key())
    found = {}
    for at, name in enumerate((*PLANES, *WORKERS), start=1):
        roles = ["control-plane"] if name in PLANES else []
        row = factories.make_node(cluster, name, roles=roles, kubelet_version=OLD)
        found[name] = factories.make_machine(
            f"10.0.0.{at}", hostname=name, cluster=cluster, node=row,
            state=Machine.State.IN_SERVICE, credential=credential, host_key=key,
        )  # fmt: skip
    return found


@pytest.fixture
def upgrade(cluster, machines, operator, work, django_capture_on_commit_callbacks):
    """Ask for an upgrade and work until nothing is left; ``limit`` tasks at most."""

    def begin(limit=100, **params):
        with django_capture_on_commit_callbacks(execute=True):
            operation = start.start_operation(
                kind="UpgradeCluster",
                cluster=cluster,
                machines=list(machines.values()),
                params={"kubernetes_version": NEW, **params},
                acting_user=operator,
            )
        work(limit)
        operation.refresh_from_db()
        return operation

    return begin


@pytest.fixture
def other(cluster):
    """Another operation on the cluster, as if it had that status now."""

    def be(status, kind="AddControlPlane"):
        Operation.objects.update_or_create(
            name="other", defaults={"kind": kind, "cluster": cluster, "status": status}
        )

    return be


@pytest.fixture
def skip(control, work, operator):
    """Have the preCheck of these hosts skipped, so that it has found nothing, and work on: they go
    by themselves, then a retry takes the others along."""

    def on(operation, *names):
        keys = list(operation.machines.filter(hostname__in=names).values_list("pk", flat=True))
        control(
            steering.skip, operation, acting_user=operator,
            step="preCheck", machines=keys, reason="known",
        )  # fmt: skip
        work()
        control(steering.retry, operation, acting_user=operator)
        work()
        operation.refresh_from_db()

    return on


def cells(operation, step):
    """Node → cell."""
    rows = operation.steps.get(name=step).cells.select_related("machine")
    return {cell.machine.hostname: cell for cell in rows}


def failed_checks(operation, host, step="preCheck"):
    return {
        each["check"]: each
        for each in cells(operation, step)[host].checks
        if not each["ok"] and each["severity"] == "error"
    }
