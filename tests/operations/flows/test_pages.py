"""The pages of tasks, what they are made of, and what the home page says."""

import asyncio

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import translation

from beidou.overview.attention import needs
from machines.models import Machine
from operations.flows import catalog, live, neighbours, stream
from operations.flows import control as controls
from operations.flows.models import AutoOperationTask, WorkOrder
from operations.flows.start import Batches
from operations.models import ClusterSettings, Operation, OperationMachine
from operations.services.neighbours import buttons_of_machine
from tests import factories

pytestmark = pytest.mark.django_db


def page_of(task):
    return reverse("admin:operations_autooperationtask_change", args=[task.pk])


@pytest.fixture
def asked(begin_task, work):
    task = begin_task("WorkOrder", "Toy")
    work()
    return task


@pytest.fixture
def ready(cluster_a, operators):
    ClusterSettings.objects.create(
        cluster=cluster_a,
        artifact_source="/srv/artifacts",
        credential=factories.make_credential(team=operators),
    )
    return [
        factories.make_machine(host_key="ssh-ed25519 AAAA", owner_team=operators) for _ in range(2)
    ]


def test_the_snapshot_says_who_may_decide_and_never_who_asked(asked, approver, admin):
    taken = live.snapshot(asked.pk)
    step = next(iter(taken.steps.values()))
    assert step["approvers"] == ["admin", "approver"]
    assert step["orders"][0]["status"] == "open"
    assert taken.task["actions"] == ["pause", "cancel"]


def test_the_snapshot_leads_to_each_operation(begin_task, work):
    task = begin_task("Toy", batches=Batches(size=2))
    work()
    (step,) = live.snapshot(task.pk).steps.values()
    assert [(part["succeeded"], part["total"]) for part in step["parts"]] == [(2, 2), (1, 1)]
    assert all(part["url"] for part in step["parts"])
    assert (step["succeeded"], step["total"]) == (3, 3)


def test_a_snapshot_costs_the_same_however_large_the_task_is(begin_task, work, operators):
    small = begin_task("Toy", "WorkOrder")
    machines = [factories.make_machine(owner_team=operators) for _ in range(12)]
    large = begin_task(
        *["Toy"] * 4, "WorkOrder", "WorkOrder", machines=machines, batches=Batches(size=2)
    )
    work()
    counts = []
    for task in (small, large):
        with CaptureQueriesContext(connection) as captured:
            live.snapshot(task.pk)
        counts.append(len(captured))
    assert counts[0] == counts[1] <= 8


def test_only_what_changed_is_told(asked):
    old = live.snapshot(asked.pk)
    assert live.difference(old, live.snapshot(asked.pk)) == {}
    asked.steps.filter(key="Toy").update(message="hm")
    changed = live.difference(old, live.snapshot(asked.pk))
    assert [row["key"] for row in changed["steps"]] == ["Toy"]


def test_side_by_side_steps_share_a_column(begin_task):
    task = begin_task("Wait", "Toy", "Wait")
    task.steps.filter(key="Wait-2").update(needs=["Wait"])
    columns = {row["key"]: row["column"] for row in live.snapshot(task.pk).steps.values()}
    assert columns == {"Wait": 0, "Toy": 1, "Wait-2": 1}


@pytest.mark.parametrize(
    ("who", "operate", "decide"),
    [("operator", True, False), ("viewer", False, False), ("admin", True, True)],
)
def test_the_page_offers_what_its_reader_may_do(who, operate, decide, asked, browser, cast):
    data = browser(cast[who]).get(page_of(asked)).context["page_data"]
    assert (data["may_operate"], data["may_decide"]) == (operate, decide)


def test_an_operation_leads_back_to_its_task(begin_task, work, browser, viewer, begin):
    task = begin_task("Toy", name="monday")
    work()
    (step,) = live.snapshot(task.pk).steps.values()
    page = browser(viewer).get(step["parts"][0]["url"]).content.decode()
    assert f'href="{page_of(task)}"' in page


def test_a_machine_is_a_link_for_those_alone_who_may_see_it(begin_task, browser, viewer, admin):
    task = begin_task("Wait", name="monday")
    member = task.machines.select_related("machine").first()
    Machine.objects.filter(pk=member.machine_id).update(cluster=None, owner_team=None)
    assert live.snapshot(task.pk).machines[member.pk]["url"] == ""
    url = reverse("admin:machines_machine_change", args=[member.machine_id])
    links = {
        who.username: browser(who).get(page_of(task)).context["page_data"]["urls"]["machines"]
        for who in (viewer, admin)
    }
    assert member.pk not in links["viewer"]
    assert links["admin"][member.pk] == url


def test_a_stranger_does_not_see_the_page(asked, browser, stranger):
    assert browser(stranger).get(page_of(asked)).status_code in (403, 404)


def test_the_list_shows_tasks_with_their_progress(asked, browser, viewer):
    text = browser(viewer).get(reverse("admin:operations_autooperationtask_changelist")).content
    assert asked.name in text.decode()
    assert "0 / 2" in text.decode()


def test_one_click_starts_the_chosen_machines(browser, operator, cluster_a, ready):
    url = reverse("operations:start_task")
    form = {
        "kind": "ScaleUp",
        "cluster": cluster_a.pk,
        "machines": "\n".join(machine.address for machine in ready),
        "approval": "on",
        "batch_size": 0,
        "batch_pause": 0,
        "max_failed_percent": 100,
        "reason": "",
        "step": "start",
    }
    answer = browser(operator).post(url, form)
    task = AutoOperationTask.objects.get()
    assert answer["Location"] == page_of(task)
    assert task.steps.filter(kind="workOrder").count() == 2


@pytest.mark.parametrize("page", ["operations:start_task", "admin:operations_taskschedule_add"])
def test_the_form_says_that_batches_are_those_of_a_step(page, browser, operator, ready):
    shown = browser(operator).get(reverse(page)).content.decode()
    assert "all of them go through it before the next step begins" in shown


def test_without_approval_the_questions_are_left_out(browser, operator, cluster_a, ready):
    form = {
        "kind": "ScaleUp", "cluster": cluster_a.pk, "machines": ready[0].address,
        "batch_size": 0, "batch_pause": 0, "max_failed_percent": 100, "step": "start",
    }  # fmt: skip
    browser(operator).post(reverse("operations:start_task"), form)
    steps = AutoOperationTask.objects.get().steps.order_by("position")
    assert [step.key for step in steps] == ["ScaleUpPreCheck", "ScaleUp", "UncordonNodes"]


def task_form(cluster, machines, **values):
    return {
        "kind": "ScaleUp", "cluster": cluster.pk, "step": "plan",
        "machines": "\n".join(machine.address for machine in machines),
        "batch_size": 0, "batch_pause": 0, "max_failed_percent": 100, **values,
    }  # fmt: skip


def test_a_plan_tells_all_that_is_in_the_way_of_a_machine(browser, operator, cluster_a, ready):
    Machine.objects.filter(pk=ready[0].pk).update(hostname="", host_key="")
    answer = browser(operator).post(
        reverse("operations:start_task"), task_form(cluster_a, ready, approval="on")
    )
    text = answer.content.decode()
    assert "its hostname is not known" in text
    assert "its host key is not pinned yet" in text
    assert ready[1].address in text[text.index('id="plan"') :]


def test_a_plan_warns_of_machines_that_leave_their_operators_sight(browser, operator, cluster_a):
    machine = factories.make_machine(
        cluster=cluster_a, state=Machine.State.IN_SERVICE, host_key="ssh-ed25519 AAAA",
        node=factories.make_node(cluster_a), credential=factories.make_credential(),
    )  # fmt: skip
    answer = browser(operator).post(
        reverse("operations:start_task"), task_form(cluster_a, [machine], kind="ScaleDown")
    )
    plan = answer.content.decode()
    plan = plan[plan.index('id="plan"') :]
    assert "it has no owner team" in plan
    assert "Approval of the change" not in plan  # nobody asked for it


def test_what_is_blocked_is_shown_before_anything_begins(browser, operator, cluster_a, ready):
    Machine.objects.filter(pk=ready[0].pk).update(hostname="")
    form = {
        "kind": "ScaleUp",
        "cluster": cluster_a.pk,
        "machines": "\n".join(machine.address for machine in ready),
        "batch_size": 0,
        "batch_pause": 0,
        "max_failed_percent": 100,
        "step": "start",
    }
    client = browser(operator)
    answer = client.post(reverse("operations:start_task"), form)
    assert answer.status_code == 200
    assert "its hostname is not known" in answer.content.decode()
    assert not AutoOperationTask.objects.exists()
    client.post(reverse("operations:start_task"), {**form, "step": "start_ready"})
    assert AutoOperationTask.objects.get().machines.count() == 1


def test_a_viewer_gets_no_form(browser, viewer):
    assert browser(viewer).get(reverse("operations:start_task")).status_code == 403


def test_chosen_machines_lead_to_the_form(browser, operator, ready):
    url = reverse("admin:machines_machine_changelist")
    form = {"action": "start_task_scaleup", "_selected_action": [each.pk for each in ready]}
    answer = browser(operator).post(url, form)
    assert answer["Location"].startswith(reverse("operations:start_task"))
    page = browser(operator).get(answer["Location"]).content.decode()
    assert ready[0].address in page


def test_a_control_plane_is_not_offered_where_workers_are_taken_out(browser, operator, cluster_a):
    in_service = {"cluster": cluster_a, "state": Machine.State.IN_SERVICE}
    worker = factories.make_machine(node=factories.make_node(cluster_a), **in_service)
    plane = factories.make_machine(
        node=factories.make_node(cluster_a, roles=["control-plane"]), **in_service
    )
    query = {"template": "ScaleDown", "cluster": cluster_a.pk}
    answer = browser(operator).get(reverse("operations:start_task"), query)
    assert answer.context["candidates"] == [worker]
    labels = [str(button.label) for button in buttons_of_machine(plane, operator)]
    assert not [label for label in labels if label.startswith("Scale down")]


def test_home_shows_a_work_order_to_who_may_decide_it(asked, approver, operator, viewer, admin):
    def seen(user):
        return [need.text for need in needs(user) if need.kind == "work_order"]

    assert seen(approver) == seen(admin) == [f"Approve: {asked.name}"]
    assert seen(operator) == seen(viewer) == []


@pytest.mark.parametrize(("count", "told"), [(1, "1 machine,"), (3, "3 machines,")])
def test_home_counts_the_machines_of_a_work_order(asked, approver, count, told):
    order = WorkOrder.objects.get(step__task=asked)
    order.plan = {"machines": {str(number): "" for number in range(count)}}
    order.save()
    (need,) = [need for need in needs(approver) if need.kind == "work_order"]
    assert f", {told} asked by " in need.detail


def test_machines_and_cluster_of_an_active_task_stay(asked, cluster_a, machines):
    assert len(neighbours.why_machines_stay([machines[0].pk])) == 1
    assert asked.name in neighbours.why_cluster_is_held(cluster_a)[0]
    AutoOperationTask.objects.update(status="succeeded")
    asked.machines.update(holds_machine=False)
    assert neighbours.why_machines_stay([machines[0].pk]) == []
    assert neighbours.why_cluster_is_held(cluster_a) == []


@pytest.mark.django_db(transaction=True)
def test_the_stream_of_an_ended_task_is_a_snapshot_and_its_end(cluster_a):
    task = AutoOperationTask.objects.create(name="over", cluster=cluster_a, status="succeeded")

    async def read():
        pieces = stream.stream(task.pk, may_still_see=lambda: True, language="en")
        return [text async for text in pieces]

    texts = asyncio.run(read())
    assert ["snapshot" in texts[1], "event: end" in texts[2], len(texts)] == [True, True, 3]


def test_titles_of_steps_are_in_the_language_of_whoever_reads_them(begin_task):
    task = begin_task("ScaleUpWorkprocess", "Toy")
    with translation.override("zh-hans"):
        title = next(iter(live.snapshot(task.pk).steps.values()))["title"]
    assert str(title) == "变更审批"


def test_every_named_step_and_template_has_a_chinese_title():
    known = [*catalog.NAMES.values(), *catalog.TEMPLATES.values()]
    english = [str(each.title) for each in known]
    with translation.override("zh-hans"):
        assert not [
            title for title, each in zip(english, known, strict=True) if title == each.title
        ]


def places(task):
    taken = live.snapshot(task.pk)
    rows = taken.machines.values()
    return {(row["state"], row["step"]) for row in rows}, taken.task["succeeded"]


def test_a_machine_stands_where_its_operation_is(begin_task, work):
    task = begin_task("Toy", "WorkOrder", "Toy")
    assert places(task) == ({("waiting", "")}, 0)
    work(limit=1)
    OperationMachine.objects.filter(operation__task_part__step__task=task).update(state="running")
    assert places(task) == ({("running", "Toy")}, 0)


def test_machines_are_done_when_every_step_on_them_is(begin_task, work, control, approver):
    task = begin_task("Toy", "WorkOrder", "Toy", "WorkOrder")
    work()
    assert places(task) == ({("succeeded", "Toy")}, 0)
    for verb in (controls.approve, controls.reject):
        order = WorkOrder.objects.get(step__task=task, status="open")
        control(verb, order, acting_user=approver, reason="looked at it")
        work()
        assert places(task) == ({("succeeded", "Toy-2")}, 3)
    task.refresh_from_db()
    assert task.status == "failed"


def test_after_a_rejection_a_machine_stands_where_it_never_came(
    begin_task, work, control, approver
):
    task = begin_task("Toy", "WorkOrder", "Toy")
    work()
    order = WorkOrder.objects.get(step__task=task)
    control(controls.reject, order, acting_user=approver, reason="not today")
    work()
    task.refresh_from_db()
    assert task.status == "failed"
    assert places(task) == ({("waiting", "Toy-2")}, 0)


def test_a_failed_machine_stands_where_it_has_failed(begin_task, work, toy, machines):
    toy.failing = {("second", machines[0].address)}
    task = begin_task("Toy", "Toy")
    work()
    rows = {row["address"]: row for row in live.snapshot(task.pk).machines.values()}
    failed = rows.pop(machines[0].address)
    assert (failed["state"], failed["step"], failed["is_through"]) == ("failed", "Toy", False)
    assert all(row["is_through"] for row in rows.values())


def row_of(task, key):
    return next(row for row in live.snapshot(task.pk).steps.values() if row["key"] == key)


def test_a_question_says_in_words_what_it_is_about(begin_task, work, ready):
    ClusterSettings.objects.update(policy={"min_cpus": 4})
    task = begin_task(
        catalog.spec("WorkOrder"),
        catalog.spec("ScaleUp", {"kubernetes_version": "1.34.2", "taints": ["a=b:NoSchedule"]}),
        machines=ready,
        batches=Batches(size=1, pause=60),
    )
    work()
    (order,) = row_of(task, "WorkOrder")["orders"]
    words = {each["label"]: each["text"] for each in order["words"]}
    assert words == {
        "Steps": "Approval → Install and join",
        "Install and join": "Kubernetes 1.34.2; taints: [a=b:NoSchedule]",
        "Batches": "1 machine at once, 60 s between batches",
        "Artifact source": "/srv/artifacts",
        "Playbook variables": "as preset",
        "PreCheck policy": "min_cpus: 4",
        "Done with the rights of": "operator",
    }


def test_a_version_that_nobody_chose_is_the_clusters_own(begin_task, work, ready):
    task = begin_task("WorkOrder", "ScaleUp", machines=ready)
    work()
    (order,) = row_of(task, "WorkOrder")["orders"]
    assert {"label": "Install and join", "text": "Kubernetes of the cluster's own version"} in (
        order["words"]
    )


def test_an_approval_decides_nothing_once_all_is_done(begin_task, work, control, approver):
    task = begin_task("WorkOrder", "Toy", "WorkOrder")
    work()
    assert row_of(task, "WorkOrder")["is_decisive"]
    order = WorkOrder.objects.get(step__task=task)
    control(controls.approve, order, acting_user=approver)
    work()
    assert row_of(task, "WorkOrder-2")["status"] == "running"
    assert not row_of(task, "WorkOrder")["is_decisive"]
    assert not row_of(task, "WorkOrder-2")["is_decisive"]


def test_one_machine_is_not_called_machines(begin_task, work, machines):
    task = begin_task("Toy", "WorkOrder", machines=machines[:1])
    work()
    assert live.snapshot(task.pk).task["count"] == "1 of 1 machine"
    assert row_of(task, "WorkOrder")["orders"][0]["count"] == "1 machine"


def test_a_retry_leads_to_operations_that_take_choices(begin_task, work, toy, machines):
    toy.failing = {("second", machine.address) for machine in machines}
    task = begin_task("Toy")
    work()
    (part,) = row_of(task, "Toy")["parts"]
    assert not part["takes_answers"]
    Operation.objects.update(kind="ScaleDown")
    (part,) = row_of(task, "Toy")["parts"]
    assert part["takes_answers"]
