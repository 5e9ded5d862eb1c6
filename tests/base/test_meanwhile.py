"""Two people who edit the same object: the second is told, and nothing is undone unnoticed."""

import html
import re

import pytest

from machines.models import Machine
from operations.models import ClusterSettings
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def machine(operators):
    return factories.make_machine("10.5.0.1", hostname="a", rack="r1")


def opened(client, url):
    """The form as the page shows it, ready to be sent."""
    page = client.get(url).content.decode()
    return {"_seen": html.unescape(re.search(r'name="_seen" value="([^"]+)"', page)[1])}


def values(machine, **others):
    return {"address": machine.address, "hostname": "a", "rack": "r1", "labels": "{}", **others}


def test_the_second_one_is_told_what_the_first_one_changed(admin, browser, machine):
    client, url = browser(admin), f"/machines/machine/{machine.pk}/change/"
    form = opened(client, url)
    Machine.objects.filter(pk=machine.pk).update(hostname="b")
    answer = client.post(url, values(machine, rack="r2", **form))
    assert "Somebody else has changed this meanwhile: Hostname." in answer.content.decode()
    machine.refresh_from_db()
    assert (machine.hostname, machine.rack) == ("b", "r1")


def test_saving_again_is_a_decision(admin, browser, machine):
    client, url = browser(admin), f"/machines/machine/{machine.pk}/change/"
    form = opened(client, url)
    Machine.objects.filter(pk=machine.pk).update(hostname="b")
    page = client.post(url, values(machine, rack="r2", **form)).content.decode()
    form = {"_seen": html.unescape(re.search(r'name="_seen" value="([^"]+)"', page)[1])}
    assert client.post(url, values(machine, rack="r2", **form)).status_code == 302
    machine.refresh_from_db()
    assert (machine.hostname, machine.rack) == ("a", "r2")


def test_what_the_product_changed_meanwhile_hinders_nobody(admin, browser, machine):
    client, url = browser(admin), f"/machines/machine/{machine.pk}/change/"
    form = opened(client, url)
    Machine.objects.filter(pk=machine.pk).update(state=Machine.State.FAULTY)
    assert client.post(url, values(machine, rack="r2", **form)).status_code == 302


def test_a_mistake_of_ones_own_does_not_hide_what_changed(admin, browser, machine):
    client, url = browser(admin), f"/machines/machine/{machine.pk}/change/"
    form = opened(client, url)
    Machine.objects.filter(pk=machine.pk).update(hostname="b")
    answer = client.post(url, values(machine, address="nowhere", **form)).content.decode()
    assert "Enter a valid IPv4 or IPv6 address." in answer
    assert "Somebody else has changed this meanwhile: Hostname." in answer


def test_settings_of_a_cluster_are_guarded_too(admin, browser, cluster_a):
    row = ClusterSettings.objects.create(cluster=cluster_a, artifact_source="http://a.example.com")
    client, url = browser(admin), f"/operations/clustersettings/{row.pk}/change/"
    form = opened(client, url)
    ClusterSettings.objects.filter(pk=row.pk).update(limit=3)
    answer = client.post(url, {"artifact_source": "http://b.example.com", "policy": "{}", **form})
    assert (
        "Somebody else has changed this meanwhile: Operations at once." in answer.content.decode()
    )
    row.refresh_from_db()
    assert (row.artifact_source, row.limit) == ("http://a.example.com", 3)


@pytest.mark.parametrize("mark", ["", "no json", "[]", '{"nothing": "x"}'])
def test_a_form_without_marks_is_taken(mark, admin, browser, machine):
    url = f"/machines/machine/{machine.pk}/change/"
    assert browser(admin).post(url, values(machine, rack="r2", _seen=mark)).status_code == 302
