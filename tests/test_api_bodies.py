"""What the API says to a body that means something else than its sender thinks."""

from datetime import UTC, datetime

import pytest

from beidou.base.models import ApiToken
from operations.models import Freeze

pytestmark = pytest.mark.django_db


def test_a_misspelt_name_is_refused_and_not_taken_for_none(admin, api):
    body = {"reason": "x", "starts_at": str(datetime.now(UTC))}
    answer = api(admin).post("/api/v1/freezes/", body)
    assert answer.status_code == 400
    assert answer.json()["fields"] == {"starts_at": "There is no such field."}
    assert not Freeze.objects.exists()


def test_a_misspelt_name_is_refused_in_a_change_too(admin, api, cluster_a):
    answer = api(admin).patch(f"/api/v1/clusters/{cluster_a.pk}/", {"descripton": "x"})
    assert answer.status_code == 400
    assert set(answer.json()["fields"]) == {"descripton"}


def test_a_row_as_it_was_read_may_be_sent_back(admin, api, cluster_a):
    page = f"/api/v1/clusters/{cluster_a.pk}/"
    row = api(admin).get(page).json()
    assert api(admin).patch(page, row).status_code == 200


def test_a_token_is_not_made_for_ever_when_an_end_was_named(admin, api):
    answer = api(admin).post("/api/v1/tokens/", {"name": "a", "expires_at": "2020-01-01"})
    assert answer.status_code == 400
    assert set(answer.json()["fields"]) == {"expires_at"}
    assert not ApiToken.objects.filter(name="a").exists()


@pytest.mark.parametrize("body", [5, True, "x", []])
def test_a_body_that_is_no_mapping_is_refused(admin, api, body):
    assert api(admin).post("/api/v1/tokens/", body).status_code == 400


@pytest.mark.parametrize("body", ["[" * 990 + "]" * 990, "[" * 100_000, '{"a":' * 100_000])
def test_json_that_is_nested_too_deeply_is_refused(admin, api, body):
    answer = api(admin).post("/api/v1/machines/", body, content_type="application/json")
    assert answer.status_code == 400
    assert "nested too deeply" in str(answer.json())


def test_a_manifest_that_is_nested_too_deeply_is_refused(admin, api):
    answer = api(admin).post("/api/v1/manifests/", "[" * 5000, content_type="application/yaml")
    assert answer.status_code == 400
    assert "nested too deeply" in str(answer.json())
