"""A cluster whose certificate nobody verifies is marked in red wherever it is shown or changed."""

import pytest
from django.urls import reverse

from clusters.models import Cluster
from tests import factories, rows
from tests.admin_cases import CASES

pytestmark = pytest.mark.django_db
MARK = "TLS not verified"
OF_ONE_CLUSTER = [
    case for case in CASES if any(field.name == "cluster" for field in case.model._meta.fields)
]


@pytest.fixture
def insecure(cluster_a):
    Cluster.objects.filter(pk=cluster_a.pk).update(insecure_tls=True)
    cluster_a.refresh_from_db()
    return cluster_a


def text_of(answer) -> str:
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.mark.parametrize("case", OF_ONE_CLUSTER, ids=str)
def test_lists_and_pages_of_rows_of_such_a_cluster_are_marked(case, admin, browser, insecure):
    row = rows.make_row(case.model, insecure)
    client = browser(admin)
    for address in (case.url("changelist"), case.url("change", row.pk)):
        assert MARK in text_of(client.get(address, follow=True)), address


@pytest.mark.parametrize("case", OF_ONE_CLUSTER, ids=str)
def test_no_row_of_another_cluster_is_marked(case, admin, browser, cluster_a):
    row = rows.make_row(case.model, cluster_a)
    client = browser(admin)
    for address in (case.url("changelist"), case.url("change", row.pk)):
        assert MARK not in text_of(client.get(address, follow=True)), address


@pytest.mark.parametrize("name", ["credential", "delete", "change"])
def test_pages_that_change_such_a_cluster_are_marked(name, admin, browser, insecure):
    address = reverse(f"admin:clusters_cluster_{name}", args=[insecure.pk])
    assert MARK in text_of(browser(admin).get(address))


def test_the_page_that_registers_its_nodes_is_marked(admin, browser, insecure):
    factories.make_node(insecure)
    address = reverse("admin:machines_machine_register")
    assert MARK in text_of(browser(admin).get(address, {"cluster": insecure.pk}))
