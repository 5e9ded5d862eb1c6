"""Every list of the API by the orders it names; new lists are covered as they appear."""

import pytest

from beidou.base.api.filters import OneOrder
from tests import factories, rows
from tests.api_cases import ROUTES

pytestmark = pytest.mark.django_db
# Lists of what is no row of the database have one order, and those that say so.
OF_ONE_ORDER = [
    route for route in ROUTES if OneOrder in getattr(route.viewset, "filter_backends", ())
]
LISTS = [
    route
    for route in ROUTES
    if route.model is not None and hasattr(route.viewset, "list") and route not in OF_ONE_ORDER
]


@pytest.fixture(params=LISTS, ids=str)
def route(request):
    return request.param


def known_orders(api, admin, route):
    answer = api(admin).get(route.url("list"), {"ordering": "nonsense"})
    assert (answer.status_code, answer.json()["code"]) == (400, "unknown_ordering")
    told = answer.json()["fields"]["ordering"]
    return str(told).partition("known are ")[2].rstrip(".]'").split(", ")


def test_an_order_that_a_list_does_not_know_is_refused_and_the_known_ones_are_named(
    route, api, admin
):
    assert "id" in known_orders(api, admin, route)


def test_each_order_that_is_named_can_be_asked_for(route, api, admin, cluster_a):
    if route.is_of_clusters:
        rows.make_row(route.model, cluster_a)
    for name in known_orders(api, admin, route):
        answer = api(admin).get(route.url("list"), {"ordering": f"-{name}"})
        assert answer.status_code == 200, name


def test_one_unknown_order_among_known_ones_is_refused(api, admin):
    answer = api(admin).get("/api/v1/machines/", {"ordering": "rack,-speed"})
    assert answer.status_code == 400
    assert "“-speed”" in answer.json()["message"]


def test_machines_are_given_in_the_order_of_their_making(api, admin):
    keys = [factories.make_machine(address).pk for address in ("10.1.0.2", "10.1.0.1", "10.1.0.3")]
    found = api(admin).get("/api/v1/machines/", {"ordering": "-id"}).json()["results"]
    assert [each["id"] for each in found] == keys[::-1]


@pytest.mark.parametrize("route", OF_ONE_ORDER, ids=str)
def test_another_order_of_a_list_that_has_one_is_refused(route, api, admin):
    answer = api(admin).get(route.url("list"), {"ordering": "id"})
    assert (answer.status_code, answer.json()["code"]) == (400, "unknown_ordering")
    assert set(answer.json()["fields"]) == {"ordering"}
