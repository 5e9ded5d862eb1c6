"""Whoever asked for it, or had it done again, must still be allowed to when its turn comes."""

from dataclasses import replace

import pytest

from beidou.base.errors import Forbidden
from beidou.base.models import AuditEntry, Notice
from operations.kinds import base as kinds
from operations.models import Freeze
from operations.services import control as controls
from operations.services import dispatch
from tests import factories
from tests.operations.queue.conftest import fresh

pytestmark = pytest.mark.django_db


@pytest.fixture
def held(toy, begin, work, cluster_a):
    """One that the operator asked for and that waits for the end of a freeze."""
    Freeze.objects.create(cluster=cluster_a, reason="year's end")
    operation = begin(name="held")
    work()
    assert fresh(operation).is_held
    return operation


@pytest.fixture
def thaw(control, work):
    """End the freeze; gives the operation as it is then."""

    def end(operation):
        Freeze.objects.all().delete()
        control(dispatch.dispatch)
        work()
        return fresh(operation)

    return end


def test_it_does_not_begin_for_somebody_whose_account_was_closed(held, thaw, operator, toy):
    operator.is_active = False
    operator.save()
    ended = thaw(held)
    assert (ended.status, ended.message) == (
        "canceled",
        "operator, who asked for it, has no account any more; whoever retries it carries it on.",
    )
    assert not toy.calls
    assert not ended.machines.filter(holds_machine=True).exists()


def test_it_does_not_begin_for_somebody_who_was_deleted(held, thaw, operator, toy):
    operator.delete()
    assert (thaw(held).status, toy.calls) == ("canceled", [])


def test_it_does_not_begin_for_somebody_who_lost_the_right(held, thaw, operator, operators, toy):
    operator.groups.remove(operators)
    ended = thaw(held)
    assert (ended.status, ended.message) == (
        "canceled",
        "operator, who asked for it, may not do this any more; whoever retries it carries it on.",
    )
    assert not toy.calls


def test_it_does_not_begin_for_somebody_whom_the_kind_refuses(held, thaw, toy, monkeypatch):
    def refuse(operation, user):
        raise Forbidden("the playbooks are for other teams")

    changed = replace(kinds.KINDS["Toy"], require=refuse)
    monkeypatch.setitem(kinds.KINDS, "Toy", changed)
    assert (thaw(held).status, toy.calls) == ("canceled", [])


def test_people_are_told_and_the_trail_has_it(held, thaw, operator, operators):
    operator.groups.remove(operators)
    ended = thaw(held)
    told = Notice.objects.get(kind="operation.needs_person")
    assert "held" in told.title
    assert told.details == ended.message
    assert AuditEntry.objects.get(verb="operation canceled").reason == ended.message


def test_others_begin_all_the_same(held, thaw, operator, operators, queued):
    operator.groups.remove(operators)
    other = queued("other")
    thaw(held)
    assert fresh(other).status != "waiting"


def test_whoever_retries_it_carries_it_on(held, thaw, operator, operators, admin, control, work):
    operator.groups.remove(operators)
    thaw(held)
    control(controls.retry, held, acting_user=admin)
    work()
    assert fresh(held).status == "succeeded"


def test_a_retry_does_not_begin_when_whoever_retried_lost_the_right(
    toy, begin, work, control, operators, cluster_a, machines, thaw
):
    toy.failing = {("first", machine.address) for machine in machines}
    operation = begin()
    work()
    toy.failing = set()
    toy.calls.clear()
    other = factories.make_user("other", teams=(operators,))
    Freeze.objects.create(cluster=cluster_a, reason="year's end")
    control(controls.retry, operation, acting_user=other)
    work()
    other.groups.clear()
    ended = thaw(operation)
    assert (ended.status, toy.calls) == ("canceled", [])
    assert ended.message.startswith("other, who asked for it,")
