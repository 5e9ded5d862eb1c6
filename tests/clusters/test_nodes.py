"""Cordoning nodes."""

import pytest

from beidou.base.errors import InvalidInput
from beidou.base.models import AuditEntry
from clusters.drivers import errors
from clusters.services import nodes
from tests import factories
from tests.fakes.kube_api import Reply, node, status_reply

pytestmark = pytest.mark.django_db
PATH = "/api/v1/nodes/n1"


@pytest.fixture
def row(adopted):
    return factories.make_node(adopted, "n1")


def test_cordoning_asks_the_cluster_and_shows_at_once(kube, row):
    kube.on("PATCH", PATH, Reply(node("n1", version="7", unschedulable=True)))
    nodes.set_cordoned(node=row, cordoned=True, reason="disk is failing")
    row.refresh_from_db()
    assert row.unschedulable
    assert kube.asked("PATCH", PATH)[0].body == {"spec": {"unschedulable": True}}
    entry = AuditEntry.objects.get()
    assert (entry.verb, entry.reason, entry.outcome) == ("cordon", "disk is failing", "done")
    assert entry.cluster_id == row.cluster_id


def test_uncordoning_is_the_way_back(kube, row):
    kube.on("PATCH", PATH, Reply(node("n1", version="8")))
    nodes.set_cordoned(node=row, cordoned=False, reason="disk replaced")
    row.refresh_from_db()
    assert not row.unschedulable


@pytest.mark.parametrize("reason", ["", "   "])
def test_a_reason_is_needed(kube, row, reason):
    with pytest.raises(InvalidInput, match="Say why"):
        nodes.set_cordoned(node=row, cordoned=True, reason=reason)
    assert not kube.requests


def test_a_refusal_of_the_cluster_is_audited_as_failed(kube, row):
    kube.on("PATCH", PATH, status_reply(403, "forbidden: nope"))
    with pytest.raises(errors.Forbidden):
        nodes.set_cordoned(node=row, cordoned=True, reason="test")
    row.refresh_from_db()
    assert not row.unschedulable
    assert AuditEntry.objects.get().outcome == "failed"


def test_a_node_that_is_gone_is_not_found(kube, row):
    with pytest.raises(errors.NotFound):
        nodes.set_cordoned(node=row, cordoned=True, reason="test")
