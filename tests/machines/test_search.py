"""A search finds whatever the case, and walks no table."""

import re

import pytest
from django.db import connection
from django.db.models import Q
from django.utils import timezone

from clusters.models import Node
from machines.models import Machine, MachineAddress, MachineFacts
from machines.services import selection
from tests import factories

pytestmark = pytest.mark.django_db

INDEXES = {
    "machines_folded_hostname",
    "machines_folded_serial",
    "machines_folded_asset_tag",
    "nodes_folded_name",
}


@pytest.fixture
def machine(cluster_a):
    node = factories.make_node(cluster_a, "worker-9", system_uuid="4c4c4544-aa")
    machine = factories.make_machine(
        "10.9.0.1",
        hostname="Bj-R12-07",
        serial="AbC123",
        asset_tag="It-77x",
        rack="R-12b",
        system_uuid="4C4C4544-bB",
        cluster=cluster_a,
        node=node,
    )
    MachineFacts.objects.create(machine=machine, hostname="Named-By-Dhcp", system_uuid="4c4c-dd")
    MachineAddress.objects.create(machine=machine, address="fd00::ab", interface="eth1")
    factories.make_machine("10.9.0.2", hostname="other")
    return machine


@pytest.mark.parametrize(
    "text",
    ["bj-r12", "BJ-R12-07", "bJ-r", "abc123", "ABC", "it-77X", "r-12B", "4c4c4544-BB", "named-BY",
     "4C4C-DD", "FD00:", "FD00:0::AB", "WORKER-9", "4C4C4544-AA", "10.9.0.1", "bj abc IT"],
)  # fmt: skip
def test_a_machine_is_found_whatever_the_case(text, machine):
    assert list(Machine.objects.search(text)) == [machine]


@pytest.mark.parametrize("text", ["j-r12", "bj_r12", "bj%", "abc1234", "bj other"])
def test_only_what_begins_so_is_found(text, machine):
    assert not Machine.objects.search(text).exists()


@pytest.mark.parametrize("text", ["bj-r12-07", "ABC123", "iT-77X", "Worker-9"])
def test_a_name_means_its_machine_whatever_the_case(text, machine, admin):
    assert selection.parse_machines(text, user=admin).machines == [machine]


def plan(rows):
    """How the database would find ``rows``, without the cost of walking a table that has three."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
    return rows.order_by().values("pk").explain()


def walked(text):
    """The tables that are walked from end to end."""
    found = re.findall(r"^SCAN (\w+)(?! USING)|Seq Scan on (\w+)", text, re.MULTILINE)
    return {name for pair in found for name in pair if name}


@pytest.fixture
def many(machine):
    """So many that the planner's choice is no matter of chance."""
    nodes = Node.objects.bulk_create(
        Node(
            cluster=machine.cluster,
            name=f"filling-{number}",
            uid=f"filling-{number}",
            observed_at=timezone.now(),
        )
        for number in range(1000)
    )
    Machine.objects.bulk_create(
        Machine(
            address=f"10.77.{number // 250}.{number % 250 + 1}",
            hostname=f"filling-{number}",
            serial=f"serial-{number}",
            asset_tag=f"asset-{number}",
            state=Machine.State.AVAILABLE,
            node=node,
        )
        for number, node in enumerate(nodes)
    )
    with connection.cursor() as cursor:
        for model in (Machine, Node):
            cursor.execute(f"ANALYZE {model._meta.db_table}")


def test_a_search_reads_ranges_of_indexes(many):
    shown = plan(Machine.objects.search("bj-r12"))
    used = {*INDEXES, "machines_folded_rack", "machines_folded_system_uuid"}
    assert {name for name in used if name not in shown} == set()
    assert walked(shown) == set()


@pytest.mark.parametrize("lookup", ["", "__prefix"])
@pytest.mark.parametrize("field", ["hostname", "serial", "asset_tag", "rack", "system_uuid"])
def test_each_name_of_a_machine_has_an_index(field, lookup, machine):
    rows = Machine.objects.filter(Q(**{f"{field}__folded{lookup}": "bj-r12"}))
    assert f"machines_folded_{field}" in plan(rows)


def test_names_of_a_selection_are_looked_up_by_index(many):
    shown = plan(Machine.objects.filter(selection._called(["bj-r12-07", "ABC123"])))
    assert {name for name in INDEXES if name not in shown} == set()
    assert walked(shown) == set()
