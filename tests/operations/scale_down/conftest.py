"""A fake cluster whose controllers answer, with one machine that is a node of it."""

import pytest

from machines.models import Machine
from operations.models import ClusterSettings
from operations.services import start
from tests import factories
from tests.clusters.conftest import connect
from tests.fakes.emptying import EmptyingCluster

State = Machine.State


@pytest.fixture(autouse=True)
def haste(monkeypatch):
    """A step that lasted a second would meet its own lease thread in the test's transaction."""
    names = ("LAG_SECONDS", "ASK_AGAIN_SECONDS", "PAUSE_SECONDS", "BUDGETS_EVERY_SECONDS")
    for name in (*names, "BELIEVE_SECONDS"):
        monkeypatch.setattr(f"operations.kinds.draining.pace.{name}", 0)


@pytest.fixture
def kube():
    with EmptyingCluster(is_hasty=True) as api:
        for name in ("n1", "n2"):
            api.add_node(name)
        yield api


@pytest.fixture
def cluster(cluster_a, kube):
    ClusterSettings.objects.create(cluster=cluster_a)
    return connect(cluster_a, kube)


@pytest.fixture
def machine(cluster, host):
    node = factories.make_node(cluster, "n1")
    credential = factories.make_credential(password="", private_key=host.text, port=host.port)
    return factories.make_machine(
        host.address,
        hostname="some-other-name",
        cluster=cluster,
        node=node,
        state=State.IN_SERVICE,
        credential=credential,
        host_key=host.host_key,
    )


@pytest.fixture
def lost_machine(machine):
    """Nothing answers at its port."""
    credential = machine.credential
    credential.port = 9
    credential.save()
    return machine


@pytest.fixture
def scale_down(cluster, operator, django_capture_on_commit_callbacks):
    def begin(*machines, **params):
        with django_capture_on_commit_callbacks(execute=True):
            return start.start_operation(
                kind="ScaleDown",
                cluster=cluster,
                machines=machines,
                params=params,
                acting_user=operator,
            )

    return begin
