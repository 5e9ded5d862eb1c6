"""Refusals and errors have the portal's own look, and say what to do next."""

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.test import Client
from django.utils import translation

from beidou.base import context, error_pages

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def english():
    """What a request of one test has set must not be the language of the next."""
    with translation.override("en"):
        yield


def test_an_unknown_page_keeps_the_menu_and_leads_home(operator, browser):
    answer = browser(operator).get("/operations/operation/404404/change/")
    assert answer.status_code == 404
    page = answer.content.decode()
    assert "There is no such page. It may be gone by now, or you may not see it." in page
    assert 'href="/operations/operation/"' in page
    assert 'class="bd-button" href="/"' in page


def test_a_refusal_keeps_the_menu_and_says_so(operator, browser):
    answer = browser(operator).get("/base/user/")
    assert answer.status_code == 403
    assert "Your roles do not include this." in answer.content.decode()


def test_a_refusal_with_words_of_its_own_says_those(stranger, browser):
    answer = browser(stranger).get("/operations/start/")
    assert answer.status_code == 403
    assert "Your roles do not include starting operations." in answer.content.decode()


def test_what_the_exception_says_is_escaped(rf, operator):
    request = rf.get("/")
    request.user = operator
    answer = error_pages.permission_denied(request, PermissionDenied("<script>"))
    assert b"&lt;script&gt;" in answer.content


def test_the_page_is_in_the_readers_language(operator, browser):
    operator.language = "zh-hans"
    operator.save()
    answer = browser(operator).get("/nowhere/")
    assert "没有这个页面" in answer.content.decode()


def test_who_has_not_signed_in_sees_no_menu(rf):
    request = rf.get("/")
    request.user = AnonymousUser()
    answer = error_pages.bad_request(request, SuspiciousOperation("x"))
    assert answer.status_code == 400
    assert b'id="nav-sidebar"' not in answer.content
    assert b"Go back and try again." in answer.content


def test_a_form_from_before_the_sign_in_is_refused_with_what_to_do(operator):
    client = Client(enforce_csrf_checks=True)
    client.force_login(operator, backend="django.contrib.auth.backends.ModelBackend")
    answer = client.post("/operations/start/", {"step": "plan"})
    assert answer.status_code == 403
    assert b"Load the page again, then send the form once more." in answer.content


def test_the_page_of_our_own_error_needs_no_database(rf, django_assert_num_queries):
    with django_assert_num_queries(0), context.acting(request_id="4711-abcd"):
        answer = error_pages.server_error(rf.get("/clusters/cluster/"))
    assert answer.status_code == 500
    page = answer.content.decode()
    assert "The portal made a mistake" in page
    assert "4711-abcd" in page
    assert "/static/" not in page


def test_our_own_error_is_json_under_the_api(rf):
    answer = error_pages.server_error(rf.get("/api/v1/clusters/"))
    assert answer.status_code == 500
    assert answer["Content-Type"] == "application/json"
