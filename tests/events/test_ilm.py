"""Where the server has ILM: the policy of the site, and what it makes of indices."""

import json
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from beidou.base import config
from events.drivers.elastic import documents
from events.drivers.errors import LabelsSealed, StoreAway
from events.services.stores.base import Keeper, Limit, Limits, Scope
from events.services.stores.elastic import ElasticStore
from tests.events.conftest import STORES
from tests.events.test_stores import made, of_day
from tests.fakes.http_server import serving

pytestmark = pytest.mark.django_db
KEEPER = Keeper(1, "uid-of-cluster", "prod")
HOME, OTHER = "test-events-1-2026.11.20", "test-events-1-other"
NO_ILM = (400, {"error": "no handler found for uri [/_ilm/policy/site] and method [GET]"})
MAPPING = {"mappings": {"_meta": {"beidou": 1}}}
WRITE_BLOCK = {"type": "cluster_block_exception", "reason": "FORBIDDEN/8/index write (api)"}


class Fake:
    """Answers by what a request matches, the first that does; everything else is well."""

    def __init__(self):
        self.answers = [
            ("GET .*/_mapping", 200, {"index": MAPPING}),
            ("GET /_index_template", 404, {}),
        ]
        self.asked = []

    def says(self, pattern, status, content):
        self.answers.insert(0, (pattern, status, content))

    def answer(self, request, body):
        self.asked.append((request, body))
        for pattern, status, content in self.answers:
            if re.match(pattern, request):
                return status, content(body) if callable(content) else content
        return 200, {}

    def said(self, method, path, body):
        status, content = self.answer(f"{method} {path}", body)
        return status, json.dumps(content)

    def bodies(self, pattern):
        return [body for request, body in self.asked if re.match(pattern, request)]


@pytest.fixture
def fake():
    return Fake()


@pytest.fixture
def on_fake(fake):
    with serving(fake.said) as url:
        yield url


def store_at(url, policy=""):
    address = config.parse_event_store_url(f"elasticsearch+{url}/test")
    return ElasticStore(replace(address, ilm_policy=policy), owner="me")


def bulk(**blocked):
    """Takes what is written, but into the indices of which an error is given."""

    def answer(body):
        lines = [json.loads(line) for line in body.splitlines()]
        actions = [line for line in lines if set(line) <= {"index", "create", "delete"}]
        items = []
        for action in actions:
            ((verb, place),) = action.items()
            error = blocked.get("error") if place["_index"] == blocked.get("index") else None
            more = {"status": 403, "error": error} if error else {"status": 201}
            items.append({verb: {"_index": place["_index"], "_id": place["_id"], **more}})
        return {"items": items}

    return answer


def written(fake, index):
    """Keys written into an index."""
    lines = [json.loads(line) for body in fake.bodies("POST /_bulk") for line in body.splitlines()]
    places = [place for line in lines for place in line.values() if isinstance(place, dict)]
    return [place["_id"] for place in places if place.get("_index") == index]


# --- the policy -----------------------------------------------------------------------------------


def test_new_indices_follow_the_policy_but_that_of_late_events(fake, on_fake):
    fake.says("GET /_ilm/policy/site", 200, {"site": {"policy": {}}})
    fake.says("POST /_bulk", 200, bulk())
    store_at(on_fake, "site").write(KEEPER, [made()])
    (template,) = fake.bodies("PUT /_index_template")
    assert json.loads(template)["template"]["settings"]["index"]["lifecycle.name"] == "site"
    assert fake.bodies(f"PUT /{HOME}") == [""]


def test_the_index_of_late_events_follows_no_policy(fake, on_fake):
    fake.says("GET /_ilm/policy/site", 200, {"site": {"policy": {}}})
    store = store_at(on_fake, "site")
    store.indices.prepare({store.indices.other})
    (body,) = fake.bodies(f"PUT /{OTHER}")
    assert json.loads(body) == {"settings": {"index.lifecycle.name": None}}


def test_without_a_policy_nothing_is_asked_or_said_of_one(fake, on_fake):
    fake.says("POST /_bulk", 200, bulk())
    store_at(on_fake).write(KEEPER, [made()])
    assert not fake.bodies("GET /_ilm")
    assert "lifecycle" not in "".join(fake.bodies("PUT"))


@pytest.mark.parametrize(
    ("status", "content", "sentence"),
    [
        (404, {"error": {"type": "resource_not_found_exception"}}, "has no ILM policy “site”"),
        (200, {}, "knows no ILM"),
        (*NO_ILM, "knows no ILM"),
        (405, {"error": "Incorrect HTTP method"}, "knows no ILM"),
        (403, {"error": {"type": "security_exception", "reason": "no"}}, "refuses .*credential"),
    ],
)
def test_a_policy_that_cannot_be_followed_holds_up_and_is_said(
    status, content, sentence, fake, on_fake
):
    fake.says("GET /_ilm/policy/site", status, content)
    with pytest.raises(StoreAway, match=sentence):
        store_at(on_fake, "site").write(KEEPER, [made()])
    assert not fake.bodies("PUT")


def test_what_was_wrong_with_a_policy_is_asked_again(fake, on_fake):
    fake.says("GET /_ilm/policy/site", 404, {})
    fake.says("POST /_bulk", 200, bulk())
    store = store_at(on_fake, "site")
    with pytest.raises(StoreAway):
        store.write(KEEPER, [made()])
    fake.says("GET /_ilm/policy/site", 200, {"site": {}})
    assert store.write(KEEPER, [made()]) == []


@pytest.mark.parametrize(
    "url", ["database", "opensearch+https://search.example.com", "opensearch+http://a/b"]
)
def test_a_policy_is_for_elasticsearch_alone(url, tmp_path):
    environment = {"DATA_DIR": str(tmp_path), "EVENT_STORE_URL": url, "EVENT_ILM_POLICY": "site"}
    with pytest.raises(ImproperlyConfigured, match="ILM_POLICY is for Elasticsearch alone"):
        config.load({f"BEIDOU_{name}": value for name, value in environment.items()})


def test_a_policy_has_a_name_that_needs_no_quoting(tmp_path):
    environment = {"BEIDOU_DATA_DIR": str(tmp_path), "BEIDOU_EVENT_ILM_POLICY": "a/b"}
    with pytest.raises(ImproperlyConfigured, match="ILM_POLICY is no name of a policy"):
        config.load(environment)


# --- what it makes of indices ---------------------------------------------------------------------


def test_an_index_that_has_another_name_by_now_is_written_by_its_old_one(fake, on_fake):
    taken = {"type": "invalid_index_name_exception", "reason": "already exists as alias"}
    fake.says(f"PUT /{HOME}", 400, {"error": taken})
    fake.says("POST /_bulk", 200, bulk())
    assert store_at(on_fake).write(KEEPER, [made()]) == []


def test_an_index_that_the_server_would_not_make_is_said(fake, on_fake):
    full = {"type": "validation_exception", "reason": "this action would add too many shards"}
    fake.says(f"PUT /{HOME}", 400, {"error": full})
    fake.says(f"GET /{HOME}/_mapping", 404, {})
    with pytest.raises(StoreAway, match="answered 400 .this action would add too many shards"):
        store_at(on_fake).write(KEEPER, [made()])


def sealed(fake, stored=None, settings=None):
    """The home of the events takes no writes any more; ``stored`` is what it has of one."""
    fake.says("POST /_bulk", 200, bulk(index=HOME, error=WRITE_BLOCK))
    settings = settings or {"index.blocks.write": "true"}
    fake.says("GET /.*/_settings/", 200, {f"shrink-x1y2-{HOME}": {"settings": settings}})
    there: dict[str, Any] = {"found": False}
    if stored is not None:
        content = documents.document(KEEPER.uid, KEEPER.name, stored)
        there = {"found": True, "_source": content, "_seq_no": 1, "_primary_term": 1}
    fake.says("POST /_mget", 200, {"docs": [{"_index": f"shrink-x1y2-{HOME}", **there}]})


@pytest.mark.parametrize(
    "settings",
    [
        {"index.blocks.write": "true"},
        {"index.blocks.read_only": "true"},
        {"index.store.type": "snapshot"},
    ],
)
def test_what_comes_too_late_for_a_sealed_index_is_kept_in_another(settings, fake, on_fake):
    sealed(fake, settings=settings)
    assert store_at(on_fake).write(KEEPER, [made()]) == []
    assert written(fake, OTHER) == written(fake, HOME)


def test_a_newer_state_than_that_in_a_sealed_index_is_kept_in_another(fake, on_fake):
    sealed(fake, stored=made(version=100))
    store_at(on_fake).write(KEEPER, [made(version=200)])
    assert len(written(fake, OTHER)) == 1


def test_the_same_state_again_is_not_doubled_beside_a_sealed_index(fake, on_fake):
    sealed(fake, stored=made(version=100))
    assert store_at(on_fake).write(KEEPER, [made(version=100)]) == []
    assert written(fake, OTHER) == []


def test_a_block_that_nobody_wanted_is_waited_for(fake, on_fake):
    sealed(fake, settings={"index.blocks.read_only_allow_delete": "true"})
    with pytest.raises(StoreAway, match="takes nothing"):
        store_at(on_fake).write(KEEPER, [made()])
    assert written(fake, OTHER) == []


def test_what_is_archived_but_cannot_be_deleted_from_a_sealed_index_is_said(fake, on_fake):
    sealed(fake, stored=made())
    fake.says("GET /_index_template", 200, ours())
    fake.says("POST /_mget", 200, lambda body: both(body, made()))
    with pytest.raises(StoreAway, match=f"{HOME}” is read-only, .* deleted from it"):
        store_at(on_fake).remove(KEEPER, [made()])


def both(body, record):
    """Stored where it belongs, and nowhere else."""
    content = documents.document(KEEPER.uid, KEEPER.name, record)
    there = {"found": True, "_source": content, "_seq_no": 1, "_primary_term": 1}
    docs = json.loads(body)["docs"]
    return {"docs": [there if each["_index"] == HOME else {"found": False} for each in docs]}


def ours():
    return {"index_templates": [{"index_template": {"_meta": {"portal": "me"}}}]}


def test_single_events_of_sealed_indices_are_not_looked_for_to_be_deleted(fake, on_fake):
    sealed(fake)
    fake.says("GET /_index_template", 200, ours())
    fake.says("GET /.*/_alias", 200, {})
    fake.says("POST /.*/_search", 200, {"hits": {"hits": []}})
    day = made().day
    assert store_at(on_fake).forget(Limits(Limit(day, day))) == 0
    for body in fake.bodies("POST /.*/_search"):
        unwanted = json.loads(body)["query"]["bool"]["must_not"]
        assert {"terms": {"_index": [f"shrink-x1y2-{HOME}"]}} in unwanted


# --- on real servers, which have no ILM -----------------------------------------------------------

on_servers = pytest.mark.parametrize("store", STORES[1:], indirect=True)


def renamed(store, name, prefix="shrink-x1y2-"):
    """What ILM does when it shrinks an index: another one in its place, with its name for alias."""
    ask = store.server.ask
    ask("PUT", f"/{name}/_settings", body={"index.blocks.write": True})
    ask("POST", f"/{name}/_clone/{prefix}{name}", wait_for_active_shards="1")
    aliases = [name, name.partition("-events-")[0] + "-events"]
    actions = [{"add": {"index": f"{prefix}{name}", "alias": alias}} for alias in aliases]
    ask("POST", "/_aliases", body={"actions": [*actions, {"remove_index": {"index": name}}]})


@on_servers
def test_events_of_an_index_with_another_name_are_found_once(store, cluster_a):
    store.keep(cluster_a, made())
    (name,) = store.names()
    renamed(store, name)
    assert store.names() == [f"shrink-x1y2-{name}"]
    assert store.uids() == ["web.1"]
    key = store.all()[0].key
    assert store.store.one(key, Scope({cluster_a.pk: cluster_a})).uid == "uid-web.1"


@on_servers
def test_what_was_stored_before_a_policy_sealed_its_day_is_not_doubled(store, cluster_a):
    store.keep(cluster_a, made(version=100))
    renamed(store, store.names()[0])
    assert store.keep(cluster_a, made(version=100)) == []
    assert [event.version for event in store.all()] == [100]


@on_servers
def test_what_goes_on_after_a_policy_sealed_its_day_is_a_row_of_its_own(store, cluster_a):
    store.keep(cluster_a, made(version=100))
    renamed(store, store.names()[0])
    for version in (200, 300, 200):
        assert store.keep(cluster_a, made(version=version)) == []
    assert sorted(event.version for event in store.all()) == [100, 300]


@on_servers
def test_labels_of_a_sealed_day_stay_and_what_was_taken_there_is_said(store, cluster_a):
    store.store.write(Keeper.of(cluster_a), [made()], {"shop": [7]})
    store.store.refresh()
    renamed(store, store.names()[0])
    given = store.store.relabel(cluster_a.uid, 8, ["shop"], {"shop": [7, 8]})
    assert given is True
    with pytest.raises(LabelsSealed, match="stay withheld"):
        store.store.relabel(cluster_a.uid, 7, ["shop"], {"shop": [8]})


@on_servers
def test_without_its_template_labels_of_the_indices_that_are_there_are_put_right(store, cluster_a):
    """As after a server was restored without it."""
    store.store.write(Keeper.of(cluster_a), [made()], {"shop": [7]})
    store.server.ask("DELETE", store.store.indices._path)
    assert store.store.relabel(cluster_a.uid, 7, ["shop"], {}) is False
    assert store.store.relabel(cluster_a.uid, 7, ["shop"], {}) is True


@on_servers
def test_a_process_that_begins_after_a_policy_sealed_a_day_goes_on(store, cluster_a):
    store.keep(cluster_a, made(version=100))
    renamed(store, store.names()[0])
    store.store.indices.forget()
    assert store.keep(cluster_a, made("b")) == []
    assert store.uids() == ["b", "web.1"]


@on_servers
def test_a_sealed_day_that_is_over_goes_as_a_whole(store, cluster_a):
    old = timezone.now().date() - timedelta(days=20)
    store.keep(cluster_a, of_day(old))
    renamed(store, store.names()[0])
    limit = Limit(old + timedelta(days=15), old + timedelta(days=15))
    assert store.store.forget(Limits(limit)) == 1
    assert store.names() == []


@on_servers
def test_a_sealed_day_of_which_something_is_needed_stays_as_it_is(store, cluster_a):
    old = timezone.now().date() - timedelta(days=20)
    store.keep(cluster_a, of_day(old, "n", type="Normal"), of_day(old, "w", type="Warning"))
    renamed(store, store.names()[0])
    limit = Limit(normal=old + timedelta(days=15), warnings=old - timedelta(days=15))
    assert store.store.forget(Limits(limit)) == 0
    assert store.uids() == ["n", "w"]


@on_servers
def test_an_index_is_made_without_what_its_template_says_where_that_is_null(store, cluster_a):
    """As that of late events is made without the policy."""
    store.keep(cluster_a, made())
    name = store.store.indices.other
    store.server.ask("PUT", f"/{name}", body={"settings": {"index.refresh_interval": None}})
    found = store.server.ask("GET", f"/{name}/_settings")[name]["settings"]["index"]
    assert found.get("refresh_interval") is None


@pytest.mark.parametrize("store", STORES[1:2], indirect=True)
def test_a_real_server_without_ilm_is_said_to_have_none(store, cluster_a):
    address = replace(store.store.address, ilm_policy="site")
    with pytest.raises(StoreAway, match="knows no ILM"):
        ElasticStore(address, owner="me").write(KEEPER, [made()])
