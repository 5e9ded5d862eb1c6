"""What a pasted text means."""

import pytest

from machines.services.selection import parse_machines
from tests import factories

pytestmark = pytest.mark.django_db


def found(text, user):
    return [str(machine.address) for machine in parse_machines(text, user=user).machines]


def reasons(text, user):
    return {each.text: each.reason for each in parse_machines(text, user=user).unknown}


@pytest.fixture
def rack(db):
    for last in range(11, 31):
        factories.make_machine(f"10.8.3.{last}", hostname=f"r12-{last}")


def test_a_range_an_address_and_a_name_are_found(admin, rack):
    factories.make_machine("10.9.0.1", hostname="bj-r12-07")
    factories.make_machine("10.9.0.2")
    addresses = found("10.8.3.11-30, bj-r12-07\n10.9.0.2", admin)
    assert len(addresses) == 22
    assert addresses[0] == "10.8.3.11"
    assert addresses[-2:] == ["10.9.0.1", "10.9.0.2"]


def test_a_range_may_end_in_two_parts(admin, rack):
    factories.make_machine("10.8.4.2")
    assert found("10.8.3.30-4.2", admin) == ["10.8.3.30", "10.8.4.2"]


def test_a_network_names_the_machines_there_are(admin, rack):
    assert found("10.8.3.0/28", admin) == [f"10.8.3.{n}" for n in range(11, 16)]
    assert reasons("10.8.3.0/28", admin) == {}


def test_serial_asset_tag_and_node_name_are_names(admin, cluster_a):
    factories.make_machine("10.9.0.1", serial="SN-1")
    factories.make_machine("10.9.0.2", asset_tag="A77")
    node = factories.make_node(cluster_a, "worker-9")
    factories.make_machine("10.9.0.3", node=node, cluster=cluster_a)
    assert found("sn-1 a77 worker-9", admin) == ["10.9.0.1", "10.9.0.2", "10.9.0.3"]


def test_a_machine_named_twice_is_there_once(admin, rack):
    assert found("10.8.3.11, r12-11, 10.8.3.11-12", admin) == ["10.8.3.11", "10.8.3.12"]


def test_an_ipv6_address_is_found_however_it_is_written(admin):
    factories.make_machine("fd00::1")
    assert found("FD00:0:0::1", admin) == ["fd00::1"]


def test_each_missing_address_of_a_range_is_named(admin, rack):
    assert list(reasons("10.8.3.29-32", admin)) == ["10.8.3.31", "10.8.3.32"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("10.8.3.99", "No machine you may use has this address."),
        ("nowhere", "No machine you may use has this name, serial number or asset tag."),
        ("10.77.0.0/30", "No machine you may use has an address in this network."),
        ("10.8.3.30-11", "This range ends (10.8.3.11) before it begins (10.8.3.30)."),
        ("10.8.3.11-999", "This range has a part that is no address."),
        ("10.0.0.0/8", "This means 16777216 addresses; at most 2048 are looked up at once."),
        ("10.0.0.1-10.200.0.1", "This means 13107201 addresses; at most 2048 are looked up"),
        ("10.8.3.0/99", "This is neither a network nor a name."),
    ],
)
def test_what_names_no_machine_is_told_with_its_reason(admin, rack, text, reason):
    assert reasons(text, admin)[text].startswith(reason)


def test_all_ranges_of_a_text_share_one_bound(admin):
    unknown = reasons("10.0.0.0/21 10.1.0.0/24", admin)
    assert "at most 2048" in unknown["10.1.0.0/24"]


def test_a_name_of_two_machines_is_not_guessed(admin):
    factories.make_machine("10.9.0.1", hostname="twin")
    factories.make_machine("10.9.0.2", hostname="twin")
    assert reasons("twin", admin)["twin"].endswith("10.9.0.1, 10.9.0.2.")
    assert found("twin", admin) == []


def test_what_one_may_not_see_is_as_unknown_as_what_does_not_exist(operator, cluster_b):
    factories.make_machine("10.9.0.1", cluster=cluster_b)
    assert reasons("10.9.0.1", operator) == {"10.9.0.1": "No machine you may use has this address."}


def test_a_viewer_cannot_select_for_operating(viewer, cluster_a):
    factories.make_machine("10.9.0.1", cluster=cluster_a)
    assert not parse_machines("10.9.0.1", user=viewer, action="operate").machines
    assert parse_machines("10.9.0.1", user=viewer).machines


def test_any_text_costs_one_query(admin, rack, django_assert_num_queries):
    with django_assert_num_queries(1):
        parse_machines("10.8.3.11-30, bj-r12-07, 10.8.3.0/28, r12-11, SN-1", user=admin)


def test_an_empty_text_selects_nothing(admin, rack):
    selection = parse_machines("  ,\n", user=admin)
    assert (selection.machines, selection.unknown) == ([], [])
