"""Gates: what must be true before a task goes on."""

import json
from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from django.utils import timezone
from django_q.models import OrmQ

from beidou.base import tasks
from beidou.base.errors import InvalidInput
from clusters.models import Cluster, Node
from machines.models import Machine
from operations.flows import advance, catalog, looking
from operations.flows import control as controls
from operations.flows.models import AutoOperationTask, TaskStep
from operations.kinds import base as kinds
from operations.kinds import health_check
from operations.models import Operation
from operations.outside.models import SiteSystem
from tests import factories
from tests.fakes.receivers import web_receiver

pytestmark = pytest.mark.django_db
Status = AutoOperationTask.Status


def fresh(task):
    return AutoOperationTask.objects.get(pk=task.pk)


def gate_of(task):
    return task.steps.get(kind="gate")


def step(name, key="gate", **params):
    return replace(catalog.spec(name, params), key=key)


def behind(**values):
    return replace(catalog.spec("Toy"), key="go", needs=("gate",), **values)


@pytest.fixture
def later(control):
    """Time passes until the gate is due, and what follows is done."""

    def pass_time(work=None):
        TaskStep.objects.filter(kind="gate").update(due_at=timezone.now() - timedelta(seconds=1))
        control(advance.sweep)
        if work is not None:
            work()

    return pass_time


def out_of_time(task):
    past = timezone.now() - timedelta(seconds=1)
    row = gate_of(task)
    row.progress = {**row.progress, "until": past.isoformat()}
    row.due_at = past
    row.save()


# --- Prometheus -----------------------------------------------------------------------------------


@pytest.fixture
def prometheus(settings, cluster_a):
    """Answers ``values``, one sample each."""
    settings.WEBHOOK_ALLOW_HTTP = settings.WEBHOOK_ALLOW_LOCAL = True
    with web_receiver() as receiver:
        url = receiver.url.removesuffix("/hook")
        SiteSystem.objects.create(
            cluster=cluster_a, purpose="prometheus", url=f"{url}/prom/", secret="token-1"
        )
        yield receiver


def values(receiver, *numbers):
    result = [{"metric": {"n": str(i)}, "value": [0, v]} for i, v in enumerate(numbers)]
    data = {"resultType": "vector", "result": result}
    receiver.answer = json.dumps({"status": "success", "data": data}).encode()


UP = {"query": "up == 1", "comparison": ">=", "value": 1}


def test_a_gate_that_holds_lets_the_next_step_begin(prometheus, begin_task, work, steps_of):
    values(prometheus, "1", "1")
    task = begin_task(step("PrometheusGate", **UP), behind())
    work()
    assert steps_of(task) == {"gate": "succeeded", "go": "succeeded"}
    assert gate_of(task).message == "2 of 2 values are >= 1, for example 1."


def test_it_is_asked_with_the_token_for_just_this_query(prometheus, begin_task, work):
    values(prometheus, "1")
    begin_task(step("PrometheusGate", **UP))
    work()
    (request,) = prometheus.requests
    address = urlsplit(request.path)
    assert address.path == "/prom/api/v1/query"
    assert parse_qs(address.query) == {"query": ["up == 1"]}
    assert request.headers["Authorization"] == "Bearer token-1"


def test_what_does_not_hold_is_looked_at_again_and_shown(
    prometheus, begin_task, work, steps_of, later
):
    values(prometheus, "1", "0")
    task = begin_task(step("PrometheusGate", **UP), behind())
    work()
    assert steps_of(task) == {"gate": "running", "go": "waiting"}
    assert gate_of(task).message == "1 of 2 values are >= 1, for example 0."
    values(prometheus, "1", "1")
    later(work)
    assert steps_of(task)["gate"] == "succeeded"


def test_one_value_is_enough_where_any_may_match(prometheus, begin_task, work, steps_of):
    values(prometheus, "0", "1")
    task = begin_task(step("PrometheusGate", match="any", **UP))
    work()
    assert steps_of(task)["gate"] == "succeeded"


@pytest.mark.parametrize("numbers", [(), ("NaN",)])
def test_no_data_is_never_true_and_is_called_so(
    numbers, prometheus, begin_task, work, steps_of, later
):
    values(prometheus, *numbers)
    task = begin_task(step("PrometheusGate", **{**UP, "comparison": "!="}), behind())
    work()
    assert gate_of(task).message == "Prometheus has no data for the query."
    out_of_time(task)
    later(work)
    assert steps_of(task) == {"gate": "failed", "go": "waiting"}
    assert gate_of(task).message == (
        "It did not hold within 30 minutes. Prometheus has no data for the query."
    )


def test_several_looks_in_a_row_have_to_hold(prometheus, begin_task, work, steps_of, later):
    values(prometheus, "1")
    task = begin_task(step("PrometheusGate", times=2, **UP))
    work()
    values(prometheus, "0")
    later(work)
    values(prometheus, "1")
    later(work)
    assert steps_of(task)["gate"] == "running"
    later(work)
    assert steps_of(task)["gate"] == "succeeded"


def test_one_question_counts_once_however_often_it_is_delivered(prometheus, begin_task, work):
    values(prometheus, "1")
    task = begin_task(step("PrometheusGate", times=3, **UP))
    work()
    looking.look_outside(gate_of(task).pk)
    looking.look_outside(gate_of(task).pk)
    assert gate_of(task).progress["good"] == 1
    assert len(prometheus.requests) == 1


def test_of_two_workers_that_look_at_once_one_counts(prometheus, begin_task, work, monkeypatch):
    values(prometheus, "1")
    task = begin_task(step("PrometheusGate", times=3, **UP))
    work(limit=1)
    asked = looking._ask

    def and_another_is_faster(row, params):
        monkeypatch.setattr(looking, "_ask", asked)
        looking.look_outside(row.pk)
        return asked(row, params)

    monkeypatch.setattr(looking, "_ask", and_another_is_faster)
    looking.look_outside(gate_of(task).pk)
    assert len(prometheus.requests) == 2
    assert gate_of(task).progress["good"] == 1


def test_a_prometheus_that_is_away_is_asked_again(prometheus, begin_task, work, steps_of, later):
    prometheus.status = 503
    task = begin_task(step("PrometheusGate", **UP))
    work()
    assert steps_of(task)["gate"] == "running"
    assert "answered 503" in gate_of(task).message
    prometheus.status = 200
    values(prometheus, "1")
    later(work)
    assert steps_of(task)["gate"] == "succeeded"


def test_a_query_that_prometheus_refuses_fails_the_step_at_once(
    prometheus, begin_task, work, steps_of
):
    prometheus.status, prometheus.answer = 400, b"parse error"
    task = begin_task(step("PrometheusGate", **UP))
    work()
    assert steps_of(task)["gate"] == "failed"
    assert "parse error" in fresh(task).message


@pytest.mark.parametrize("answer", [b"nonsense", b'{"data": {"resultType": "matrix"}}', b"[]"])
def test_an_answer_that_is_no_vector_fails_the_step(answer, prometheus, begin_task, work, steps_of):
    prometheus.answer = answer
    task = begin_task(step("PrometheusGate", **UP))
    work()
    assert steps_of(task)["gate"] == "failed"
    assert "no vector and no number" in gate_of(task).message


def test_a_scalar_is_one_value(prometheus, begin_task, work, steps_of):
    data = {"resultType": "scalar", "result": [0, "1"]}
    prometheus.answer = json.dumps({"status": "success", "data": data}).encode()
    task = begin_task(step("PrometheusGate", **UP))
    work()
    assert steps_of(task)["gate"] == "succeeded"


def test_a_look_that_was_lost_with_its_worker_is_taken_again(
    prometheus, begin_task, work, steps_of, later
):
    values(prometheus, "1")
    task = begin_task(step("PrometheusGate", **UP))
    work(limit=1)
    OrmQ.objects.all().delete()
    later(work)
    assert steps_of(task)["gate"] == "succeeded"


def test_a_look_waits_for_no_worker(prometheus, begin_task, work):
    begin_task(step("PrometheusGate", **UP))
    work(limit=1)
    assert OrmQ.objects.get().key == tasks.OUTSIDE


def test_a_look_that_still_waits_in_the_queue_is_not_queued_again(
    prometheus, begin_task, work, later
):
    begin_task(step("PrometheusGate", **UP))
    work(limit=1)
    later()
    later()
    assert OrmQ.objects.filter(key=tasks.OUTSIDE).count() == 1


def test_a_look_of_an_earlier_run_of_the_step_changes_nothing(
    prometheus, begin_task, work, monkeypatch
):
    values(prometheus, "1")
    task = begin_task(step("PrometheusGate", **UP))
    work(limit=1)
    asked = looking._ask

    def and_begun_anew(row, params):
        found = asked(row, params)
        TaskStep.objects.filter(pk=row.pk).update(started_at=timezone.now())
        return found

    monkeypatch.setattr(looking, "_ask", and_begun_anew)
    looking.look_outside(gate_of(task).pk)
    assert gate_of(task).progress["good"] == 0


def test_a_retry_waits_its_whole_time_again(
    prometheus, begin_task, work, steps_of, later, control, operator
):
    values(prometheus, "0")
    task = begin_task(step("PrometheusGate", **UP))
    work()
    out_of_time(task)
    later(work)
    assert steps_of(task)["gate"] == "failed"
    values(prometheus, "1")
    control(controls.retry, task, acting_user=operator)
    work()
    assert steps_of(task)["gate"] == "succeeded"


def test_a_gate_can_be_passed_over_with_a_reason(
    prometheus, begin_task, work, steps_of, control, operator
):
    values(prometheus, "0")
    task = begin_task(step("PrometheusGate", **UP), behind())
    work()
    control(controls.skip, task, acting_user=operator, step="gate", reason="known alarm")
    work()
    assert steps_of(task) == {"gate": "skipped", "go": "succeeded"}


def test_a_cancel_ends_a_gate(prometheus, begin_task, work, steps_of, control, operator):
    values(prometheus, "0")
    task = begin_task(step("PrometheusGate", **UP))
    work()
    control(controls.cancel, task, acting_user=operator)
    work()
    assert steps_of(task)["gate"] == "canceled"


def test_without_a_prometheus_no_task_is_made(begin_task):
    with pytest.raises(InvalidInput, match="has no Prometheus") as caught:
        begin_task(step("PrometheusGate", **UP), behind())
    assert caught.value.fields
    assert not AutoOperationTask.objects.exists()


@pytest.mark.parametrize(
    "params",
    [
        {"condition": "prometheus", "query": " "},
        {"condition": "nodes", "query": "up"},
        {"condition": "prometheus", "query": "up", "comparison": "~"},
        {"condition": "prometheus", "query": "up", "value": float("nan")},
        {"condition": "nodes", "minutes": 0},
    ],
)
def test_a_gate_that_makes_no_sense_is_refused(params, begin_task):
    with pytest.raises(InvalidInput) as caught:
        begin_task(step("NodesReady", **params))
    assert caught.value.code == "invalid_params"


# --- nodes ----------------------------------------------------------------------------------------


@pytest.fixture
def joined(cluster_a, machines):
    for machine in machines:
        node = factories.make_node(cluster_a, f"node-{machine.hostname}")
        Machine.objects.filter(pk=machine.pk).update(node=node)
    return machines


def test_nodes_that_are_ready_and_open_let_it_on(begin_task, work, steps_of, joined):
    task = begin_task(step("NodesReady"), behind())
    work()
    assert steps_of(task)["gate"] == "succeeded"


@pytest.mark.parametrize(
    ("change", "said"),
    [({"is_ready": False}, "is not Ready"), ({"unschedulable": True}, "is cordoned")],
)
def test_a_node_that_is_not_keeps_it_and_is_named(
    change, said, begin_task, work, steps_of, joined, later
):
    name = f"node-{joined[1].hostname}"
    Node.objects.filter(name=name).update(**change)
    task = begin_task(step("NodesReady"), behind())
    work()
    assert steps_of(task) == {"gate": "running", "go": "waiting"}
    assert gate_of(task).message == f"Node {name} {said}."
    Node.objects.update(is_ready=True, unschedulable=False)
    later(work)
    assert steps_of(task)["gate"] == "succeeded"


def test_a_machine_without_a_node_keeps_it(begin_task, work, machines):
    task = begin_task(step("NodesReady"))
    work()
    assert f"{machines[0].hostname} has no node." in gate_of(task).message


def test_of_a_cluster_that_is_away_nothing_is_taken_for_true(
    begin_task, work, steps_of, joined, cluster_a
):
    Cluster.objects.filter(pk=cluster_a.pk).update(health="unreachable", health_reason="timeout")
    task = begin_task(step("NodesReady"))
    work()
    assert steps_of(task)["gate"] == "running"
    assert "The cluster is unreachable" in gate_of(task).message


@pytest.mark.parametrize("ago", [None, timedelta(minutes=2), timedelta(days=3)])
def test_of_nodes_that_no_collector_looks_at_nothing_is_taken_for_true(
    ago, begin_task, work, steps_of, joined, cluster_a, later
):
    rows = Cluster.objects.filter(pk=cluster_a.pk)
    rows.update(health="healthy", observed_at=None if ago is None else timezone.now() - ago)
    task = begin_task(step("NodesReady"), behind())
    work()
    assert steps_of(task) == {"gate": "running", "go": "waiting"}
    assert "See whether a collector is running" in gate_of(task).message
    rows.update(observed_at=timezone.now())
    later(work)
    assert steps_of(task)["gate"] == "succeeded"


# --- HealthCheck ----------------------------------------------------------------------------------


@pytest.fixture
def checked(monkeypatch, joined, cluster_a):
    """A HealthCheck that finds what a test says: hostname -> what is wrong."""
    Machine.objects.update(cluster=cluster_a, state=Machine.State.IN_SERVICE)
    wrong: dict[str, str] = {}

    def confirm(run, _found):
        for target in list(run.targets):
            if target.hostname in wrong:
                run.fail(target, wrong[target.hostname])
            else:
                run.succeed(target)

    kind = health_check.HEALTH_CHECK
    steps = tuple(replace(each, act=lambda run: None, confirm=confirm) for each in kind.steps)
    monkeypatch.setitem(kinds.KINDS, "HealthCheck", replace(kind, steps=steps))
    return wrong


def test_a_healthcheck_that_finds_nothing_lets_it_on(begin_task, work, steps_of, checked):
    task = begin_task(step("HealthGate", params={"test_pods": False}))
    work()
    assert steps_of(task) == {"gate": "succeeded"}
    assert Operation.objects.get().kind == "HealthCheck"


def test_one_sick_machine_fails_the_gate_and_no_machine(
    begin_task, work, steps_of, checked, machines
):
    checked[machines[0].hostname] = "disk full"
    task = begin_task(step("HealthGate", params={"test_pods": False}), behind())
    work()
    assert steps_of(task) == {"gate": "failed", "go": "waiting"}
    assert f"finds 1 machines not healthy: {machines[0].hostname}" in gate_of(task).message
    assert not task.machines.filter(state="failed").exists()


def test_a_check_that_waits_for_its_turn_has_no_time_limit(
    begin_task, work, steps_of, checked, control
):
    task = begin_task(step("HealthGate", params={"test_pods": False}, minutes=1))
    work(limit=1)
    assert gate_of(task).due_at is None
    row = gate_of(task)
    row.progress = {**row.progress, "until": timezone.now().isoformat()}
    row.save()
    control(advance.advance, task.pk)
    assert steps_of(task) == {"gate": "running"}
    work()
    assert steps_of(task) == {"gate": "succeeded"}


def test_a_retry_checks_anew(begin_task, work, steps_of, checked, machines, control, operator):
    checked[machines[0].hostname] = "disk full"
    task = begin_task(step("HealthGate", params={"test_pods": False}))
    work()
    checked.clear()
    control(controls.retry, task, acting_user=operator)
    work()
    assert steps_of(task)["gate"] == "succeeded"
    assert Operation.objects.count() == 2


def test_a_check_that_cannot_begin_fails_the_gate_with_its_reason(
    begin_task, work, steps_of, checked, operators, control, operator
):
    task = begin_task(
        replace(catalog.spec("Wait", {"seconds": 60}), key="pause"),
        replace(step("HealthGate", params={"test_pods": False}), needs=("pause",)),
    )
    work()
    Machine.objects.update(state=Machine.State.AVAILABLE)
    control(controls.skip, task, acting_user=operator, step="pause", reason="x")
    work()
    assert steps_of(task)["gate"] == "failed"
    assert "It could not begin" in gate_of(task).message


def test_a_check_of_one_who_was_removed_names_them(
    begin_task, work, steps_of, checked, control, operator, admin
):
    task = begin_task(
        replace(catalog.spec("Wait", {"seconds": 60}), key="pause"),
        replace(step("HealthGate", params={"test_pods": False}), needs=("pause",)),
    )
    work()
    operator.delete()
    control(controls.skip, task, acting_user=admin, step="pause", reason="x")
    work()
    assert steps_of(task)["gate"] == "failed"
    assert "operator, who asked for it, has no account" in gate_of(task).message
