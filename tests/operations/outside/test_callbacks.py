"""What a system of the site may call back, and what is refused."""

import json
import time
import uuid

import pytest

from beidou.base import webhooks
from beidou.base.models import AuditEntry
from operations.models import Operation, Step
from operations.outside import requests
from operations.outside.models import SiteRequest
from tests.operations.outside.conftest import SECRET

pytestmark = pytest.mark.django_db
YES = {"ok": True, "message": "vlan 7"}


@pytest.fixture
def asked(network_system, cluster_a):
    operation = Operation.objects.create(name="network-1", kind="Network", cluster=cluster_a)
    step = Step.objects.create(operation=operation, position=1, name="network")
    return SiteRequest.objects.create(
        cluster=cluster_a,
        purpose="network",
        host="net.example",
        step=step,
        data={"machines": [{"address": "10.0.0.1"}, {"address": "10.0.0.2"}]},
    )


def test_a_signed_answer_is_taken_and_says_what_is_still_open(asked, call_back):
    answer = call_back(asked, {"machines": {"10.0.0.1": YES}})
    assert answer.status_code == 200
    assert answer.json() == {"taken": True, "open": ["10.0.0.2"]}
    asked.refresh_from_db()
    assert asked.answer == {"10.0.0.1": YES}
    assert asked.ended_at is None


def test_the_last_part_of_an_answer_ends_the_request(asked, call_back):
    call_back(asked, {"machines": {"10.0.0.1": YES}})
    answer = call_back(asked, {"machines": {"10.0.0.2": {"ok": False, "message": "no port"}}})
    assert answer.json() == {"taken": True, "open": []}
    asked.refresh_from_db()
    assert asked.ended_at is not None


def test_the_audit_trail_names_the_system_that_answered(asked, call_back):
    call_back(asked, {"machines": {"10.0.0.1": YES}})
    entry = AuditEntry.objects.get(verb="answer from outside")
    assert (entry.actor, entry.actor_id) == ("network: net.example", None)
    assert entry.after["machines"] == {"10.0.0.1": YES}
    assert entry.cluster_id == asked.cluster_id


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"secret": "another secret, long enough"}, "wrong_signature"),
        ({"signature": "v1=00"}, "wrong_signature"),
        ({"signature": "v1=käse"}, "wrong_signature"),
        ({"age": 301}, "stale"),
        ({"age": -301}, "stale"),
    ],
)
def test_what_is_not_signed_now_with_the_secret_is_refused(how, code, asked, call_back):
    answer = call_back(asked, {"machines": {"10.0.0.1": YES}}, **how)
    assert answer.status_code == 403
    assert answer.json()["code"] == code
    asked.refresh_from_db()
    assert asked.answer == {}


def test_without_a_time_nothing_is_taken(asked, api):
    answer = api().post(f"/api/v1/site-requests/{asked.key}/callback/", {"machines": {}})
    assert (answer.status_code, answer.json()["code"]) == (403, "no_timestamp")


def test_without_a_system_no_signature_fits(asked, call_back, network_system):
    network_system.delete()
    assert call_back(asked, {"machines": {}}, secret="").status_code == 403


def test_what_no_database_keeps_is_refused_by_name(asked, call_back):
    answer = call_back(asked, {"machines": {"10.0.0.1": {"ok": True, "message": "a\0b"}}})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_answer")
    assert set(answer.json()["fields"]) == {"machines.10.0.0.1.message"}
    asked.refresh_from_db()
    assert asked.answer == {}


def test_an_answer_that_names_its_request_is_taken_for_no_other(asked, call_back):
    other = call_back(asked, {"id": str(uuid.uuid4()), "machines": {"10.0.0.1": YES}})
    assert (other.status_code, other.json()["code"]) == (400, "bad_answer")
    assert list(other.json()["fields"]) == ["id"]
    own = call_back(asked, {"id": str(asked.key), "machines": {"10.0.0.1": YES}})
    assert own.status_code == 200


def test_an_answer_that_names_no_request_is_taken_for_none(asked, call_back):
    answer = call_back(asked, json.dumps({"machines": {"10.0.0.1": YES}}).encode())
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_answer")
    assert "names its request" in answer.json()["fields"]["id"]
    asked.refresh_from_db()
    assert asked.answer == {}


def test_the_same_callback_is_taken_once(asked, call_back):
    stamp = int(time.time())
    data = {"machines": {"10.0.0.1": YES}}
    assert call_back(asked, data, stamp=stamp).status_code == 200
    again = call_back(asked, data, stamp=stamp)
    assert (again.status_code, again.json()["code"]) == (409, "replayed")


def test_the_same_answer_signed_anew_changes_nothing(asked, call_back):
    stamp = int(time.time())
    data = {"machines": {"10.0.0.1": YES}}
    call_back(asked, data, stamp=stamp)
    assert call_back(asked, data, stamp=stamp - 1).status_code == 200
    assert AuditEntry.objects.filter(verb="answer from outside").count() == 1


def test_what_was_answered_is_not_answered_otherwise(asked, call_back):
    call_back(asked, {"machines": {"10.0.0.1": YES}})
    answer = call_back(asked, {"machines": {"10.0.0.1": {"ok": False}}})
    assert (answer.status_code, answer.json()["code"]) == (409, "answered_otherwise")
    asked.refresh_from_db()
    assert asked.answer == {"10.0.0.1": YES}


def test_a_closed_request_takes_no_news_and_says_so(asked, call_back):
    requests.close(asked)
    answer = call_back(asked, {"machines": {"10.0.0.1": YES}})
    assert (answer.status_code, answer.json()["code"]) == (409, "closed")
    assert "Nobody waits" in answer.json()["message"]


def test_a_machine_that_was_not_asked_about_is_refused_with_the_others(asked, call_back):
    answer = call_back(asked, {"machines": {"10.0.0.1": YES, "10.9.9.9": YES}})
    assert answer.status_code == 400
    assert "machines.10.9.9.9" in answer.json()["fields"]
    asked.refresh_from_db()
    assert asked.answer == {}


@pytest.mark.parametrize("body", [b"", b"[]", b"nonsense", b'{"machines": {"10.0.0.1": {}}}'])
def test_another_shape_is_refused(body, asked, call_back):
    answer = call_back(asked, body)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_answer")


def test_a_request_that_was_never_made_is_not_there(asked, call_back):
    answer = call_back(asked, {"machines": {}}, key=uuid.uuid4())
    assert answer.status_code == 404


def test_the_address_to_call_back_is_the_public_one(asked, settings):
    settings.PUBLIC_URL = "https://portal.example.com"
    expected = f"https://portal.example.com/api/v1/site-requests/{asked.key}/callback/"
    assert requests.callback_url(asked) == expected


def test_a_signature_holds_for_the_body_that_was_signed(asked, api):
    stamp = int(time.time())
    answer = api().post(
        f"/api/v1/site-requests/{asked.key}/callback/",
        data=b'{"machines": {"10.0.0.2": {"ok": true}}}',
        content_type="application/json",
        headers={
            "Beidou-Timestamp": str(stamp),
            "Beidou-Signature": f"v1={webhooks.sign(SECRET, stamp, b'{}')}",
        },
    )
    assert answer.status_code == 403
