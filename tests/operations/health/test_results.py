"""The results on the operation's page, and the last verdict on the pages of machine and node."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from clusters.models import Node
from machines.models import Machine
from operations.models import MachineStep, Operation
from operations.services import control as controls
from operations.services import results
from tests import factories
from tests.operations.health.conftest import host_check

pytestmark = pytest.mark.django_db


@pytest.fixture
def uneven(check, hosts):
    """The second of two: one machine got a bad disk, the load of another one sank."""
    hosts.checks["10.0.0.2"] = [host_check("load", ok=False, severity="warning")]
    check()
    hosts.checks["10.0.0.1"] = [host_check("disk:/", ok=False)]
    hosts.checks["10.0.0.2"] = [host_check("load")]
    hosts.checks["10.0.0.3"] = [host_check("swap", ok=False, severity="warning")]
    return check()


def addresses(table):
    return [row.member.address for row in table.rows]


def test_machines_with_problems_come_first_and_well_ones_not_at_all(uneven):
    table = results.of(uneven)
    assert addresses(table) == ["10.0.0.1", "10.0.0.3"]
    assert list(table.columns) == ["disk:/", "swap"]
    assert [[each and each.level for each in row.cells] for row in table.rows] == [
        ["error", None],
        [None, "warning"],
    ]


def test_what_has_changed_is_shown_alone_when_asked(uneven):
    table = results.of(uneven, view="changed")
    assert addresses(table) == ["10.0.0.1", "10.0.0.3", "10.0.0.2"]
    changes = {each.name: each.change for row in table.rows for each in row.told if each.change}
    assert changes == {"disk:/": "new", "load": "repaired", "swap": "new"}


def test_everything_is_shown_when_asked(uneven):
    table = results.of(uneven, view="all")
    assert len(table.rows) == table.total == 3
    assert {"pod-dns", "node-network", "disk:/", "load"} <= set(table.columns)


def test_what_was_not_tried_is_told_apart_from_what_is_in_order(check, machines, browser, operator):
    operation = check()
    columns, row = (
        results.of(operation, view="all").columns,
        results.of(operation, view="all").rows[0],
    )
    tried = {each.name: each.is_tried for each in row.cells if each is not None}
    assert "image-pull" in columns
    assert [name for name, is_tried in tried.items() if not is_tried] == ["image-pull"]
    for place, query in (("results", "?show=all"), ("evidence", "")):
        url = reverse(f"operations:{place}", args=[operation.pk]) + query
        assert "not tried" in browser(operator).get(url).content.decode()


def test_an_unknown_view_is_that_of_problems(uneven):
    assert results.of(uneven, view="nonsense").view == "problems"


def test_figures_count_checks_and_machines(uneven):
    counts = results.of(uneven).counts
    assert (counts["error"], counts["warning"]) == (1, 1)
    assert (counts["new"], counts["repaired"], counts["still"]) == (2, 1, 0)
    assert (counts["machines_error"], counts["machines_warning"], counts["machines_ok"]) == (
        1, 1, 1,
    )  # fmt: skip


def test_results_cost_one_query_whatever_the_number_of_machines(uneven):
    with CaptureQueriesContext(connection) as captured:
        results.of(uneven, view="all")
    assert len(captured) == 1


def test_the_grid_says_who_reaches_whom(check, kube):
    kube.cut.add("n3")
    nodes, pods = results.of(check()).grids
    assert (nodes.key, nodes.failed) == ("nodes_reached", [])
    assert pods.names == ["n1", "n2", "n3"]
    assert pods.rows[0] == ("n1", [None, True, False])
    assert ("n3", "n1") in pods.failed
    assert (pods.asked, pods.more) == (6, 0)


def test_one_machine_alone_has_a_grid_with_its_helpers(check, machines):
    grid = results.of(check(machines[0])).grids[-1]
    assert grid.rows[1] == ("n2", [None, None, None])


def test_very_many_nodes_have_no_grid_and_the_failed_pairs_are_counted(check, machines):
    operation = check()
    cell = MachineStep.objects.filter(step__operation=operation).first()
    cell.evidence = {"node": "n1", "pods_reached": {f"x{at:03}": False for at in range(60)}}
    cell.save()
    grid = results.of(operation).grids[-1]
    assert grid.rows == []
    assert (len(grid.failed), grid.more) == (50, 14 - 4)


def test_a_machine_that_failed_without_any_check_is_a_problem(check, machines):
    operation = check()
    MachineStep.objects.filter(step__operation=operation).update(
        status="failed", checks=[], evidence={}, message="Not done within 60 seconds."
    )
    table = results.of(operation)
    assert len(table.rows) == 3
    assert results.of(operation, view="changed").rows == []


def test_a_failure_that_was_skipped_is_still_told(check, hosts, machines, operator, control):
    hosts.checks["10.0.0.1"] = [host_check("disk:/", ok=False)]
    operation = check()
    member = operation.machines.get(machine=machines[0])
    control(
        controls.skip, operation, acting_user=operator, step="healthCheck",
        machines=[member.pk], reason="known",
    )  # fmt: skip
    table = results.of(operation)
    assert (addresses(table), table.total) == (["10.0.0.1"], 3)


# --- pages ----------------------------------------------------------------------------------------


def page(operation):
    return reverse("operations:results", args=[operation.pk])


@pytest.mark.parametrize(
    ("view", "told", "untold"),
    [
        ("", "do so", "repaired"),
        ("changed", "repaired", "pod-dns"),
        ("all", "pod-dns", "do so"),
    ],
)
def test_the_page_has_three_views(uneven, operator, browser, view, told, untold):
    text = browser(operator).get(f"{page(uneven)}?show={view}").content.decode()
    body = text[text.index("</div>") :]
    assert told in body
    assert untold not in body


def test_what_was_found_carries_its_headings_for_small_screens(uneven, operator, browser):
    text = browser(operator).get(page(uneven)).content.decode()
    assert all(f'data-label="{name}"' in text for name in ("Found", "What to do", "Since"))


def test_a_viewer_sees_results_and_a_stranger_does_not(uneven, viewer, stranger, browser):
    assert browser(viewer).get(page(uneven)).status_code == 200
    assert browser(stranger).get(page(uneven)).status_code == 404


@pytest.mark.parametrize("kind", ["CleanUp", "OfAnotherVersion"])
def test_a_kind_that_compares_nothing_has_no_results(cluster, operator, browser, kind):
    operation = Operation.objects.create(name="x", kind=kind, cluster=cluster)
    assert browser(operator).get(page(operation)).status_code == 404


def test_results_say_that_there_are_none_yet(check, operator, browser):
    operation = check()
    MachineStep.objects.filter(step__operation=operation).update(status="running")
    assert "There are no results yet." in browser(operator).get(page(operation)).content.decode()


def test_results_say_that_all_is_well_and_that_nothing_changed(check, operator, browser):
    operation = check()
    sign_in = browser(operator)
    assert (
        "Everything that was looked at is in order."
        in sign_in.get(page(operation)).content.decode()
    )
    answer = sign_in.get(f"{page(operation)}?show=changed")
    assert "Nothing has changed since the last time." in answer.content.decode()


def test_the_live_page_offers_results_of_kinds_that_have_some(uneven, operator, browser):
    url = reverse("admin:operations_operation_change", args=[uneven.pk])
    text = browser(operator).get(url).content.decode()
    assert 'data-tab="results"' in text


def test_names_and_findings_of_hosts_are_no_html(check, hosts, operator, browser):
    hosts.checks["10.0.0.1"] = [{**host_check("<b>x</b>", ok=False), "found": "<script>1</script>"}]
    text = browser(operator).get(page(check())).content.decode()
    assert "<script>1" not in text
    assert "&lt;b&gt;x" in text


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ([host_check("load")], "in order"),
        ([host_check("load", ok=False, severity="warning")], "1 warning"),
        ([host_check("a", ok=False), host_check("b", ok=False)], "2 errors"),
    ],
)
def test_machine_and_node_tell_the_last_verdict(
    check, hosts, machines, viewer, browser, found, verdict
):
    check()
    hosts.checks["10.0.0.1"] = found
    operation = check()
    sign_in = browser(viewer)
    link = reverse("admin:operations_operation_change", args=[operation.pk]) + "#results"
    for row in (machines[0], machines[0].node):
        app = "machines_machine" if isinstance(row, Machine) else "clusters_node"
        text = sign_in.get(reverse(f"admin:{app}_change", args=[row.pk])).content.decode()
        assert verdict in text
        assert link in text


def test_a_machine_that_was_never_checked_tells_nothing(machines, viewer, browser):
    url = reverse("admin:machines_machine_change", args=[machines[0].pk])
    assert "#results" not in browser(viewer).get(url).content.decode()


def test_a_check_of_a_cluster_one_may_not_see_is_not_told(
    check, machines, cluster_b, viewer, browser
):
    operation = check()
    Operation.objects.filter(pk=operation.pk).update(cluster=cluster_b)
    url = reverse("admin:machines_machine_change", args=[machines[0].pk])
    assert "#results" not in browser(viewer).get(url).content.decode()


# --- ways to start --------------------------------------------------------------------------------


def test_the_pages_of_cluster_and_machine_lead_to_the_start_form(
    cluster, machines, operator, browser
):
    sign_in = browser(operator)
    text = sign_in.get(reverse("admin:clusters_cluster_change", args=[cluster.pk])).content.decode()
    assert "kind=HealthCheck" in text
    text = sign_in.get(
        reverse("admin:machines_machine_change", args=[machines[0].pk])
    ).content.decode()
    assert "kind=HealthCheck" in text


def test_a_viewer_is_offered_no_health_check(cluster, machines, viewer, browser):
    sign_in = browser(viewer)
    for name, row in (("clusters_cluster", cluster), ("machines_machine", machines[0])):
        text = sign_in.get(reverse(f"admin:{name}_change", args=[row.pk])).content.decode()
        assert "kind=HealthCheck" not in text


def chosen(browser, user, model, action, rows):
    return browser(user).post(
        reverse(f"admin:{model}_changelist"),
        {"action": action, "_selected_action": [row.pk for row in rows]},
    )


def test_chosen_machines_are_filled_into_the_start_form(cluster, machines, operator, browser):
    answer = chosen(browser, operator, "machines_machine", "check_health_chosen", machines[:2])
    assert "kind=HealthCheck" in answer.url
    assert "10.0.0.1%2C10.0.0.2" in answer.url
    assert f"cluster={cluster.pk}" in answer.url


def test_chosen_nodes_are_checked_by_their_machines_and_others_are_named(
    cluster, machines, operator, browser
):
    unknown = factories.make_node(cluster, "unknown-1")
    nodes = [*Node.objects.filter(name="n1"), unknown]
    answer = chosen(browser, operator, "clusters_node", "check_health_of_nodes", nodes)
    assert "machines=10.0.0.1&" in answer.url
    answer = chosen(browser, operator, "clusters_node", "check_health_of_nodes", [unknown])
    assert "operations/start" not in answer.url


def form(cluster, **values):
    return {
        "kind": "HealthCheck", "cluster": cluster.pk, "machines": "", "max_failed_percent": 100,
        "forks": 10, "reason": "", "params-probe_namespace": "kube-system",
        "params-log_minutes": 30, "params-test_pods": "on", "step": "plan", **values,
    }  # fmt: skip


def test_the_form_without_machines_plans_and_starts_with_the_whole_cluster(
    cluster, machines, operator, browser
):
    factories.make_node(cluster, "unknown-1")
    sign_in = browser(operator)
    url = reverse("operations:start")
    assert (
        "Empty: all machines of the cluster."
        in sign_in.get(f"{url}?kind=HealthCheck").content.decode()
    )
    planned = sign_in.post(url, form(cluster))
    text = planned.content.decode()
    assert planned.status_code == 200
    assert "Start with 3 machines" in text
    assert "cannot be checked: unknown-1" in text
    digest = planned.context["page"].planned
    answer = sign_in.post(url, form(cluster, step="start", planned=digest))
    assert answer.status_code == 302
    assert Operation.objects.get().machines.count() == 3


def test_the_form_of_other_kinds_still_wants_machines(cluster, machines, operator, browser):
    answer = browser(operator).post(
        reverse("operations:start"), {**form(cluster), "kind": "CleanUp"}
    )
    assert answer.status_code == 400


def test_the_form_says_when_a_cluster_has_no_machine(cluster, operator, browser):
    answer = browser(operator).post(reverse("operations:start"), form(cluster))
    assert answer.status_code == 400
    assert "No machine is registered in" in answer.content.decode()
