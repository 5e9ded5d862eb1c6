"""Tasks that begin by themselves: when, with whose rights, and when not."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.urls import reverse
from django.utils import timezone

from beidou.base.errors import Conflict, Forbidden, InvalidInput
from beidou.base.models import AuditEntry, Notice
from machines.models import Machine
from operations.flows import neighbours, nesting
from operations.flows.library import content as contents
from operations.flows.library import saving
from operations.flows.models import AutoOperationTask
from operations.flows.schedules import running, storing, times
from operations.flows.schedules.models import TaskSchedule
from operations.models import Freeze
from tests import factories

pytestmark = pytest.mark.django_db
BERLIN = ZoneInfo("Europe/Berlin")
URL = "/api/v1/task-schedules/"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# --- when -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        ("30 2 * * *", "2026-05-01T00:00", "2026-05-01T00:30"),
        ("30 2 * * *", "2026-05-01T00:30", "2026-05-02T00:30"),
        ("30 2 * * *", "2026-03-28T12:00", "2026-03-29T01:30"),  # the clock goes forward
        ("30 2 * * *", "2026-10-24T12:00", "2026-10-25T00:30"),  # the hour comes twice: once
        ("30 2 * * *", "2026-10-25T00:30", "2026-10-26T01:30"),
        ("0 22 * * sat", "2026-05-01T00:00", "2026-05-02T20:00"),
    ],
)
def test_a_cron_expression_is_about_the_clock_on_the_wall(cron, after, expected):
    assert times.next_of(cron, BERLIN, at(after)) == at(expected)


@pytest.mark.parametrize(
    "text", ["", "x", "* * * *", "* * * * * *", "@daily", "0 0 30 2 *", "61 * * * *", "a b c d e"]
)
def test_what_is_no_cron_expression(text):
    assert not times.is_cron(text)


def test_an_interval_makes_up_for_nothing():
    begin = at("2026-05-01T00:00")
    assert times.next_every(60, begin, at("2026-05-03T05:10")) == at("2026-05-03T06:00")
    assert times.next_every(60, begin, at("2026-05-01T01:00")) == at("2026-05-01T02:00")
    assert times.next_every(60, begin, at("2026-04-01T00:00")) == begin


# --- writing ----------------------------------------------------------------------------------


@pytest.fixture
def template(toy, admin):
    steps = [
        {"key": "ask", "step": "WorkOrder"},
        {"key": "go", "step": "Toy", "needs": ["ask"], "settable": ["size"]},
    ]
    content = contents.read({"title": "Nightly", "steps": steps})
    return saving.create(name="nightly", content=content, acting_user=admin)


@pytest.fixture
def make(template, cluster_a, machines, operator):
    def store(**values):
        row = TaskSchedule(
            **{
                "name": "every-night",
                "cluster": cluster_a,
                "template": "nightly",
                "machines": " ".join(machine.address for machine in machines),
                "cron": "30 2 * * *",
                **values,
            }
        )
        storing.store(row, acting_user=operator)
        return row

    return store


@pytest.fixture
def due(make):
    """One whose time was three days ago."""

    def store(**values):
        row = make(**values)
        TaskSchedule.objects.filter(pk=row.pk).update(
            next_at=timezone.now() - timedelta(days=3, minutes=1)
        )
        row.refresh_from_db()
        return row

    return store


WRONG = [
    ({"name": "A b"}, "name"),
    ({"name": ""}, "name"),
    ({"template": "nothing"}, "template"),
    ({"template": "ReplaceMachine"}, "template"),
    ({"params": {"go": {"odd": 1}}}, "params"),
    ({"params": [1]}, "params"),
    ({"cron": ""}, "cron"),
    ({"cron": "x"}, "cron"),
    ({"cron": "* * * * *"}, "cron"),
    ({"every_minutes": 60}, "cron"),
    ({"cron": "", "every_minutes": 1}, "every_minutes"),
    ({"time_zone": "Nowhere"}, "time_zone"),
    ({"batch_pause": 10**6}, "batch_pause"),
    ({"max_failed_percent": 101}, "max_failed_percent"),
    ({"priority": "urgent"}, "priority"),
    ({"priority": "high"}, "priority"),  # the operator may not approve
]


@pytest.mark.parametrize(("values", "field"), WRONG)
def test_a_mistake_is_told_at_its_field(values, field, make):
    with pytest.raises(InvalidInput) as caught:
        make(**values)
    assert field in caught.value.fields
    assert not TaskSchedule.objects.exists()


def test_a_name_is_taken_once(make):
    make()
    with pytest.raises(InvalidInput) as caught:
        make()
    assert list(caught.value.fields) == ["name"]


def test_of_two_that_are_called_the_same_at_once_the_second_is_told(make, monkeypatch):
    make(name="weekly")
    monkeypatch.setattr(storing, "find_problems", lambda *_args, **_values: {})  # was not there yet
    with pytest.raises(InvalidInput) as caught:
        make(name="weekly")
    assert list(caught.value.fields) == ["name"]
    assert TaskSchedule.objects.count() == 1


@pytest.mark.parametrize("who", ["viewer", "stranger"])
def test_who_may_not_operate_writes_none(who, cast, make):
    row = make()
    with pytest.raises(Forbidden):
        storing.store(row, acting_user=cast[who])
    with pytest.raises(Forbidden):
        storing.remove(row, acting_user=cast[who])


def test_whoever_saves_it_is_the_owner(make, admin):
    row = make()
    assert row.owner_name == "operator"
    storing.store(row, acting_user=admin)
    row.refresh_from_db()
    assert row.owner == admin


def test_a_change_of_something_else_leaves_the_time_as_it_was(due, operator):
    row = due()
    planned = row.next_at
    row.reason = "why"
    storing.store(row, acting_user=operator)
    assert row.next_at == planned
    row.cron = "0 4 * * *"
    storing.store(row, acting_user=operator)
    assert row.next_at > timezone.now()


def test_switched_on_again_it_counts_from_now(due, operator):
    row = due()
    storing.switch(row, enabled=False, acting_user=operator)
    assert row.next_at is None
    storing.switch(row, enabled=True, acting_user=operator)
    assert row.next_at > timezone.now()


def test_one_whose_template_was_withdrawn_is_switched_off(
    make, template, admin, operator, api, browser
):
    row = make()
    saving.offer(template, is_offered=False, acting_user=admin)
    one = reverse("admin:operations_taskschedule_change", args=[row.pk])
    values = {**form(row.cluster), "name": row.name, "machines": row.machines, "enabled": ""}
    for switch in (
        lambda: storing.switch(row, enabled=False, acting_user=admin),
        lambda: api(operator).post(f"{URL}{row.pk}/disable/", {}),
        lambda: browser(operator).post(one, values),
    ):
        TaskSchedule.objects.update(enabled=True, next_at=timezone.now())
        switch()
        row.refresh_from_db()
        assert (row.enabled, row.next_at) == (False, None)
    with pytest.raises(InvalidInput, match="withdrawn"):
        storing.switch(row, enabled=True, acting_user=operator)
    row.refresh_from_db()
    assert not row.enabled


def test_switching_overwrites_nothing_that_was_saved_meanwhile(make, operator, admin):
    row = make()
    TaskSchedule.objects.update(reason="saved meanwhile")
    storing.switch(row, enabled=False, acting_user=admin)
    assert (row.reason, row.owner) == ("saved meanwhile", operator)
    TaskSchedule.objects.update(reason="and again")
    storing.switch(row, enabled=True, acting_user=admin)
    assert (row.reason, row.owner) == ("and again", admin)


def test_switched_on_again_it_keeps_the_version_it_had(make, template, admin, operator):
    row = make()
    storing.switch(row, enabled=False, acting_user=operator)
    save_anew(template, admin, {"key": "go", "step": "Toy"})
    storing.switch(row, enabled=True, acting_user=operator)
    assert row.template_version == 1


@pytest.mark.parametrize("who", ["viewer", "stranger"])
def test_who_may_not_operate_switches_none(who, cast, make):
    with pytest.raises(Forbidden):
        storing.switch(make(), enabled=False, acting_user=cast[who])


def test_one_that_was_deleted_is_not_switched(make, operator):
    row = make()
    TaskSchedule.objects.all().delete()
    with pytest.raises(Conflict):
        storing.switch(row, enabled=False, acting_user=operator)


def test_one_that_was_deleted_is_not_brought_back(make, operator):
    row = make()
    TaskSchedule.objects.all().delete()
    row.pk = 4711
    with pytest.raises(Conflict):
        storing.store(row, acting_user=operator)


def test_the_next_times_are_told(make):
    found = list(storing.upcoming(make(cron="", every_minutes=60)))
    assert {later - sooner for sooner, later in zip(found, found[1:], strict=False)} == {
        timedelta(hours=1)
    }
    assert len(found) == 5


# --- running ----------------------------------------------------------------------------------


def run(control):
    return control(running.run_due)


def test_a_task_is_begun_in_the_name_of_the_owner(due, control, work, template):
    row = due(params={"go": {"size": 4}}, batch_size=2, reason="patches", priority="low")
    assert run(control) == 1
    task = AutoOperationTask.objects.get()
    row.refresh_from_db()
    assert (task.requested_by_name, task.template, task.template_version) == (
        "operator", "nightly", 1,
    )  # fmt: skip
    assert (task.batch_size, task.reason, task.machines.count()) == (2, "patches", 3)
    assert task.priority == "low"
    assert task.steps.get(key="go").params["params"] == {"size": 4}
    assert task.name.startswith("every-night-")
    assert (row.last_task, row.message) == (task, "")
    assert AuditEntry.objects.get(verb="start nightly").actor == "operator"
    work()
    task.refresh_from_db()
    assert task.waiting_for == "an approval: Approval"  # as the template demands


def test_what_was_missed_is_begun_once(due, control):
    row = due(cron="", every_minutes=5)
    assert run(control) == 1
    assert run(control) == 0
    row.refresh_from_db()
    assert row.next_at > timezone.now()
    assert AutoOperationTask.objects.count() == 1


def test_nothing_begins_before_its_time_or_switched_off(make, due, operator, control):
    make()
    row = due(name="off")
    storing.switch(row, enabled=False, acting_user=operator)
    assert run(control) == 0
    assert not running.run(row.pk)
    assert not running.run(4711)


def test_it_is_passed_over_while_the_last_one_is_not_over(due, control):
    row = due()
    run(control)
    TaskSchedule.objects.update(next_at=timezone.now())
    assert run(control) == 0
    row.refresh_from_db()
    assert "is not over" in row.message
    assert row.next_at > timezone.now()
    assert AutoOperationTask.objects.count() == 1


def save_anew(template, admin, *steps):
    content = contents.read({"title": "New", "steps": list(steps)})
    saving.save_version(template, content=content, base=template.version, acting_user=admin)


def test_the_version_that_it_was_saved_with_is_begun(due, template, admin, control, operator):
    row = due()
    save_anew(template, admin, {"key": "go", "step": "Toy"})
    run(control)
    task = AutoOperationTask.objects.get()
    assert (task.template_version, task.steps.count()) == (1, 2)
    assert storing.is_outdated(row)
    storing.store(row, acting_user=operator)
    assert (row.template_version, storing.is_outdated(row)) == (2, False)


def test_so_is_that_of_each_template_below(due, template, admin, control):
    steps = [{"key": "below", "step": "Task", "params": {"template": "nightly"}}]
    for name in ("middle", "outer"):
        content = contents.read({"title": name, "steps": steps})
        saving.create(name=name, content=content, acting_user=admin)
        steps = [{"key": "below", "step": "Task", "params": {"template": name}}]
    row = due(template="outer")
    save_anew(template, admin, {"key": "go", "step": "Toy"})
    assert storing.is_outdated(row)
    run(control)
    (middle,) = nesting.below(AutoOperationTask.objects.get().steps.get().params)
    assert [each.key for each in nesting.below(middle.params)] == ["ask", "go"]


def test_the_page_tells_of_a_newer_version(make, template, admin, browser, operator):
    url = reverse("admin:operations_taskschedule_change", args=[make().pk])
    assert "was saved anew" not in browser(operator).get(url).content.decode()
    save_anew(template, admin, {"key": "go", "step": "Toy"})
    assert "was saved anew" in browser(operator).get(url).content.decode()


@pytest.mark.parametrize("how", ["gone", "inactive", "right"])
def test_without_its_owner_or_their_right_it_is_switched_off(
    how, due, control, operator, cluster_a
):
    row = due()
    if how == "gone":
        operator.delete()
    elif how == "inactive":
        type(operator).objects.filter(pk=operator.pk).update(is_active=False)
    else:
        operator.groups.clear()
    assert run(control) == 0
    row.refresh_from_db()
    assert (row.enabled, row.next_at) == (False, None)
    assert "takes it over" in row.message
    notice = Notice.objects.get(kind=running.STOPPED)
    assert "every-night" in notice.title
    assert AuditEntry.objects.get(verb="stop schedule").actor == "system"
    assert not AutoOperationTask.objects.exists()


def test_without_the_right_to_a_high_priority_its_task_begins_with_a_normal_one(
    due, control, operator, cluster_a
):
    team = factories.make_team("owning")
    factories.grant(team, cluster_a, "owner")
    operator.groups.add(team)
    row = due(priority="high")
    operator.groups.remove(team)
    assert run(control) == 1
    row.refresh_from_db()
    assert (row.enabled, row.priority) == (True, "high")
    assert AutoOperationTask.objects.get().priority == "normal"


def test_it_is_put_off_until_a_freeze_ends(due, control, cluster_a):
    row = due()
    ends = timezone.now() + timedelta(minutes=10)
    planned = timezone.now() + timedelta(hours=20)
    TaskSchedule.objects.update(cron=f"{planned:%M %H} * * *")
    Freeze.objects.create(cluster=cluster_a, reason="quarter", ends_at=ends)
    assert run(control) == 0
    row.refresh_from_db()
    assert row.next_at == ends
    assert "quarter" in row.message
    Freeze.objects.all().delete()
    TaskSchedule.objects.update(next_at=timezone.now())
    assert run(control) == 1


def test_it_is_passed_over_in_a_freeze_without_an_end(due, control, cluster_a):
    row = due()
    Freeze.objects.create(cluster=cluster_a, reason="quarter")
    assert run(control) == 0
    row.refresh_from_db()
    assert row.enabled
    assert row.next_at > timezone.now()
    assert row.message.startswith("Passed over")


def test_what_changes_nothing_waits_for_no_window(due, control, cluster_a, admin):
    content = contents.read({"title": "Look", "steps": [{"key": "wait", "step": "Wait"}]})
    saving.create(name="look", content=content, acting_user=admin)
    due(template="look")
    Freeze.objects.create(cluster=cluster_a, reason="quarter")
    assert run(control) == 1


@pytest.mark.parametrize("why", ["withdrawn", "no machine"])
def test_what_cannot_begin_is_told_once_and_tried_again(why, due, control, template, admin):
    row = due()
    if why == "withdrawn":
        saving.offer(template, is_offered=False, acting_user=admin)
    else:
        TaskSchedule.objects.update(machines="10.9.9.9")
    for _time in range(2):
        assert run(control) == 0
        TaskSchedule.objects.update(next_at=timezone.now())
    row.refresh_from_db()
    assert row.enabled
    assert row.message.startswith("It could not begin")
    assert Notice.objects.filter(kind=running.MISSED).count() == 1


def test_one_that_is_wrong_keeps_no_other_waiting(due, control, monkeypatch):
    due(name="first")
    due(name="second", machines="10.9.9.9")
    monkeypatch.setattr(
        storing, "next_of", lambda row, _now: 1 / 0 if row.name == "first" else None
    )
    assert run(control) == 0
    assert TaskSchedule.objects.get(name="second").message


def test_a_mistake_of_the_portal_is_told_and_tried_the_next_time(due, control, monkeypatch):
    row = due()
    monkeypatch.setattr(running.start, "start_task", lambda **_: 1 / 0)
    for _time in range(2):
        assert run(control) == 0
        row.refresh_from_db()
        assert (row.enabled, row.next_at > timezone.now()) == (True, True)
        assert "mistake" in row.message
        TaskSchedule.objects.update(next_at=timezone.now())
    assert Notice.objects.filter(kind=running.MISSED).count() == 1
    assert not AutoOperationTask.objects.exists()


def test_machines_in_other_tasks_are_left_out(due, control, begin_task, machines):
    begin_task("Wait", machines=machines[:1])
    row = due()
    assert run(control) == 1
    task = AutoOperationTask.objects.get(template="nightly")
    assert set(task.machines.values_list("machine_id", flat=True)) == {
        machine.pk for machine in machines[1:]
    }
    row.refresh_from_db()
    assert row.message == ""


def test_so_they_are_where_all_of_the_cluster_are_meant(due, control, begin_task, machines, admin):
    content = contents.read({"title": "Look", "steps": [{"key": "look", "step": "HealthCheck"}]})
    saving.create(name="look", content=content, acting_user=admin)
    begin_task("Wait", machines=machines[:1])
    row = due(template="look", machines="")
    Machine.objects.update(cluster=row.cluster, state="in_service")
    assert run(control) == 1
    task = AutoOperationTask.objects.get(template="look")
    assert task.machines.count() == len(machines) - 1


def test_it_is_told_when_other_tasks_work_with_all_of_its_machines(due, control, begin_task):
    begin_task("Wait")
    row = due()
    assert run(control) == 0
    row.refresh_from_db()
    assert "Other tasks work with all of its machines" in row.message


def test_machines_one_may_not_see_are_left_out(due, control, machines):
    foreign = factories.make_machine()
    due(machines=f"{machines[0].address} {foreign.address}")
    run(control)
    assert AutoOperationTask.objects.get().machines.get().address == machines[0].address


def test_no_machine_named_is_no_whole_cluster_where_machines_are_taken_out(make, toy, admin):
    steps = [
        {"key": "look", "step": "HealthCheck"},
        {"key": "out", "step": "ScaleDown", "needs": ["look"]},
    ]
    content = contents.read({"title": "Look, then out", "steps": steps})
    saving.create(name="shrink", content=content, acting_user=admin)
    for template in ("ScaleDown", "shrink", "nightly"):
        with pytest.raises(InvalidInput) as caught:
            make(template=template, machines=" ")
        assert list(caught.value.fields) == ["machines"]


def test_nor_where_no_step_is_an_operation(make, toy, admin):
    content = contents.read({"title": "Look", "steps": [{"key": "wait", "step": "Wait"}]})
    saving.create(name="look", content=content, acting_user=admin)
    with pytest.raises(InvalidInput):
        make(template="look", machines="")


def test_one_without_machines_that_was_stored_all_the_same_takes_none_out(due, control, machines):
    row = due(template="ScaleDown")
    Machine.objects.update(cluster=row.cluster, state="in_service")
    TaskSchedule.objects.update(machines="")
    assert run(control) == 0
    row.refresh_from_db()
    assert "Name at least one machine" in row.message


def test_a_health_check_is_of_the_whole_cluster(due, control, machines, admin):
    content = contents.read({"title": "Look", "steps": [{"key": "look", "step": "HealthCheck"}]})
    saving.create(name="look", content=content, acting_user=admin)
    row = due(template="look", machines="")
    Machine.objects.update(cluster=row.cluster, state="in_service")
    assert run(control) == 1
    assert AutoOperationTask.objects.get().machines.count() == len(machines)


def test_it_is_said_that_schedules_go_with_their_cluster(make, cluster_a, cluster_b):
    make()
    assert neighbours.what_goes_with_cluster(cluster_a) == ["1 schedule of tasks is removed."]
    assert neighbours.what_goes_with_cluster(cluster_b) == []


# --- pages and API ----------------------------------------------------------------------------


def form(cluster, **values):
    return {
        "name": "weekly", "cluster": cluster.pk, "template": "nightly", "machines": "10.0.0.0/8",
        "params": "", "cron": "0 22 * * sat", "every_minutes": "", "time_zone": "Europe/Berlin",
        "batch_size": 0, "batch_pause": 0, "max_failed_percent": 100, "priority": "normal",
        "reason": "", "enabled": "on", **values,
    }  # fmt: skip


ADD = reverse("admin:operations_taskschedule_add")


def test_times_that_never_come_are_told_together_with_what_is_missing(browser, operator, cluster_a):
    answer = browser(operator).post(ADD, {**form(cluster_a), "template": "", "cron": "99 99 * *"})
    errors = answer.context["adminform"].form.errors
    assert {"template", "cron"} <= set(errors)


def test_an_interval_that_is_no_number_is_told_once(template, browser, operator, cluster_a):
    wrong = {**form(cluster_a), "cron": "", "every_minutes": "often"}
    errors = browser(operator).post(ADD, wrong).context["adminform"].form.errors
    assert set(errors) == {"every_minutes"}


def test_a_schedule_is_added_on_its_page(template, browser, operator, cluster_a):
    client = browser(operator)
    assert client.get(ADD).status_code == 200
    assert client.post(ADD, form(cluster_a)).status_code == 302
    row = TaskSchedule.objects.get()
    assert (row.owner, row.enabled) == (operator, True)
    page = client.get(reverse("admin:operations_taskschedule_change", args=[row.pk]))
    assert "22:00 (Europe/Berlin)" in page.content.decode()


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"cron": "x"}, "cron"),
        ({"cron": ""}, "cron"),
        ({"template": ""}, "template"),
        ({"time_zone": "Nowhere"}, "time_zone"),
        ({"params": "{"}, "params"),
        ({"params": '{"go": {"odd": 1}}'}, "params"),
        ({"cluster": ""}, "cluster"),
    ],
)
def test_a_mistake_on_the_page_is_at_its_field(
    values, field, template, browser, operator, cluster_a
):
    answer = browser(operator).post(ADD, {**form(cluster_a), **values})
    assert answer.status_code == 200
    assert field in answer.context["adminform"].form.errors
    assert not TaskSchedule.objects.exists()


def test_what_shows_while_it_is_stored_is_told_on_the_page(
    template, browser, operator, cluster_a, monkeypatch
):
    def gone(*_args, **_values):
        raise Conflict("It was deleted meanwhile.", code="gone")

    monkeypatch.setattr(storing, "_save", gone)
    answer = browser(operator).post(ADD, form(cluster_a), follow=True)
    assert answer.status_code == 200
    assert "It was deleted meanwhile." in answer.content.decode()


def test_a_cluster_one_may_not_operate_is_no_choice(template, browser, operator, cluster_b):
    answer = browser(operator).post(ADD, form(cluster_b))
    assert "cluster" in answer.context["adminform"].form.errors


def test_it_is_switched_in_the_list(make, browser, operator):
    row = make()
    url = reverse("admin:operations_taskschedule_changelist")
    for action, enabled in (("switch_off", False), ("switch_on", True)):
        browser(operator).post(url, {"action": action, "_selected_action": [row.pk]})
        row.refresh_from_db()
        assert row.enabled is enabled


def test_the_api_makes_changes_switches_and_deletes(template, api, operator, cluster_a):
    client = api(operator)
    wish = {"name": "weekly", "cluster": cluster_a.pk, "template": "nightly", "every_minutes": 60,
            "machines": "10.0.0.0/8"}  # fmt: skip
    answer = client.post(URL, wish, format="json")
    assert answer.status_code == 201, answer.content
    one = f"{URL}{answer.json()['id']}/"
    assert len(answer.json()["upcoming"]) == 5
    assert client.patch(one, {"every_minutes": 90}, format="json").json()["every_minutes"] == 90
    assert client.post(f"{one}disable/", {}).json()["enabled"] is False
    assert client.post(f"{one}enable/", {}).json()["enabled"] is True
    assert client.delete(one).status_code == 204
    verbs = AuditEntry.objects.filter(object_type="operations.taskschedule").order_by("id")
    assert list(verbs.values_list("verb", flat=True)) == [
        "add", "change", "change", "change", "delete",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"every_minutes": 1}, "every_minutes"),
        ({"cron": "0 3 * * *"}, "cron"),
        ({"template": "nothing"}, "template"),
        ({"enabledd": True}, "enabledd"),
        ({"name": "A"}, "name"),
    ],
)
def test_a_mistake_in_the_api_names_its_field(change, field, template, api, operator, cluster_a):
    wish = {"name": "weekly", "cluster": cluster_a.pk, "template": "nightly", "every_minutes": 60,
            "machines": "10.0.0.0/8"}  # fmt: skip
    answer = api(operator).post(URL, {**wish, **change}, format="json")
    assert answer.status_code == 400
    assert field in answer.json()["fields"]
    assert not TaskSchedule.objects.exists()


def test_a_cluster_of_others_is_unknown_in_the_api(template, api, viewer, operator, cluster_b):
    wish = {"name": "weekly", "cluster": cluster_b.pk, "template": "nightly", "every_minutes": 60,
            "machines": "10.0.0.0/8"}  # fmt: skip
    for user in (viewer, operator):
        answer = api(user).post(URL, wish, format="json")
        assert (answer.status_code, list(answer.json()["fields"])) == (400, ["cluster"])
