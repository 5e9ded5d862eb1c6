"""What operations tell: how they ended, and when a worker was lost."""

import pytest
from django_q.models import OrmQ

from beidou.base.models import Notice
from operations.drivers import processes
from operations.models import Step
from operations.services import control as controls
from operations.services import engine, recovery
from tests.operations.toy import toy_kind

pytestmark = pytest.mark.django_db
DEAD = f"{processes.identity().rsplit('/', 2)[0]}/999999999/1"


def told() -> list[tuple[str, str]]:
    return list(Notice.objects.order_by("pk").values_list("kind", "severity"))


@pytest.fixture
def lose(work, control):
    """The first step is begun by a worker that dies, and taken over."""

    def lose_it(operation) -> None:
        step = operation.steps.get(name="first")
        engine.claim(step.pk)
        Step.objects.filter(pk=step.pk).update(holder=DEAD)
        OrmQ.objects.all().delete()
        control(recovery.maintain)

    return lose_it


def test_success_is_told_with_the_operation_and_its_cluster(toy, begin, work, cluster_a):
    operation = begin()
    work()
    notice = Notice.objects.get()
    assert (notice.kind, notice.severity) == ("operation.succeeded", "info")
    assert notice.title == f"Operation {operation.name} has succeeded."
    assert notice.cluster_id == cluster_a.pk
    assert (notice.object_type, notice.object_id) == ("operations.operation", str(operation.pk))


@pytest.mark.parametrize(
    ("failing", "kind", "severity"),
    [(1, "operation.partial", "warning"), (3, "operation.failed", "critical")],
)
def test_a_bad_end_is_told_with_its_reason(toy, begin, work, machines, failing, kind, severity):
    toy.failing = {("second", machine.address) for machine in machines[:failing]}
    operation = begin()
    work()
    operation.refresh_from_db()
    assert told() == [(kind, severity)]
    assert Notice.objects.get().details == operation.message


def test_what_somebody_canceled_is_not_told(toy, begin, control, operator):
    operation = begin()
    control(controls.cancel, operation, acting_user=operator)
    assert told() == []


def test_each_end_of_a_retried_operation_is_told(toy, begin, work, control, machines, operator):
    toy.failing = {("second", machines[0].address)}
    operation = begin()
    work()
    toy.failing = set()
    operation.refresh_from_db()
    control(controls.retry, operation, acting_user=operator)
    work()
    assert [kind for kind, _severity in told()] == ["operation.partial", "operation.succeeded"]


def test_a_lost_worker_is_told(toy, begin, work, lose):
    operation = begin()
    work(limit=1)
    lose(operation)
    assert told() == [("operation.worker_lost", "warning")]
    assert operation.name in Notice.objects.get().title


def test_a_step_that_waits_for_a_person_is_told_once(begin, work, lose, control):
    with toy_kind(idempotent=False):
        operation = begin()
        work(limit=1)
        lose(operation)
        control(recovery.maintain)
    assert sorted(told()) == [
        ("operation.failed", "critical"),
        ("operation.needs_person", "critical"),
    ]
    asked = Notice.objects.get(kind="operation.needs_person")
    assert "Look at the machines, then retry or skip." in asked.details
