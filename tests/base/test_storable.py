"""What no database column takes is refused at the edge: a 400, on every database alike."""

import json
import math

import pytest

from beidou.base.errors import shorten
from beidou.base.sentences import Sentence
from beidou.base.storable import is_storable, storable, storable_json, unstorable_in
from clusters.models import Cluster
from tests import factories

pytestmark = pytest.mark.django_db
SHAPE = {"code", "message", "fields"}


@pytest.mark.parametrize(
    "address",
    [
        "/search/?s=%00", "/machines/machine/?rack=a%00b", "/operations/operation/?kind=%00",
        "/base/auditentry/?actor=%00", "/base/auditentry/?%00=x", "/machines/%00/",
    ],
)  # fmt: skip
def test_a_page_refuses_nul_in_its_address(address, admin, browser):
    answer = browser(admin).get(address)
    assert answer.status_code == 400
    assert "cannot take" in answer.content.decode()


@pytest.mark.parametrize("address", ["clusters/?name=%00", "audit/?actor=%00", "%00/"])
def test_the_api_refuses_nul_in_an_address_in_its_one_shape(address, admin, api):
    answer = api(admin).get(f"/api/v1/{address}")
    assert (answer.status_code, set(answer.json())) == (400, SHAPE)


def test_a_form_with_nul_is_refused_and_changes_nothing(admin, browser):
    answer = browser(admin).post("/auth/group/add/", {"name": "a\0b"})
    assert answer.status_code == 400


def test_a_cookie_with_nul_is_refused(client):
    client.cookies["sessionid"] = "12345678\0"
    assert client.get("/login/").status_code == 400


@pytest.mark.parametrize("text", ["a\0b", "\0"])
@pytest.mark.parametrize("shape", ["json", "multipart"])
def test_the_api_refuses_a_body_with_nul_at_its_field(text, shape, admin, api):
    answer = api(admin).post("/api/v1/teams/", {"name": text}, format=shape)
    assert (answer.status_code, set(answer.json()["fields"])) == (400, {"name"})


def test_half_a_character_is_refused_too(admin, api):
    body = '{"name": "\\ud800"}'
    answer = api(admin).post("/api/v1/teams/", body, content_type="application/json")
    assert (answer.status_code, set(answer.json()["fields"])) == (400, {"name"})


def test_a_number_without_end_is_refused_at_its_field(admin, api, cluster_a):
    page = f"/api/v1/operation-settings/{cluster_a.pk}/"
    body = '{"policy": {"max_clock_offset_seconds": 1e400}}'
    answer = api(admin).patch(page, body, content_type="application/json")
    assert answer.status_code == 400
    assert set(answer.json()["fields"]) == {"policy.max_clock_offset_seconds"}


def test_a_form_to_the_api_is_looked_at_too(admin, api):
    kind = "application/x-www-form-urlencoded"
    answer = api(admin).post("/api/v1/teams/", "name=a%00b", content_type=kind)
    assert (answer.status_code, set(answer.json()["fields"])) == (400, {"name"})


def test_nul_deep_inside_settings_is_named_by_its_path(admin, api, cluster_a):
    answer = api(admin).patch(
        f"/api/v1/operation-settings/{cluster_a.pk}/", {"overrides": {"node_ip": "\0"}}
    )
    assert (answer.status_code, set(answer.json()["fields"])) == (400, {"overrides.node_ip"})


def test_every_other_character_is_taken(admin, api):
    cluster: Cluster = factories.make_cluster()
    page = f"/api/v1/clusters/{cluster.pk}/"
    answer = api(admin).patch(page, {"description": "机房 😀 \\u0000"})
    assert answer.status_code == 200
    cluster.refresh_from_db()
    assert cluster.description == "机房 😀 \\u0000"


def test_every_place_is_found():
    value = {"a": ["x", {"b": "\0"}], "c\0": 1, "d": {"e\0": 2}, "f": 3, "g": math.inf, "h": 0.5}
    assert list(unstorable_in(value)) == ["a.1.b", "?", "d", "g"]


def test_what_a_host_said_is_made_storable_at_every_depth():
    value = {"a": ["x\0", {"b\udcb0": "机\udca1"}], "c": (1, True), "d": [math.nan, -math.inf]}
    assert storable(value) == {
        "a": ["x␀", {"b\ufffd": "机\ufffd"}],
        "c": [1, True],
        "d": ["nan", "-inf"],
    }


@pytest.mark.parametrize(
    "said",
    ["b\udcb0\0d", Sentence("%(why)s!", why="b\udcb0\0d"), Sentence("b\udcb0%(why)s", why="\0d")],
)
def test_a_stored_sentence_never_refuses_what_a_host_said(said, cluster_a):
    Cluster.objects.filter(pk=cluster_a.pk).update(health_reason=said)
    cluster_a.refresh_from_db()
    assert is_storable(cluster_a.health_reason)
    assert cluster_a.health_reason.startswith("b\ufffd")


@pytest.mark.parametrize(
    ("escaped", "text"),
    [
        (r"a\u0000b", "a�b"),
        (r"\uD800x", "�x"),
        (r"\udc00", "�"),
        (r"\ud83d\u0041", "�A"),
        (r"\ud83d\ude00", "😀"),
        (r"\\u0000", r"\u0000"),
        (r"\\\u0000", "\\�"),
    ],
)
def test_a_foreign_program_s_json_is_made_storable(escaped, text):
    assert json.loads(storable_json(f'"{escaped}"'.encode())) == text


def test_a_foreign_error_is_made_storable():
    assert shorten("refused\0") == "refused␀"
