"""ReplaceMachine: new machines in, and only then the old ones out."""

from dataclasses import replace
from datetime import timedelta

import pytest
import yaml
from django.urls import reverse
from django.utils import timezone

from beidou.base.errors import InvalidInput
from clusters.models import Cluster, Node
from machines.models import Machine
from operations.flows import catalog, graph, manifest, start
from operations.flows import control as controls
from operations.flows.library import content as contents
from operations.flows.library import saving
from operations.flows.models import AutoOperationTask, WorkOrder
from operations.flows.start import Batches
from operations.kinds import base as kinds
from operations.kinds.base import StepKind
from tests import factories
from tests.operations.flows.test_pages import task_form
from tests.operations.toy import Script

pytestmark = pytest.mark.django_db
State = Machine.State
API = "/api/v1/auto-operation-tasks/"


@pytest.fixture
def script(monkeypatch, cluster_a):
    """The three kinds with steps that do nothing but say what became of each machine."""
    made = Script()
    becomes = {"ScaleUp": State.CORDONED, "UncordonNodes": State.IN_SERVICE}

    def confirm(run, _result):
        kind = run.operation.kind
        for target in list(run.targets):
            if (kind, target.address) in made.failing:
                run.fail(target, "it is broken")
                continue
            if kind == "ScaleUp" and run.step_name != "preCheck":
                found = Node.objects.filter(cluster=cluster_a, name=target.hostname).first()
                node = found or factories.make_node(cluster_a, target.hostname)
                Machine.objects.filter(pk=target.machine_id).update(cluster=cluster_a, node=node)
            if kind in becomes and run.step_name != "preCheck":
                Machine.objects.filter(pk=target.machine_id).update(state=becomes[kind])
            run.succeed(target)

    def act(run):
        made.calls.append(
            (f"{run.operation.kind}.{run.step_name}", [each.address for each in run.targets])
        )
        made.during(run)

    for name in ("ScaleUp", "UncordonNodes", "ScaleDown"):
        kind = kinds.KINDS[name]
        steps = tuple(
            StepKind(name=each.name, title=each.title, act=act, confirm=confirm, timeout_seconds=60)
            for each in kind.steps
        )
        silent = replace(
            kind,
            steps=steps,
            blockers=lambda *_: [],
            remarks=lambda *_: [],
            retry_blockers=None,
            reserve=lambda *_: None,
            release=lambda *_: None,
        )
        monkeypatch.setitem(kinds.KINDS, name, silent)
    return made


@pytest.fixture
def toy(script):
    return script


@pytest.fixture
def machines(operators):
    return [factories.make_machine(owner_team=operators) for _ in range(2)]


@pytest.fixture
def old(cluster_a, operators):
    return [
        factories.make_machine(
            owner_team=operators,
            cluster=cluster_a,
            node=factories.make_node(cluster_a),
            state=State.IN_SERVICE,
        )
        for _ in range(2)
    ]


@pytest.fixture
def begin_replacement(begin_task, old):
    def begin(**values):
        steps = values.pop("steps", None)
        specs = start.specs_of("ReplaceMachine", steps=steps, params=values.pop("params", None))
        return begin_task(
            *specs, **{"template": "ReplaceMachine", "replaced": old, "name": "swap", **values}
        )

    return begin


WITHOUT_APPROVAL = [s for s in catalog.TEMPLATES["ReplaceMachine"].steps if "Work" not in s]


def done_with(script, step):
    return [addresses for name, addresses in script.calls if name == step]


def addresses(machines):
    return [machine.address for machine in machines]


def fresh(task):
    return AutoOperationTask.objects.get(pk=task.pk)


def test_new_ones_come_in_before_old_ones_go_out(
    begin_replacement, work, control, approver, script, machines, old
):
    task = begin_replacement()
    work()
    order = WorkOrder.objects.get(step__task=task)
    assert order.plan["machines"][old[0].address]["group"] == "old"
    control(controls.approve, order, acting_user=approver)
    work()
    assert fresh(task).status == "succeeded", fresh(task).message
    kinds_in_order = list(dict.fromkeys(name.split(".")[0] for name, _ in script.calls))
    assert kinds_in_order == ["ScaleUp", "ScaleDown", "UncordonNodes"]  # both are checked first
    assert done_with(script, "ScaleUp.scaleUp") == [addresses(machines)]
    assert done_with(script, "UncordonNodes.uncordon") == [addresses(machines)]
    assert done_with(script, "ScaleDown.drain") == [addresses(old)]
    order_of = [name for name, _ in script.calls]
    assert order_of.index("UncordonNodes.uncordon") < order_of.index("ScaleDown.drain")


@pytest.mark.parametrize("kind", ["ScaleUp", "UncordonNodes"])
def test_if_one_new_machine_fails_no_old_one_is_touched(
    kind, begin_replacement, work, script, machines, steps_of
):
    script.failing = {(kind, machines[0].address)}
    task = begin_replacement(steps=WITHOUT_APPROVAL)
    work()
    assert fresh(task).status == "failed"
    assert steps_of(task)["ScaleDown"] == "waiting"
    assert done_with(script, "ScaleDown.drain") == []


def test_a_new_node_that_takes_no_pods_keeps_the_old_ones(
    begin_replacement, work, script, machines, steps_of
):
    def close_again(run):
        if run.operation.kind == "UncordonNodes":
            Node.objects.filter(name=machines[0].hostname).update(unschedulable=True)

    script.during = close_again
    task = begin_replacement(steps=WITHOUT_APPROVAL)
    work()
    assert steps_of(task)["NodesReady"] == "running"
    assert task.steps.get(key="NodesReady").message == f"Node {machines[0].hostname} is cordoned."
    assert done_with(script, "ScaleDown.drain") == []


def test_while_no_collector_looks_no_old_one_is_touched(
    begin_replacement, work, script, machines, steps_of, cluster_a
):
    """Killed after the new node had come in; nobody writes that it is not Ready any more."""

    def stop_collector(run):
        if run.operation.kind == "UncordonNodes":
            seen = timezone.now() - timedelta(minutes=10)
            Cluster.objects.filter(pk=cluster_a.pk).update(observed_at=seen)

    script.during = stop_collector
    task = begin_replacement(steps=WITHOUT_APPROVAL)
    work()
    assert steps_of(task)["NodesReady"] == "running"
    assert done_with(script, "ScaleDown.drain") == []


def test_a_retry_goes_on_with_the_new_one_that_failed_and_then_with_the_old_ones(
    begin_replacement, work, script, machines, old, control, operator
):
    script.failing = {("UncordonNodes", machines[0].address)}
    task = begin_replacement(steps=WITHOUT_APPROVAL)
    work()
    script.failing = set()
    control(controls.retry, task, acting_user=operator)
    work()
    assert fresh(task).status == "succeeded", fresh(task).message
    assert done_with(script, "ScaleDown.drain") == [addresses(old)]


def test_an_old_machine_that_cannot_leave_stops_none_of_the_others(
    begin_replacement, work, script, old
):
    script.failing = {("ScaleDown", old[0].address)}
    task = begin_replacement(steps=WITHOUT_APPROVAL)
    work()
    assert fresh(task).status == "partial"
    assert task.machines.get(machine=old[0]).failed_in == "ScaleDownPreCheck"
    assert done_with(script, "ScaleDown.drain") == [[old[1].address]]


def test_batches_hold_for_both_groups(begin_replacement, work, script):
    begin_replacement(steps=WITHOUT_APPROVAL, batches=Batches(size=1))
    work()
    assert [len(each) for each in done_with(script, "ScaleUp.scaleUp")] == [1, 1]
    assert [len(each) for each in done_with(script, "ScaleDown.drain")] == [1, 1]


def test_parameters_are_given_by_the_kind_of_operation(begin_replacement):
    task = begin_replacement(params={"ScaleUp": {"labels": {"a": "b"}}})
    params = {step.key: step.params for step in task.steps.all()}
    assert params["ScaleUp"]["params"] == {"labels": {"a": "b"}}
    assert params["ScaleUpPreCheck"]["params"] == {"labels": {"a": "b"}}
    assert params["ScaleDown"]["params"] == {}
    assert (params["ScaleUp"]["group"], params["ScaleUp"]["all_or_nothing"]) == ("new", True)
    assert params["ScaleDown"]["group"] == "old"


def test_parameters_of_no_kind_are_refused_by_name():
    with pytest.raises(InvalidInput) as caught:
        start.specs_of("ReplaceMachine", params={"labels": {"a": "b"}})
    assert list(caught.value.fields) == ["params.labels"]


@pytest.mark.parametrize(
    "steps",
    [
        ["ScaleDown"],
        ["ScaleUp", "UncordonNodes", "ScaleDown"],
        ["ScaleDown", "ScaleUp", "UncordonNodes", "NodesReady"],
    ],
)
def test_old_ones_never_go_before_new_ones_are_open(steps):
    with pytest.raises(InvalidInput, match="ScaleDown must come after"):
        start.specs_of("ReplaceMachine", steps=steps)


@pytest.mark.parametrize(
    ("chosen", "said"),
    [([], "Name the machines that are replaced"), ("same", "named as new and as replaced")],
)
def test_without_two_groups_nothing_begins(chosen, said, begin_replacement, machines):
    with pytest.raises(InvalidInput, match=said) as caught:
        begin_replacement(replaced=machines if chosen == "same" else chosen)
    assert list(caught.value.fields) == ["replaced"]
    assert not AutoOperationTask.objects.exists()


def test_other_templates_replace_nothing(begin_task, old, script):
    with pytest.raises(InvalidInput, match="Only a replacement"):
        begin_task(*start.specs_of("ScaleUp"), template="ScaleUp", replaced=old)


def test_a_blocked_old_machine_is_known_before_anything_begins(begin_replacement, old):
    Machine.objects.filter(pk=old[0].pk).update(state=State.AVAILABLE)
    old[0].refresh_from_db()
    with pytest.raises(InvalidInput, match=old[0].address):
        begin_replacement()
    assert not AutoOperationTask.objects.exists()


def whole_graph(**changed):
    """The template's steps as a graph of one's own; ``changed`` is added to the named steps."""
    before: list[str] = []
    steps = []
    for name in WITHOUT_APPROVAL:
        steps.append({"key": name, "step": name, "needs": before, **changed.get(name, {})})
        before = [name]
    return steps


@pytest.mark.parametrize(
    ("changed", "place", "said"),
    [
        ({"ScaleUp": {"on_failure": "continue"}}, "steps[2]", "must stop the task"),
        ({"UncordonNodes": {"on_failure": "continue"}}, "steps[3]", "must stop the task"),
        ({"NodesReady": {"on_failure": "continue"}}, "steps[4]", "must stop the task"),
        (
            {"NodesReady": {"params": {"condition": "prometheus", "query": "vector(1)"}}},
            "steps[4]",
            "NodesReady must look at what its name says",
        ),
    ],
)
def test_no_graph_lets_old_ones_go_although_a_new_one_failed(
    changed, place, said, api, operator, cluster_a, machines, old, script
):
    wish = {
        "template": "ReplaceMachine",
        "cluster": cluster_a.name,
        "machines": addresses(machines),
        "replaced": addresses(old),
        "graph": whole_graph(**changed),
    }
    answer = api(operator).post(API, wish, format="json")
    assert (answer.status_code, list(answer.json()["fields"])) == (400, [place])
    assert said in answer.json()["message"]
    assert not AutoOperationTask.objects.exists()


def test_what_comes_in_may_be_undone_and_waited_for_longer():
    changed = {"ScaleUp": {"on_failure": "compensate"}, "NodesReady": {"params": {"minutes": 90}}}
    specs = [
        replace(
            catalog.spec(row["step"], row.get("params")),
            needs=tuple(row["needs"]),
            on_failure=row.get("on_failure", "stop"),
        )
        for row in whole_graph(**changed)
    ]
    found = catalog.for_template(catalog.TEMPLATES["ReplaceMachine"], specs)
    assert [each.name for each in found] == WITHOUT_APPROVAL


# --- ways in --------------------------------------------------------------------------------------


def test_over_the_api(api, operator, cluster_a, machines, old, script):
    wish = {
        "template": "ReplaceMachine",
        "cluster": cluster_a.name,
        "machines": addresses(machines),
        "replaced": addresses(old),
    }
    plan = api(operator).post(API, {**wish, "dry_run": True})
    assert plan.status_code == 200, plan.json()
    assert [each["address"] for each in plan.json()["replaced"]["ready"]] == addresses(old)
    answer = api(operator).post(API, wish)
    assert answer.status_code == 202, answer.json()
    detail = api(operator).get(answer.json()["url"]).json()
    assert [each["group"] for each in detail["machines"]] == ["new", "new", "old", "old"]


def test_over_the_api_an_unknown_old_machine_is_named(api, operator, cluster_a, machines, script):
    wish = {
        "template": "ReplaceMachine",
        "cluster": cluster_a.name,
        "machines": addresses(machines),
        "replaced": ["10.77.0.1"],
    }
    answer = api(operator).post(API, wish)
    assert (answer.status_code, list(answer.json()["fields"])) == (400, ["replaced[0]"])


def document(cluster, machines, old, **spec):
    return yaml.safe_dump(
        {
            "apiVersion": "vcluster.caas.beidou.io/v1alpha1",
            "kind": "AutoOperationTask",
            "metadata": {"name": "swap-1"},
            "spec": {
                "cluster": cluster.name,
                "operationIds": ["replace-machine"],
                "operationTaskType": "ReplaceMachine",
                "operationTaskMachines": [{"name": each} for each in addresses(machines)],
                "replacedMachines": [{"name": each} for each in addresses(old)],
                "operationTaskStep": [
                    {"step": name} for name in catalog.TEMPLATES["ReplaceMachine"].steps
                ],
                **spec,
            },
        }
    )


def apply(api, user, text):
    return api(user).post("/api/v1/manifests/", text, content_type="application/yaml")


def test_by_manifest_and_back(api, operator, cluster_a, machines, old, script):
    text = document(cluster_a, machines, old)
    answer = apply(api, operator, text)
    assert answer.status_code in (200, 201, 202), answer.json()
    task = AutoOperationTask.objects.get()
    assert task.machines.filter(group="old").count() == 2
    assert apply(api, operator, manifest.as_manifest(task)).status_code == 200
    assert AutoOperationTask.objects.count() == 1


def test_the_same_name_with_other_old_machines_is_refused(
    api, operator, cluster_a, machines, old, script
):
    apply(api, operator, document(cluster_a, machines, old))
    answer = apply(api, operator, document(cluster_a, machines, old[:1]))
    assert answer.status_code == 409
    assert "spec.replacedMachines" in answer.json()["message"]


def test_a_manifest_in_the_wrong_order_names_the_step(
    api, operator, cluster_a, machines, old, script
):
    steps = [{"step": "ScaleDown"}, {"step": "ScaleUp"}]
    answer = apply(api, operator, document(cluster_a, machines, old, operationTaskStep=steps))
    assert answer.status_code == 400
    assert any("spec.operationTaskStep[0]" in name for name in answer.json()["fields"])


def test_from_the_page(browser, operator, cluster_a, machines, old, script):
    form = task_form(
        cluster_a, machines, kind="ReplaceMachine", replaced="\n".join(addresses(old)), step="start"
    )
    answer = browser(operator).post(reverse("operations:start_task"), form)
    assert answer.status_code == 302, answer.content.decode()[:2000]
    assert AutoOperationTask.objects.get().machines.filter(group="old").count() == 2


def test_a_machine_in_both_lists_is_told_once_and_at_its_field(
    browser, operator, cluster_a, machines, script
):
    same = "\n".join(addresses(machines))
    form = task_form(cluster_a, machines, kind="ReplaceMachine", replaced=same, step="start")
    answer = browser(operator).post(reverse("operations:start_task"), form)
    text = answer.content.decode()
    assert text.count("These machines are named as new and as replaced") == 1
    assert "replaced: These" not in text
    assert list(answer.context["page"].form.errors) == ["replaced"]


def test_the_page_shows_the_plan_of_both_groups(
    browser, operator, cluster_a, machines, old, script
):
    form = task_form(cluster_a, machines, kind="ReplaceMachine", replaced="\n".join(addresses(old)))
    text = browser(operator).post(reverse("operations:start_task"), form).content.decode()
    plan = text[text.index('id="plan"') :]
    assert machines[0].address in plan
    assert old[0].address in plan


def test_the_field_of_old_machines_is_for_replacements_alone(browser, operator, cluster_a):
    url = reverse("operations:start_task")
    assert (
        'name="replaced"'
        in browser(operator).get(f"{url}?template=ReplaceMachine").content.decode()
    )
    assert (
        'name="replaced"' not in browser(operator).get(f"{url}?template=ScaleUp").content.decode()
    )


def test_chosen_machines_lead_to_the_form_as_those_that_go(browser, operator, old):
    url = reverse("admin:machines_machine_changelist")
    form = {"action": "start_task_replacemachine", "_selected_action": [each.pk for each in old]}
    answer = browser(operator).post(url, form)
    page = browser(operator).get(answer["Location"]).content.decode()
    assert 'name="replaced"' in page
    assert old[0].address in page


def test_where_each_stands_counts_the_steps_of_its_group_alone(
    api, operator, begin_replacement, work, script
):
    task = begin_replacement(steps=WITHOUT_APPROVAL)
    work()
    live = api(operator).get(f"{API}{task.pk}/live/").json()
    assert {(row["group"], row["is_through"]) for row in live["machines"]} == {
        ("comes in", True),
        ("goes out", True),
    }


def test_a_step_that_is_a_task_would_take_old_and_new_machines_alike(
    begin_task, script, old, machines, admin
):
    steps = [{"key": "out", "step": "ScaleDown"}]
    content = contents.read({"title": "out", "steps": steps})
    saving.create(name="inner", content=content, acting_user=admin)
    specs = [
        graph.Spec("below", "Task", "task", {"template": "inner"}),
        *start.specs_of("ReplaceMachine", steps=WITHOUT_APPROVAL),
    ]
    with pytest.raises(InvalidInput) as caught:
        begin_task(*specs, template="ReplaceMachine", replaced=old, name="swap")
    assert list(caught.value.fields) == ["steps[0]"]
    assert "no step is another task" in caught.value.message
    assert not AutoOperationTask.objects.exists()
