"""A team that was granted namespaces sees their events, and nothing else; on every event store."""

import json
import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.http import QueryDict
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from beidou.base.errors import Conflict, Forbidden, InvalidInput
from beidou.base.models import AuditEntry, User
from beidou.base.sentences import Sentence
from clusters.services import removal
from events import tasks
from events.drivers.elastic import documents
from events.drivers.errors import LabelsSealed, StoreAway
from events.models import NamespaceGrant, StaleLabel
from events.services import alert_rules, asked, namespaces, relabelling, search, storing
from events.services.search import Query
from events.services.stores import chosen, elastic_queries, granted
from events.services.stores.base import Keeper, Scope
from events.services.stores.embedded import EmbeddedStore
from tests import factories
from tests.events.conftest import STORES
from tests.events.stores import ALL_TIMES
from tests.events.test_stores import made

pytestmark = pytest.mark.django_db


def anew(user):
    """As the next request has them: rights are asked once for each user object."""
    return User.objects.get(pk=user.pk)


def everything(**values):
    return Query.of(**{**ALL_TIMES, **values})


def found(user, **values):
    page = search.page(anew(user), everything(**values))
    return sorted(event.uid.removeprefix("uid-") for event in page.rows)


def of(name, namespace, version=100, **changes):
    return made(name, version, regarding__namespace=namespace, **changes)


def settle(store):
    """The worker comes, and what it wrote is found."""
    relabelling.run()
    store.settle()


@pytest.fixture
def shop(db) -> Group:
    return factories.make_team("shop")


@pytest.fixture
def limited(shop) -> User:
    return factories.make_user("limited", teams=(shop,))


@pytest.fixture
def give(admin):
    def give(team, cluster, *names):
        return namespaces.give(team=team, cluster=cluster, namespaces=names, user=admin)

    return give


@pytest.fixture
def take(admin):
    def take(team, cluster, *names):
        rows = namespaces.given(team, cluster, names)
        return namespaces.take(rows=rows, user=admin)

    return take


# --- what is seen ---------------------------------------------------------------------------------


def test_the_events_of_a_granted_namespace_are_seen_and_no_others(
    store, give, shop, limited, cluster_a, cluster_b
):
    give(shop, cluster_a, "shop")
    mine = [of("a", "shop"), of("b", "shop", reason="Failed")]
    store.keep(cluster_a, *mine, of("c", "shop-2"), of("d", "SHOP"), of("e", "pay"))
    store.keep(cluster_b, of("f", "shop"))
    assert found(limited) == ["a", "b"]
    user = anew(limited)
    assert dict(search.counts(user, everything(), "namespace")) == {"shop": 2}
    assert dict(search.counts(user, everything(), "reason")) == {"BackOff": 1, "Failed": 1}
    assert search.counts(user, everything(), "cluster") == [(cluster_a.pk, 2)]
    assert sum(each.warnings + each.others for each in search.histogram(user, everything())) == 2
    assert [event.cluster.name for event in search.every(user, everything(), most=9)] == [
        "cluster-a"
    ] * 2


def test_each_number_of_key_events_is_of_what_is_seen(store, give, shop, limited, cluster_a):
    give(shop, cluster_a, "shop")
    store.keep(cluster_a, of("a", "shop"), of("b", "pay"))
    user = anew(limited)
    spans = [search.Span(ALL_TIMES["since"], ALL_TIMES["until"])]
    queries = {"all": everything(), "back": everything(reason=("BackOff",))}
    assert search.tallies(user, queries, (), spans) == {"all": [1], "back": [1]}
    store.keep(cluster_a, of("old", "pay", deprecatedLastTimestamp="2026-11-01T00:00:00Z"))
    (first,) = search.firsts(user, (), spans)
    assert first == search.page(user, everything()).rows[0].last_seen


def test_one_event_is_shown_only_where_its_namespace_was_granted(
    store, give, shop, limited, cluster_a
):
    give(shop, cluster_a, "shop")
    store.keep(cluster_a, of("a", "shop"), of("b", "pay"))
    keys = {event.uid: event.key for event in store.all()}
    assert search.one(anew(limited), keys["uid-a"]).uid == "uid-a"
    assert search.one(anew(limited), keys["uid-b"]) is None


def test_an_event_without_a_namespace_is_seen_by_nobody_with_namespaces_alone(
    store, give, shop, limited, cluster_a
):
    give(shop, cluster_a, "shop", "default")
    store.keep(cluster_a, of("node", "", regarding__kind="Node"))
    assert found(limited) == []


def test_a_role_on_one_cluster_and_namespaces_of_another_add_up(
    store, give, viewers, viewer, cluster_a, cluster_b
):
    give(viewers, cluster_b, "shop")
    store.keep(cluster_a, of("a", "pay"))
    store.keep(cluster_b, of("b", "shop"), of("c", "pay"))
    assert found(viewer) == ["a", "b"]
    assert found(viewer, clusters=(cluster_b.pk,)) == ["b"]
    assert found(viewer, clusters=(cluster_a.pk,)) == ["a"]


def test_whoever_sees_the_cluster_sees_all_of_it_whatever_is_granted(
    store, give, viewers, viewer, cluster_a
):
    give(viewers, cluster_a, "shop")
    store.keep(cluster_a, of("a", "shop"), of("b", "pay"))
    assert found(viewer) == ["a", "b"]


def test_nothing_is_seen_by_those_of_other_teams(store, give, shop, stranger, cluster_a):
    give(shop, cluster_a, "shop")
    store.keep(cluster_a, of("a", "shop"))
    assert found(stranger) == []
    assert search.counts(anew(stranger), everything(), "namespace") == []
    assert search.one(anew(stranger), store.all()[0].key) is None


def test_who_leaves_the_team_sees_nothing_more(store, give, shop, limited, cluster_a):
    give(shop, cluster_a, "shop")
    store.keep(cluster_a, of("a", "shop"))
    limited.groups.clear()
    assert found(limited) == []


def test_who_may_not_sign_in_any_more_sees_nothing(store, give, shop, limited, cluster_a):
    give(shop, cluster_a, "shop")
    store.keep(cluster_a, of("a", "shop"))
    User.objects.filter(pk=limited.pk).update(is_active=False)
    assert found(limited) == []


# --- after a change -------------------------------------------------------------------------------


def test_what_was_taken_is_not_seen_from_that_moment_on(
    store, give, take, shop, limited, cluster_a
):
    give(shop, cluster_a, "shop", "pay")
    store.keep(cluster_a, of("a", "shop"), of("b", "pay"))
    take(shop, cluster_a, "shop")
    assert found(limited) == ["b"]
    assert search.one(anew(limited), _key(store, "uid-a")) is None
    assert dict(search.counts(anew(limited), everything(), "namespace")) == {"pay": 1}
    settle(store)
    assert found(limited) == ["b"]


def _key(store, uid):
    return next(event.key for event in store.all() if event.uid == uid)


def test_what_another_team_of_the_person_has_still_stays(
    store, give, take, shop, limited, cluster_a
):
    other = factories.make_team("other")
    limited.groups.add(other)
    give(shop, cluster_a, "shop")
    give(other, cluster_a, "shop")
    store.keep(cluster_a, of("a", "shop"))
    take(shop, cluster_a, "shop")
    assert found(limited) == ["a"]
    settle(store)
    assert found(limited) == ["a"]
    take(other, cluster_a, "shop")
    assert found(limited) == []


def test_events_of_before_are_seen_when_a_namespace_is_granted(
    store, give, shop, limited, cluster_a
):
    store.keep(cluster_a, of("a", "shop"), of("b", "pay"))
    give(shop, cluster_a, "shop")
    settle(store)
    assert found(limited) == ["a"]


def test_what_was_labelled_anew_is_found_as_before(store, give, shop, limited, admin, cluster_a):
    """A server that writes a document again has only what it kept of it."""
    store.keep(cluster_a, of("a", "shop", note="Failed to pull image 健康"))
    before = search.one(admin, _key(store, "uid-a"))
    give(shop, cluster_a, "shop")
    settle(store)
    assert found(limited, text='"failed to pull"') == ["a"]
    assert found(limited, text="健康") == ["a"]
    assert search.one(anew(limited), before.key) == before


def test_newer_states_replace_what_was_labelled_anew(store, give, take, shop, limited, cluster_a):
    store.keep(cluster_a, of("a", "shop", version=100, deprecatedCount=1))
    for _number in range(3):
        give(shop, cluster_a, "shop")
        settle(store)
        take(shop, cluster_a, "shop")
        settle(store)
    give(shop, cluster_a, "shop")
    settle(store)
    store.keep(cluster_a, of("a", "shop", version=101, deprecatedCount=2))
    store.keep(cluster_a, of("a", "shop", version=100, deprecatedCount=1))
    (event,) = search.page(anew(limited), everything()).rows
    assert (event.version, event.count) == (101, 2)


def test_what_is_brought_here_from_another_store_is_seen(store, give, shop, limited, cluster_a):
    give(shop, cluster_a, "shop")
    keeper = Keeper.of(cluster_a)
    storing.put(store.store, keeper, [of("a", "shop")], storing.labels_of(store.store, keeper))
    store.settle()
    assert found(limited) == ["a"]


# --- only on servers ------------------------------------------------------------------------------

on_servers = pytest.mark.parametrize("store", STORES[1:], indirect=True)


@on_servers
def test_when_all_is_labelled_nothing_need_be_withheld(
    store, give, take, shop, limited, cluster_a, monkeypatch
):
    monkeypatch.setattr(type(store.store), "label_delay", timedelta(0))
    give(shop, cluster_a, "shop", "pay")
    store.keep(cluster_a, of("a", "shop"), of("b", "pay"))
    settle(store)
    assert not StaleLabel.objects.exists()
    take(shop, cluster_a, "shop")
    scope = search.scope_of(anew(limited))
    assert granted.withheld(scope) == {cluster_a.uid: ["shop"]}
    settle(store)
    assert not StaleLabel.objects.exists()
    assert found(limited) == ["b"]


@on_servers
def test_more_than_one_portion_is_labelled(store, give, shop, limited, cluster_a, monkeypatch):
    monkeypatch.setattr("events.services.stores.elastic.RELABELLED_AT_ONCE", 2)
    store.keep(cluster_a, *(of(f"e{number}", "shop") for number in range(5)))
    give(shop, cluster_a, "shop")
    settle(store)
    assert found(limited) == [f"e{number}" for number in range(5)]


@on_servers
def test_an_index_of_an_earlier_version_learns_of_teams(store, give, shop, limited, cluster_a):
    mapping = json.loads(json.dumps(documents.MAPPING))
    del mapping["properties"]["beidou"]["properties"]["teams"]
    name = store.store.indices.of(of("a", "shop").day)
    body = {"mappings": {"_meta": {"beidou": 1}, **mapping}}
    store.server.ask("PUT", f"/{name}", body=body)
    store.keep(cluster_a, of("a", "shop"))
    give(shop, cluster_a, "shop")
    store.keep(cluster_a, of("b", "shop"))  # labelled, in a field that nobody searches yet
    assert found(limited) == []
    settle(store)
    assert found(limited) == ["a", "b"]


# --- what it costs --------------------------------------------------------------------------------


def statements(user):
    """Of a page, its figures and an export; values left out."""
    with CaptureQueriesContext(connection) as captured:
        search.page(user, everything())
        search.counts(user, everything(), "reason")
        search.histogram(user, everything())
        list(search.every(user, everything(), most=1))
    return [len(query["sql"]) for query in captured]


def test_the_question_to_the_database_is_the_same_for_one_namespace_and_a_thousand(
    give, shop, limited, cluster_a
):
    give(shop, cluster_a, "shop")
    small = statements(anew(limited))
    give(shop, cluster_a, *(f"shop-{number}" for number in range(999)))
    assert statements(anew(limited)) == small


def test_who_has_roles_alone_asks_the_database_as_if_there_were_no_grants_of_namespaces(
    give, shop, viewer, cluster_a, cluster_b
):
    with CaptureQueriesContext(connection) as before:
        search.page(anew(viewer), everything())
    give(shop, cluster_a, "shop")
    with CaptureQueriesContext(connection) as after:
        search.page(anew(viewer), everything())
    assert len(after) == len(before)
    assert "namespacegrant" not in after[-1]["sql"]


def test_the_question_to_a_server_is_the_same_for_one_namespace_and_a_thousand(
    give, shop, limited, cluster_a
):
    def body():
        scope = search.scope_of(anew(limited))
        limits = elastic_queries.of_scope(scope, granted.withheld(scope))
        (limit,) = limits
        return limit.to_dict()

    give(shop, cluster_a, "shop")
    small = body()
    give(shop, cluster_a, *(f"shop-{number}" for number in range(999)))
    assert body() == small
    assert small["bool"]["filter"] == [
        {"terms": {documents.CLUSTER: [cluster_a.uid]}},
        {"terms": {documents.TEAMS: [str(shop.pk)]}},
    ]


def test_of_full_and_limited_clusters_a_server_is_asked_for_either(
    give, viewers, viewer, cluster_a, cluster_b
):
    give(viewers, cluster_b, "shop")
    (limit,) = elastic_queries.of_scope(search.scope_of(anew(viewer)), {})
    full, _part = limit.to_dict()["bool"]["should"]
    assert full == {"terms": {documents.CLUSTER: [cluster_a.uid]}}


@pytest.mark.parametrize("clusters", [1, 2])
def test_a_page_walks_back_from_the_newest_and_looks_each_event_up_in_an_index(
    give, shop, limited, cluster_a, cluster_b, clusters
):
    for cluster in (cluster_a, cluster_b)[:clusters]:
        give(shop, cluster, "shop")
    plan = plan_of_page(anew(limited))
    if connection.vendor == "postgresql":
        assert not re.search(r"(?<!Incremental )Sort  \(", plan)
        assert "namespace_granted" in plan
    else:
        assert "TEMP B-TREE FOR ORDER BY" not in plan
        assert "(team_id=? AND cluster_id=? AND namespace=?)" in plan


def plan_of_page(user):
    with CaptureQueriesContext(connection) as captured:
        search.scope_of(user)
        search.page(user, everything())
    explain = "EXPLAIN" if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN"
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute("SET LOCAL enable_sort = off")
        # Its limit of time goes with it to PostgreSQL, before and behind.
        (query,) = (q for q in captured[-1]["sql"].split("; ") if q.startswith("SELECT"))
        cursor.execute(f"{explain} {query}")
        return "\n".join(str(line) for line in cursor.fetchall())


# --- other things that see events -----------------------------------------------------------------


def test_a_cluster_is_named_by_those_who_see_some_of_it(give, shop, limited, cluster_a, cluster_b):
    give(shop, cluster_a, "shop")
    for value in ("cluster-a", str(cluster_a.pk)):
        assert asked.clusters(anew(limited), QueryDict(f"cluster={value}")) == (cluster_a.pk,)
    assert asked.clusters(anew(limited), QueryDict("cluster=cluster-b")) == (0,)


def test_an_alert_rule_counts_in_clusters_of_which_its_owner_sees_all(
    give, operators, operator, cluster_a, cluster_b
):
    give(operators, cluster_b, "shop")
    factories.make_event(cluster_a)
    factories.make_event(cluster_b)
    now = timezone.now()
    rule = factories.make_alert_rule(operator, search="")
    query = alert_rules.query_of(
        anew(operator), rule, since=now - timedelta(hours=1), until=now + timedelta(hours=1)
    )
    assert search.counts(anew(operator), query, "cluster") == [(cluster_a.pk, 1)]


# --- giving and taking ----------------------------------------------------------------------------


def test_many_are_given_at_once_each_in_the_trail(give, shop, cluster_a):
    rows = give(shop, cluster_a, "b", "a", " b ", "")
    assert [row.namespace for row in rows] == ["b", "a"]
    entries = AuditEntry.objects.filter(verb="grant", object_type="events.namespacegrant")
    assert [entry.object_name for entry in entries.order_by("id")] == [
        "shop · cluster-a · b",
        "shop · cluster-a · a",
    ]
    assert {entry.cluster_id for entry in entries} == {cluster_a.pk}


def test_what_a_team_has_already_is_given_once(give, shop, cluster_a):
    give(shop, cluster_a, "a")
    assert [row.namespace for row in give(shop, cluster_a, "a", "b")] == ["b"]
    with pytest.raises(Conflict, match="granted all of this already"):
        give(shop, cluster_a, "a", "b")
    assert NamespaceGrant.objects.count() == 2


def test_what_is_taken_is_in_the_trail(give, take, shop, cluster_a):
    give(shop, cluster_a, "a", "b", "c")
    assert take(shop, cluster_a, "a", "b", "never-given") == 2
    assert AuditEntry.objects.filter(verb="revoke").count() == 2
    assert [row.namespace for row in NamespaceGrant.objects.all()] == ["c"]


@pytest.mark.parametrize("name", ["Shop", "shop/pay", "-shop", "shop.pay", "x" * 64, "*", "店"])
def test_what_is_no_name_of_a_namespace_is_refused(name, give, shop, cluster_a):
    with pytest.raises(InvalidInput, match="is no name of a namespace"):
        give(shop, cluster_a, "fine", name)
    assert not NamespaceGrant.objects.exists()


def test_nothing_and_too_much_are_refused(give, shop, cluster_a):
    with pytest.raises(InvalidInput, match="at least one"):
        give(shop, cluster_a, " ", "")
    with pytest.raises(InvalidInput, match="At most 2000 namespaces at once"):
        give(shop, cluster_a, *(f"n{number}" for number in range(2001)))


@pytest.mark.parametrize("who", ["operator", "viewer", "stranger", "auditor"])
def test_only_whoever_may_grant_roles_on_the_cluster_gives_and_takes(
    who, cast, give, shop, cluster_a
):
    (row,) = give(shop, cluster_a, "shop")
    with pytest.raises(Forbidden):
        namespaces.give(team=shop, cluster=cluster_a, namespaces=["pay"], user=cast[who])
    with pytest.raises(Forbidden):
        namespaces.take(rows=[row], user=cast[who])
    assert NamespaceGrant.objects.count() == 1


def test_an_owner_gives_on_the_own_cluster_alone(shop, cluster_a, cluster_b):
    owners = factories.make_team("owners")
    factories.grant(owners, cluster_a, "owner")
    owner = factories.make_user("owner", teams=(owners,))
    namespaces.give(team=shop, cluster=cluster_a, namespaces=["shop"], user=owner)
    with pytest.raises(Forbidden):
        namespaces.give(team=shop, cluster=cluster_b, namespaces=["shop"], user=owner)


def test_grants_of_a_deleted_team_are_revoked_in_the_trail(give, shop, cluster_a):
    give(shop, cluster_a, "shop")
    shop.delete()
    assert not NamespaceGrant.objects.exists()
    entry = AuditEntry.objects.get(verb="revoke")
    assert (entry.object_name, entry.reason) == ("shop · cluster-a · shop", "the team was deleted")


def test_a_cluster_that_is_adopted_anew_is_not_seen_by_labels_of_before(give, shop, cluster_a):
    give(shop, cluster_a, "shop")
    StaleLabel.objects.all().delete()
    uid = cluster_a.uid
    removal.unadopt(cluster=cluster_a, confirmation=cluster_a.name)
    note = StaleLabel.objects.get()
    assert (note.team_key, note.cluster_uid, note.namespace) == (shop.pk, uid, "shop")


# --- labels ---------------------------------------------------------------------------------------


class Labelled(EmbeddedStore):
    """A store with labels: tells what it is asked, and answers ``True`` when nothing is wrong."""

    label_delay = timedelta(minutes=2)

    def __init__(self):
        self.asked, self.answers = [], []

    def relabel(self, cluster_uid, team, namespaces, labels):
        self.asked.append((cluster_uid, team, list(namespaces), dict(labels)))
        answer = self.answers.pop(0) if self.answers else True
        if isinstance(answer, Exception):
            raise answer
        return answer() if callable(answer) else answer


@pytest.fixture
def labelled(monkeypatch):
    store = Labelled()
    monkeypatch.setattr(chosen, "store", lambda: store)
    return store


def later(**times):
    """As if all that was noted had been so long ago."""
    for note in StaleLabel.objects.all():
        earlier = note.changed_at - timedelta(**times)
        StaleLabel.objects.filter(pk=note.pk).update(changed_at=earlier)


def test_a_note_goes_only_after_a_look_that_began_when_nobody_wrote_as_before(
    labelled, give, shop, cluster_a
):
    give(shop, cluster_a, "shop")
    assert tasks.relabel() == 0
    assert StaleLabel.objects.get().looked_at is not None
    assert tasks.relabel() == 0
    assert len(labelled.asked) == 1  # not again before it can be settled
    later(minutes=3)
    assert tasks.relabel() == 1
    assert not StaleLabel.objects.exists()
    assert labelled.asked == [(cluster_a.uid, shop.pk, ["shop"], {"shop": [shop.pk]})] * 2


def test_what_a_collector_stores_is_labelled_by_the_grants_of_that_moment(
    labelled, give, take, shop, cluster_a, cluster_b
):
    give(shop, cluster_a, "shop")
    give(shop, cluster_b, "other")
    keeper, labels = storing.addressed(labelled, cluster_a.uid)
    assert (keeper.pk, labels) == (cluster_a.pk, {"shop": [shop.pk]})
    take(shop, cluster_a, "shop")
    assert storing.addressed(labelled, cluster_a.uid)[1] == {}
    assert storing.addressed(labelled, "of-nobody") is None


def test_portions_go_on_until_nothing_is_wrong(labelled, give, shop, cluster_a):
    give(shop, cluster_a, "a", "b")
    labelled.answers = [False, False, True]
    tasks.relabel()
    assert [names for _uid, _team, names, _labels in labelled.asked] == [["a", "b"]] * 3


def test_a_change_meanwhile_is_looked_at_again(labelled, give, take, shop, cluster_a):
    give(shop, cluster_a, "shop")
    later(minutes=3)

    def taken_meanwhile():
        take(shop, cluster_a, "shop")
        return True

    labelled.answers = [taken_meanwhile]
    assert tasks.relabel() == 0
    assert StaleLabel.objects.get().looked_at is None
    tasks.relabel()
    assert labelled.asked[-1] == (cluster_a.uid, shop.pk, ["shop"], {})


def test_a_store_that_is_away_is_noted_and_tried_again(labelled, give, shop, cluster_a):
    give(shop, cluster_a, "shop")
    labelled.answers = [StoreAway(Sentence("The event store has too much to do (%(why)s).", why=1))]
    assert tasks.relabel() == 0
    note = StaleLabel.objects.get()
    assert "too much to do" in str(note.problem)
    assert (note.looked_at, note.held_until) == (None, None)
    tasks.relabel()
    assert StaleLabel.objects.get().problem == ""


def test_what_is_sealed_stays_withheld_and_holds_up_no_grant(labelled, give, take, shop, cluster_a):
    give(shop, cluster_a, "taken", "given")
    take(shop, cluster_a, "taken")
    later(minutes=3)
    labelled.answers = [LabelsSealed(Sentence("The index takes no writes."))]
    tasks.relabel()
    note = StaleLabel.objects.get()
    assert (note.namespace, str(note.problem)) == ("taken", "The index takes no writes.")
    assert not tasks.look_for_stale_labels()  # not each minute
    StaleLabel.objects.update(looked_at=timezone.now() - timedelta(hours=2))
    assert tasks.look_for_stale_labels()
    assert tasks.relabel() == 1


def test_two_workers_do_not_look_after_the_same(labelled, give, shop, cluster_a):
    give(shop, cluster_a, "shop")
    labelled.answers = [lambda: bool(tasks.relabel() == 0)]
    tasks.relabel()
    assert len(labelled.asked) == 1


def test_what_a_killed_worker_held_is_looked_after_later(labelled, give, shop, cluster_a):
    give(shop, cluster_a, "shop")
    StaleLabel.objects.update(held_until=timezone.now() + timedelta(minutes=1))
    assert not tasks.look_for_stale_labels()
    StaleLabel.objects.update(held_until=timezone.now() - timedelta(minutes=1))
    assert tasks.look_for_stale_labels()


def test_without_labels_notes_stay_for_a_store_of_tomorrow(give, shop, cluster_a):
    give(shop, cluster_a, "shop")
    assert not tasks.look_for_stale_labels()
    assert tasks.relabel() == 0
    assert StaleLabel.objects.count() == 1


def test_the_page_of_grants_says_that_older_events_follow(labelled, give, shop, cluster_a):
    give(shop, cluster_a, "shop")
    assert namespaces.with_state(NamespaceGrant.objects.all()).get().follow
    tasks.relabel()
    assert not namespaces.with_state(NamespaceGrant.objects.all()).get().follow


def test_a_document_is_labelled_anew_with_the_words_that_it_had():
    record = of("a", "shop", note="Failed to pull image")
    whole = documents.document("uid", "prod", record)
    kept = json.loads(json.dumps(whole))
    del kept["beidou"]["text"]
    change = documents.labelled(kept, [7, 3])
    assert change == {"beidou": {"text": whole["beidou"]["text"], "teams": ["3", "7"]}}
    assert "teams" not in whole["beidou"]


def test_what_is_wrong_is_the_lack_of_a_label_and_one_too_many():
    wanted = elastic_queries.mislabelled("uid", 7, ["given"], ["taken"]).to_dict()
    lacks, has = wanted["bool"]["filter"][0]["bool"]["should"]
    label = {"term": {documents.TEAMS: "7"}}
    assert lacks["bool"]["must_not"] == [label]
    assert label in has["bool"]["filter"]


def test_a_scope_of_nothing_finds_nothing(cluster_a):
    factories.make_event(cluster_a)
    page = search.page_in(Scope({}), everything(), limit=10)
    assert page.rows == []
