"""The parts of transient units and of the clock's comparison that need no systemd."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beidou.base import sentences
from tests.operations.ansible.host_code import load_file, transient_unit

clock = load_file("action_plugins/host_check.py")
settings = load_file("library/kernel_settings.py")


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("success\nexited\n0\n", ("success", 0)),
        ("exit-code\nexited\n3\n", ("exit-code", 3)),
        ("success\nkilled\nTERM\n", ("stopped", 143)),
        ("timeout\nkilled\nTERM\n", ("timeout", 143)),
        ("oom-kill\nkilled\nKILL\n", ("oom-kill", 137)),
        ("", ("", 128)),
    ],
)
def test_the_word_of_systemd_becomes_an_honest_outcome(text, outcome):
    assert transient_unit.parse_result(text) == outcome


def test_the_very_last_line_is_shown_however_long_those_before_it_are():
    output = "\n".join([*("w" * 500 for _ in range(5)), "", "no space left on device", "--v=5"])
    lines = transient_unit.last_lines(output)
    assert lines[-2:] == ["no space left on device", "--v=5"]
    assert lines[0].endswith("w…")
    assert sum(map(len, lines)) <= transient_unit.SHOWN_CHARACTERS


def test_a_unit_whose_file_is_gone_with_a_restart_of_the_host_does_not_begin(tmp_path):
    command = transient_unit.Command(["true"], remove_after=[str(tmp_path / "join.yaml")])
    with pytest.raises(transient_unit.UnitProblem, match="as after a restart of the host"):
        transient_unit._start("beidou-1-join", str(tmp_path / "unit"), command, 10)
    assert not (tmp_path / "unit").exists()


def outcome(result, code, stderr=""):
    return transient_unit.Outcome(result, code, "", stderr, False, 1.0)


@pytest.mark.parametrize(
    ("ended", "sentence"),
    [
        (outcome("exit-code", 1, "x\nno\n"), "u failed with exit code 1. Its last lines: x | no"),
        (outcome("timeout", 143), "u ran longer than allowed and was ended."),
        (outcome("stopped", 143), "u was stopped."),
        (outcome("signal", 137), "u was ended by signal 9."),
        (outcome("oom-kill", 137), "u was ended because the host ran out of memory."),
    ],
)  # fmt: skip
def test_every_bad_end_is_told_in_a_sentence(ended, sentence):
    assert not ended.ok
    assert ended.sentence("u") == sentence


@pytest.mark.parametrize("name", ["kubelet", "beidou", "beidou-*", "beidou-1;reboot", "beidou-a/b"])
def test_a_name_that_is_not_of_ours_is_refused(name):
    with pytest.raises(transient_unit.UnitProblem, match="is not a unit name"):
        transient_unit.run(name, transient_unit.Command(["true"]), 1, "call")


def test_the_same_command_has_the_same_fingerprint_and_another_has_not():
    one = transient_unit.Command(["a"], stdin="x", environment={"A": "1", "B": "2"})
    same = transient_unit.Command(["a"], stdin="x", environment={"B": "2", "A": "1"})
    other = transient_unit.Command(["a"], stdin="y", environment={"A": "1", "B": "2"})
    assert one.fingerprint() == same.fingerprint()
    assert one.fingerprint() != other.fingerprint()


def test_secrets_are_removed_before_the_result_is_there():
    script = transient_unit.after_script("/run/beidou/u", ["/run/it's.yaml"])
    assert script.splitlines()[0] == "rm -f -- '/run/it'\\''s.yaml'"
    assert script.splitlines()[1].endswith("mv /run/beidou/u/result.part /run/beidou/u/result")


times = st.floats(-1e4, 1e4)
delays = st.floats(0, 1e3)


@given(offset=times, there=delays, inside=delays, back=delays)
def test_the_true_offset_of_a_clock_is_always_within_the_bounds(offset, there, inside, back):
    began, ended = there + offset, there + inside + offset
    low, high = clock.clock_bounds(before=0, after=there + inside + back, began=began, ended=ended)
    assert low - 1e-6 <= offset <= high + 1e-6


@pytest.mark.parametrize(
    ("low", "high", "ok"),
    [(-0.1, 9.0, True), (2.5, 3.5, False), (-8.0, -2.1, False), (1.9, 7, True)],
)
def test_a_clock_is_wrong_only_when_no_possible_offset_is_within_the_limit(low, high, ok):
    check = clock.clock_check(low, high, 2)
    assert check["ok"] is ok
    assert sentences.spoken(check["found"]) == f"between {low:+.1f} s and {high:+.1f} s off"


def test_a_check_of_the_caller_has_the_shape_of_those_of_the_host():
    keys = {"check", "ok", "found", "wanted", "advice", "severity"}
    assert set(clock.clock_check(0, 0, 1)) == set(clock.privilege_check("x")) == keys
    assert json.dumps(clock.clock_check(0, 0, 1))


def test_a_setting_that_is_higher_already_is_left_alone():
    current = {"a": "9000", "b": "128", "c": "8192"}
    minimums = {"a": 8192, "b": 8192, "c": 8192}
    assert settings.wanted_settings(current, {}, minimums) == {"b": "8192", "c": "8192"}


def test_an_exact_setting_is_wanted_with_single_spaces():
    assert settings.wanted_settings({}, {"a": "4096  87380\t6291456"}, {}) == {
        "a": "4096 87380 6291456"
    }
