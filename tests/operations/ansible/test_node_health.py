"""How the values of a node's host are judged, and what is read out of its logs and certificates."""

import os
import socket
import struct
import threading
from datetime import UTC, datetime, timedelta

import pytest

from tests.fakes.authority import Authority
from tests.operations.ansible.host_code import certificates, load_file, node_health, node_state

health_check = load_file("library/health_check.py")
NOW = datetime(2026, 11, 25, 22, 0, tzinfo=UTC)
GIB = 1 << 30


def levels(check):
    return "ok" if check.ok else check.severity


@pytest.mark.parametrize(
    ("free", "level"),
    [(100, "ok"), (15, "ok"), (14, "warning"), (5, "warning"), (4, "error"), (0, "error")],
)
def test_a_disk_is_warned_of_before_the_kubelet_evicts(free, level):
    check = node_health.check_disk("/var/log", 100 * GIB, free * GIB)
    assert (check.check, levels(check)) == ("disk:/var/log", level)
    assert f"{free} % free ({free}.0 GiB)" in check.found


@pytest.mark.parametrize(
    ("free", "level"), [(10, "ok"), (9, "warning"), (3, "warning"), (2, "error")]
)
def test_inodes_have_limits_of_their_own(free, level):
    assert levels(node_health.check_inodes("/", 100, free)) == level


def test_a_file_system_that_makes_inodes_as_it_goes_is_in_order():
    assert node_health.check_inodes("/", 0, 0).ok


def test_a_disk_without_size_is_no_division_by_zero():
    assert levels(node_health.check_disk("/", 0, 0)) == "error"


@pytest.mark.parametrize(
    ("available", "level"), [(10, "ok"), (9, "warning"), (3, "warning"), (2, "error")]
)
def test_memory_is_judged_by_what_is_available(available, level):
    meminfo = {"MemTotal": 100 * 1024, "MemFree": 0, "MemAvailable": available * 1024}
    assert levels(node_health.check_memory(meminfo)) == level


@pytest.mark.parametrize(("free", "level"), [(2048, "ok"), (1024, "warning")])
def test_swap_is_warned_of_only_while_it_is_in_use(free, level):
    check = node_health.check_swap({"SwapTotal": 2048, "SwapFree": free})
    assert levels(check) == level


@pytest.mark.parametrize(
    ("loadavg", "level"),
    [("9.0 4.0 0.1 1/2 3", "ok"), ("0.0 4.1 0.1 1/2 3", "warning"), ("", "ok")],
)
def test_the_load_of_five_minutes_never_fails_a_machine(loadavg, level):
    assert levels(node_health.check_load(loadavg, 2)) == level


@pytest.mark.parametrize(
    ("file_nr", "level"),
    [
        ("800\t0\t1000\n", "ok"),
        ("810\t10\t1000\n", "ok"),
        ("801\t0\t1000\n", "warning"),
        ("951\t0\t1000\n", "error"),
    ],
)
def test_file_handles_are_those_in_use(file_nr, level):
    assert levels(node_health.check_file_handles(file_nr)) == level


@pytest.mark.parametrize(
    ("days", "level"), [(30, "ok"), (29, "warning"), (3, "warning"), (2, "error"), (-1, "error")]
)
def test_a_certificate_is_warned_of_a_month_before_its_end(days, level):
    ends = NOW + timedelta(days=days)
    check = node_health.check_certificate("apiserver.crt", ends, NOW, "error")
    assert levels(check) == level
    assert ("ended on" in check.found) is (days < 0)


def test_a_certificate_that_nobody_verifies_is_never_an_error():
    check = node_health.check_certificate("kubelet.crt", NOW - timedelta(days=1), NOW, "warning")
    assert levels(check) == "warning"


def test_a_file_without_a_certificate_is_told_and_not_judged():
    check = node_health.check_certificate("x.crt", health_check.end_of("nonsense"), NOW, "error")
    assert (levels(check), check.found) == ("warning", "no certificate")


@pytest.mark.parametrize("year", [2026, 2049, 2050, 2120])
def test_the_end_of_a_certificate_is_read_in_either_form(year):
    ends = datetime(year, 7, 1, 12, 30, 15, tzinfo=UTC)
    pem = Authority().issue("x", begins=NOW - timedelta(days=400), ends=ends).certificate_pem
    assert health_check.end_of(pem) == ends
    (der,) = certificates.certificates_in(pem)
    with pytest.raises(ValueError, match=r"no|not"):
        certificates.not_after(der[:20])


@pytest.mark.parametrize(
    ("answers", "ok", "found"),
    [
        ({"10.0.0.1": ""}, True, "10.0.0.1 answer"),
        ({"10.0.0.1": "", "10.0.0.2": "down"}, False, "no answer from 10.0.0.2 (down)"),
        ({}, False, "no name server is set"),
    ],
)
def test_every_name_server_has_to_answer(answers, ok, found):
    check = node_health.check_name_servers(answers)
    assert (check.ok, check.found, check.severity) == (ok, found, "warning")


@pytest.mark.parametrize(("count", "level"), [(0, "ok"), (5, "ok"), (6, "warning")])
def test_a_few_errors_in_a_log_are_no_news(count, level):
    check = node_health.check_log("kubelet", ["bad"] * count, 30, 5)
    assert levels(check) == level


def test_errors_of_a_runtime_are_told_from_its_other_lines():
    log = (
        'host containerd[1]: time="x" level=info msg="fine"\n'
        'host containerd[1]: time="x" level=error msg="broken"\n'
        'host containerd[1]: time="x" level=warning msg="level of error"\n'
    )
    assert node_health.runtime_errors(log) == ['time="x" level=error msg="broken"']


@pytest.mark.parametrize("zone", ["Z", "+08:00", "-05:30"])
def test_lines_of_a_container_are_dated_by_their_own_zone(zone):
    hours = {"Z": timedelta(0), "+08:00": timedelta(hours=8)}.get(zone, timedelta(hours=-5.5))
    local = (NOW + hours).strftime("%Y-%m-%dT%H:%M:%S")
    log = f"{local}.123456789{zone} stderr F E1125 22:00:00.1 1 proxier.go:1] bad\n"
    since = NOW.timestamp()
    assert len(node_health.container_errors(log, node_state.KLOG_ERROR, since)) == 1
    assert node_health.container_errors(log, node_state.KLOG_ERROR, since + 1) == []


def test_what_is_no_line_of_a_container_is_passed_over():
    log = "E1125 22:00:00.1 no time\n\n2026-11-25T22:00:00Z stderr F I1125 22:00:00 fine\n"
    assert node_health.container_errors(log, node_state.KLOG_ERROR, 0) == []


@pytest.mark.parametrize(
    ("reported", "loaded", "unit"),
    [
        ("docker://24.0", [], "docker"),
        ("containerd://1.7", ["docker"], "containerd"),
        ("cri-o://1.30", [], "crio"),
        ("", ["docker", "crio"], "docker"),
        ("", [], "containerd"),
    ],
)
def test_the_runtime_is_what_kubernetes_says_else_what_the_host_has(reported, loaded, unit):
    assert node_health.chosen_runtime(reported, loaded) == unit


# --- the network, on real sockets -----------------------------------------------------------------


@pytest.fixture
def name_server():
    """Answers whatever is asked with "not implemented"; ``silent`` holds how many it swallows."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def serve():
            while True:
                data, asker = server.recvfrom(512)
                if data == b"end":
                    return
                server.sendto(data[:2] + struct.pack(">H", 0x8004) + data[4:], asker)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closing:
            closing.sendto(b"end", server.getsockname())
        thread.join(5)


def test_a_name_server_that_knows_nothing_answers_all_the_same(name_server):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(5)
        asking.sendto(node_health.dns_question(77), ("127.0.0.1", name_server))
        data = asking.recv(512)
    assert node_health.is_answer(data, 77)
    assert not node_health.is_answer(data, 78)
    assert not node_health.is_answer(node_health.dns_question(77), 77)
    assert not node_health.is_answer(b"", 77)


def test_a_host_that_refuses_is_reached_and_one_that_is_not_there_is_told():
    assert health_check.reach_node("127.0.0.1:9", 2) == ""
    assert health_check.reach_node("nonsense", 2) != ""
    assert "resolved" in health_check.reach_node("no-such-host.invalid:10250", 2)


def test_a_name_server_that_is_nowhere_is_told():
    assert "resolved" in health_check.ask_name_server("no-such-host.invalid", 1)


def test_name_servers_are_read_from_resolv_conf():
    text = "# nameserver 1.1.1.1\nnameserver 10.0.0.2\nsearch a b\nnameserver fe80::1\n"
    assert node_health.name_servers(text) == ["10.0.0.2", "fe80::1"]


def test_the_disks_of_this_machine_are_looked_at_as_far_as_they_exist(tmp_path):
    found = list(health_check.look_at_disks([str(tmp_path), "/no/such/folder"]))
    assert [check.check for check in found] == [f"disk:{tmp_path}", f"inodes:{tmp_path}"]
    assert os.statvfs(tmp_path).f_blocks > 0


def test_a_log_of_a_moment_is_never_one_of_no_minutes():
    check = node_health.check_log("kubelet", ["bad"], 0.2, 5)
    assert (check.wanted, check.found) == ("errors: at most 5 in 1 min", "errors: 1, last: bad")
