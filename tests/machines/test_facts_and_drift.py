"""Visits store facts apart from what is intended; differences are drift until somebody judges."""

from datetime import timedelta

import msgspec
import pytest
from django.utils import timezone
from django_q.models import OrmQ

from beidou.base.errors import Conflict, Forbidden, TemporaryError
from beidou.base.models import AuditEntry
from machines.drivers.facts import Cpu, Disk, Facts, Memory, Nic, OperatingSystem, System
from machines.models import Drift, Machine, MachineAddress, MachineFacts
from machines.services import drift, edits, facts, host_keys, observed
from tests import factories

pytestmark = pytest.mark.django_db
GIB = 1024**3


def make_facts(**values):
    known = {
        "hostname": "gz-r3-11",
        "time": 1.0,
        "seconds_taken": 0.1,
        "is_root": True,
        "os": OperatingSystem(
            id="debian",
            version="12",
            name="Debian GNU/Linux 12 (bookworm)",
            kernel="6.1.0-28-amd64",
            architecture="x86_64",
        ),
        "cpu": Cpu(model="Xeon", sockets=2, cores=32, threads=64),
        "memory": Memory(total=251 * GIB, swap=0),
        "disks": [
            Disk(name=f"nvme{n}", size=960_197_124_096, is_rotational=False, model="", serial="")
            for n in range(2)
        ],
        "nics": [
            Nic(
                name="eth0",
                mac="02:00",
                addresses=["10.8.3.11/24", "fd00::11/64", "fe80::1/64"],
                speed_mbit=25000,
                state="up",
                is_physical=True,
            ),
            Nic(
                name="lo",
                mac=None,
                addresses=["127.0.0.1/8"],
                speed_mbit=None,
                state="up",
                is_physical=False,
            ),
        ],
        "gpus": [],
        "system": System(
            uuid="4C4C4544-0042",
            serial="SN42",
            vendor="Dell Inc.",
            model="R650",
            asset_tag="",
            machine_id="abc",
            virtualization=None,
        ),
    }
    return Facts(**{**known, **values})


def drifts(machine):
    return {row.field: (row.intended, row.observed) for row in machine.drift.all()}


def test_facts_that_an_earlier_version_stored_in_another_shape_count_as_none(admin, browser):
    machine = factories.make_machine()
    MachineFacts.objects.create(
        machine=machine, facts={"hostname": "a", "system": {}}, gathered_at=timezone.now()
    )
    assert drift.facts_of(machine.facts) is None
    answer = browser(admin).get(f"/machines/machine/{machine.pk}/change/")
    assert answer.status_code == 200


# --- words ----------------------------------------------------------------------------------
def test_facts_are_put_in_the_words_of_intended_values():
    seen = observed.from_facts(make_facts())
    assert seen["disks"] == "2×960G"
    assert seen["nics"] == "1×25G"
    assert (seen["cpus"], seen["memory_mib"]) == ("64", str(251 * 1024))
    assert seen["os"] == "Debian GNU/Linux 12 (bookworm)"
    assert "gpus" not in seen


def test_what_could_not_be_read_is_not_observed():
    seen = observed.from_facts(make_facts(disks=None, system=None, memory=None))
    assert not {"disks", "serial", "system_uuid", "memory_mib"} & set(seen)


@pytest.mark.parametrize(
    ("field", "intended", "seen"),
    [
        ("memory_mib", "262144", str(251 * 1024)),
        ("disks", "2×960G", "2×954G"),
        ("disks", "1x4T, 2 x 960GB", "2×960G, 1×4000G"),
        ("nics", "2×25G", "2×25G"),
        ("os", "Debian 12", "Debian GNU/Linux 12 (bookworm)"),
        ("hostname", "gz-r3-11", "GZ-R3-11.example.com"),
        ("serial", "sn42", "SN42"),
        ("system_uuid", "4c4c", "4C4C"),
    ],
)
def test_two_ways_to_write_the_same_agree(field, intended, seen):
    assert observed.agree(field, intended, seen)


@pytest.mark.parametrize(
    ("field", "intended", "seen"),
    [
        ("memory_mib", "262144", "131072"),
        ("cpus", "64", "63"),
        ("disks", "2×960G", "1×960G"),
        ("disks", "two big ones", "2×960G"),
        ("os", "Debian 11", "Debian GNU/Linux 12 (bookworm)"),
        ("hostname", "gz-r3-11", "gz-r3-12"),
        ("kernel", "6.1.0", "6.1.1"),
    ],
)
def test_what_differs_does_not_agree(field, intended, seen):
    assert not observed.agree(field, intended, seen)


# --- storing --------------------------------------------------------------------------------
def test_a_visit_stores_facts_identity_and_addresses_without_loopback():
    machine = factories.make_machine()
    facts.store(machine, make_facts())
    row = MachineFacts.objects.get(machine=machine)
    assert drift.facts_of(row) == make_facts()
    assert (row.hostname, row.system_uuid, row.os_machine_id) == (
        "gz-r3-11",
        "4c4c4544-0042",
        "abc",
    )
    addresses = set(MachineAddress.objects.values_list("address", "interface"))
    assert addresses == {("10.8.3.11", "eth0"), ("fd00::11", "eth0")}


def test_an_address_that_is_gone_is_gone():
    machine = factories.make_machine()
    facts.store(machine, make_facts())
    facts.store(machine, make_facts(nics=[]))
    assert not machine.addresses.exists()


def test_intended_values_are_never_written_by_a_visit():
    machine = factories.make_machine(hostname="", cpus=None)
    facts.store(machine, make_facts())
    machine.refresh_from_db()
    assert (machine.hostname, machine.cpus, machine.serial) == ("", None, "")
    assert drifts(machine) == {}


def test_a_newcomer_becomes_available_after_its_first_good_visit():
    machine = factories.make_machine(state=Machine.State.DISCOVERED)
    facts.store(machine, make_facts())
    assert machine.status_changes.get().new == "available"


@pytest.mark.parametrize(
    "node", [{"internal_ip": "10.8.3.11"}, {"system_uuid": "4C4C4544-0042"}, {"system_uuid": "abc"}]
)
def test_a_newcomer_that_already_is_a_node_stays_discovered(cluster_a, node):
    factories.make_node(cluster_a, **node)
    machine = factories.make_machine(state=Machine.State.DISCOVERED)
    facts.store(machine, make_facts())
    assert not machine.status_changes.exists()


def test_a_failed_visit_keeps_the_facts_of_the_last_good_one(ssh_machine, ssh_server):
    facts.gather([ssh_machine.pk])
    ssh_server.keys.clear()
    outcome = facts.gather([ssh_machine.pk])
    row = MachineFacts.objects.get(machine=ssh_machine)
    assert outcome[ssh_machine.pk] == row.error
    assert row.facts["hostname"]
    assert row.failed_at is not None
    assert row.gathered_at is not None


def test_a_good_visit_clears_the_error_of_the_last(ssh_machine, ssh_server):
    MachineFacts.objects.create(machine=ssh_machine, error="was away")
    assert facts.gather([ssh_machine.pk]) == {ssh_machine.pk: ""}
    assert MachineFacts.objects.get(machine=ssh_machine).error == ""


def test_a_newcomer_stays_discovered_when_its_visit_fails(ssh_machine, ssh_server):
    ssh_server.keys.clear()
    facts.gather([ssh_machine.pk])
    assert Machine.objects.get(pk=ssh_machine.pk).state == Machine.State.DISCOVERED


def test_one_silent_machine_keeps_no_other_from_being_visited(ssh_machine, ssh_credential):
    silent = factories.make_machine("127.0.0.78", credential=ssh_credential)
    outcome = facts.gather([silent.pk, ssh_machine.pk])
    assert outcome[ssh_machine.pk] == ""
    assert "127.0.0.78" in outcome[silent.pk]


def test_a_machine_without_a_credential_says_so_in_its_facts():
    machine = factories.make_machine()
    facts.gather([machine.pk])
    assert "has no SSH credential" in MachineFacts.objects.get(machine=machine).error


def test_an_unknown_key_of_a_machine_is_no_error():
    assert facts.gather([987654]) == {}


@pytest.mark.django_db(transaction=True)
def test_asking_for_visits_queues_those_that_can_be_signed_in_at(admin):
    credential = factories.make_credential()
    good = factories.make_machine(credential=credential)
    bad = factories.make_machine()
    asked = facts.request_gathering(machines=[good, bad], acting_user=admin)
    assert asked.accepted == [good]
    assert "no SSH credential" in asked.refused[bad.pk]
    assert [task.task["args"] for task in OrmQ.objects.all()] == [(good.pk,)]
    assert AuditEntry.objects.filter(verb="gather facts").count() == 1


def test_asking_for_a_visit_needs_the_right_to_operate(viewer, cluster_a):
    machine = factories.make_machine(cluster=cluster_a)
    with pytest.raises(Forbidden):
        facts.request_gathering(machines=[machine], acting_user=viewer)


@pytest.mark.django_db(transaction=True)
def test_the_clock_visits_machines_without_fresh_facts_only():
    credential = factories.make_credential()
    due = factories.make_machine(credential=credential)
    facts.store(factories.make_machine(credential=credential), make_facts())
    factories.make_machine(credential=credential, state=Machine.State.RETIRED)
    factories.make_machine(credential=credential, offered_host_key="ssh-ed25519 AAAA")
    factories.make_machine()
    assert facts.request_stale() == 1
    assert [task.task["args"] for task in OrmQ.objects.all()] == [(due.pk,)]


# --- drift ----------------------------------------------------------------------------------
@pytest.fixture
def drifting(db):
    machine = factories.make_machine(hostname="gz-r3-11", cpus=32, serial="SN42", kernel="5.10")
    facts.store(machine, make_facts())
    return machine


def test_only_fields_with_an_intended_value_drift(drifting):
    assert drifts(drifting) == {"cpus": ("32", "64"), "kernel": ("5.10", "6.1.0-28-amd64")}


def test_a_lasting_difference_keeps_when_it_was_first_seen(drifting):
    first = drifting.drift.get(field="cpus")
    facts.store(drifting, make_facts())
    again = drifting.drift.get(field="cpus")
    assert again.first_seen == first.first_seen
    assert again.last_seen > first.last_seen


def test_a_difference_that_is_mended_goes(drifting):
    facts.store(drifting, make_facts(cpu=Cpu(model="", sockets=1, cores=16, threads=32)))
    assert "cpus" not in drifts(drifting)


def test_what_cannot_be_read_today_stays_as_it_was(drifting):
    facts.store(drifting, make_facts(cpu=None))
    assert "cpus" in drifts(drifting)


def test_an_accepted_value_becomes_the_intended_one_with_history_and_audit(drifting, admin):
    drift.accept(rows=drifting.drift.all(), reason="bigger board", acting_user=admin)
    drifting.refresh_from_db()
    assert (drifting.cpus, drifting.kernel) == (64, "6.1.0-28-amd64")
    assert drifts(drifting) == {}
    row = drifting.history.first()
    assert (row.cpus, row.history_change_reason) == (64, "bigger board")
    entry = AuditEntry.objects.get(verb="accept drift")
    assert (entry.before["cpus"], entry.after["cpus"]) == (32, 64)


def test_accepting_what_has_changed_meanwhile_is_refused(drifting, admin):
    shown = list(drifting.drift.filter(field="cpus"))
    facts.store(drifting, make_facts(cpu=Cpu(model="", sockets=2, cores=48, threads=96)))
    with pytest.raises(Conflict, match="look again"):
        drift.accept(rows=shown, reason="", acting_user=admin)
    drifting.refresh_from_db()
    assert drifting.cpus == 32


def test_a_serial_number_of_another_machine_cannot_be_accepted(admin):
    factories.make_machine(serial="SN42")
    machine = factories.make_machine(serial="SN41")
    facts.store(machine, make_facts())
    with pytest.raises(Conflict, match="cannot be accepted"):
        drift.accept(rows=machine.drift.filter(field="serial"), reason="", acting_user=admin)
    assert Machine.objects.get(pk=machine.pk).serial == "SN41"


def test_a_wrong_machine_keeps_its_intended_value_and_its_row(drifting, admin):
    drift.mark_wrong(rows=drifting.drift.filter(field="cpus"), reason="board", acting_user=admin)
    facts.store(drifting, make_facts())
    row = drifting.drift.get(field="cpus")
    assert row.verdict == Drift.Verdict.WRONG
    drifting.refresh_from_db()
    assert drifting.cpus == 32


def test_another_observed_value_is_to_be_judged_anew(drifting, admin):
    drift.mark_wrong(rows=drifting.drift.filter(field="cpus"), reason="board", acting_user=admin)
    facts.store(drifting, make_facts(cpu=Cpu(model="", sockets=2, cores=48, threads=96)))
    assert drifting.drift.get(field="cpus").verdict == Drift.Verdict.OPEN


def test_an_operator_may_say_wrong_but_not_accept(operator, cluster_a):
    machine = factories.make_machine(hostname="", cluster=cluster_a, cpus=1)
    facts.store(machine, make_facts())
    with pytest.raises(Forbidden):
        drift.accept(rows=machine.drift.all(), reason="", acting_user=operator)
    assert drift.mark_wrong(rows=machine.drift.all(), reason="", acting_user=operator) == 1


def test_stored_facts_survive_the_way_through_json():
    stored = msgspec.to_builtins(make_facts())
    assert msgspec.convert(stored, Facts) == make_facts()


# --- edited while visited -------------------------------------------------------------------
def edited_meanwhile(machine, user, **values):
    """The machine as a visit knows it that began before somebody edited these values."""
    visited, edited = (Machine.objects.get(pk=machine.pk) for _ in range(2))
    for name, value in values.items():
        setattr(edited, name, value)
    edits.change(machine=edited, fields=list(values), reason="", acting_user=user)
    return visited


def test_a_visit_is_compared_with_what_is_intended_when_it_ends(admin):
    machine = factories.make_machine("10.8.3.11", cpus=8)
    visited = edited_meanwhile(machine, admin, cpus=64)
    facts.store(visited, make_facts())
    assert "cpus" not in drifts(machine)


def test_the_facts_of_an_address_that_was_changed_meanwhile_are_not_kept(admin):
    machine = factories.make_machine("10.8.3.11")
    visited = edited_meanwhile(machine, admin, address="10.8.3.12")
    with pytest.raises(host_keys.Moved, match="address"):
        facts.store(visited, make_facts())
    assert not MachineFacts.objects.filter(machine=machine).exists()


def test_why_a_visit_failed_is_not_kept_for_another_address(admin):
    machine = factories.make_machine("10.8.3.11")
    visited = edited_meanwhile(machine, admin, address="10.8.3.12")
    with pytest.raises(host_keys.Moved):
        facts.store_failure(visited, TemporaryError("no route"))
    assert not MachineFacts.objects.filter(machine=machine).exists()


def test_a_machine_that_got_another_address_meanwhile_stops_no_other(monkeypatch):
    moved, there = (
        factories.make_machine(f"10.8.3.{n}", credential=factories.make_credential(), host_key="k")
        for n in (11, 12)
    )

    def visit(targets, *, concurrency):
        Machine.objects.filter(pk=moved.pk).update(address="10.8.3.13")
        for target in targets:
            yield target, make_facts()

    monkeypatch.setattr(facts.facts_driver, "gather", visit)
    outcomes = facts.gather([moved.pk, there.pk])
    assert "address" in outcomes[moved.pk]
    assert outcomes[there.pk] == ""


# --- deleted while visited ------------------------------------------------------------------
@pytest.mark.parametrize("answer", ["facts", "failure"])
@pytest.mark.django_db(transaction=True)
def test_a_machine_deleted_meanwhile_stops_no_other(monkeypatch, answer):
    credential = factories.make_credential()
    gone, stays = (
        factories.make_machine(credential=credential, host_key=f"ssh-ed25519 {n}") for n in "ab"
    )

    def visit(targets, *, concurrency):
        Machine.objects.filter(pk=gone.pk).delete()
        for target, machine in targets.items():
            failed = answer == "failure" and machine.pk == gone.pk
            yield target, TemporaryError("silent") if failed else make_facts()

    monkeypatch.setattr(facts.facts_driver, "gather", visit)
    outcomes = facts.gather([gone.pk, stays.pk])
    assert "was deleted" in outcomes[gone.pk]
    assert outcomes[stays.pk] == ""
    assert list(MachineFacts.objects.values_list("machine", flat=True)) == [stays.pk]


def test_a_machine_deleted_before_its_key_is_pinned_stops_no_other(
    monkeypatch, ssh_machine, ssh_server
):
    gone = factories.make_machine(credential=ssh_machine.credential)
    scan = facts._scan

    def scanned(address, port):
        return scan(ssh_server.address, port)

    def pin(*, machine, key):
        Machine.objects.filter(pk=gone.pk).delete()
        real_pin(machine=machine, key=key)

    real_pin = facts.host_keys.pin
    monkeypatch.setattr(facts, "_scan", scanned)
    monkeypatch.setattr(facts.host_keys, "pin", pin)
    outcomes = facts.gather([gone.pk, ssh_machine.pk])
    assert "was deleted" in outcomes[gone.pk]
    assert outcomes[ssh_machine.pk] == ""


# --- what the clock asks for ----------------------------------------------------------------
def due(**values):
    machine = factories.make_machine(credential=factories.make_credential())
    if values:
        MachineFacts.objects.create(machine=machine, **values)
    return machine


def test_machines_never_visited_come_first(django_capture_on_commit_callbacks):
    stale = due(gathered_at=timezone.now() - timedelta(days=3))
    new = due()
    with django_capture_on_commit_callbacks(execute=True):
        facts.request_stale()
    assert OrmQ.objects.get().task["args"] == (new.pk, stale.pk)


def test_nothing_is_asked_twice_while_visits_wait(django_capture_on_commit_callbacks):
    due()
    with django_capture_on_commit_callbacks(execute=True):
        assert facts.request_stale() == 1
    assert facts.request_stale() == 0


@pytest.mark.parametrize(("fleet", "limit"), [(10, 1000), (50_000, 2083)])
def test_the_whole_fleet_is_visited_within_the_day(fleet, limit):
    assert facts.asked_at_once(fleet) == limit
    assert facts.asked_at_once(fleet) * 48 > fleet
