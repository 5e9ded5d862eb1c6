"""The OpenAPI document: complete, valid, and only for whoever is signed in."""

from io import StringIO

import pytest
from django.core.management import call_command
from django.urls import reverse
from drf_spectacular.generators import SchemaGenerator

from tests.api_cases import ROUTES

pytestmark = pytest.mark.django_db


def test_the_document_is_made_without_a_warning_and_is_valid(tmp_path):
    target = tmp_path / "openapi.yaml"
    call_command(
        "spectacular", "--fail-on-warn", "--validate", "--file", str(target), stderr=StringIO()
    )
    assert target.stat().st_size > 10_000


@pytest.fixture(scope="module")
def paths() -> set[str]:
    return set(SchemaGenerator().get_schema(request=None, public=True)["paths"])


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_every_route_is_in_the_document(route, paths):
    assert f"/api/v1/{route.prefix}/" in paths


def test_the_document_needs_a_sign_in(client):
    assert client.get(reverse("api-schema")).status_code == 401


def test_the_document_is_given_to_whoever_is_signed_in(stranger, browser):
    answer = browser(stranger).get(reverse("api-schema"))
    assert answer.status_code == 200
    assert b"openapi: 3" in answer.content


def test_the_page_of_the_api_loads_nothing_inline(stranger, browser):
    page = browser(stranger).get(reverse("api-docs")).content.decode()
    assert "<script>" not in page
    assert "https://" not in page
