"""Machines are sorted by what their addresses mean, on either database, by index."""

import importlib

import pytest
from django.apps import apps
from django.db import connection

from beidou.base.models import AuditEntry
from machines.address_key import key_of
from machines.files import reading
from machines.files.resource import MachineResource
from machines.models import Machine
from tests import factories

pytestmark = pytest.mark.django_db
LIST, URL = "/machines/machine/", "/api/v1/machines/"
SORTED = ["2.0.0.1", "10.0.0.9", "10.0.0.10", "10.0.1.1", "192.168.0.2", "fd00::9", "fd00::10"]


@pytest.fixture
def fleet():
    return [factories.make_machine(address) for address in reversed(SORTED)]


def addresses(rows):
    return [str(machine.address) for machine in rows]


def test_machines_are_in_the_order_of_their_values(fleet):
    assert addresses(Machine.objects.all()) == SORTED


@pytest.mark.parametrize(("order", "first"), [("1", SORTED[0]), ("-1", SORTED[-1])])
def test_the_list_is_sorted_so_either_way(fleet, admin, browser, order, first):
    shown = addresses(browser(admin).get(LIST, {"o": order}).context["cl"].result_list)
    assert (shown[0], sorted(shown)) == (first, sorted(SORTED))
    assert shown in (SORTED, SORTED[::-1])


@pytest.mark.parametrize("ordering", [None, "address", "-address"])
def test_the_api_sorts_so_too(fleet, admin, api, ordering):
    answer = api(admin).get(URL, {"ordering": ordering} if ordering else {}).json()
    shown = [each["address"] for each in answer["results"]]
    assert shown == (SORTED[::-1] if ordering == "-address" else SORTED)


def test_the_key_itself_is_no_order_that_the_api_offers(admin, api):
    answer = api(admin).get(URL, {"ordering": "address_key"})
    assert (answer.status_code, answer.json()["code"]) == (400, "unknown_ordering")


def test_one_address_has_one_key_however_it_is_spelled():
    assert key_of("::ffff:10.0.0.9") == key_of("10.0.0.9")
    assert key_of("FD00:0::9") == key_of("fd00::9")


def test_a_machine_that_is_saved_with_another_address_moves(fleet, admin, api):
    machine = Machine.objects.get(address="2.0.0.1")
    api(admin).patch(f"{URL}{machine.pk}/", {"address": "192.168.0.10"})
    assert addresses(Machine.objects.all())[4:5] == ["192.168.0.10"]


def test_a_machine_that_a_file_gives_another_address_moves(admin):
    factories.make_machine("10.0.0.9", serial="SN1")
    text = "address,serial\n10.0.0.100,SN1\n10.0.0.20,SN2\n"
    dataset = reading.read("fleet.csv", text.encode())
    MachineResource(user=admin, file_name="fleet.csv").import_data(dataset)
    assert addresses(Machine.objects.all()) == ["10.0.0.20", "10.0.0.100"]


def test_the_key_is_no_field_of_the_audit_trail_nor_of_the_history(admin, api):
    api(admin).post(URL, {"address": "10.0.0.9"})
    assert "address_key" not in AuditEntry.objects.get(verb="add").after
    assert not hasattr(Machine.objects.get().history.get(), "address_key")


@pytest.mark.parametrize("condition", [{}, {"state": "available"}])
def test_a_page_of_the_list_is_read_from_an_index(condition):
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # A table of no rows is read in any way that one likes: only an index may look cheap.
            cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
    rows = Machine.objects.filter(**condition).order_by("address_key", "-pk")
    plan = rows[:50].explain()
    names = [index.name for index in Machine._meta.indexes if "address_key" in index.fields]
    assert any(name in plan for name in names), plan


def test_machines_of_before_get_their_keys(fleet):
    Machine.objects.update(address_key="")
    migration = importlib.import_module("machines.migrations.0009_keys_of_addresses")
    migration.give_keys(apps, connection.schema_editor())
    assert addresses(Machine.objects.all()) == SORTED
