"""Which labs exist: names, subnets and ports never collide, the dead are told from the living."""

import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from lab import state
from lab.errors import LabError
from lab.process import Process


def test_two_labs_have_different_subnets(run_folder: Path):
    first, second = state.claim("first", keep=True), state.claim("second", keep=True)
    assert first.network() == "10.99.0.0/24"
    assert second.network() == "10.99.1.0/24"


def test_many_starts_at_once_get_as_many_subnets(run_folder: Path):
    with ThreadPoolExecutor(8) as pool:
        claimed = pool.map(lambda number: state.claim(f"lab-{number}", keep=True), range(20))
        assert len({record.subnet for record in claimed}) == 20


def test_a_forgotten_lab_frees_its_subnet(run_folder: Path):
    state.forget(state.claim("first", keep=True))
    assert state.claim("second", keep=True).subnet == 0


def test_a_name_cannot_be_claimed_twice(run_folder: Path):
    state.claim("first", keep=True)
    with pytest.raises(LabError, match="first is running already"):
        state.claim("first", keep=True)


@pytest.mark.parametrize("name", ["", "a", "Upper", "under_score", "-dash", "x" * 31, "../up"])
def test_a_name_that_is_no_host_name_is_refused(run_folder: Path, name: str):
    with pytest.raises(LabError, match="is no name for a lab"):
        state.claim(name, keep=True)


def test_without_a_free_subnet_the_sentence_says_what_to_do(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(state, "SUBNETS", 1)
    state.claim("first", keep=True)
    with pytest.raises(LabError, match="lab clean"):
        state.claim("second", keep=True)


def test_a_lab_lives_as_long_as_its_owner(run_folder: Path):
    record = state.claim("mine", keep=False)
    assert record.owner == Process.of(os.getpid())
    assert record.is_alive()
    assert not replace(record, owner=Process(pid=os.getpid(), started=1)).is_alive()


def test_a_kept_lab_needs_no_owner(run_folder: Path):
    assert state.claim("kept", keep=True).is_alive()


def test_no_lab_survives_a_new_start_of_the_machine(run_folder: Path):
    record = state.claim("kept", keep=True)
    assert not replace(record, boot_id="another boot").is_alive()


def test_a_lab_is_found_as_it_was_claimed(run_folder: Path):
    record = state.claim("mine", keep=False)
    assert state.find("mine") == record
    assert state.find("other") is None


def test_a_damaged_record_is_not_passed_over(run_folder: Path):
    record = state.claim("mine", keep=True)
    (record.folder / "lab.json").write_text("{")
    with pytest.raises(json.JSONDecodeError):
        state.records()


def test_ports_of_two_labs_differ_and_are_free(run_folder: Path):
    first, second = state.claim("first", keep=True), state.claim("second", keep=True)
    port, other = state.claim_port(first), state.claim_port(second)
    assert port != other
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))


def test_a_port_that_somebody_uses_is_passed_over(run_folder: Path):
    record = state.claim("mine", keep=True)
    used = state.claim_port(record)
    (run_folder / "ports" / str(used)).unlink()
    with socket.socket() as server:
        server.bind(("127.0.0.1", used))
        assert state.claim_port(record) != used


def test_a_forgotten_lab_frees_its_ports_only(run_folder: Path):
    first, second = state.claim("first", keep=True), state.claim("second", keep=True)
    state.claim_port(first)
    kept = state.claim_port(second)
    state.forget(first)
    assert [path.name for path in (run_folder / "ports").iterdir()] == [str(kept)]
