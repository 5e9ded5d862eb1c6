"""HealthChecks through the engine: a fake cluster with kubelets, hosts that answer as told."""

from typing import Any

import pytest

from machines.models import Machine
from operations.kinds import health_check as kind
from operations.kinds.health import pods
from operations.kinds.playbook import PlaybookResults
from operations.models import MachineStep
from operations.services import start
from tests import factories
from tests.clusters.conftest import connect
from tests.fakes.checked_cluster import CheckedCluster
from tests.fakes.ssh_server import new_key, public_line

NAMES = ("n1", "n2", "n3")


def host_check(name, ok=True, severity="error"):
    return {
        "check": name, "ok": ok, "found": "this", "wanted": "that", "advice": "do so",
        "severity": severity,
    }  # fmt: skip


class Hosts:
    """What the playbook finds on each host, by its address; ``silent`` ones are not reached."""

    def __init__(self) -> None:
        self.checks: dict[str, list[dict[str, Any]]] = {}
        self.silent: set[str] = set()
        self.cut: set[str] = set()
        self.asked: list[dict[str, Any]] = []
        self.during = lambda run: None

    def run_playbook(self, run, name, *, variables, per_machine, members):
        self.asked.append({"playbook": name, **variables, "machines": per_machine})
        self.during(run)
        results = PlaybookResults()
        for member in members:
            address = member.address
            if address in self.silent:
                results.failed[member.pk] = "no route to host"
                results.unreached[member.pk] = [host_check("reachable", ok=False)]
                continue
            own = member.machine.node.name if member.machine.node else ""
            row = {
                peer: "no answer" if {peer, own} & self.cut else ""
                for peer in per_machine[member.pk]["neighbours"]
            }
            results.tasks[member.pk] = {
                "look": {
                    "checks": self.checks.get(address, [host_check("service:kubelet")]),
                    "neighbours": row,
                    "log_samples": {"kubelet": ["E1 bad"]},
                }
            }
        return results


@pytest.fixture(autouse=True)
def haste(monkeypatch):
    """A step that lasted a second would meet its own lease thread in the test's transaction."""
    monkeypatch.setattr(pods, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(pods, "GONE_SECONDS", 0.1)
    monkeypatch.setattr(kind, "POD_WAIT_SECONDS", 0.3)


@pytest.fixture
def hosts(monkeypatch):
    made = Hosts()
    monkeypatch.setattr(kind.playbook, "run_playbook", made.run_playbook)
    return made


@pytest.fixture
def kube():
    with CheckedCluster(*NAMES) as api:
        yield api


@pytest.fixture
def cluster(cluster_a, kube):
    return connect(cluster_a, kube)


@pytest.fixture
def machines(cluster, hosts):
    credential = factories.make_credential()
    host_key = public_line(new_key())
    return [
        factories.make_machine(
            f"10.0.0.{at}",
            hostname=f"host-{at}",
            cluster=cluster,
            node=factories.make_node(cluster, name),
            state=Machine.State.IN_SERVICE,
            credential=credential,
            host_key=host_key,
        )
        for at, name in enumerate(NAMES, start=1)
    ]


@pytest.fixture
def check(cluster, machines, operator, work, django_capture_on_commit_callbacks):
    """Run a HealthCheck to its end; of all machines unless some are named."""

    def run(*chosen, **params):
        with django_capture_on_commit_callbacks(execute=True):
            operation = start.start_operation(
                kind="HealthCheck",
                cluster=cluster,
                machines=chosen or machines,
                params=params,
                acting_user=operator,
            )
        work()
        operation.refresh_from_db()
        return operation

    return run


def cell_of(operation, machine):
    return MachineStep.objects.get(step__operation=operation, machine__machine=machine)


def checks_of(operation, machine):
    return {each["check"]: each for each in cell_of(operation, machine).checks}
