"""The pages of clusters, nodes and grants."""

import re
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone

from beidou.base import audit
from beidou.base.models import AuditEntry
from beidou.base.permissions import may
from beidou.base.sentences import Sentence
from clusters.drivers.kubeconfig_text import SIZE_LIMIT
from clusters.models import Cluster, ClusterGrant, HealthChange, NamespaceUsage
from clusters.services import adoption, grants, removal
from clusters.services.checking import STEP_KEYS
from machines.services import lifecycle
from operations.models import ClusterSettings, Freeze, Operation
from tests import factories
from tests.clusters.conftest import ACCESS_REVIEWS, allow_all_but, prepare
from tests.fakes.kube_api import FakeKubeApi, Reply, node, status_reply
from tests.rows import make_row

pytestmark = pytest.mark.django_db
LIST = "/clusters/cluster/"
ADD = "/clusters/cluster/add/"
NODES = "/clusters/node/"
GRANTS = "/clusters/clustergrant/"
TABS = ["overview", "nodes", "components", "machines", "operations", "access", "history"]


@pytest.fixture
def root(browser, admin):
    return browser(admin)


def page(cluster, tab=""):
    return f"{LIST}{cluster.pk}/change/" + (f"?tab={tab}" if tab else "")


def texts(response):
    return [str(message) for message in response.context["messages"]]


@pytest.fixture
def full(adopted):
    """A cluster with something on every tab."""
    Cluster.objects.filter(pk=adopted.pk).update(
        health="degraded",
        health_reason="1 of 2 nodes not ready: n2.",
        health_since=timezone.now(),
        observed_at=timezone.now(),
        cpu_allocatable=4000,
        cpu_requested=1000,
        components=[
            {"name": "etcd", "healthy": True, "message": "1 of 1 ready.", "ready": 1, "desired": 1,
             "checks": [{"name": "ping", "ok": True, "message": "ok"}]},
            {"name": "coredns", "healthy": False, "message": "0 of 2 ready.", "ready": 0,
             "desired": 2, "checks": []},
        ],
        workloads={"counts": {"jobs": 3}, "unknown": {"services": "forbidden"}},
        capabilities=[
            {"key": "cordon", "ok": False, "trouble": "",
             "missing": ["patch nodes"], "rbac": "kind: ClusterRole\n"},
        ],
    )  # fmt: skip
    first = factories.make_node(adopted, "n1", roles=["control-plane"])
    factories.make_node(adopted, "n2", is_ready=False, not_ready_reason="KubeletStopped: gone")
    factories.make_machine(cluster=adopted, node=first, hostname="bj-r1-01")
    NamespaceUsage.objects.create(cluster=adopted, node="n1", namespace="shop", pods=4)
    factories.grant(factories.make_team("blue"), adopted, "viewer")
    HealthChange.objects.create(subject=adopted, old="healthy", new="degraded", actor="collector")
    adopted.refresh_from_db()
    adopted.region = "gz"
    adopted.save()
    return adopted


# --- list -----------------------------------------------------------------------------------------


def test_an_empty_list_says_how_to_adopt(root):
    assert ADD in root.get(LIST).content.decode()


def test_an_empty_list_offers_adopting_to_nobody_who_may_not(browser, viewer, cluster_a):
    cluster_a.delete()
    answer = browser(viewer).get(LIST)
    assert answer.status_code == 403 or ADD not in answer.content.decode()


def test_an_empty_list_of_nodes_leads_to_adopting(root):
    text = root.get(NODES).content.decode()
    assert "once a cluster is adopted" in text
    assert ADD in text


def test_an_empty_list_of_nodes_offers_adopting_to_nobody_who_may_not(browser, viewer, cluster_a):
    text = browser(viewer).get(NODES).content.decode()
    assert "You see the nodes of the clusters on which your teams have a role." in text
    assert ADD not in text


@pytest.mark.parametrize("url", [LIST, NODES, GRANTS, "/machines/machine/"])
def test_an_empty_list_says_so_once(root, url):
    text = root.get(url).content.decode()
    assert text.count(">inbox<") == 1
    assert "No results found" not in text
    assert "Show all" not in text


def test_the_settings_of_a_cluster_offer_no_deletion(root, full):
    text = root.get(page(full, "settings")).content.decode()
    assert "Delete cluster" not in text
    assert f"{LIST}{full.pk}/delete/" not in text


def test_the_access_tab_offers_to_un_adopt(root, full):
    assert f"{LIST}{full.pk}/delete/" in root.get(page(full, "access")).content.decode()


def test_the_list_shows_health_figures_and_running_operations(root, full):
    make_row(Operation, full)
    shown = root.get(LIST).content.decode()
    assert "Degraded" in shown
    assert "25 %" in shown
    assert f"{page(full)}?tab=operations" in shown


@pytest.mark.parametrize(
    "url", [LIST, NODES, GRANTS, "/machines/machine/", "/operations/clustersettings/"]
)
def test_a_cluster_without_verified_tls_is_marked_in_every_list(root, full, url):
    factories.grant(factories.make_team(), full, "viewer")
    make_row(ClusterSettings, full)
    assert "TLS not verified" not in root.get(url).content.decode()
    Cluster.objects.filter(pk=full.pk).update(insecure_tls=True)
    assert "TLS not verified" in root.get(url).content.decode()


def test_the_list_asks_no_cluster(root, full, kube):
    root.get(LIST)
    for tab in TABS:
        root.get(page(full, tab))
    assert not kube.requests


@pytest.mark.parametrize("url", [LIST, NODES, GRANTS])
def test_a_list_needs_few_queries_however_many_rows(root, url, django_assert_max_num_queries):
    for _ in range(30):
        cluster = factories.make_cluster()
        factories.make_node(cluster)
        factories.grant(factories.make_team(), cluster, "viewer")
    with django_assert_max_num_queries(15):
        assert root.get(url).status_code == 200


# --- one cluster ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tab", "shown"),
    [
        ("overview", "coredns: 0 of 2 ready."),
        ("nodes", "n2"),
        ("components", "shop"),
        ("machines", "bj-r1-01"),
        ("operations", "None yet"),
        ("access", "kind: ClusterRole"),
        ("history", "collector"),
        ("settings", "change_reason"),
    ],
)
def test_every_tab_shows_its_part(root, full, tab, shown, django_assert_max_num_queries):
    with django_assert_max_num_queries(20):
        answer = root.get(page(full, tab))
    assert shown in answer.content.decode()
    assert "1 of 2 nodes not ready" in answer.content.decode()


def test_the_report_promises_nothing_that_this_version_does_not_have(root, full):
    rows: list[object] = [{"key": key, "ok": True, "missing": [], "trouble": "", "rbac": ""}
            for key in ("cordon", "inspection", "deploy")]  # fmt: skip
    Cluster.objects.filter(pk=full.pk).update(capabilities=rows)
    shown = words(root.get(page(full, "access")).content.decode())
    assert "What will work with this credential (1/1)" in shown
    assert "Not in this version yet Inspections" in shown
    assert "Not in this version yet Deploy applications with Helm" in shown


def test_history_tells_old_and_new_values_of_fields(root, full):
    shown = root.get(page(full, "history")).content.decode()
    assert "region: – → gz" in shown


def test_history_tells_what_became_of_which_machine_and_leads_to_it(root, full):
    machine = factories.make_machine(cluster=full, hostname="new-1")
    lifecycle.transition(machine=machine, to="reserved", reason=Sentence("the node was cordoned"))
    line = history_line(root, full, "new-1")
    assert f'href="/machines/machine/{machine.pk}/change/"' in line
    assert f"machine {machine} Available → Reserved · the node was cordoned" in words(line)


def test_history_links_nothing_that_is_gone(root, full):
    machine = factories.make_machine(cluster=full, hostname="new-1")
    audit.record("change", machine)
    machine.delete()
    assert "<a" not in history_line(root, full, "new-1")


def test_history_is_told_in_the_language_of_the_reader(root, admin, full):
    admin.language = "zh-hans"
    admin.save()
    line = words(history_line(root, full, "采集器"))
    assert "健康状况 健康 → 降级" in line
    assert "collector" not in line


def history_line(client, cluster, about: str) -> str:
    shown = client.get(page(cluster, "history")).content.decode()
    return next(row for row in shown.split("<tr>") if about in row).split("</tr>")[0]


def words(markup: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", markup).split())


def test_an_unknown_tab_is_the_overview(root, full):
    assert root.get(page(full, "nonsense")).context["tab"] == "overview"


def test_an_insecure_cluster_says_so_everywhere(root, full):
    Cluster.objects.filter(pk=full.pk).update(insecure_tls=True)
    assert "TLS not verified" in root.get(LIST).content.decode()
    assert "cl-insecure" in root.get(page(full)).content.decode()


def test_each_role_in_the_matrix_of_grants_says_its_name_where_columns_have_no_room(
    root, cluster_a, operators
):
    text = root.get(GRANTS).content.decode().split("</section>", 1)[0]
    cells = dict(
        re.findall(r'<td class="cl-wrap(?: cl-none)?" data-label="(\w+)"><div>(.*?)</div>', text)
    )
    assert list(cells) == ["Viewer", "Operator", "Deployer", "Owner"]
    assert cells["Operator"].endswith(f">{cluster_a.name}</a>")
    assert cells["Owner"] == "–"
    assert text.count("cl-none") == 3  # what a phone leaves out


def test_the_matrix_of_grants_marks_a_cluster_without_verified_tls(root, full):
    factories.grant(factories.make_team(), full, "viewer")
    Cluster.objects.filter(pk=full.pk).update(insecure_tls=True)
    matrix, rows = root.get(GRANTS).content.decode().split("</section>", 1)
    assert ("TLS not verified" in matrix, "TLS not verified" in rows) == (True, True)


def test_a_check_that_verifies_no_certificate_is_red_not_amber(root):
    assert 'data-step="tls"' in root.get(ADD).content.decode()
    css = Path(finders.find("clusters/clusters.css")).read_text()
    rule = css[css.index('.cl-step[data-step="tls"][data-status="warning"]') :].split("}")[0]
    assert "var(--bd-bad)" in rule


def test_a_viewer_sees_the_page_without_buttons(browser, viewer, viewers, full):
    factories.grant(viewers, full, "viewer")
    client = browser(viewer)
    assert "/operations/start/" not in client.get(page(full)).content.decode()
    access = client.get(page(full, "access")).content.decode()
    assert "Replace the credential" not in access
    assert "Ask the cluster again" not in access
    assert "tab=settings" not in access


@pytest.mark.parametrize("kind", ["ScaleUp", "ScaleDown"])
def test_an_operator_begins_with_the_cluster_chosen(kind, operator, operators, browser, full):
    factories.grant(operators, full, "operator")
    text = browser(operator).get(page(full)).content.decode()
    assert f"?kind={kind}&amp;cluster={full.pk}" in text


def test_settings_are_saved_with_a_reason_and_derive_rights(root, full, admin):
    team = factories.make_team()
    grants.create_grant(team=team, role="viewer", label="tier=gold", user=admin)
    values = {"name": "renamed", "labels": "tier=gold\na=b", "change_reason": "merger"}
    answer = root.post(page(full, "settings"), values, follow=True)
    assert answer.status_code == 200
    full.refresh_from_db()
    assert (full.name, full.labels) == ("renamed", {"tier": "gold", "a": "b"})
    assert may(factories.make_user(teams=(team,)), full)
    assert AuditEntry.objects.filter(verb="change").get().reason == "merger"


def test_saving_settings_leaves_alone_what_the_collector_wrote_meanwhile(full):
    Cluster.objects.filter(pk=full.pk).update(nodes_total=77)
    adoption.edit(cluster=full, changes={"region": "sh"})
    stored = Cluster.objects.get(pk=full.pk)
    assert (stored.region, stored.nodes_total) == ("sh", 77)
    assert AuditEntry.objects.get().after == {"region": "sh"}


def test_a_label_that_is_none_is_refused_at_its_field(root, full):
    answer = root.post(page(full, "settings"), {"name": "renamed", "labels": "nonsense"})
    assert "is not key=value" in answer.content.decode()


# --- adopting -------------------------------------------------------------------------------------


def test_adopting_without_script_checks_then_confirms(root, kube):
    text = kube.kubeconfig()
    checked = root.post(ADD, {"kubeconfig": text, "do": "check"})
    assert checked.content.decode().count('data-status="ok"') == len(STEP_KEYS)
    assert not Cluster.objects.exists()
    answer = root.post(ADD, {"kubeconfig": text, "do": "adopt", "name": "prod-1"})
    assert answer["Location"] == page(Cluster.objects.get())


def test_an_adopter_chooses_among_the_own_teams_and_sees_the_cluster_afterwards(browser, kube):
    own, other = factories.make_team("own-team"), factories.make_team("other-team")
    factories.give(own, "clusters.add_cluster")
    client = browser(factories.make_user(teams=(own,)))
    shown = client.get(ADD).content.decode()
    assert "own-team" in shown
    assert "other-team" not in shown
    values = {"kubeconfig": kube.kubeconfig(), "do": "adopt", "name": "prod-1"}
    for team in ("", other.pk):
        client.post(ADD, {**values, "team": team})
        assert not Cluster.objects.exists()
    answer = client.post(ADD, {**values, "team": own.pk})
    assert client.get(answer["Location"]).status_code == 200


def test_each_step_can_be_asked_for_by_the_script(root, kube):
    for step in STEP_KEYS:
        answer = root.post(f"{ADD}check/{step}/", {"kubeconfig": kube.kubeconfig()}).json()
        assert (answer["key"], answer["status"]) == (step, "ok")
    assert not Cluster.objects.exists()


def test_a_failed_step_is_told_to_the_script_with_a_link_if_there_is_one(root, kube):
    root.post(ADD, {"kubeconfig": kube.kubeconfig(), "do": "adopt", "name": "prod-1"})
    found = root.post(f"{ADD}check/unique/", {"kubeconfig": kube.kubeconfig()}).json()
    assert (found["status"], found["url"]) == ("failed", page(Cluster.objects.get()))


def test_a_step_whose_kubeconfig_is_refused_fails_with_its_sentence(root):
    found = root.post(f"{ADD}check/rights/", {"kubeconfig": "nonsense"}).json()
    assert (found["key"], found["status"]) == ("parse", "failed")


@pytest.mark.parametrize("step", ["nonsense", "PARSE"])
def test_an_unknown_step_is_refused(root, step):
    assert root.post(f"{ADD}check/{step}/", {"kubeconfig": "x"}).status_code in {400, 404}


def test_the_script_knows_the_size_that_is_too_large(root):
    shown = root.get(ADD).content.decode()
    assert f'data-limit="{SIZE_LIMIT}"' in shown
    assert "larger than 1 MiB" in shown


def test_an_upload_that_is_too_large_is_told_to_the_script(root):
    file = SimpleUploadedFile("config", b"x" * (SIZE_LIMIT + 1))
    answer = root.post(f"{ADD}check/parse/", {"kubeconfig_file": file})
    assert answer.status_code == 400
    assert "larger than 1 MiB" in answer.json()["detail"]


def test_an_upload_is_as_good_as_pasted_text(root, kube):
    file = SimpleUploadedFile("config", kube.kubeconfig().encode())
    root.post(ADD, {"kubeconfig_file": file, "do": "adopt", "name": "by-file"})
    assert Cluster.objects.get().name == "by-file"


def test_a_refusal_is_shown_at_the_field_and_stores_nothing(root, kube):
    text = kube.kubeconfig(user={"exec": {"command": "id"}})
    answer = root.post(ADD, {"kubeconfig": text, "do": "adopt", "name": "prod-1"})
    assert "exec plugin" in answer.content.decode()
    assert not Cluster.objects.exists()


def test_the_page_is_called_by_what_it_does(root):
    head = re.search(r"<h1.*?</h1>", root.get(ADD).content.decode(), re.DOTALL)
    assert head is not None
    assert "Adopt a cluster" in head[0]


def test_a_label_that_is_none_is_told_on_top_and_at_its_field(root, kube):
    values = {"kubeconfig": kube.kubeconfig(), "do": "adopt", "name": "prod-1"}
    shown = root.post(ADD, {**values, "labels": "tier gold"}).content.decode()
    assert "Nothing was stored." in shown
    assert "“tier gold” is not key=value." in shown
    assert not Cluster.objects.exists()


def test_the_same_cluster_is_refused_with_a_link(root, kube):
    values = {"kubeconfig": kube.kubeconfig(), "do": "adopt"}
    root.post(ADD, {**values, "name": "first"})
    answer = root.post(ADD, {**values, "name": "second"}).content.decode()
    assert "adopted already" in answer
    assert f'href="{page(Cluster.objects.get())}"' in answer


@pytest.mark.parametrize("who", ["operator", "viewer", "stranger"])
def test_adopting_needs_the_permission(browser, cast, kube, who):
    client = browser(cast[who])
    values = {"kubeconfig": kube.kubeconfig()}
    assert client.get(ADD).status_code == 403
    assert client.post(f"{ADD}check/reach/", values).status_code == 403
    assert not kube.requests


# --- credential, rights, un-adopting --------------------------------------------------------------


def test_the_credential_is_replaced_on_its_page(root, kube, adopted):
    prepare(kube, uid=adopted.uid)
    answer = root.post(
        f"{LIST}{adopted.pk}/credential/", {"kubeconfig": kube.kubeconfig(), "reason": "rotated"}
    )
    assert answer["Location"] == page(adopted, "access")
    assert AuditEntry.objects.get().reason == "rotated"


def test_a_credential_of_another_cluster_is_refused_on_the_page(root, adopted):
    with FakeKubeApi() as other:
        prepare(other, uid="another")
        url = f"{LIST}{adopted.pk}/credential/"
        answer = root.post(url, {"kubeconfig": other.kubeconfig()})
        assert "another cluster" in answer.content.decode()


def test_rights_are_asked_again_by_a_button(root, kube, adopted):
    kube.on("POST", ACCESS_REVIEWS, allow_all_but(("delete", "nodes")))
    answer = root.post(f"{LIST}{adopted.pk}/capabilities/", follow=True)
    assert "9 of 11 features will work" in texts(answer)[0]


def test_looking_at_the_address_of_a_button_does_nothing(root, kube, adopted):
    root.get(f"{LIST}{adopted.pk}/capabilities/")
    assert not kube.requests


def test_unadopting_needs_the_typed_name(root, adopted):
    url = f"{LIST}{adopted.pk}/delete/"
    assert "Type" in root.get(url).content.decode()
    root.post(url, {"confirm": "other"})
    assert Cluster.objects.exists()
    assert root.post(url, {"confirm": "adopted"})["Location"] == LIST
    assert not Cluster.objects.exists()


def test_what_hinders_unadopting_is_shown(root, adopted, monkeypatch):
    monkeypatch.setattr(removal, "BLOCKERS", [lambda cluster: ["Operation 7 is running."]])
    url = f"{LIST}{adopted.pk}/delete/"
    page = root.get(url).content.decode()
    assert "Operation 7 is running." in page
    assert 'name="confirm"' not in page
    assert "Operation 7 is running." in root.post(url, {"confirm": "adopted"}).content.decode()
    assert Cluster.objects.exists()


# --- nodes ----------------------------------------------------------------------------------------


def act(client, action, *rows, **values):
    chosen = [row.pk for row in rows]
    return client.post(NODES, {"action": action, "_selected_action": chosen, **values}, follow=True)


def test_a_node_page_shows_conditions_usage_and_machine(root, full):
    row = full.nodes.get(name="n1")
    row.conditions = [{"type": "Ready", "status": "True", "reason": "KubeletReady",
                       "message": "posting", "changed_at": "2026-01-01T00:00Z"}]  # fmt: skip
    row.save()
    shown = root.get(f"{NODES}{row.pk}/change/").content.decode()
    assert "KubeletReady: posting" in shown
    assert "shop" in shown
    assert "bj-r1-01" in shown
    assert "Annotations" not in shown


def test_a_node_page_shows_annotations(root, full):
    row = full.nodes.get(name="n1")
    row.annotations = {"csi.volume/nodeid": "<b>7</b>"}
    row.save()
    shown = root.get(f"{NODES}{row.pk}/change/").content.decode()
    assert "csi.volume/nodeid=&lt;b&gt;7&lt;/b&gt;" in shown


def test_cordoning_shows_a_plan_first_and_then_does_it(root, kube, adopted):
    row = factories.make_node(adopted, "n1")
    plan = act(root, "cordon", row).content.decode()
    assert "New pods are no longer placed" in plan
    assert f'<li>n1 <span class="bd-subtle">{adopted.name}</span>' in plan
    assert not kube.requests
    kube.on("PATCH", "/api/v1/nodes/n1", Reply(node("n1", unschedulable=True)))
    answer = act(root, "cordon", row, post="yes", reason="fan is loud")
    assert texts(answer) == ["1 node is cordoned."]
    row.refresh_from_db()
    assert row.unschedulable


def test_a_reason_is_asked_for(root, kube, adopted):
    row = factories.make_node(adopted, "n1")
    act(root, "cordon", row, post="yes", reason="")
    assert not kube.requests


def test_one_refusal_does_not_stop_the_others(root, kube, adopted):
    bad, good = factories.make_node(adopted, "bad"), factories.make_node(adopted, "good")
    kube.on("PATCH", "/api/v1/nodes/bad", status_reply(500, "no quorum"))
    kube.on("PATCH", "/api/v1/nodes/good", Reply(node("good", unschedulable=True)))
    told = texts(act(root, "cordon", bad, good, post="yes", reason="test"))
    assert told[0].startswith("bad: ")
    assert told[1] == "1 node is cordoned."


def test_nodes_one_may_not_operate_are_left_out(
    browser, operator, viewers, kube, adopted, operators
):
    operator.groups.add(viewers)
    factories.grant(viewers, adopted, "viewer")
    row = factories.make_node(adopted, "n1")
    answer = act(browser(operator), "cordon", row, post="yes", reason="test")
    assert answer.status_code == 403
    assert not kube.requests


@pytest.fixture
def frozen(adopted):
    return Freeze.objects.create(cluster=adopted, reason="year's end")


def test_the_plan_says_that_changes_wait_and_offers_the_way_past(root, kube, adopted, frozen):
    row = factories.make_node(adopted, "n1")
    plan = act(root, "cordon", row).content.decode()
    assert "Changes of adopted wait for the end of the freeze" in plan
    assert 'name="break_glass"' in plan
    told = texts(act(root, "cordon", row, post="yes", reason="test"))
    assert told[0].startswith("n1: Changes of adopted wait for")
    assert not kube.requests


def test_a_node_is_cordoned_in_spite_of_a_freeze(root, kube, adopted, frozen):
    row = factories.make_node(adopted, "n1")
    kube.on("PATCH", "/api/v1/nodes/n1", Reply(node("n1", unschedulable=True)))
    answer = act(root, "cordon", row, post="yes", reason="fire", break_glass="on")
    assert texts(answer) == ["1 node is cordoned."]


def test_whoever_may_not_approve_is_not_offered_the_way_past(
    browser, operator, operators, kube, adopted, frozen
):
    factories.grant(operators, adopted, "operator")
    row, client = factories.make_node(adopted, "n1"), browser(operator)
    assert 'name="break_glass"' not in act(client, "cordon", row).content.decode()
    act(client, "cordon", row, post="yes", reason="fire", break_glass="on")
    assert not kube.requests


def test_without_a_freeze_no_way_past_is_offered(root, adopted):
    row = factories.make_node(adopted, "n1")
    assert 'name="break_glass"' not in act(root, "cordon", row).content.decode()


def test_nodes_are_filtered_by_role(root, adopted):
    factories.make_node(adopted, "the-control", roles=["control-plane"])
    factories.make_node(adopted, "the-worker")
    shown = root.get(f"{NODES}?role=none").content.decode()
    assert "the-worker" in shown
    assert "the-control" not in shown


# --- grants ---------------------------------------------------------------------------------------


def test_a_grant_is_made_on_its_page_and_gives_rights(root, cluster_a):
    team = factories.make_team("blue")
    root.post(f"{GRANTS}add/", {"team": team.pk, "role": "operator", "cluster": cluster_a.pk})
    assert may(factories.make_user(teams=(team,)), cluster_a, "operate")
    assert "blue" in root.get(GRANTS).content.decode()


def test_granting_a_role_twice_is_refused_in_words(root, cluster_a):
    wish = {"team": factories.make_team().pk, "role": "operator", "cluster": cluster_a.pk}
    root.post(f"{GRANTS}add/", wish)
    answer = root.post(f"{GRANTS}add/", wish)
    assert "This team has this role there already." in answer.content.decode()


def test_a_grant_without_target_is_refused_at_its_fields(root):
    team = factories.make_team()
    answer = root.post(f"{GRANTS}add/", {"team": team.pk, "role": "viewer"})
    assert "either a cluster or a label" in answer.content.decode()
    assert not ClusterGrant.objects.exists()


def test_a_wholly_empty_grant_is_refused_at_its_fields_and_in_words(root):
    answer = root.post(f"{GRANTS}add/", {})
    assert set(answer.context["adminform"].form.errors) == {"team", "role", "cluster", "label"}
    assert "constraint" not in answer.content.decode().lower()


def test_an_owner_cannot_grant_by_label_or_elsewhere(browser, cluster_a, cluster_b):
    team = factories.make_team()
    factories.grant(team, cluster_a, "owner")
    client = browser(factories.make_user(teams=(team,)))
    wish = {"team": factories.make_team().pk, "role": "viewer"}
    client.post(f"{GRANTS}add/", {**wish, "cluster": cluster_b.pk})
    client.post(f"{GRANTS}add/", {**wish, "label": "a=b"})
    assert ClusterGrant.objects.count() == 1


def test_a_grant_taken_back_takes_the_rights(root, cluster_a, admin):
    team = factories.make_team()
    user = factories.make_user(teams=(team,))
    row = grants.create_grant(team=team, role="viewer", cluster=cluster_a, user=admin)
    root.post(f"{GRANTS}{row.pk}/delete/", {"post": "yes"})
    assert not may(user, cluster_a)
