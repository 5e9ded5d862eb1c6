"""A task whose operation asks something waits for the answer, and has not failed."""

from dataclasses import replace

import pytest

from beidou.base.errors import Conflict, Forbidden, InvalidInput
from beidou.base.models import AuditEntry, Notice
from beidou.overview.attention import needs
from machines.models import Machine
from operations.flows import advance, catalog, graph, live
from operations.flows import control as controls
from operations.flows.library import content as contents
from operations.flows.library import saving
from operations.flows.models import AutoOperationTask, WorkOrder
from operations.flows.start import Batches
from operations.kinds import base as kinds
from operations.models import Operation
from operations.services import control as operation_control
from tests import factories
from tests.operations.toy import toy_kind

pytestmark = pytest.mark.django_db
Status = AutoOperationTask.Status
SIZE = frozenset({"size"})


@pytest.fixture
def toy():
    with toy_kind(answers=SIZE) as script:
        yield script


def fresh(task):
    return AutoOperationTask.objects.get(pk=task.pk)


def row_of(task, key):
    return next(row for row in live.snapshot(task.pk).steps.values() if row["key"] == key)


def answer(control, user, **answers):
    operation = Operation.objects.get()
    control(operation_control.retry, operation, acting_user=user, answers=answers)


@pytest.fixture
def asked(toy, begin_task, work, machines):
    """A task whose only operation asks about all machines; a second step comes behind."""
    toy.asking = {("first", machine.address) for machine in machines}
    task = begin_task("Toy", "UncordonNodes")
    work()
    return task


def test_the_task_and_its_step_wait_and_say_for_what(asked, steps_of):
    assert steps_of(asked) == {"Toy": "running", "UncordonNodes": "waiting"}
    task = fresh(asked)
    assert task.status == Status.RUNNING
    assert task.waiting_for == "an answer: Toy"
    name = Operation.objects.get().name
    assert asked.steps.get(key="Toy").message == f"{name} asks: it is too small"


def test_no_machine_has_failed(asked):
    assert set(asked.machines.values_list("state", flat=True)) == {"waiting"}
    snapshot = live.snapshot(asked.pk)
    assert {row["state"] for row in snapshot.machines.values()} == {"waiting"}
    (part,) = row_of(asked, "Toy")["parts"]
    assert (part["status"], part["failed"], part["asks"]) == ("waiting", 0, True)


def test_it_goes_on_when_it_was_answered(toy, begin_task, work, machines, control, operator):
    toy.asking = {("first", machine.address) for machine in machines}
    task = begin_task("Toy", "Toy")
    work()
    toy.asking.clear()
    answer(control, operator, size=2)
    work()
    assert fresh(task).status == Status.SUCCEEDED
    assert fresh(task).waiting_for == ""


def test_what_it_waits_for_is_gone_as_soon_as_it_was_answered(asked, work, control, operator):
    answer(control, operator, size=2)
    work(limit=2)  # the dispatch and the task's look, not yet the step
    assert fresh(asked).waiting_for == ""
    assert asked.steps.get(key="Toy").message == ""


def test_an_answer_that_does_not_help_is_asked_again(asked, work, control, operator, steps_of):
    answer(control, operator, size=1)
    work()
    assert steps_of(asked)["Toy"] == "running"
    assert fresh(asked).waiting_for == "an answer: Toy"


def test_an_operation_that_fails_after_the_answer_fails_the_step(
    toy, asked, work, control, operator, steps_of, machines
):
    toy.failing = {("second", machine.address) for machine in machines}
    answer(control, operator, size=2)
    work()
    assert steps_of(asked)["Toy"] == "failed"
    assert fresh(asked).status == Status.FAILED


def test_where_one_machine_has_failed_otherwise_the_step_fails(
    toy, begin_task, work, machines, steps_of
):
    toy.asking = {("first", machine.address) for machine in machines[1:]}
    toy.failing = {("first", machines[0].address)}
    task = begin_task("Toy")
    work()
    assert steps_of(task) == {"Toy": "failed"}
    assert fresh(task).status == Status.FAILED


def test_a_machine_within_the_tolerated_share_drops_out_with_its_question(
    toy, begin_task, work, machines, steps_of
):
    toy.asking = {("first", machines[0].address)}
    task = begin_task("Toy")
    work()
    assert steps_of(task) == {"Toy": "partial"}
    said = "Waits for an answer (size): it is too small"
    assert task.machines.get(state="failed").message == said
    named = f"1 of 3 machines failed. Waiting for an answer (1): {machines[0].address}."
    assert (task.steps.get().message, fresh(task).message) == (named, named)


def test_a_machine_that_failed_otherwise_does_not_wait_for_an_answer(
    toy, begin_task, work, machines
):
    toy.asking = {("first", machines[0].address)}
    toy.failing = {("first", machines[1].address)}
    task = begin_task("Toy")
    work()
    said = dict(task.machines.filter(state="failed").values_list("address", "message"))
    assert said == {
        machines[0].address: "Waits for an answer (size): it is too small",
        machines[1].address: "it is broken",
    }
    named = f"2 of 3 machines failed. Waiting for an answer (1): {machines[0].address}."
    assert fresh(task).message == named


def test_beyond_the_tolerated_share_it_is_waited_for(
    toy, begin_task, work, machines, steps_of, control, operator
):
    toy.asking = {("first", machines[0].address)}
    task = begin_task("Toy", batches=Batches(max_failed_percent=0))
    work()
    assert steps_of(task) == {"Toy": "running"}
    answer(control, operator, size=2)
    work()
    assert fresh(task).status == Status.SUCCEEDED


def test_a_step_behind_which_the_task_goes_on_anyway_does_not_wait(
    toy, begin_task, work, machines, steps_of
):
    toy.asking = {("first", machine.address) for machine in machines}
    task = begin_task(replace(catalog.spec("Toy"), on_failure="continue"))
    work()
    assert steps_of(task) == {"Toy": "failed"}


def test_looking_again_changes_nothing_and_tells_nobody_twice(asked, control, steps_of):
    for _look in range(3):
        control(advance.sweep)
    assert steps_of(asked)["Toy"] == "running"
    (told,) = Notice.objects.filter(kind="task.asks")
    assert told.title == f"Task {asked.name} waits for an answer."
    assert told.details.endswith("asks: it is too small")


def test_what_somebody_else_has_to_approve_is_called_so(
    toy, begin_task, work, machines, monkeypatch
):
    monkeypatch.setitem(kinds.KINDS, "Toy", replace(kinds.get("Toy"), approvals=SIZE))
    toy.asking = {("first", machine.address) for machine in machines}
    task = begin_task("Toy")
    work()
    assert fresh(task).waiting_for == "an approval: Toy"
    assert "waits for an approval of its operation" in Notice.objects.get(kind="task.asks").title


def test_a_task_that_is_asked_can_be_canceled(asked, work, control, operator, steps_of):
    control(controls.cancel, asked, acting_user=operator)
    work()
    assert fresh(asked).status == Status.CANCELED
    assert steps_of(asked) == {"Toy": "canceled", "UncordonNodes": "canceled"}


def test_a_retry_after_the_cancel_does_the_operation_again(asked, work, control, operator):
    control(controls.cancel, asked, acting_user=operator)
    work()
    control(controls.retry, asked, acting_user=operator)
    work()
    assert fresh(asked).waiting_for == "an answer: Toy"
    assert Operation.objects.count() == 1


def test_the_task_above_says_for_what_the_one_below_waits(
    toy, begin_task, work, machines, admin, control, operator
):
    content = contents.read({"title": "inner", "steps": [{"key": "Toy", "step": "Toy"}]})
    saving.create(name="inner", content=content, acting_user=admin)
    toy.asking = {("first", machine.address) for machine in machines}
    task = begin_task(graph.Spec("below", "Task", "task", {"template": "inner"}))
    work()
    child = AutoOperationTask.objects.get(parent__task=task)
    assert fresh(task).waiting_for == f"{child.name}: an answer: Toy"
    answer(control, operator, size=2)
    work()
    assert fresh(task).status == Status.SUCCEEDED


def test_the_home_page_tells_it(asked, viewer):
    (need,) = [each for each in needs(viewer) if each.kind == "asking_task"]
    assert (need.text, need.detail) == (f"{asked.name} waits", "an answer: Toy")


def test_a_withdrawn_approval_is_asked_for_before_the_answer(
    toy, begin_task, work, machines, control, approver, steps_of
):
    toy.asking = {("first", machine.address) for machine in machines}
    task = begin_task("WorkOrder", "Toy")
    work()
    control(controls.approve, WorkOrder.objects.get(), acting_user=approver)
    work()
    assert fresh(task).waiting_for == "an answer: Toy"
    order = WorkOrder.objects.get(status="approved")
    control(controls.withdraw, order, acting_user=approver, reason="wait")
    work()
    assert fresh(task).waiting_for.startswith("an approval: ")


# --- where a step beside it has stopped the task --------------------------------------------------


@pytest.fixture
def beside(toy, begin_task, machines, monkeypatch):
    """``beside("one", …)``: steps at the same time on the same machines; in ``one`` a machine
    fails, in the others another asks, and neither is tolerated."""
    monkeypatch.setitem(kinds.KINDS, "Toy", replace(kinds.get("Toy"), holds=False))
    broken, small = ({("first", machine.address)} for machine in machines[:2])

    def during(run):
        is_one = run.operation.name.endswith("-one")
        toy.failing, toy.asking = (broken, set()) if is_one else (set(), small)

    def begin_it(*keys):
        toy.during = during
        made = catalog.spec("Toy")
        strict = replace(made, params={**made.params, "all_or_nothing": True})
        return begin_task(*(replace(strict, key=key) for key in keys))

    return begin_it


@pytest.mark.parametrize("keys", [("one", "two"), ("two", "one")])
def test_a_step_that_asks_waits_for_no_answer_once_the_task_has_stopped(
    keys, beside, work, steps_of
):
    task = beside(*keys)
    work()
    assert steps_of(task) == {"one": "failed", "two": "failed"}
    assert (fresh(task).status, fresh(task).waiting_for) == (Status.FAILED, "")


def test_its_question_is_answered_by_a_retry_of_the_task(beside, toy, work, control, operator):
    task = beside("one", "two")
    work()
    asked = toy.during

    def during(run):
        asked(run)
        toy.failing = set()

    toy.during = during
    control(controls.retry, task, acting_user=operator, answers={"size": 2}, step="two")
    work()
    assert fresh(task).status == Status.SUCCEEDED


def test_no_operation_of_a_task_that_has_stopped_is_done_again_while_others_run(
    toy, begin_task, work, control, machines, operator, monkeypatch, steps_of
):
    monkeypatch.setitem(kinds.KINDS, "Toy", replace(kinds.get("Toy"), holds=False))
    refused = []

    def during(run):
        is_one = run.operation.name.endswith("-one")
        toy.failing = {("first", each.address) for each in machines} if is_one else set()
        if run.step_name == "second":
            operation = Operation.objects.get(name__endswith="-one")
            with pytest.raises(Conflict, match="has failed: nothing further begins there"):
                control(operation_control.retry, operation, acting_user=operator)
            refused.append(operation.status)

    toy.during = during
    task = begin_task(*(replace(catalog.spec("Toy"), key=key) for key in ("one", "two")))
    work()
    assert refused == ["failed"]
    assert steps_of(task)["one"] == "failed"


# --- answers with the retry of the task -----------------------------------------------------------


def test_a_retry_of_the_task_answers_its_operation(asked, work, control, operator):
    control(controls.retry, asked, acting_user=operator, answers={"size": 7}, reason="more")
    assert Operation.objects.get().answers == {"size": 7}
    work(limit=4)
    assert fresh(asked).waiting_for == ""
    entry = AuditEntry.objects.get(verb="retry", object_type="operations.autooperationtask")
    assert entry.after == {"steps": ["Toy"], "answers": {"size": 7}}


def test_who_answers_does_not_carry_the_task_on(asked, work, control, operators):
    other = factories.make_user("other", teams=(operators,))
    control(controls.retry, asked, acting_user=other, answers={"size": 7})
    assert fresh(asked).acting_name == "operator"


def test_without_an_answer_it_looks_again(toy, asked, work, control, operator, steps_of):
    toy.asking.clear()
    control(controls.retry, asked, acting_user=operator)
    work()
    assert steps_of(asked)["Toy"] == "succeeded"


def test_a_wrong_answer_is_refused_and_the_task_waits_on(asked, control, operator, steps_of):
    with pytest.raises(InvalidInput, match="cannot change colour"):
        control(controls.retry, asked, acting_user=operator, answers={"colour": 1})
    assert steps_of(asked)["Toy"] == "running"
    assert fresh(asked).waiting_for == "an answer: Toy"


def test_nobody_approves_by_the_task_what_they_asked_for(
    asked, control, operator, approver, monkeypatch, cluster_a
):
    Machine.objects.update(cluster=cluster_a)  # theirs, too
    monkeypatch.setitem(kinds.KINDS, "Toy", replace(kinds.get("Toy"), approvals=SIZE))
    with pytest.raises(Forbidden):
        control(controls.retry, asked, acting_user=operator, answers={"size": 7})
    control(controls.retry, asked, acting_user=approver, answers={"size": 7})
    assert Operation.objects.get().answers == {"size": 7}


def test_an_approval_by_the_task_is_of_what_was_seen_of_the_operation(
    asked, api, approver, monkeypatch, cluster_a, operators
):
    Machine.objects.update(cluster=cluster_a)  # theirs, too
    approver.groups.add(operators)
    monkeypatch.setitem(kinds.KINDS, "Toy", replace(kinds.get("Toy"), approvals=SIZE))
    operation = Operation.objects.get()
    url, client = f"/api/v1/auto-operation-tasks/{asked.pk}/retry/", api(approver)
    approval = {"answers": {"size": 7}}
    refused = client.post(url, approval, format="json")
    assert (refused.status_code, list(refused.json()["fields"])) == (400, ["seen"])
    stale = client.post(url, {**approval, "seen": "0" * 64}, format="json")
    assert (stale.status_code, stale.json()["code"]) == (409, "changed_meanwhile")
    seen = client.get(f"/api/v1/operations/{operation.pk}/").json()["seen"]
    assert client.post(url, {**approval, "seen": seen}, format="json").status_code == 202


def test_a_step_that_asks_nothing_takes_no_answer(asked, control, operator):
    with pytest.raises(InvalidInput, match="no step “UncordonNodes” that could take answers"):
        control(
            controls.retry, asked, acting_user=operator, answers={"size": 7}, step="UncordonNodes"
        )


@pytest.fixture
def dropped(toy, begin_task, work, machines):
    """A task that ended without one of its machines, which asked something."""
    toy.asking = {("first", machines[0].address)}
    task = begin_task("Toy")
    work()
    assert fresh(task).status == Status.PARTIAL
    return task


def test_a_retry_after_the_end_brings_the_answer_when_its_turn_comes(
    dropped, work, control, operator
):
    control(controls.retry, dropped, acting_user=operator, answers={"size": 7})
    work()
    assert fresh(dropped).status == Status.SUCCEEDED
    assert Operation.objects.get().answers == {"size": 7}
    assert not {"answers", "answerers"} & dropped.steps.get().progress.keys()


def test_after_the_end_nothing_is_approved_that_nobody_has_seen(
    dropped, control, approver, operators, monkeypatch
):
    approver.groups.add(operators)
    monkeypatch.setitem(kinds.KINDS, "Toy", replace(kinds.get("Toy"), approvals=SIZE))
    with pytest.raises(InvalidInput, match="is approved on the page of"):
        control(controls.retry, dropped, acting_user=approver, answers={"size": 7})
    assert fresh(dropped).status == Status.PARTIAL


def test_the_page_and_the_api_name_what_waits_for_which_answer_after_the_end(
    dropped, api, operator, machines
):
    said = "Waits for an answer (size): it is too small"
    rows = live.snapshot(dropped.pk).machines.values()
    assert {row["address"]: row["message"] for row in rows}[machines[0].address] == said
    answer = api(operator).get(f"/api/v1/auto-operation-tasks/{dropped.pk}/").json()
    assert said in {row["message"] for row in answer["machines"]}
    assert answer["message"].endswith(f"Waiting for an answer (1): {machines[0].address}.")


def test_nothing_is_left_of_the_question_once_it_was_answered(dropped, work, control, operator):
    control(controls.retry, dropped, acting_user=operator, answers={"size": 7})
    work()
    assert fresh(dropped).message == dropped.steps.get().message == ""
    assert set(dropped.machines.values_list("state", "message")) == {("succeeded", "")}


def test_a_retry_with_answers_takes_those_machines_alone_that_asked(
    toy, begin_task, work, machines, control, operator
):
    toy.asking = {("first", machines[0].address)}
    toy.failing = {("first", machines[1].address)}
    task = begin_task("Toy")
    work()
    toy.failing.clear()
    toy.calls.clear()
    control(controls.retry, fresh(task), acting_user=operator, answers={"size": 7})
    work()
    assert {tuple(addresses) for _step, addresses in toy.calls} == {(machines[0].address,)}
    assert task.machines.get(state="failed").address == machines[1].address
    assert fresh(task).message == "1 of 3 machines failed."
    control(controls.retry, fresh(task), acting_user=operator)
    work()
    assert fresh(task).status == Status.SUCCEEDED


def test_an_answer_to_which_a_retry_did_not_come_is_forgotten(dropped, work, control, operator):
    control(controls.retry, dropped, acting_user=operator, answers={"size": 7})
    control(controls.cancel, fresh(dropped), acting_user=operator)
    work()
    control(controls.retry, fresh(dropped), acting_user=operator)
    work()
    assert Operation.objects.get().answers == {}
    assert fresh(dropped).status == Status.PARTIAL


def test_a_wrong_answer_after_the_end_retries_nothing(dropped, control, operator):
    with pytest.raises(InvalidInput, match="size"):
        control(controls.retry, dropped, acting_user=operator, answers={"size": "big"})
    assert fresh(dropped).status == Status.PARTIAL


def test_where_several_steps_take_answers_one_is_named(
    toy, begin_task, work, machines, control, operator
):
    asking = {"one": machines[0].address, "two": machines[1].address}

    def ask(run):
        toy.asking = {("first", asking[run.operation.name.rsplit("-", 1)[1]])}

    toy.during = ask
    one = replace(catalog.spec("Toy"), key="one")
    task = begin_task(one, replace(one, key="two", needs=("one",)))
    work()
    with pytest.raises(InvalidInput, match="Name the step that the answers are for: one, two"):
        control(controls.retry, task, acting_user=operator, answers={"size": 7})
    control(controls.retry, task, acting_user=operator, answers={"size": 7}, step="two")
    work()
    rows = dict(Operation.objects.values_list("name", "answers"))
    assert {name.rsplit("-", 1)[1]: row for name, row in rows.items()} == {
        "one": {}, "two": {"size": 7},
    }  # fmt: skip


def test_where_no_operation_takes_answers_none_is_taken(
    begin_task, work, control, operator, monkeypatch, dropped
):
    monkeypatch.setitem(kinds.KINDS, "Toy", replace(kinds.get("Toy"), answers=frozenset()))
    with pytest.raises(InvalidInput, match="No operation that is done again takes answers") as told:
        control(controls.retry, dropped, acting_user=operator, answers={"size": 7})
    assert set(told.value.fields) == {"answers"}


def test_the_api_takes_answers_and_offers_the_retry(asked, api, operator, work):
    url = f"/api/v1/auto-operation-tasks/{asked.pk}/"
    assert api(operator).get(url).json()["actions"] == ["pause", "cancel", "retry"]
    wish = {"step": "Toy", "answers": {"size": 7}}
    assert api(operator).post(f"{url}retry/", wish).status_code == 202
    assert Operation.objects.get().answers == {"size": 7}
    assert api(operator).post(f"{url}retry/", {"answer": {}}).status_code == 400
