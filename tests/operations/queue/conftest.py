"""Operations that wait, made in bulk."""

import itertools
from datetime import timedelta

import pytest
from django.utils import timezone

from operations.kinds import base as kinds
from operations.models import MachineStep, Operation, OperationMachine, Step
from tests import factories

_numbers = itertools.count(1)


@pytest.fixture
def queued(cluster_a, admin):
    """Makes a waiting operation; ``ago`` is how long it has waited."""

    def make(name: str = "", *, ago: timedelta = timedelta(), **values) -> Operation:
        operation = Operation.objects.create(
            **{
                "name": name or f"queued-{next(_numbers)}",
                "kind": "Toy",
                "cluster": cluster_a,
                "mutating": kinds.KINDS["Toy"].mutating if "Toy" in kinds.KINDS else True,
                "queued_at": timezone.now() - ago,
                "ready_at": timezone.now() - ago,
                "requested_by": admin,
                "requested_by_name": admin.get_username(),
                **values,
            }
        )
        step = Step.objects.create(operation=operation, position=1, name="first")
        member = OperationMachine.objects.create(
            operation=operation, machine=factories.make_machine(), address="10.9.9.9"
        )
        MachineStep.objects.create(step=step, machine=member)
        return operation

    return make


def fresh(operation: Operation) -> Operation:
    return Operation.objects.get(pk=operation.pk)


def running() -> list[str]:
    """Names, in the order in which they had their turn."""
    rows = Operation.objects.filter(status=Operation.Status.RUNNING).order_by("began_at", "pk")
    return list(rows.values_list("name", flat=True))


def end(name: str) -> None:
    """Give its slots back, as the end of an operation does."""
    Operation.objects.filter(name=name).update(
        status=Operation.Status.SUCCEEDED, **Operation.NO_SLOTS
    )
