"""Every route of the API × the four people and nobody; new routes are covered as they appear."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from beidou.base.api.rights import ObjectPermissions
from beidou.base.permissions import ACTIONS
from tests import factories, rows
from tests.api_cases import ROUTES, UNSAFE, VERBS

pytestmark = pytest.mark.django_db
GONE, REFUSED, NO_SUCH_METHOD = 404, 403, 405
SHAPE = {"code", "message", "fields"}
BODY = {"reason": "a test"}

WITH_ROWS = [route for route in ROUTES if route.is_of_clusters]
FOR_VIEWERS = [route for route in ROUTES if route.viewers_see_it]
OF_OBJECTS = [verb for verb in VERBS if verb.action.detail and verb.route.is_of_clusters]
CHANGING = [verb for verb in OF_OBJECTS if verb.method in UNSAFE]


def each(name, cases):
    return pytest.mark.parametrize(name, cases, ids=str)


def row_of(route, cluster):
    assert route.model is not None
    return rows.make_row(route.model, cluster)


@each("route", ROUTES)
def test_nobody_gets_401_from_the_list(route, api):
    answer = api().get(route.url("list"))
    assert answer.status_code == 401
    assert set(answer.json()) == SHAPE


@each("route", ROUTES)
def test_nobody_gets_401_for_creating(route, api):
    assert api().post(route.url("list"), {}).status_code == 401


@each("verb", VERBS)
def test_nobody_gets_401_from_an_action(verb, api):
    answer = getattr(api(), verb.method)(verb.url(1), BODY)
    assert answer.status_code == 401


@each("route", ROUTES)
@pytest.mark.parametrize("who", ["admin", "operator", "viewer", "stranger"])
def test_a_list_holds_only_what_one_may_see(route, who, cast, api, cluster_a, cluster_b):
    if route.is_of_clusters:
        row_of(route, cluster_a)
        foreign = row_of(route, cluster_b)
    answer = api(cast[who]).get(route.url("list"))
    assert answer.status_code in {200, NO_SUCH_METHOD}
    if answer.status_code != 200 or not route.is_of_clusters:
        return
    found = answer.json()["results"]
    if who == "stranger":
        assert found == []
    elif who != "admin":
        assert foreign.pk not in [row.get("id", row.get("cluster")) for row in found]


@each("route", FOR_VIEWERS)
@pytest.mark.parametrize("who", ["admin", "operator", "viewer"])
def test_whoever_has_a_role_on_the_cluster_sees_the_object(route, who, cast, api, cluster_a):
    row = row_of(route, cluster_a)
    answer = api(cast[who]).get(route.url("detail", row.pk))
    assert answer.status_code in {200, NO_SUCH_METHOD}


@each("route", WITH_ROWS)
@pytest.mark.parametrize("who", ["operator", "viewer", "stranger"])
@pytest.mark.parametrize("method", ["get", "patch", "delete"])
def test_an_object_of_a_foreign_cluster_does_not_exist(route, who, method, cast, api, cluster_b):
    row = row_of(route, cluster_b)
    url = route.url("detail", row.pk)
    if url is None:
        return
    answer = getattr(api(cast[who]), method)(url, BODY)
    assert answer.status_code == (GONE if route.has(method) else NO_SUCH_METHOD)
    assert set(answer.json()) == SHAPE
    assert route.model._default_manager.filter(pk=row.pk).exists()


@each("route", FOR_VIEWERS)
@pytest.mark.parametrize("method", ["patch", "delete"])
def test_who_may_only_look_cannot_write(route, method, viewer, api, cluster_a):
    row = row_of(route, cluster_a)
    url = route.url("detail", row.pk)
    if url is None:
        return
    answer = getattr(api(viewer), method)(url, BODY)
    assert answer.status_code == (REFUSED if route.has(method) else NO_SUCH_METHOD)
    assert route.model._default_manager.filter(pk=row.pk).exists()


@each("route", WITH_ROWS)
def test_a_stranger_creates_nothing(route, stranger, api, cluster_a):
    before = route.model._default_manager.count()
    answer = api(stranger).post(route.url("list"), BODY)
    assert 400 <= answer.status_code < 500
    assert route.model._default_manager.count() == before


@each("verb", OF_OBJECTS)
@pytest.mark.parametrize("who", ["operator", "viewer", "stranger"])
@pytest.mark.parametrize("body", [BODY, {}], ids=["body", "empty"])
def test_an_action_on_an_object_of_a_foreign_cluster_finds_nothing(
    verb, body, who, cast, api, cluster_b
):
    row = row_of(verb.route, cluster_b)
    answer = getattr(api(cast[who]), verb.method)(verb.url(row.pk), body)
    assert answer.status_code == GONE


@each("verb", CHANGING)
@pytest.mark.parametrize("body", [BODY, {}, {"reason": ["no text"]}], ids=["body", "empty", "bad"])
def test_who_may_only_look_cannot_act_whatever_the_body(verb, body, viewer, api, cluster_a):
    row = row_of(verb.route, cluster_a)
    answer = getattr(api(viewer), verb.method)(verb.url(row.pk), body)
    assert answer.status_code == REFUSED


@each("route", ROUTES)
def test_every_action_says_which_right_it_needs(route):
    if ObjectPermissions not in route.viewset.permission_classes:
        assert not route.is_of_clusters
        return
    declared = {**route.viewset._defaults, **route.viewset.rights}
    for action in route.actions:
        if action.detail:
            for method_name in action.mapping.values():
                assert method_name in declared
    assert set(route.viewset.rights.values()) <= set(ACTIONS)


@each("route", WITH_ROWS)
def test_a_list_needs_few_queries_however_many_rows(route, admin, api, cluster_a):
    client, url = api(admin), route.url("list")

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            client.get(url)
        return len(captured)

    for _number in range(2):
        row_of(route, cluster_a)
    few = queries()
    for _number in range(8):
        row_of(route, cluster_a)
    assert queries() <= few, "a query per row"


@pytest.mark.parametrize(
    "query",
    [
        "machines/?cluster=", "machines/?cluster__in=", "machines/?owner_team=",
        "machines/?credential=", "nodes/?cluster=", "drift/?machine=", "drift/?machine__cluster=",
        "grants/?cluster=", "grants/?team=", "clusters/?team=", "credentials/?team=",
    ],
)  # fmt: skip
def test_a_filter_does_not_tell_which_keys_exist(query, api, viewer, cluster_b):
    team = factories.make_team()
    credential = factories.make_credential(team=team)
    machine = factories.make_machine(cluster=cluster_b, owner_team=team, credential=credential)
    keys = {
        "cluster": cluster_b.pk, "owner_team": team.pk, "team": team.pk,
        "credential": credential.pk, "machine": machine.pk,
    }  # fmt: skip
    name = query.split("?")[1].rstrip("=").removesuffix("__in").split("__")[-1]
    hidden, unknown = (api(viewer).get(f"/api/v1/{query}{key}") for key in (keys[name], 999_999))
    assert (hidden.status_code, hidden.json()["results"]) == (200, [])
    assert (unknown.status_code, unknown.json()) == (200, hidden.json())


@pytest.mark.parametrize("key", ["0", "-1", "x", str(2**63), "9" * 40])
def test_what_is_no_key_is_refused_at_its_field(key, api, viewer):
    answer = api(viewer).get(f"/api/v1/machines/?cluster={key}")
    assert (answer.status_code, set(answer.json()["fields"])) == (400, {"cluster"})


def test_filters_by_key_still_narrow(api, admin, cluster_a, cluster_b):
    own, other = (factories.make_machine(cluster=each) for each in (cluster_a, cluster_b))
    alone = factories.make_machine()

    def listed(query):
        found = api(admin).get(f"/api/v1/machines/?{query}").json()["results"]
        return {row["id"] for row in found}

    assert listed(f"cluster={cluster_a.pk}") == {own.pk}
    assert listed(f"cluster__in={cluster_a.pk},{cluster_b.pk}") == {own.pk, other.pk}
    assert listed("cluster__isnull=true") == {alone.pk}


@pytest.mark.parametrize("field", ["owner_team", "credential"])
def test_an_edit_does_not_tell_which_keys_exist(field, api, operator, cluster_a):
    factories.grant(operator.groups.get(), cluster_a, "owner")
    machine = factories.make_machine(cluster=cluster_a)
    foreign = {"owner_team": factories.make_team(), "credential": factories.make_credential()}
    page = f"/api/v1/machines/{machine.pk}/"
    answers = []
    for key in (foreign[field].pk, 999_999):
        answer = api(operator).patch(page, {field: key})
        answers.append((answer.status_code, answer.content.decode().replace(str(key), "KEY", 2)))
    assert answers[0] == answers[1]
    assert answers[0][0] == 400


def test_a_foreign_team_and_credential_that_a_machine_has_may_be_sent_back(
    api, operator, cluster_a
):
    factories.grant(operator.groups.get(), cluster_a, "owner")
    team, credential = factories.make_team(), factories.make_credential()
    machine = factories.make_machine(cluster=cluster_a, owner_team=team, credential=credential)
    wish = {"owner_team": team.pk, "credential": credential.pk}
    assert api(operator).patch(f"/api/v1/machines/{machine.pk}/", wish).status_code == 200
