"""Windows and freezes where they are kept to: whatever begins, by whichever way, minds them."""

from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.urls import reverse
from django.utils import timezone

from beidou.base.errors import Conflict, Forbidden, InvalidInput
from beidou.base.models import AuditEntry
from beidou.overview.attention import needs
from operations.models import ClusterSettings, Freeze, MaintenanceWindow, Operation
from operations.services import calendars, dispatch, limits, plans, queue, start
from operations.services import control as controls
from tests import factories
from tests.operations.queue.conftest import fresh, running
from tests.operations.toy import toy_kind

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner(cluster_a):
    team = factories.make_team("owners")
    factories.grant(team, cluster_a, "owner")
    return factories.make_user("owner", teams=(team,))


@pytest.fixture
def frozen(cluster_a):
    return Freeze.objects.create(cluster=cluster_a, reason="year's end")


def window(cluster, *, opens_in: timedelta, minutes=60) -> MaintenanceWindow:
    """One that begins so long from now (a negative time: it is open)."""
    zone = ZoneInfo("UTC")
    begins = (timezone.now() + opens_in).astimezone(zone)
    return MaintenanceWindow.objects.create(
        cluster=cluster,
        weekdays=[MaintenanceWindow.Weekday.values[begins.weekday()]],
        start=begins.time().replace(microsecond=0),
        minutes=minutes,
    )


def dispatched(control) -> list[str]:
    control(dispatch.dispatch)
    return running()


# --- waiting --------------------------------------------------------------------------------


def test_a_change_waits_for_its_window_and_says_until_when(toy, queued, cluster_a, control):
    window(cluster_a, opens_in=timedelta(hours=3))
    waiting = queued()
    assert dispatched(control) == []
    row = fresh(waiting)
    assert row.waiting_for.startswith("the window ")
    assert timedelta(hours=2) < row.waiting_until - timezone.now() <= timedelta(hours=3)
    assert row.is_held


def test_within_a_window_changes_begin(toy, queued, cluster_a, control):
    window(cluster_a, opens_in=timedelta(minutes=-30))
    queued("change")
    assert dispatched(control) == ["change"]


def test_one_open_window_of_several_is_enough(toy, queued, cluster_a, control):
    window(cluster_a, opens_in=timedelta(hours=5))
    window(cluster_a, opens_in=timedelta(minutes=-30))
    queued("change")
    assert dispatched(control) == ["change"]


def test_in_a_freeze_changes_wait_and_say_why(toy, queued, frozen, control):
    waiting = queued()
    assert dispatched(control) == []
    assert fresh(waiting).waiting_for == "the end of the freeze “year's end”"
    assert fresh(waiting).waiting_until is None


@pytest.mark.parametrize("values", [{"label": "tier=gold"}, {}], ids=["label", "fleet"])
def test_a_freeze_of_a_label_or_of_the_fleet_holds_for_its_clusters(
    toy, queued, cluster_a, control, values
):
    cluster_a.labels = {"tier": "gold"}
    cluster_a.save()
    Freeze.objects.create(reason="all quiet", **values)
    waiting = queued()
    assert dispatched(control) == []
    assert "all quiet" in fresh(waiting).waiting_for


def test_other_clusters_are_not_frozen(toy, queued, frozen, cluster_b, control):
    Freeze.objects.create(label="tier=gold", reason="others")
    queued("elsewhere", cluster=cluster_b)
    assert dispatched(control) == ["elsewhere"]


def test_what_changes_nothing_begins_at_any_time(queued, frozen, control):
    with toy_kind(mutating=False):
        queued("look")
        assert dispatched(control) == ["look"]


def test_steps_that_only_look_begin_at_any_time(begin, frozen, work):
    with toy_kind(looks=frozenset({"first"})):
        looking = begin(steps=["first"])
        work()
        changing = begin()
        work()
        assert (fresh(looking).status, fresh(changing).is_held) == ("succeeded", True)


def test_steps_that_only_look_take_no_slot_for_changes(begin, control):
    with toy_kind(looks=frozenset({"first"})):
        looking = begin(steps=["first"])
        control(dispatch.dispatch)
        assert (fresh(looking).slot, fresh(looking).place) == (None, 0)


def test_steps_that_only_look_hold_their_machines_and_a_retry_holds_them_again(
    begin, frozen, operator, control, work
):
    with toy_kind(looks=frozenset({"first"})) as toy:
        looking = begin(steps=["first"])
        assert looking.machines.filter(holds_machine=True).count() == 3
        toy.failing = {("first", looking.machines.first().address)}
        work()
        control(controls.retry, fresh(looking), acting_user=operator)
        assert looking.machines.filter(holds_machine=True).count() == 1


def test_an_ended_freeze_holds_nothing(toy, queued, frozen, control):
    now = timezone.now()
    Freeze.objects.update(begins_at=now - timedelta(days=2), ends_at=now - timedelta(seconds=1))
    queued("change")
    assert dispatched(control) == ["change"]


def test_when_the_freeze_is_ended_what_waits_begins(toy, begin, frozen, owner, control, work):
    operation = begin()
    work()
    assert fresh(operation).is_held
    control(calendars.remove, frozen, acting_user=owner)
    work()
    assert fresh(operation).status == Operation.Status.SUCCEEDED


def test_what_has_begun_goes_on_to_its_end(toy, begin, work, cluster_a):
    operation = begin()
    work(limit=2)
    Freeze.objects.create(cluster=cluster_a, reason="just now")
    work()
    assert fresh(operation).status == Operation.Status.SUCCEEDED


@pytest.fixture
def paused(toy, begin, work, control, operator):
    """Between its two steps."""
    operation = begin()
    work(limit=2)
    control(controls.pause, fresh(operation), acting_user=operator)
    work()
    toy.calls.clear()
    assert fresh(operation).status == Operation.Status.PAUSED
    return fresh(operation)


def test_resuming_is_a_beginning(paused, frozen, toy, control, operator, owner, work):
    control(controls.resume, paused, acting_user=operator)
    work()
    assert fresh(paused).is_held
    assert fresh(paused).waiting_for == "the end of the freeze “year's end”"
    assert not toy.calls
    control(calendars.remove, frozen, acting_user=owner)
    work()
    assert fresh(paused).status == Operation.Status.SUCCEEDED
    assert [step for step, _machines in toy.calls] == ["second"]


def test_resuming_outside_of_its_window_is_a_beginning(paused, cluster_a, control, operator, work):
    window(cluster_a, opens_in=timedelta(hours=3))
    control(controls.resume, paused, acting_user=operator)
    work()
    assert fresh(paused).waiting_for.startswith("the window ")


def test_without_a_freeze_a_paused_one_goes_on_at_once(paused, control, operator, work):
    control(controls.resume, paused, acting_user=operator)
    work()
    assert fresh(paused).status == Operation.Status.SUCCEEDED


def test_what_changes_nothing_is_resumed_at_any_time(begin, frozen, work, control, operator):
    with toy_kind(mutating=False):
        operation = begin()
        work(limit=2)
        control(controls.pause, fresh(operation), acting_user=operator)
        work()
        control(controls.resume, fresh(operation), acting_user=operator)
        work()
        assert fresh(operation).status == Operation.Status.SUCCEEDED


def test_whoever_may_approve_lets_a_resumed_one_go_on(
    paused, frozen, control, operator, owner, work
):
    control(controls.resume, paused, acting_user=operator)
    work()
    with pytest.raises(Forbidden, match="“approve”"):
        controls.break_glass(fresh(paused), acting_user=operator, reason="half done")
    control(controls.break_glass, fresh(paused), acting_user=owner, reason="half done")
    work()
    assert fresh(paused).status == Operation.Status.SUCCEEDED
    assert AuditEntry.objects.get(verb="break glass").reason == "half done"


def test_what_was_resumed_into_the_queue_keeps_its_machines_and_no_slot(
    paused, frozen, control, operator, work
):
    control(controls.resume, paused, acting_user=operator)
    row = fresh(paused)
    assert row.machines.filter(holds_machine=True).count() == 3
    assert (row.slot, row.team_slot, row.place) == (None, None, None)
    entry = AuditEntry.objects.get(verb="resume")
    assert entry.after == {"waits_for": "the end of the freeze “year's end”"}


def test_what_was_resumed_into_the_queue_may_be_canceled(paused, frozen, control, operator, work):
    control(controls.resume, paused, acting_user=operator)
    work()
    control(controls.cancel, fresh(paused), acting_user=operator)
    assert fresh(paused).status == Operation.Status.CANCELED
    assert not paused.machines.filter(holds_machine=True).exists()


def test_in_a_freeze_it_is_not_resumed_before_its_step_has_ended(
    toy, begin, work, operator, cluster_a
):
    def pause_and_resume(run):
        if run.step_name == "first":
            row = fresh(run.operation)
            controls.pause(row, acting_user=operator)
            Freeze.objects.create(cluster=cluster_a, reason="just now")
            with pytest.raises(Conflict, match="still being finished. Resume it once") as refused:
                controls.resume(fresh(row), acting_user=operator)
            assert refused.value.code == "held"

    toy.during = pause_and_resume
    operation = begin()
    work()
    assert fresh(operation).status == Operation.Status.PAUSED


@pytest.fixture
def failed(toy, begin, work, machines):
    toy.failing = {("first", machine.address) for machine in machines}
    operation = begin()
    work()
    assert fresh(operation).status == Operation.Status.FAILED
    return fresh(operation)


def test_a_retry_is_a_beginning(failed, frozen, control, operator, work):
    control(controls.retry, failed, acting_user=operator)
    work()
    assert fresh(failed).is_held


def test_going_on_after_a_skip_is_a_beginning(failed, frozen, control, operator, work):
    members = list(failed.machines.values_list("pk", flat=True))
    control(
        controls.skip, failed, acting_user=operator, step="first", machines=members, reason="seen"
    )
    work()
    assert fresh(failed).is_held


def test_an_operation_that_the_api_starts_waits_too(
    toy, api, operator, cluster_a, machines, frozen, control
):
    asked = {"kind": "Toy", "cluster": cluster_a.pk, "machines": [machines[0].pk]}
    answer = api(operator).post("/api/v1/operations/", asked)
    control(dispatch.dispatch)
    row = api(operator).get(answer["Location"]).json()
    assert (row["status"], row["is_held"]) == ("waiting", True)
    assert row["waiting_for"] == "the end of the freeze “year's end”"


def test_what_is_held_may_be_canceled(toy, begin, frozen, control, operator, work):
    operation = begin()
    work()
    control(controls.cancel, fresh(operation), acting_user=operator)
    assert fresh(operation).status == Operation.Status.CANCELED


def test_waiting_for_a_window_makes_nothing_older(toy, queued, frozen, control, settings):
    old = queued(ago=timedelta(days=3), priority="low")
    dispatched(control)
    assert fresh(old).ready_at is None
    settings.OPERATIONS_AT_ONCE = 1
    queued("running", place=0, status=Operation.Status.RUNNING)
    frozen.delete()
    dispatched(control)
    assert fresh(old).waiting_for == "one of the 1 slots of the portal"
    assert timezone.now() - fresh(old).ready_at < timedelta(minutes=1)


def test_a_limit_that_changes_makes_nothing_younger(toy, queued, cluster_a, control, settings):
    settings.OPERATIONS_AT_ONCE = 1
    queued("running", place=0, status=Operation.Status.RUNNING)
    old = queued(ago=timedelta(hours=3))
    dispatched(control)
    settings.OPERATIONS_AT_ONCE = 2
    queued("another", place=1, status=Operation.Status.RUNNING)
    dispatched(control)
    assert timezone.now() - fresh(old).ready_at > timedelta(hours=2)


def test_what_is_held_has_no_turn_before_what_could_begin(
    toy, queued, frozen, cluster_b, control, admin
):
    queued("held", priority="high")
    queued("ready", cluster=cluster_b, priority="low")
    found = queue.look(admin)
    assert [place.operation.name for place in found.places] == ["ready", "held"]


def test_many_clusters_with_calendars_cost_two_queries(django_assert_num_queries):
    clusters = [factories.make_cluster() for _ in range(20)]
    for cluster in clusters:
        window(cluster, opens_in=timedelta(hours=1))
        Freeze.objects.create(cluster=cluster, reason="x")
        ClusterSettings.objects.create(cluster=cluster, limit=4, time_zone="Asia/Tokyo")
    with django_assert_num_queries(2):
        found = calendars.sites({cluster.pk for cluster in clusters}, timezone.now())
    site = found[clusters[0].pk]
    assert (site.limit, site.zone.key) == (4, "Asia/Tokyo")
    assert (len(site.windows), len(site.freezes)) == (1, 1)


def test_a_zone_that_the_system_knows_no_more_is_that_of_the_portal(settings):
    settings.TIME_ZONE = "Europe/Berlin"
    assert calendars.zone_of("Mars/Olympus").key == "Europe/Berlin"
    assert calendars.zone_of("").key == "Europe/Berlin"


def test_the_clusters_own_zone_counts(cluster_a):
    ClusterSettings.objects.create(cluster=cluster_a, time_zone="Asia/Tokyo")
    MaintenanceWindow.objects.create(
        cluster=cluster_a, weekdays=["sat"], start=time(22), minutes=60
    )
    calendar = calendars.calendar_of(cluster_a)
    tokyo = datetime(2026, 11, 28, 22, 30, tzinfo=ZoneInfo("Asia/Tokyo"))
    assert calendar.hold(tokyo) is None
    assert calendar.hold(tokyo.replace(tzinfo=ZoneInfo("UTC"))) is not None


# --- before the start -----------------------------------------------------------------------


def notes(cluster, machines, user) -> list[str]:
    plan = start.plan_operation(
        kind="Toy", cluster=cluster, machines=machines, params={}, acting_user=user
    )
    return plans.as_dict(plan)["notes"]


def test_a_plan_says_what_it_will_wait_for(toy, cluster_a, machines, operator, frozen):
    assert notes(cluster_a, machines, operator) == [
        "It will wait for the end of the freeze “year's end”."
    ]


def test_a_plan_says_when_it_may_outlast_the_window(toy, cluster_a):
    window(cluster_a, opens_in=timedelta(minutes=-30), minutes=60)
    assert calendars.remarks(cluster_a, (60.0, 600.0)) == []
    (remark,) = calendars.remarks(cluster_a, (60.0, 3600.0))
    assert remark.text.startswith("It may take longer than until ")


def test_a_plan_of_which_nobody_knows_how_long_it_takes_says_nothing(toy, cluster_a):
    window(cluster_a, opens_in=timedelta(minutes=-30), minutes=60)
    assert calendars.remarks(cluster_a, None) == []


def test_a_plan_of_what_changes_nothing_says_nothing_of_it(cluster_a, machines, operator, frozen):
    with toy_kind(mutating=False):
        assert notes(cluster_a, machines, operator) == []


def test_the_clusters_page_says_whether_changes_may_begin(browser, viewer, cluster_a, frozen):
    text = browser(viewer).get(reverse("admin:clusters_cluster_change", args=[cluster_a.pk]))
    assert "wait for the end of the freeze" in text.content.decode()
    frozen.delete()
    window(cluster_a, opens_in=timedelta(minutes=-1))
    text = browser(viewer).get(reverse("admin:clusters_cluster_change", args=[cluster_a.pk]))
    assert "may begin, in the window" in text.content.decode()


# --- in spite of them -----------------------------------------------------------------------


@pytest.fixture
def held(toy, begin, frozen, work):
    operation = begin()
    work()
    assert fresh(operation).is_held
    return fresh(operation)


def test_whoever_may_approve_lets_one_begin(held, control, owner, work):
    control(controls.break_glass, held, acting_user=owner, reason="disk is failing")
    work()
    row = fresh(held)
    assert row.status == Operation.Status.SUCCEEDED
    assert (row.glass_broken_by, row.glass_reason) == ("owner", "disk is failing")
    entry = AuditEntry.objects.get(verb="break glass")
    assert entry.reason == "disk is failing"
    assert entry.after == {"waited_for": "the end of the freeze “year's end”"}


def test_whoever_may_not_approve_is_refused(held, operator):
    with pytest.raises(Forbidden, match="“approve”"):
        controls.break_glass(held, acting_user=operator, reason="I want it now")
    assert fresh(held).is_held


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_it_needs_a_reason(held, owner, reason):
    with pytest.raises(InvalidInput, match="needs a reason"):
        controls.break_glass(held, acting_user=owner, reason=reason)


def test_what_nothing_keeps_needs_no_broken_glass(toy, queued, owner):
    with pytest.raises(Conflict, match="No window and no freeze"):
        controls.break_glass(queued(), acting_user=owner, reason="why not")


def test_what_runs_needs_none(toy, queued, owner, frozen):
    row = queued(status=Operation.Status.RUNNING)
    with pytest.raises(Conflict, match="No window and no freeze"):
        controls.break_glass(row, acting_user=owner, reason="why not")


def test_limits_hold_in_spite_of_it(toy, queued, frozen, control, owner, settings):
    settings.OPERATIONS_AT_ONCE = 1
    queued("running", place=0, status=Operation.Status.RUNNING)
    waiting = queued()
    control(controls.break_glass, waiting, acting_user=owner, reason="now")
    control(dispatch.dispatch)
    assert fresh(waiting).waiting_for == "one of the 1 slots of the portal"


def test_others_go_on_waiting(held, queued, control, owner, work):
    other = queued()
    control(controls.break_glass, held, acting_user=owner, reason="this one")
    work()
    assert fresh(other).is_held


def test_it_holds_for_one_beginning(toy, held, control, owner, operator, work, machines):
    toy.failing = {("first", machine.address) for machine in machines}
    control(controls.break_glass, held, acting_user=owner, reason="once")
    work()
    assert fresh(held).status == Operation.Status.FAILED
    control(controls.retry, fresh(held), acting_user=operator)
    work()
    assert fresh(held).is_held


def test_the_home_page_tells_it_for_a_day(held, control, owner, viewer):
    control(controls.break_glass, held, acting_user=owner, reason="disk is failing")
    (need,) = [need for need in needs(viewer) if need.kind == "broken_glass"]
    assert need.text == f"owner let {held.name} begin in spite of windows and freezes"
    assert need.detail == "disk is failing"
    Operation.objects.update(glass_broken_at=timezone.now() - timedelta(hours=25))
    assert "broken_glass" not in [need.kind for need in needs(viewer)]


def test_what_waits_for_its_window_needs_nobody(toy, queued, cluster_a, control, viewer):
    window(cluster_a, opens_in=timedelta(hours=3))
    waiting = queued()
    Operation.objects.update(created_at=timezone.now() - timedelta(hours=1))
    dispatched(control)
    assert fresh(waiting).waiting_until is not None
    assert needs(viewer) == []


def test_the_api_lets_it_begin(held, api, owner, operator, control):
    address = f"/api/v1/operations/{held.pk}/break-glass/"
    assert api(operator).post(address, {"reason": "now"}).status_code == 403
    answer = api(owner).post(address, {})
    assert (answer.status_code, set(answer.json()["fields"])) == (400, {"reason"})
    answer = api(owner).post(address, {"reason": "now"})
    assert (answer.status_code, answer.json()["glass_broken_by"]) == (202, "owner")


def test_the_page_of_the_operation_carries_it(held, browser, viewer, control, owner):
    control(controls.break_glass, held, acting_user=owner, reason="disk is failing")
    address = reverse("admin:operations_operation_change", args=[held.pk])
    data = browser(viewer).get(address).context["page_data"]
    taken = data["snapshot"]["operation"]
    assert (taken["glass_broken_by"], taken["glass_reason"]) == ("owner", "disk is failing")
    assert not data["may_approve"]


# --- editing --------------------------------------------------------------------------------

WINDOWS, FREEZES = "/api/v1/maintenance-windows/", "/api/v1/freezes/"


def wish(cluster, **values):
    return {
        "cluster": cluster.pk, "weekdays": ["sat", "sun"], "start": "22:00", "minutes": 240,
        **values,
    }  # fmt: skip


def test_an_owner_adds_changes_and_removes_a_window(api, owner, cluster_a):
    answer = api(owner).post(WINDOWS, wish(cluster_a), format="json")
    assert answer.status_code == 201
    address = answer.json()["url"]
    changed = api(owner).patch(address, {"minutes": 60}, format="json")
    assert (changed.status_code, changed.json()["minutes"]) == (200, 60)
    assert api(owner).delete(address).status_code == 204
    verbs = AuditEntry.objects.filter(object_type="operations.maintenancewindow")
    assert list(verbs.order_by("id").values_list("verb", flat=True)) == ["add", "change", "delete"]


def test_windows_and_freezes_take_the_name_of_a_cluster(api, owner, cluster_a):
    answer = api(owner).post(WINDOWS, {**wish(cluster_a), "cluster": cluster_a.name}, format="json")
    assert (answer.status_code, answer.json()["cluster"]) == (201, cluster_a.pk)
    asked = {"cluster": cluster_a.name, "reason": "quiet"}
    answer = api(owner).post(FREEZES, asked, format="json")
    assert (answer.status_code, answer.json()["cluster"]) == (201, cluster_a.pk)


@pytest.mark.parametrize("cluster", ["cluster-b", "no-such", ["cluster-a"], True])
def test_of_other_clusters_no_name_is_known(api, owner, cluster_a, cluster_b, cluster):
    for address, asked in ((WINDOWS, wish(cluster_a)), (FREEZES, {"reason": "quiet"})):
        answer = api(owner).post(address, {**asked, "cluster": cluster}, format="json")
        assert (answer.status_code, set(answer.json()["fields"])) == (400, {"cluster"})


def test_an_operator_adds_no_window(api, operator, cluster_a):
    answer = api(operator).post(WINDOWS, wish(cluster_a), format="json")
    assert answer.status_code == 400  # of clusters that are not theirs, none exists as far as this
    assert not MaintenanceWindow.objects.exists()


def test_a_window_is_not_moved_to_a_cluster_of_others(api, owner, cluster_a, cluster_b):
    row = window(cluster_a, opens_in=timedelta(hours=1))
    answer = api(owner).patch(f"{WINDOWS}{row.pk}/", {"cluster": cluster_b.pk}, format="json")
    assert answer.status_code == 400
    row.refresh_from_db()
    assert row.cluster == cluster_a


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"weekdays": []}, "weekdays"),
        ({"weekdays": ["sat", "sat"]}, "weekdays"),
        ({"weekdays": ["someday"]}, "weekdays.0"),
        ({"weekdays": "sat"}, "weekdays"),
        ({"minutes": 4}, "minutes"),
        ({"minutes": 10081}, "minutes"),
        ({"start": "25:00"}, "start"),
    ],
    ids=str,
)
def test_a_wrong_window_is_refused_at_its_field(api, owner, cluster_a, values, field):
    answer = api(owner).post(WINDOWS, wish(cluster_a, **values), format="json")
    assert (answer.status_code, set(answer.json()["fields"])) == (400, {field})


def test_an_owner_freezes_their_cluster_and_nothing_more(api, owner, cluster_a):
    asked = {"cluster": cluster_a.pk, "reason": "quiet"}
    assert api(owner).post(FREEZES, asked, format="json").status_code == 201
    for values in ({}, {"label": "tier=gold"}):
        answer = api(owner).post(FREEZES, {"reason": "all", **values}, format="json")
        assert answer.status_code == 403
    assert Freeze.objects.count() == 1


def test_an_administrator_freezes_labels_and_the_fleet(api, admin):
    for values in ({}, {"label": " tier = gold "}):
        answer = api(admin).post(FREEZES, {"reason": "all", **values}, format="json")
        assert answer.status_code == 201
    assert sorted(Freeze.objects.values_list("label", flat=True)) == ["", "tier=gold"]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"begins_at": "2026-12-02T00:00Z", "ends_at": "2026-12-01T00:00Z"}, "ends_at"),
        ({"cluster": None, "label": "gold"}, "label"),
        ({"label": "tier=gold"}, "label"),
        ({"reason": ""}, "reason"),
    ],
    ids=str,
)
def test_a_wrong_freeze_is_refused_at_its_field(api, admin, cluster_a, values, field):
    asked = {"cluster": cluster_a.pk, "reason": "quiet", **values}
    answer = api(admin).post(FREEZES, asked, format="json")
    assert (answer.status_code, set(answer.json()["fields"])) == (400, {field})


def test_a_freeze_that_would_be_over_is_refused_and_one_that_is_there_may_be_ended(
    api, owner, cluster_a
):
    past = timezone.now() - timedelta(hours=1)
    asked = {
        "cluster": cluster_a.pk, "reason": "quiet",
        "begins_at": (past - timedelta(hours=1)).isoformat(), "ends_at": past.isoformat(),
    }  # fmt: skip
    answer = api(owner).post(FREEZES, asked, format="json")
    assert (answer.status_code, set(answer.json()["fields"])) == (400, {"ends_at"})
    row = Freeze.objects.create(
        cluster=cluster_a, reason="quiet", begins_at=past - timedelta(hours=1)
    )
    answer = api(owner).patch(f"{FREEZES}{row.pk}/", {"ends_at": past.isoformat()}, format="json")
    assert answer.status_code == 200, answer.json()


@pytest.mark.parametrize(
    ("weekdays", "minutes", "status"),
    [
        (["mon", "tue"], 1441, 400),
        (["sun", "mon"], 1441, 400),
        (["mon", "tue"], 1440, 201),
        (["mon", "thu"], 3 * 1440, 201),
        (["mon"], 7 * 1440, 201),
    ],
)
def test_a_window_ends_before_it_begins_the_next_time(
    api, owner, cluster_a, weekdays, minutes, status
):
    asked = {"cluster": cluster_a.pk, "weekdays": weekdays, "start": "22:00", "minutes": minutes}
    answer = api(owner).post(WINDOWS, asked, format="json")
    assert answer.status_code == status, answer.json()
    if status == 400:
        assert set(answer.json()["fields"]) == {"minutes"}


def test_an_owner_adds_a_window_on_the_page(browser, owner, cluster_a, cluster_b):
    address = reverse("admin:operations_maintenancewindow_add")
    form = browser(owner).get(address).context["adminform"].form
    assert list(form.fields["cluster"].queryset) == [cluster_a]
    asked = {"cluster": cluster_a.pk, "weekdays": ["sat"], "start": "22:00", "minutes": 240}
    answer = browser(owner).post(address, asked, follow=True)
    assert answer.status_code == 200
    assert MaintenanceWindow.objects.get().weekdays == ["sat"]
    assert "Saturday" in answer.content.decode()


def test_a_freeze_is_asked_for_in_a_time_zone_that_is_named(browser, owner, settings):
    settings.TIME_ZONE = "Asia/Shanghai"
    text = browser(owner).get(reverse("admin:operations_freeze_add")).content.decode()
    assert text.count("In the time zone Asia/Shanghai.") == 2


def test_an_owner_may_name_no_label_on_the_page(browser, owner, cluster_a):
    address = reverse("admin:operations_freeze_add")
    asked = {
        "cluster": cluster_a.pk, "label": "tier=gold", "reason": "quiet",
        "begins_at_0": "2026-12-01", "begins_at_1": "00:00",
    }  # fmt: skip
    browser(owner).post(address, asked)
    assert Freeze.objects.get().label == ""


def test_a_freeze_that_ends_too_early_is_marked_on_the_page(browser, admin):
    asked = {
        "reason": "quiet", "begins_at_0": "2026-12-02", "begins_at_1": "00:00",
        "ends_at_0": "2026-12-01", "ends_at_1": "00:00",
    }  # fmt: skip
    answer = browser(admin).post(reverse("admin:operations_freeze_add"), asked)
    assert "It ends before it begins." in answer.content.decode()
    assert not Freeze.objects.exists()


@pytest.mark.parametrize("zone", ["Mars/Olympus", "Europe", "x" * 60])
def test_an_unknown_time_zone_is_refused(api, owner, cluster_a, zone):
    address = f"/api/v1/operation-settings/{cluster_a.pk}/"
    answer = api(owner).patch(address, {"time_zone": zone}, format="json")
    assert (answer.status_code, set(answer.json()["fields"])) == (400, {"time_zone"})
    assert api(owner).patch(address, {"time_zone": "Asia/Tokyo"}).status_code == 200


def test_limits_know_the_calendars_of_what_waits_alone(toy, queued, cluster_b):
    waiting, in_use = limits.read()
    assert limits.of(waiting, in_use).sites == {}
    queued()
    waiting, in_use = limits.read()
    assert cluster_b.pk not in limits.of(waiting, in_use).sites
