"""What holds for every request: headers, ids, the record of refusals, the shape of errors."""

import re

import pytest
import structlog
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from beidou.base import attempts, audit, tokens
from beidou.base.models import ApiToken, AuditEntry, User
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("path", ["/login/", "/healthz", "/api/v1/clusters/", "/nowhere/"])
def test_every_answer_has_the_security_headers(path, client):
    answer = client.get(path)
    policy = answer["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["X-Frame-Options"] == "DENY"


def test_every_request_has_its_own_id(client):
    first, second = (client.get("/healthz")["X-Request-ID"] for _time in range(2))
    assert re.fullmatch(r"[0-9a-f]{32}", first)
    assert first != second


def test_the_id_of_a_proxy_counts_only_when_proxies_are_trusted(client, settings):
    given = {"X-Request-ID": "proxy-12345678"}
    assert client.get("/healthz", headers=given)["X-Request-ID"] != "proxy-12345678"
    settings.TRUST_PROXY = True
    assert client.get("/healthz", headers=given)["X-Request-ID"] == "proxy-12345678"


def test_an_id_with_strange_characters_is_not_taken(client, settings):
    settings.TRUST_PROXY = True
    given = {"X-Request-ID": 'x" onload=alert(1)'}
    assert "onload" not in client.get("/healthz", headers=given)["X-Request-ID"]


def test_a_request_leaves_one_log_line(client, admin, browser):
    with structlog.testing.capture_logs() as lines:
        browser(admin).get("/account/")
    [line] = [line for line in lines if line["event"] == "request"]
    assert (line["path"], line["status"], line["user"]) == ("/account/", 200, admin.pk)


def test_a_refused_page_is_audited(operator, browser):
    assert browser(operator).get("/base/user/").status_code == 403
    entry = AuditEntry.objects.get(outcome="refused")
    assert (entry.actor, entry.object_name) == ("operator", "GET /base/user/")


def test_a_refused_api_call_with_a_token_is_audited(operator, client):
    _token, key = tokens.issue(user=operator, name="robot")
    answer = client.post("/api/v1/teams/", {"name": "x"}, headers={"Authorization": f"Token {key}"})
    assert answer.status_code == 403
    entry = AuditEntry.objects.get(outcome="refused")
    assert (entry.actor, entry.object_name) == ("operator", "POST /api/v1/teams/")
    assert attempts.told(entry) == "refused: add team (POST /api/v1/teams/)"


def test_a_refusal_about_an_object_names_it_and_its_cluster(operator, viewer, api, cluster_a):
    machine = factories.make_machine(cluster=cluster_a)
    page = f"/api/v1/machines/{machine.pk}/"
    _token, key = tokens.issue(user=viewer, name="robot")
    answer = Client().patch(
        page,
        {"rack": "r1"},
        content_type="application/json",
        headers={"Authorization": f"Token {key}"},
    )
    assert answer.status_code == 403
    entry = AuditEntry.objects.get(outcome="refused")
    assert (entry.object_type, entry.object_id) == ("machines.machine", str(machine.pk))
    assert entry.cluster_id == cluster_a.pk
    assert entry.object_name == f"PATCH {page}"
    assert attempts.told(entry) == f"refused: change machine {machine}"


def test_a_refused_page_about_an_object_names_it(viewer, browser, cluster_a):
    machine = factories.make_machine(cluster=cluster_a)
    answer = browser(viewer).post(
        f"/machines/machine/{machine.pk}/state/faulty/", {"reason": "x", "post": "yes"}
    )
    assert answer.status_code == 403
    entry = AuditEntry.objects.get(outcome="refused")
    assert (entry.object_id, entry.cluster_id) == (str(machine.pk), cluster_a.pk)
    assert attempts.told(entry).startswith("refused: ")
    assert str(machine) in attempts.told(entry)


def test_a_refusal_about_another_object_names_both(viewer, client, cluster_a):
    machine = factories.make_machine(owner_team=viewer.groups.get())
    _token, key = tokens.issue(user=viewer, name="robot")
    answer = client.post(
        "/api/v1/operations/",
        {"kind": "ScaleUp", "cluster": cluster_a.name, "machines": [machine.address]},
        content_type="application/json",
        headers={"Authorization": f"Token {key}"},
    )
    assert answer.status_code == 403
    entry = AuditEntry.objects.get(outcome="refused")
    assert attempts.told(entry) == f"refused: add operation (cluster {cluster_a})"


def test_a_refusal_that_was_written_before_attempts_were_kept_names_its_request(db):
    entry = audit.record("refused", name="POST /api/v1/operations/7/cancel/", outcome="refused")
    assert attempts.told(entry) == "refused: POST /api/v1/operations/7/cancel/"
    assert list(audit.verify()) == []


@pytest.fixture
def fresh_cache():
    cache.clear()
    yield
    cache.clear()


@pytest.mark.parametrize("change", ["revoked", "inactive"])
def test_a_token_that_counts_no_more_leaves_a_failed_sign_in(change, operator, client, fresh_cache):
    token, key = tokens.issue(user=operator, name="robot")
    if change == "revoked":
        ApiToken.objects.filter(pk=token.pk).update(revoked_at=timezone.now())
    else:
        User.objects.filter(pk=operator.pk).update(is_active=False)
    for _time in range(2):
        answer = client.get("/api/v1/machines/", headers={"Authorization": f"Token {key}"})
        assert answer.status_code == 401
    entry = AuditEntry.objects.get(verb="sign in")
    assert (entry.object_name, entry.outcome) == ("operator", "failed")
    assert "robot" in entry.reason
    assert key not in entry.reason


def test_an_unknown_token_leaves_no_entry(client):
    answer = client.get("/api/v1/machines/", headers={"Authorization": "Token nonsense"})
    assert answer.status_code == 401
    assert not AuditEntry.objects.exists()


SHAPE = {"code", "message", "fields"}


@pytest.mark.parametrize("path", ["/api/v1/audit/", "/api/v1/tokens/", "/api/v1/users/"])
def test_without_signing_in_the_api_answers_401(path, client):
    answer = client.get(path)
    assert answer.status_code == 401
    assert set(answer.json()) == SHAPE
    assert answer["WWW-Authenticate"] == "Token"


@pytest.mark.parametrize("path", ["/api/", "/api/v1/", "/api/v1/nothing/", "/api/v2/audit/"])
def test_an_unknown_address_of_the_api_is_404_in_the_one_shape(path, client):
    answer = client.get(path)
    assert answer.status_code == 404
    assert set(answer.json()) == SHAPE


def test_a_broken_token_is_401_in_the_one_shape(client):
    answer = client.get("/api/v1/audit/", headers={"Authorization": "Token nonsense"})
    assert answer.status_code == 401
    assert set(answer.json()) == SHAPE


def test_wrong_json_is_400_in_the_one_shape(client, admin, api):
    answer = api(admin).post("/api/v1/teams/", data="{", content_type="application/json")
    assert answer.status_code == 400
    assert set(answer.json()) == SHAPE


def test_a_missing_field_is_named(admin, api):
    answer = api(admin).post("/api/v1/teams/", {})
    assert answer.status_code == 400
    assert set(answer.json()["fields"]) == {"name"}


def test_a_wrong_method_is_405_in_the_one_shape(admin, api):
    answer = api(admin).put("/api/v1/teams/", {})
    assert answer.status_code == 405
    assert set(answer.json()) == SHAPE


def test_an_administrator_makes_teams_and_members_over_the_api(admin, api):
    client = api(admin)
    team = client.post("/api/v1/teams/", {"name": "gz"}).json()
    user = client.post("/api/v1/users/", {"username": "li", "teams": [team["id"]]})
    assert user.status_code == 201
    assert User.objects.get(username="li").groups.get().name == "gz"


def test_a_user_made_over_the_api_has_no_password(admin, api):
    api(admin).post("/api/v1/users/", {"username": "li"})
    assert not User.objects.get(username="li").has_usable_password()


def test_the_api_does_not_make_administrators(admin, api):
    api(admin).post("/api/v1/users/", {"username": "li", "is_superuser": True})
    assert not User.objects.get(username="li").is_superuser
