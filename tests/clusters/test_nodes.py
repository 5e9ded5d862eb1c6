"""Cordoning nodes."""

import pytest

from beidou.base.errors import Conflict, Forbidden, InvalidInput
from beidou.base.models import AuditEntry
from beidou.base.sentences import Sentence
from clusters.drivers import errors
from clusters.services import nodes
from tests import factories
from tests.fakes.kube_api import Reply, node, status_reply

pytestmark = pytest.mark.django_db
PATH = "/api/v1/nodes/n1"


@pytest.fixture
def row(adopted):
    return factories.make_node(adopted, "n1")


def test_cordoning_asks_the_cluster_and_shows_at_once(kube, row, admin):
    kube.on("PATCH", PATH, Reply(node("n1", version="7", unschedulable=True)))
    nodes.set_cordoned(node=row, cordoned=True, reason="disk is failing", acting_user=admin)
    row.refresh_from_db()
    assert row.unschedulable
    assert kube.asked("PATCH", PATH)[0].body == {"spec": {"unschedulable": True}}
    entry = AuditEntry.objects.get()
    assert (entry.verb, entry.reason, entry.outcome) == ("cordon", "disk is failing", "done")
    assert entry.cluster_id == row.cluster_id


def test_uncordoning_is_the_way_back(kube, row, admin):
    kube.on("PATCH", PATH, Reply(node("n1", version="8")))
    nodes.set_cordoned(node=row, cordoned=False, reason="disk replaced", acting_user=admin)
    row.refresh_from_db()
    assert not row.unschedulable


@pytest.mark.parametrize("reason", ["", "   "])
def test_a_reason_is_needed(kube, row, admin, reason):
    with pytest.raises(InvalidInput, match="Say why"):
        nodes.set_cordoned(node=row, cordoned=True, reason=reason, acting_user=admin)
    assert not kube.requests


def test_a_refusal_of_the_cluster_is_audited_as_failed(kube, row, admin):
    kube.on("PATCH", PATH, status_reply(403, "forbidden: nope"))
    with pytest.raises(errors.Forbidden):
        nodes.set_cordoned(node=row, cordoned=True, reason="test", acting_user=admin)
    row.refresh_from_db()
    assert not row.unschedulable
    assert AuditEntry.objects.get().outcome == "failed"


def test_a_node_that_is_gone_is_not_found(kube, row, admin):
    with pytest.raises(errors.NotFound):
        nodes.set_cordoned(node=row, cordoned=True, reason="test", acting_user=admin)


# --- while changes of the cluster have to wait ----------------------------------------------------


@pytest.fixture
def held(monkeypatch, row):
    """An app above says so of this cluster alone."""

    def hold(cluster):
        return Sentence("the window %(window)s", window="Sat") if cluster == row.cluster else None

    monkeypatch.setattr(nodes, "_holds", [hold])
    return row


@pytest.mark.parametrize("cordoned", [True, False])
def test_a_node_is_neither_closed_nor_opened_while_changes_wait(kube, held, admin, cordoned):
    with pytest.raises(Conflict, match="Changes of adopted wait for the window Sat") as caught:
        nodes.set_cordoned(node=held, cordoned=cordoned, reason="test", acting_user=admin)
    assert caught.value.code == "held"
    assert not kube.requests
    assert not AuditEntry.objects.exists()


def test_whoever_may_approve_breaks_the_glass_which_is_an_entry_of_its_own(kube, held, admin):
    kube.on("PATCH", PATH, Reply(node("n1", version="7", unschedulable=True)))
    nodes.set_cordoned(
        node=held, cordoned=True, reason="disk on fire", acting_user=admin, break_glass=True
    )
    glass, deed = AuditEntry.objects.order_by("pk")
    assert (glass.verb, glass.reason, glass.object_name) == ("break glass", "disk on fire", "n1")
    assert glass.after == {"waited_for": "the window Sat", "to": "cordon"}
    assert (deed.verb, deed.outcome) == ("cordon", "done")


def test_whoever_may_not_approve_breaks_no_glass(kube, held, operators, operator):
    factories.grant(operators, held.cluster, "operator")
    with pytest.raises(Forbidden, match="“approve”"):
        nodes.set_cordoned(
            node=held, cordoned=True, reason="now", acting_user=operator, break_glass=True
        )
    assert not kube.requests
    assert not AuditEntry.objects.filter(verb="break glass").exists()


def test_where_nothing_waits_no_glass_is_broken(kube, row, operators, operator):
    factories.grant(operators, row.cluster, "operator")
    kube.on("PATCH", PATH, Reply(node("n1", version="7", unschedulable=True)))
    nodes.set_cordoned(
        node=row, cordoned=True, reason="now", acting_user=operator, break_glass=True
    )
    assert [entry.verb for entry in AuditEntry.objects.all()] == ["cordon"]
