"""The page of key events: what goes wrong, in numbers, against what is usual."""

import re
from datetime import timedelta
from html import unescape

import pytest
from django.db import connection
from django.http import QueryDict
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from events.drivers.kube_events import record
from events.models import Event, EventRetention, KnownReason
from events.services import key_events, reasons, search
from events.services.measures import ALL, MEASURES
from tests import factories
from tests.events.made import kube, modern

pytestmark = pytest.mark.django_db
PAGE = "/events/event/key/"
FIGURES = "/events/event/key/figures/"
API = "/api/v1/events/key/"
SCHEDULER = (
    "0/9 nodes are available: 1 node(s) had untolerated taint {gpu: }, 2 Insufficient cpu, 3 "
    "node(s) didn't match Pod's node affinity/selector. preemption: 0/9 nodes are available: 9 "
    "Preemption is not helpful for scheduling."
)


def ago(**values):
    return timezone.now() - timedelta(**values)


def make(cluster, measured, *, last_seen=None, **values):
    """An event that the measure counts."""
    measure = ALL[measured]
    kinds, types = measure.kinds or ("Pod",), measure.types or ("Warning",)
    given = {"reason": measure.reasons[0], "kind": kinds[0], "type": types[0], **values}
    return factories.make_event(cluster, last_seen=last_seen or ago(minutes=1), **given)


def look(user, **given):
    asked = QueryDict(mutable=True)
    asked.update(given)
    return key_events.look(user, key_events.wanted(user, asked))


def figure(found, name):
    every = [each for one in found.figures for each in (one, *one.parts)]
    return next(each for each in every if each.measure.name == name)


def text_of(answer, status=200) -> str:
    assert answer.status_code == status
    return unescape(" ".join(answer.content.decode().split()))


# --- what is counted ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "reason", "message"),
    [
        ("oom", "SystemOOM", "System OOM encountered, victim process: java"),
        ("backoff", "BackOff", "Back-off restarting failed container web in pod web-1"),
        ("scheduling", "FailedScheduling", SCHEDULER),
        ("scheduling_cpu", "FailedScheduling", SCHEDULER),
        ("scheduling_taints", "FailedScheduling", SCHEDULER),
        ("scheduling_node_affinity", "FailedScheduling", SCHEDULER),
        ("scheduling_memory", "FailedScheduling", "0/1 nodes: 1 Insufficient memory."),
        ("scheduling_pods", "FailedScheduling", "0/1 nodes are available: 1 Too many pods."),
        ("scheduling_cordoned", "FailedScheduling", "0/1: 1 node(s) were unschedulable."),
        (
            "scheduling_pod_affinity",
            "FailedScheduling",
            "0/2: 1 node(s) didn't match pod anti-affinity rules.",
        ),
        (
            "scheduling_spread",
            "FailedScheduling",
            "0/2: 2 node(s) didn't match pod topology spread constraints.",
        ),
        (
            "scheduling_ports",
            "FailedScheduling",
            "0/2: 2 node(s) didn't have free ports for the requested pod ports.",
        ),
        ("scheduling_volumes", "FailedScheduling", "2 node(s) exceed max volume count."),
        (
            "scheduling_claims",
            "FailedScheduling",
            "0/2: pod has unbound immediate PersistentVolumeClaims.",
        ),
        ("evictions", "Evicted", "The node was low on resource: memory."),
        ("evictions", "TaintManagerEviction", "Marking for deletion Pod shop/web-1"),
        ("images", "Failed", 'Failed to pull image "registry.example.com/web:1": not found'),
        ("probes", "Unhealthy", "Readiness probe failed: connection refused"),
        ("volumes", "FailedMount", 'MountVolume.SetUp failed for volume "config"'),
        (
            "certificates",
            "FailedSync",
            "tls: failed to verify certificate: x509: certificate has expired",
        ),
        ("admission", "FailedCreate", 'admission webhook "policy.example.com" denied the request'),
    ],
)
def test_an_event_is_counted_for_what_it_says(name, reason, message, admin, cluster_a):
    factories.make_event(cluster_a, message, reason=reason, type="Warning")
    assert figure(look(admin), name).count == 1


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("backoff", {"reason": "BackOff", "message": 'Back-off pulling image "web:1"'}),
        ("images", {"reason": "Failed", "message": "Error: cannot start the container"}),
        ("evictions", {"reason": "TaintManagerEviction", "message": "Cancelling deletion of Pod"}),
        ("not_ready", {"reason": "NodeNotReady", "kind": "Pod", "message": "Node is not ready"}),
        ("certificates", {"type": "Normal", "message": "The certificate has been issued"}),
    ],
)
def test_what_only_looks_like_it_is_not_counted(name, values, admin, cluster_a):
    factories.make_event(cluster_a, **values)
    assert figure(look(admin), name).count == 0


def test_a_node_that_is_not_ready_is_counted_by_itself(admin, cluster_a):
    make(cluster_a, "not_ready")
    assert figure(look(admin), "not_ready").count == 1


def test_names_of_measures_are_unique_and_each_has_a_filter():
    every = [each for measure in MEASURES for each in (measure, *measure.parts)]
    assert len(ALL) == len(every)
    assert all(each.reasons or each.text for each in every)


@pytest.mark.parametrize(("given", "count"), [("1h", 1), ("24h", 2), ("7d", 3)])
def test_the_time_that_was_chosen_is_counted(given, count, admin, cluster_a):
    for age in ({"minutes": 5}, {"hours": 5}, {"days": 5}, {"days": 8}):
        make(cluster_a, "oom", last_seen=ago(**age))
    assert figure(look(admin, range=given), "oom").count == count


def test_events_of_foreign_clusters_are_not_counted(viewer, stranger, cluster_a, cluster_b):
    make(cluster_b, "oom")
    for user in (viewer, stranger):
        found = look(user)
        assert figure(found, "oom").count == 0
        assert (found.objects, found.nodes, found.new.rows) == ([], [], [])
    assert figure(look(viewer, cluster=str(cluster_b.pk)), "oom").count == 0


def test_one_cluster_is_looked_at_alone(admin, cluster_a, cluster_b):
    make(cluster_a, "oom")
    make(cluster_b, "oom")
    assert figure(look(admin), "oom").count == 2
    assert figure(look(admin, cluster="cluster-a"), "oom").count == 1


# --- what is usual --------------------------------------------------------------------------------


def test_without_earlier_days_there_is_no_comparison(admin, cluster_a):
    make(cluster_a, "oom")
    found = look(admin)
    assert found.compared == 0
    assert figure(found, "oom").usual is None
    assert not figure(found, "oom").is_more


def test_the_usual_is_the_mean_of_the_same_hours_of_earlier_days(admin, cluster_a):
    factories.make_event(cluster_a, last_seen=ago(days=20))
    for days, count in ((1, 2), (2, 4), (3, 0)):
        factories.make_event(cluster_a, last_seen=ago(days=days, minutes=10))
        for _number in range(count):
            make(cluster_a, "oom", last_seen=ago(days=days, minutes=10))
        make(cluster_a, "oom", last_seen=ago(days=days, hours=3))  # another hour
    found = look(admin, range="1h")
    assert found.compared == 3
    assert figure(found, "oom").usual == 2.0


def test_a_day_in_which_collecting_began_is_not_compared_with(admin, cluster_a):
    make(cluster_a, "oom", last_seen=ago(days=1, hours=2))
    make(cluster_a, "oom", last_seen=ago(hours=2))
    assert look(admin).compared == 0


def test_a_day_without_any_event_is_one_of_which_nothing_is_known(admin, cluster_a):
    make(cluster_a, "oom", last_seen=ago(days=6, hours=1))
    make(cluster_a, "oom", last_seen=ago(days=3, hours=1))
    found = look(admin)
    assert (found.compared, figure(found, "oom").usual) == (1, 1.0)


def test_no_day_is_compared_with_of_which_events_are_not_kept_any_more(admin, cluster_a, settings):
    settings.EVENT_DAYS = 3
    for days in range(1, 8):
        make(cluster_a, "oom", last_seen=ago(days=days, hours=1))
    assert look(admin).compared == 2


def test_an_event_that_goes_on_was_there_on_earlier_days_too(admin, cluster_a):
    factories.make_event(cluster_a, last_seen=ago(days=8))
    for days in range(1, 8):
        factories.make_event(cluster_a, last_seen=ago(days=days, hours=1))
    make(cluster_a, "backoff", first_seen=ago(days=3, hours=12))
    found = look(admin)
    assert found.compared == 7
    assert figure(found, "backoff").usual == pytest.approx(3 / 7)


def test_a_week_is_compared_with_the_week_before(admin, cluster_a):
    factories.make_event(cluster_a, last_seen=ago(days=15))
    for days in (8, 9, 13):
        make(cluster_a, "oom", last_seen=ago(days=days))
    found = look(admin, range="7d")
    assert (found.compared, figure(found, "oom").usual) == (1, 3.0)


@pytest.mark.parametrize(
    ("count", "usual", "is_more"),
    [(6, 3.0, False), (10, 5.0, True), (9, 5.0, False), (4, 0.0, False), (5, 0.0, True)],
)
def test_more_is_said_where_it_is_clearly_more(count, usual, is_more):
    assert key_events.Figure(MEASURES[0], count, usual).is_more is is_more


# --- in every store -------------------------------------------------------------------------------


def test_the_figures_are_the_same_in_every_store(store, admin, cluster_a):
    moment = ago(minutes=5).strftime("%Y-%m-%dT%H:%M:%SZ")
    times = {
        "metadata__creationTimestamp": moment,
        "deprecatedFirstTimestamp": moment,
        "deprecatedLastTimestamp": moment,
    }
    made = [
        modern("a", reason="FailedScheduling", note=SCHEDULER, **times),
        modern("b", reason="OOMKilling", note="Killed process", **times),
        modern("c", note='Back-off pulling image "x"', **times),
    ]
    store.keep(cluster_a, *(record(kube(each), timezone.now()) for each in made))
    found = look(admin)
    counts = {each.measure.name: each.count for each in found.figures if each.count}
    assert counts == {"scheduling": 1, "oom": 1}
    assert figure(found, "scheduling_cpu").count == 1
    assert found.objects == [key_events.Top("web-6f9c-x2", 3)]
    assert found.nodes == [key_events.Top("n1", 3)]
    assert found.compared == 0


def test_the_number_of_questions_does_not_depend_on_what_there_is(admin, cluster_a, cluster_b):
    def questions():
        with CaptureQueriesContext(connection) as captured:
            look(type(admin).objects.get(pk=admin.pk))
        assert len(captured) <= 8 + len(ALL) + 2 + 4
        return len(captured)

    few = questions()
    for cluster in (cluster_a, cluster_b):
        for name in ALL:
            for days in range(9):
                make(cluster, name, last_seen=ago(days=days, minutes=1)) if ALL[name].reasons else 0
    assert questions() == few


# --- the page -------------------------------------------------------------------------------------


def test_the_page_opens_without_asking_the_store(viewer, browser, cluster_a):
    client = browser(viewer)
    with CaptureQueriesContext(connection) as captured:
        page = text_of(client.get(PAGE))
    assert not any('FROM "events_event"' in each["sql"] for each in captured)
    assert f'hx-get="{FIGURES}?range=24h"' in page
    assert f'<option value="{cluster_a.pk}">cluster-a</option>' in page


def test_each_number_leads_to_the_search_behind_it(viewer, browser, cluster_a):
    for name in ("oom", "oom", "admission"):
        make(cluster_a, name)
    factories.make_event(cluster_a, SCHEDULER, reason="FailedScheduling", type="Warning")
    client = browser(viewer)
    page = text_of(client.get(FIGURES, {"cluster": "cluster-a"}))
    counted = re.findall(r'<a href="(/events/event/\?[^"]+)">(\d+)</a>', page)
    assert len(counted) == len(MEASURES) + 3
    for address, count in counted:
        found = text_of(client.get(address))
        assert found.count('class="ev-row"') == int(count), address
        assert f"cluster={cluster_a.pk}" in address


def test_the_page_says_that_there_is_no_comparison_yet(viewer, browser, cluster_a):
    make(cluster_a, "oom")
    page = text_of(browser(viewer).get(FIGURES))
    assert "There is no comparison yet: no events of earlier days are known." in page
    assert page.count("no comparison yet</span>") == len(MEASURES)


def test_what_is_more_than_usual_is_marked_in_words(viewer, browser, cluster_a):
    factories.make_event(cluster_a, last_seen=ago(days=3))
    for number in range(9):
        make(cluster_a, "oom")
        make(cluster_a, "probes")
        if number < 3:
            make(cluster_a, "oom", last_seen=ago(days=1, hours=1))
    page = text_of(browser(viewer).get(FIGURES))
    assert "3.0 times the usual" in page
    assert page.count("usually none") == 1
    assert "Usual is what there was in the same hours of 1 earlier day." in page


def test_objects_and_nodes_are_those_of_all_warnings_or_of_what_is_chosen(
    viewer, browser, cluster_a
):
    make(cluster_a, "oom", name="hungry", node="n1")
    make(cluster_a, "probes", name="slow", node="n2")
    client = browser(viewer)
    page = text_of(client.get(FIGURES))
    assert "with the most warnings" in page
    assert 'title="hungry"' in page
    assert 'title="n2"' in page
    page = text_of(client.get(FIGURES, {"of": "oom"}))
    assert 'title="slow"' not in page
    (address,) = re.findall(r'href="([^"]+)"><span class="ev-value" title="hungry"', page)
    assert "reason=OOMKilling" in address
    assert text_of(client.get(address)).count('class="ev-row"') == 1


def test_new_reasons_lead_to_their_events(viewer, browser, cluster_a, cluster_b):
    KnownReason.objects.create(cluster=cluster_a, reason="Old", first_seen=ago(days=3))
    for cluster in (cluster_a, cluster_b):
        KnownReason.objects.create(cluster=cluster, reason="Odd", first_seen=ago(hours=1))
    page = text_of(browser(viewer).get(FIGURES))
    assert f"?range=24h&cluster={cluster_a.pk}&reason=Odd" in page
    assert f"cluster={cluster_b.pk}" not in page
    assert "reason=Old" not in page


def test_of_a_cluster_that_is_known_for_too_short_no_reason_is_called_new(
    viewer, browser, cluster_a
):
    KnownReason.objects.create(cluster=cluster_a, reason="Odd", first_seen=ago(hours=1))
    page = text_of(browser(viewer).get(FIGURES))
    assert "reason=Odd" not in page
    assert "No comparison yet: nothing is known from before this time." in page


def test_new_reasons_that_are_not_listed_or_not_noticed_are_told(
    viewer, browser, api, cluster_a, monkeypatch
):
    monkeypatch.setattr(reasons, "SHOWN", 2)
    monkeypatch.setattr(reasons, "MOST_OF_CLUSTER", 4)
    for reason, days in (("Old", 9), ("A", 0), ("B", 0), ("C", 0)):
        KnownReason.objects.create(cluster=cluster_a, reason=reason, first_seen=ago(days=days))
    page = text_of(browser(viewer).get(FIGURES))
    assert "These are the newest 2 of 3." in page
    assert "1 cluster has given 4 different reasons; no further one is noticed." in page
    found = api(viewer).get(API).json()
    assert (found["new_reasons_count"], found["not_noticed"]) == (3, 1)


def test_without_scripts_the_figures_come_with_the_page(viewer, browser, cluster_a):
    make(cluster_a, "oom")
    assert "OOM kills" not in text_of(browser(viewer).get(PAGE))
    assert "OOM kills" in text_of(browser(viewer).get(PAGE, {"figures": "1"}))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"range": "30d"}, "“30d” is no range; there are 1h, 24h, 7d."),
        ({"of": "luck"}, "“luck” is none of the key events; there are oom, "),
        ({"cluster": [str(number) for number in range(51)]}, "At most 50 values"),
    ],
)
@pytest.mark.parametrize("address", [PAGE, FIGURES, API])
def test_what_cannot_be_asked_is_refused(address, given, sentence, viewer, browser, api, cluster_a):
    client = api(viewer) if address == API else browser(viewer)
    assert sentence in text_of(client.get(address, given), 400)


@pytest.mark.parametrize("address", [PAGE, FIGURES])
def test_a_stranger_is_refused_and_nothing_can_be_posted(
    address, stranger, viewer, browser, cluster_a
):
    assert browser(stranger).get(address).status_code == 403
    assert browser(viewer).post(address).status_code == 405


def test_a_part_never_holds_the_sign_in_form(client, db):
    answer = client.get(FIGURES)
    assert (answer.status_code, answer["HX-Refresh"]) == (401, "true")


def test_what_clusters_say_is_text_and_no_markup(viewer, browser, cluster_a):
    make(cluster_a, "oom", name="<b>x</b>", node="<i>n")
    KnownReason.objects.create(cluster=cluster_a, reason="Old", first_seen=ago(days=3))
    KnownReason.objects.create(cluster=cluster_a, reason="<u>", first_seen=ago(hours=1))
    raw = browser(viewer).get(FIGURES).content.decode()
    for markup in ("<b>x", "<i>n", "<u>"):
        assert markup not in raw


def test_the_event_centre_leads_to_key_events_of_the_same_cluster(viewer, browser, cluster_a):
    page = text_of(browser(viewer).get("/events/event/", {"cluster": cluster_a.pk, "q": "x"}))
    assert f'href="{PAGE}?cluster={cluster_a.pk}"' in page


# --- the API --------------------------------------------------------------------------------------


def test_a_program_gets_the_same(viewer, api, cluster_a):
    make(cluster_a, "oom", name="hungry", node="n1")
    factories.make_event(cluster_a, SCHEDULER, reason="FailedScheduling", type="Warning", name="w")
    KnownReason.objects.create(cluster=cluster_a, reason="Old", first_seen=ago(days=3))
    KnownReason.objects.create(cluster=cluster_a, reason="Odd", first_seen=ago(hours=1))
    answer = api(viewer).get(API, {"of": "oom"})
    assert answer.status_code == 200
    found = answer.json()
    oom, _backoff, scheduling, *_others = found["figures"]
    assert (oom["name"], oom["title"], oom["count"], oom["usual"]) == ("oom", "OOM kills", 1, None)
    assert {each["name"]: each["count"] for each in scheduling["parts"]}["scheduling_cpu"] == 1
    assert found["objects"] == [{"value": "hungry", "count": 1}]
    assert found["nodes"] == [{"value": "n1", "count": 1}]
    assert [row["reason"] for row in found["new_reasons"]] == ["Odd"]
    assert (found["compared"], found["not_compared"]) == (0, 0)


def test_the_filter_that_a_program_gets_finds_the_events(viewer, api, cluster_a):
    factories.make_event(cluster_a, SCHEDULER, reason="FailedScheduling", type="Warning")
    client = api(viewer)
    figures = client.get(API).json()["figures"]
    for each in [part for one in figures for part in (one, *one["parts"])]:
        rows = client.get(f"/api/v1/events/?{each['filter']}").json()["results"]
        assert len(rows) == each["count"], each["name"]


def test_a_stranger_counts_nothing(stranger, api, cluster_a):
    make(cluster_a, "oom")
    found = api(stranger).get(API).json()
    assert {each["count"] for each in found["figures"]} == {0}


def test_all_that_is_counted_is_in_the_manual():
    manual = (key_events.settings.BASE_DIR / "docs" / "events.md").read_text()
    for measure in MEASURES:
        for reason in measure.reasons:
            assert f"`{reason}`" in manual


def test_several_reasons_are_searched_as_one_is(admin, cluster_a):
    for reason in ("OOMKilling", "SystemOOM", "Other"):
        factories.make_event(cluster_a, reason=reason)
    query = search.Query.of(reason=("OOMKilling", "SystemOOM"))
    assert {each.reason for each in search.page(admin, query).rows} == {"OOMKilling", "SystemOOM"}
    assert Event.objects.count() == 3


def test_of_days_that_a_cluster_does_not_keep_there_is_no_usual(viewer, cluster_a, settings):
    settings.EVENT_DAYS = settings.EVENT_WARNING_DAYS = 30
    wanted = key_events.wanted(viewer, QueryDict("range=24h"))
    assert len(list(key_events._earlier(wanted, key_events._shortest(viewer, wanted)))) == 7
    EventRetention.objects.create(cluster=cluster_a, days=3, warning_days=20)
    assert len(list(key_events._earlier(wanted, key_events._shortest(viewer, wanted)))) == 2
