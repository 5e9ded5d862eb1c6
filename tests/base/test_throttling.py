"""How often strangers may ask, whatever they write into their headers."""

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.cache import cache
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory, force_authenticate
from rest_framework.views import APIView

from beidou.base.api.throttling import StrangerThrottle


class TwiceAMinute(StrangerThrottle):
    rate = "2/min"


@pytest.fixture(autouse=True)
def nobody_has_asked_yet():
    cache.clear()
    yield
    cache.clear()


def answers() -> list[bool]:
    """Three requests, each with another forwarded address."""
    found = []
    for number in range(3):
        plain = APIRequestFactory().get("/", headers={"X-Forwarded-For": f"198.51.100.{number}"})
        force_authenticate(plain, AnonymousUser())
        found.append(TwiceAMinute().allow_request(Request(plain), APIView()))
    return found


def test_a_forged_header_makes_nobody_a_new_stranger():
    assert answers() == [True, True, False]


def test_behind_a_trusted_proxy_each_client_counts_alone(settings):
    settings.TRUST_PROXY = True
    assert answers() == [True, True, True]
