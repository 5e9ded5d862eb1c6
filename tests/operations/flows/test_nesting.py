"""Steps that are tasks of their own."""

from dataclasses import replace
from typing import ClassVar

import pytest
from django.urls import reverse

from beidou.base.errors import Conflict, Forbidden, InvalidInput
from clusters.models import Cluster
from machines.models import Machine
from operations.flows import advance, catalog, graph, live, nesting, start
from operations.flows import control as controls
from operations.flows.library import content as contents
from operations.flows.library import finding, saving
from operations.flows.models import AutoOperationTask, TaskMachine, WorkOrder
from operations.kinds import base as kinds
from operations.models import ClusterSettings, Operation
from tests.operations.toy import ToyParams

pytestmark = pytest.mark.django_db


@pytest.fixture
def save(toy, admin):
    """``save("inner", "Toy", "WorkOrder")``: a template of these steps, one after the other."""

    def write(name, *steps, **values):
        specs = graph.in_order(catalog.spec(step) for step in steps if isinstance(step, str))
        made = [
            {"key": each.key, "step": each.name, "needs": list(each.needs)} for each in specs
        ] or list(steps)
        content = {"title": name, "steps": made, **values}
        return saving.create(name=name, content=contents.read(content), acting_user=admin)

    return write


def below(template, **params):
    return {"key": "below", "step": "Task", "params": {"template": template, **params}}


def inner(template, **params):
    """The spec of a step in a graph."""
    return graph.Spec("below", "Task", "task", {"template": template, **params})


def child_of(task):
    return AutoOperationTask.objects.get(parent__task=task)


def status(task):
    task.refresh_from_db()
    return task.status


# --- what is refused --------------------------------------------------------------------------


def refused(save_it):
    with pytest.raises(InvalidInput) as caught:
        save_it()
    return caught.value.fields


def save_version(row, *steps, user):
    content = contents.read({"title": row.name, "steps": list(steps)})
    saving.save_version(row, content=content, base=row.version, acting_user=user)


def test_a_template_that_contains_itself_is_refused(save, admin):
    row = save("one", "Toy")
    fields = refused(lambda: save_version(row, below("one"), user=admin))
    assert list(fields) == ["steps[0].params.template"]
    assert "one → one" in fields["steps[0].params.template"]


def test_one_that_contains_itself_through_another_is_refused(save, admin):
    one = save("one", "Toy")
    save("two", below("one"))
    fields = refused(lambda: save_version(one, below("two"), user=admin))
    assert "one → two → one" in fields["steps[0].params.template"]


def test_a_circle_that_was_stored_all_the_same_is_never_begun(save, begin_task):
    one = save("one", "Toy")
    save("two", below("one"))
    one.versions.update(content={"title": "one", "steps": [below("two")]})
    with pytest.raises(InvalidInput) as caught:
        begin_task(inner("two"))
    assert "contain itself" in caught.value.message
    assert not AutoOperationTask.objects.exists()


def test_too_deep_is_refused(save):
    save("d0", "Toy")
    for depth in (1, 2, 3):
        save(f"d{depth}", below(f"d{depth - 1}"))
    assert "At most 3" in next(iter(refused(lambda: save("d4", below("d3"))).values()))


@pytest.mark.parametrize(
    "params",
    [
        {"template": "nothing"},
        {"template": "ReplaceMachine"},
        {"template": "inner", "version": 9},
        {"template": "inner", "version": -1},
        {"template": ""},
        {"template": "inner", "steps": []},
        {},
    ],
)
def test_a_step_that_cannot_be_is_refused(params, save):
    save("inner", "Toy")
    step = {"key": "below", "step": "Task", "params": params}
    fields = refused(lambda: save("outer", step))
    assert all(name.startswith("steps[0].params.") for name in fields)


def test_where_machines_are_replaced_no_step_is_a_task(save):
    save("inner", "Toy")
    assert refused(lambda: save("outer", below("inner"), replaces=True))


def test_a_withdrawn_template_is_no_step(save, admin, begin_task):
    row = save("inner", "Toy")
    saving.offer(row, is_offered=False, acting_user=admin)
    assert refused(lambda: save("outer", below("inner")))
    with pytest.raises(InvalidInput) as caught:
        begin_task(inner("inner"))
    assert list(caught.value.fields) == ["steps[0].params.template"]


def test_what_the_template_does_not_let_be_chosen_is_refused(save, begin_task):
    save("inner", "Toy")
    with pytest.raises(InvalidInput):
        begin_task(inner("inner", params={"Toy": {"size": 3}}))


@pytest.mark.parametrize(
    "given",
    [
        {"go": {"size": "x"}},
        {"go": {"odd": 1}},
        {"other": {}},
        {"go": "x"},
        {},  # and size is needed
    ],
)
def test_what_could_never_begin_is_not_saved(given, save):
    wait = {"key": "go", "step": "HealthGate", "settable": ["machines"]}
    save("gate", {**wait, "params": {"machines": "x"}} if not given else wait)
    step = below("gate", params=given)
    assert list(refused(lambda: save("outer", step))) == ["steps[0].params.params"]


def test_parameters_of_a_ready_made_template_below_are_looked_at(save):
    step = below("ScaleDown", params={"odd": 1})
    assert list(refused(lambda: save("outer", step))) == ["steps[0].params.params"]


def test_what_is_chosen_later_is_asked_for_later(save):
    save("inner", {"key": "go", "step": "Task", "settable": ["template"]})
    assert refused(lambda: save("outer", below("inner")))
    save("outer", {**below("inner"), "settable": ["params"]})


def test_not_even_one_that_is_chosen_later_where_machines_are_replaced(save):
    step = {"key": "below", "step": "Task", "settable": ["template"]}
    assert refused(lambda: save("outer", step, replaces=True))


@pytest.mark.parametrize("params", [{"version": "x"}, {"version": 1.5}, {"params": "x"}])
def test_a_step_of_a_graph_with_rubbish_is_refused(params, save, begin_task):
    save("inner", "Toy")
    with pytest.raises(InvalidInput) as caught:
        begin_task(inner("inner", **params))
    assert list(caught.value.fields) == [f"steps[0].params.{next(iter(params))}"]


def test_a_tree_is_counted_while_it_is_looked_at(save, django_assert_max_num_queries):
    def many(name):
        return [{**below(name), "key": f"k{number}"} for number in range(50)]

    save("d", "Toy")
    save("c", *many("d"))
    with django_assert_max_num_queries(150):
        assert "more than 200" in next(iter(refused(lambda: save("b", *many("c"))).values()))


def test_a_tree_that_is_too_large_is_not_read_to_its_end(save, begin_task, monkeypatch):
    rows = [{**below("d"), "key": f"k{number}"} for number in range(50)]
    save("d", "Toy")
    save("c", *rows)
    steps = [graph.Spec(f"k{number}", "Task", "task", {"template": "c"}) for number in range(50)]
    found, template = [], finding.template
    monkeypatch.setattr(finding, "template", lambda *args: found.append(1) or template(*args))
    with pytest.raises(InvalidInput, match="more than 200"):
        begin_task(*steps)
    assert len(found) < 250


def test_rights_are_asked_for_every_operation_below(save, begin_task, toy):
    step = {"key": "x", "step": "DeleteCluster", "params": {"confirm": "cluster-a"}}
    save("danger", step)
    with pytest.raises(Forbidden):
        begin_task(inner("danger"))


def test_a_template_begins_with_the_first_operation_below_it(save):
    save("ask", "WorkOrder")
    save("outer", below("ask"), {"key": "go", "step": "Toy", "needs": ["below"]})
    assert finding.template("outer").begins_with == "Toy"


# --- how it goes ------------------------------------------------------------------------------


def test_it_is_a_task_of_its_own_whose_end_is_the_steps(save, begin_task, work, steps_of):
    save("inner", "Toy", "Toy")
    task = begin_task(inner("inner"))
    work()
    child = child_of(task)
    assert (child.template, child.template_version) == ("inner", 1)
    assert (status(child), status(task)) == ("succeeded", "succeeded")
    assert steps_of(child) == {"Toy": "succeeded", "Toy-2": "succeeded"}
    assert Operation.objects.filter(task_part__step__task=child).count() == 2


def test_the_machines_are_held_by_the_task_above_alone(save, begin_task, work):
    save("inner", "WorkOrder")
    task = begin_task(inner("inner"))
    work()
    assert not child_of(task).machines.filter(holds_machine=True).exists()
    assert task.machines.filter(holds_machine=True).count() == 3


def test_a_template_that_is_saved_meanwhile_changes_nothing(
    save, begin_task, work, approver, control, admin, steps_of
):
    row = save("inner", "Toy")
    task = begin_task(catalog.spec("WorkOrder"), graph.Spec(
        "below", "Task", "task", {"template": "inner"}, ("WorkOrder",)))  # fmt: skip
    work()
    save_version(row, {"key": "new", "step": "Wait"}, user=admin)
    control(controls.approve, WorkOrder.objects.get(), acting_user=approver)
    work()
    assert steps_of(child_of(task)) == {"Toy": "succeeded"}


def test_a_failure_below_is_one_above_and_a_retry_goes_on_there(
    save, begin_task, work, toy, machines, control, operator, steps_of
):
    save("inner", "Toy", "Toy")
    toy.failing = {("second", machine.address) for machine in machines}
    task = begin_task(inner("inner"))
    work()
    child = child_of(task)
    assert (status(child), status(task)) == ("failed", "failed")
    toy.failing = set()
    with pytest.raises(Conflict) as caught:
        control(controls.retry, child, acting_user=operator)
    assert task.name in caught.value.message
    control(controls.retry, task, acting_user=operator)
    work()
    assert (status(child), status(task)) == ("succeeded", "succeeded")
    assert AutoOperationTask.objects.count() == 2
    assert Operation.objects.filter(task_part__step__task=child).count() == 2


def test_machines_that_fail_below_have_failed_above(save, begin_task, work, toy, machines):
    save("inner", "Toy")
    toy.failing = {("second", machines[0].address)}
    task = begin_task(inner("inner"))
    work()
    assert status(task) == "partial"
    assert task.machines.get(state=TaskMachine.State.FAILED).address == machines[0].address


def test_a_failed_step_below_is_skipped_and_the_whole_goes_on(
    save, begin_task, work, toy, machines, control, operator, steps_of
):
    save("inner", "Toy", "Wait")
    toy.failing = {("second", machine.address) for machine in machines}
    task = begin_task(inner("inner"))
    work()
    control(controls.skip, child_of(task), acting_user=operator, step="Toy", reason="done by hand")
    work()
    assert steps_of(child_of(task)) == {"Toy": "skipped", "Wait": "running"}
    assert status(task) == "running"


def test_pause_resume_and_cancel_are_handed_down(save, begin_task, work, control, operator):
    save("inner", "WorkOrder", "Toy")
    save("middle", below("inner"))
    task = begin_task(inner("middle"))
    work()
    middle = child_of(task)
    lowest = child_of(middle)
    control(controls.pause, task, acting_user=operator)
    assert (status(middle), status(lowest)) == ("paused", "paused")
    with pytest.raises(Conflict):
        control(controls.resume, lowest, acting_user=operator)
    control(controls.resume, task, acting_user=operator)
    assert (status(middle), status(lowest)) == ("running", "running")
    control(controls.cancel, task, acting_user=operator)
    work()
    assert {status(each) for each in (task, middle, lowest)} == {"canceled"}


def test_what_was_canceled_goes_on_below(save, begin_task, work, control, operator, approver):
    save("inner", "WorkOrder", "Toy")
    task = begin_task(inner("inner"))
    work()
    control(controls.cancel, task, acting_user=operator)
    work()
    control(controls.retry, task, acting_user=operator)
    work()
    order = WorkOrder.objects.get(status="open")
    control(controls.approve, order, acting_user=approver)
    work()
    assert status(task) == "succeeded"


def test_canceled_below_it_is_canceled_above(save, begin_task, work, control, operator):
    save("inner", "WorkOrder", "Toy")
    task = begin_task(inner("inner"))
    work()
    control(controls.cancel, child_of(task), acting_user=operator, reason="no")
    work()
    assert status(task) == "failed"


def test_a_word_that_was_lost_is_found_by_the_sweeper(save, begin_task, work):
    save("inner", "Wait")
    task = begin_task(inner("inner"))
    work()
    child = child_of(task)
    AutoOperationTask.objects.filter(pk=child.pk).update(status="succeeded")
    advance.sweep()
    assert status(task) == "succeeded"


def test_a_task_below_has_the_priority_of_the_one_above(save, begin_task, work):
    save("inner", "Toy")
    task = begin_task(inner("inner"), priority="low")
    work()
    assert child_of(task).priority == "low"
    assert Operation.objects.get().priority == "low"


# --- approvals --------------------------------------------------------------------------------


@pytest.fixture
def asked(save, begin_task, work):
    """An approval, and behind it a task that waits before it changes anything."""
    save("inner", "Wait", "Toy")
    task = begin_task(
        catalog.spec("WorkOrder"),
        graph.Spec("below", "Task", "task", {"template": "inner"}, ("WorkOrder",)),
    )
    work()
    return task


def test_an_approval_is_about_what_is_below_too(asked):
    plan = WorkOrder.objects.get().plan
    (step,) = (each for each in plan["steps"] if each["key"] == "below")
    assert [each["name"] for each in step["params"]["steps"]] == ["Wait", "Toy"]
    row = next(each for each in live.snapshot(asked.pk).steps.values() if each["orders"])
    words = {each["label"]: each["text"] for each in row["orders"][0]["words"]}
    assert "inner" in words["Task inner"]


class Joining(ToyParams):
    """As of a control plane that joins: nobody chooses its version."""

    kubernetes_version: ClassVar[str] = ""


def test_it_is_about_the_version_that_something_below_takes_too(
    save, begin_task, work, monkeypatch
):
    monkeypatch.setitem(kinds.KINDS, "Toy", replace(kinds.get("Toy"), params=Joining))
    save("inner", "Toy")
    begin_task(
        catalog.spec("WorkOrder"),
        graph.Spec("below", "Task", "task", {"template": "inner"}, ("WorkOrder",)),
    )
    Cluster.objects.update(version="v1.36.0")
    work()
    assert WorkOrder.objects.get().plan["version"] == "v1.36.0"


def test_what_has_changed_above_is_asked_again_before_anything_goes_on_below(
    asked, cluster_a, work, control, approver, operator
):
    control(controls.approve, WorkOrder.objects.get(), acting_user=approver)
    work()
    child = child_of(asked)
    ClusterSettings.objects.create(cluster=cluster_a, policy={"min_cpus": 64})
    control(controls.skip, child, acting_user=operator, step="Wait", reason="no need")
    work()
    assert not Operation.objects.exists()
    again = WorkOrder.objects.get(status="open")
    assert again.step.task_id == asked.pk
    control(controls.approve, again, acting_user=approver)
    work()
    assert Operation.objects.filter(task_part__step__task=child).count() == 1
    assert status(asked) == "succeeded"


def test_withdrawn_above_nothing_begins_below(asked, work, control, approver, operator):
    order = WorkOrder.objects.get()
    control(controls.approve, order, acting_user=approver)
    work()
    control(controls.withdraw, order, acting_user=approver, reason="wait")
    work()
    control(controls.skip, child_of(asked), acting_user=operator, step="Wait", reason="no need")
    work()
    assert not Operation.objects.exists()


def test_a_rejection_ends_what_is_below(asked, work, control, approver, operator):
    order = WorkOrder.objects.get()
    control(controls.approve, order, acting_user=approver)
    work()
    control(controls.withdraw, order, acting_user=approver, reason="wait")
    work()
    again = WorkOrder.objects.get(status="open")
    control(controls.reject, again, acting_user=approver, reason="no")
    work()
    assert (status(asked), status(child_of(asked))) == ("failed", "canceled")


# --- pages and API ----------------------------------------------------------------------------


def test_pages_lead_down_and_up(save, begin_task, work, browser, viewer, api):
    save("inner", "WorkOrder")
    task = begin_task(inner("inner"))
    work()
    child = child_of(task)
    (step,) = live.snapshot(task.pk).steps.values()
    address = reverse("admin:operations_autooperationtask_change", args=[child.pk])
    assert (step["parts"][0]["url"], step["parts"][0]["status"]) == (address, "running")
    text = browser(viewer).get(address).content.decode()
    assert reverse("admin:operations_autooperationtask_change", args=[task.pk]) in text
    client = api(viewer)
    row = client.get(f"/api/v1/auto-operation-tasks/{task.pk}/").json()
    assert row["steps"][0]["tasks"] == [child.pk]
    assert client.get(f"/api/v1/auto-operation-tasks/{child.pk}/").json()["parent_task"] == task.pk
    assert row["waiting_for"].startswith(child.name)


def test_machines_that_are_through_below_are_through(save, begin_task, work):
    save("inner", "Toy")
    task = begin_task(inner("inner"))
    work()
    assert live.snapshot(task.pk).task["succeeded"] == 3


def test_a_ready_made_template_can_be_a_step(save, cluster_a):
    save("outer", below("ScaleDown"))
    found = nesting.expand(start.specs_of("outer"))
    names = [each["name"] for each in found[0].params["steps"]]
    assert names == ["ScaleDownPreCheck", "ScaleDownWorkprocess", "ScaleDown"]
    assert Machine.objects.count() == 0
