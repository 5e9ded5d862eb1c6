"""What somebody is told who begins an operation with machines that a task works with."""

from dataclasses import replace

import pytest

from operations.kinds import base as kinds
from operations.services import start

pytestmark = pytest.mark.django_db


def warnings(cluster, machines, user) -> dict[str, list[str]]:
    plan = start.plan_operation(
        kind="Toy", cluster=cluster, machines=machines, params={}, acting_user=user
    )
    return {machine.address: texts for machine, texts in plan.ready_with_remarks if texts}


def test_a_plan_says_which_machines_a_task_works_with(begin_task, cluster_a, machines, operator):
    task = begin_task("WorkOrder", "Toy", machines=machines[:1])
    said = warnings(cluster_a, machines, operator)
    assert said == {machines[0].address: [f"task {task.name} works with it, and is not over"]}


def test_a_task_that_is_over_is_not_told(begin_task, cluster_a, machines, operator, work):
    begin_task("Toy", machines=machines[:1])
    work()
    assert warnings(cluster_a, machines, operator) == {}


def test_what_holds_no_machine_says_nothing_of_tasks(
    begin_task, cluster_a, machines, operator, monkeypatch
):
    begin_task("WorkOrder", "Toy", machines=machines[:1])
    monkeypatch.setitem(kinds.KINDS, "Toy", replace(kinds.get("Toy"), holds=False))
    assert warnings(cluster_a, machines, operator) == {}
