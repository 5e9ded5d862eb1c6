"""A system UUID is one, in one spelling, whichever way it comes; what is stored already stays."""

import pytest

from machines.files import reading, report
from machines.files.resource import MachineResource
from machines.models import Machine
from machines.services import registration
from tests import factories

pytestmark = pytest.mark.django_db
URL = "/api/v1/machines/"
UUID = "4c4c4544-0042-4a10-8056-b4c04f4e5032"
SENTENCE = "A system UUID is written as 4c4c4544-0042-4a10-8056-b4c04f4e5032."
WRONG = ["zz", UUID.replace("-", ""), f"{{{UUID}}}", f"{UUID}0", UUID.replace("4c", "4g"), "SN-1"]


def imported(user, text):
    dataset = reading.read("fleet.csv", text.encode())
    result = MachineResource(user=user, file_name="fleet.csv").import_data(dataset)
    return result, report.mistakes_of(result, dataset.headers)


def form_of(machine, **values):
    """What the machine's page sends, as a browser does."""
    given = {"address": machine.address, "role": "Compute", "system_uuid": machine.system_uuid}
    return f"/machines/machine/{machine.pk}/change/", {**given, **values}


@pytest.mark.parametrize("wrong", WRONG)
def test_the_api_refuses_what_is_no_uuid_and_names_the_field(admin, api, wrong):
    answer = api(admin).post(URL, {"address": "10.8.3.11", "system_uuid": wrong})
    assert (answer.status_code, answer.json()["fields"]) == (400, {"system_uuid": SENTENCE})


def test_the_page_shows_the_sentence_at_the_field(admin, browser):
    machine = factories.make_machine()
    page, values = form_of(machine, system_uuid="zz")
    answer = browser(admin).post(page, values)
    assert answer.context["adminform"].form.errors == {"system_uuid": [SENTENCE]}


def test_an_import_names_line_and_column(admin):
    _result, wrong = imported(admin, "address,system_uuid\n10.8.3.11,zz\n")
    assert [(each.line, each.letter, each.message) for each in wrong] == [(2, "B", SENTENCE)]


@pytest.mark.parametrize("spelled", [UUID, UUID.upper(), UUID.title()])
def test_it_is_stored_in_small_letters_however_a_vendor_writes_it(admin, api, spelled):
    answer = api(admin).post(URL, {"address": "10.8.3.11", "system_uuid": spelled})
    assert answer.json()["system_uuid"] == UUID
    assert Machine.objects.get().system_uuid == UUID


def test_the_page_and_an_import_store_it_so_too(admin, browser):
    machine = factories.make_machine("10.8.3.11")
    page, values = form_of(machine, system_uuid=UUID.upper())
    assert browser(admin).post(page, values).status_code == 302
    imported(admin, f"address,system_uuid\n10.8.3.12,{UUID.upper()}\n")
    assert set(Machine.objects.values_list("system_uuid", flat=True)) == {UUID}


def test_a_file_with_capitals_changes_nothing_the_second_time(admin):
    text = f"address,system_uuid\n10.8.3.12,{UUID.upper()}\n"
    imported(admin, text)
    result, wrong = imported(admin, text)
    assert (wrong, result.totals["skip"]) == ([], 1)


def test_a_node_finds_the_machine_whose_uuid_was_written_in_capitals(admin, api, cluster_a):
    api(admin).post(URL, {"address": "10.8.3.11", "system_uuid": UUID.title()})
    node = factories.make_node(cluster_a, internal_ip="10.8.9.9", system_uuid=UUID)
    result = registration.register_nodes(cluster=cluster_a, nodes=[node], acting_user=admin)
    assert (result.linked, result.created) == ([Machine.objects.get()], [])


@pytest.mark.parametrize("reported", ["ec2a5f0c77f14c1f9c1b0c8f4fd3a6d1", "ibm,0278abc"])
def test_what_a_kubelet_reports_instead_is_kept_with_the_machine(admin, cluster_a, reported):
    node = factories.make_node(cluster_a, internal_ip="10.8.3.1", system_uuid=reported)
    registration.register_nodes(cluster=cluster_a, nodes=[node], acting_user=admin)
    assert Machine.objects.get().system_uuid == reported


@pytest.fixture
def old():
    """A machine from before system UUIDs were looked at."""
    return factories.make_machine("10.8.3.11", system_uuid="SN-1")


def test_a_stored_one_keeps_no_other_field_from_being_edited(admin, api, browser, old):
    assert api(admin).patch(f"{URL}{old.pk}/", {"rack": "r1"}).status_code == 200
    page, values = form_of(old, rack="r2")
    assert browser(admin).post(page, values).status_code == 302
    assert imported(admin, "address,room\n10.8.3.11,b1\n")[1] == []
    old.refresh_from_db()
    assert (old.system_uuid, old.rack, old.room) == ("SN-1", "r2", "b1")


def test_a_stored_one_may_be_sent_back_as_it_is(admin, api, old):
    answer = api(admin).patch(f"{URL}{old.pk}/", {"system_uuid": "SN-1", "rack": "r1"})
    assert answer.status_code == 200
    assert imported(admin, "address,system_uuid,rack\n10.8.3.11,SN-1,r2\n")[1] == []


def test_but_another_that_is_none_is_refused(admin, api, old):
    answer = api(admin).patch(f"{URL}{old.pk}/", {"system_uuid": "SN-2"})
    assert answer.json()["fields"] == {"system_uuid": SENTENCE}
