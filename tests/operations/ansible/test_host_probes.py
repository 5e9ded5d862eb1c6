"""What is read from /proc, /sys and the network, judged by made-up hosts and real sockets."""

import errno
import http.server
import os
import socket
import threading

import pytest

from tests.operations.ansible.host_code import (
    host_facts,
    host_files,
    kernel,
    load_file,
    node_state,
    processes,
    reach,
    removal,
)
from tests.operations.ansible.made_up_host import MadeUpHost

HERE = host_files.HostFiles()
host_check = load_file("library/host_check.py")


@pytest.fixture
def host(tmp_path):
    return MadeUpHost(tmp_path)


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_listening_port_is_found_with_its_owner(listener):
    inode = processes.listening_ports(HERE)[listener]
    assert f"(pid {os.getpid()})" in processes.owner_of_socket(HERE, inode)


def test_a_port_somebody_only_talks_from_is_not_taken(host):
    line = "0: 0100007F:280A 0100007F:1F90 01 0:0 00:0 0 0 0 777 1 0 20 4 30 10 -1\n"
    host.write("/proc/net/tcp", f"header\n{line}")
    assert processes.listening_ports(host.files) == {}


def test_a_port_is_found_on_ipv6_too(host):
    line = "0: 00000000000000000000000000000000:280A 0:0 0A 0:0 00:0 0 0 0 777 1 0 20 4 30 10 -1\n"
    host.write("/proc/net/tcp6", f"header\n{line}")
    assert processes.listening_ports(host.files) == {10250: 777}


def test_the_free_space_of_a_folder_that_is_to_be_is_that_above_it(tmp_path):
    assert host_check.free_space(f"{tmp_path}/a/b")[0] == os.stat(tmp_path).st_dev


def test_the_way_up_from_a_folder_has_an_end(monkeypatch):
    """Beneath no root: once it was climbed for ever, by a process that outlived its step."""
    monkeypatch.setattr(host_check.os.path, "isdir", _no_more_than(5))
    with pytest.raises(FileNotFoundError):
        host_check.free_space("no-such-folder")


def _no_more_than(times):
    answers = iter([False] * times)
    return lambda _path: next(answers)


def test_a_module_is_present_however_the_kernel_tells(host):
    host.write("/proc/modules", "br_netfilter 32768 0 - Live 0x0\n")
    host.write("/proc/filesystems", "nodev\toverlay\n")
    host.folder("/sys/module/nf_conntrack")
    host.write("/proc/sys/kernel/osrelease", "6.1.0\n")
    host.write("/lib/modules/6.1.0/modules.builtin", "kernel/net/ip_vs/ip-vs.ko.xz\n")
    names = ["br_netfilter", "overlay", "nf_conntrack", "ip_vs", "dummy"]
    present = [kernel.is_module_present(host.files, name) for name in names]
    assert present == [True, True, True, True, False]


def test_a_setting_that_comes_with_a_loadable_module_is_possible(host):
    names = ["net.bridge.bridge-nf-call-iptables"]
    (check,) = kernel.check_settings(host.files, names, {"br_netfilter": True})
    assert (check.ok, check.found) == (True, "comes with module br_netfilter")


def test_a_setting_the_kernel_does_not_have_is_told(host):
    (check,) = kernel.check_settings(host.files, ["net.ipv4.ip_forward"], {})
    assert (check.ok, check.found) == (False, "the kernel has no such setting")


def test_facts_of_this_machine_are_plausible():
    facts = host_facts.gather(HERE)
    assert facts.hostname == socket.gethostname()
    assert facts.cpus == os.cpu_count()
    assert facts.memory_mib > 100
    assert facts.kernel == os.uname().release


def test_swap_is_summed_over_its_devices():
    text = "Filename Type Size Used Priority\n/dev/sda2 partition 2097148 0 -2\n/x file 1024 0 -3\n"
    assert host_facts.swap_mib(text) == 2048


def test_loopback_and_link_local_are_no_addresses_of_a_machine():
    text = (
        '[{"addr_info": [{"local": "127.0.0.1", "scope": "host"}]},'
        ' {"addr_info": [{"local": "10.8.3.11", "scope": "global"},'
        ' {"local": "fe80::1", "scope": "link"}]}]'
    )
    assert host_facts.parse_addresses(text) == ("10.8.3.11",)


@pytest.mark.parametrize(
    ("bounding_set", "has"), [("000001fffeffffff", False), ("000001ffffffffff", True), (None, True)]
)
def test_the_capability_to_raise_oom_scores_is_read_from_the_bounding_set(bounding_set, has):
    status = f"Name:\tsystemd\nCapBnd:\t{bounding_set}\n" if bounding_set else "Name:\tsystemd\n"
    assert host_facts.has_capability(status, host_facts.CAP_SYS_RESOURCE) is has


def test_an_open_port_is_reached(listener):
    assert reach.check_tcp("api-server", f"127.0.0.1:{listener}", 5).ok


def test_a_closed_port_is_refused_with_that_word():
    check = reach.check_tcp("api-server", "127.0.0.1:9", 5)
    assert (check.ok, check.found) == (False, "connection refused")


def test_a_name_nobody_knows_is_told():
    error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    assert reach.describe(error, 5) == "name cannot be resolved: Name or service not known"


def test_a_server_that_never_answers_costs_one_timeout(listener):
    check = reach.check_url(f"http://127.0.0.1:{listener}/x", 0.2)
    assert (check.ok, check.found) == (False, "no answer within 0.2 s")


def test_an_ipv6_endpoint_is_split_at_its_bracket():
    assert reach.split_endpoint("[fd00::1]:6443") == ("fd00::1", 6443)


@pytest.mark.parametrize("endpoint", ["10.0.0.1", "host:", "[fd00::1]", "a:b", "a:99999"])
def test_an_endpoint_without_a_port_is_refused(endpoint):
    with pytest.raises(ValueError, match="is not host:port"):
        reach.split_endpoint(endpoint)


def test_an_address_nobody_can_connect_to_is_told_like_any_other_finding():
    check = reach.check_tcp("api-server", "10.0.0.1", 5)
    assert (check.ok, check.found) == (False, "'10.0.0.1' is not host:port")


def answering(status, body=b"ok"):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 - the name http.server looks for

        def log_message(self, *args):
            pass

    return http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def serve():
    servers = []

    def start(status, body=b"ok"):
        server = answering(status, body)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        servers.append((server, thread))
        return server.server_port

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_file_the_source_does_not_have_is_told_by_its_status(serve):
    check = reach.check_url(f"http://127.0.0.1:{serve(404, b'')}/kubelet", 5)
    assert (check.ok, check.found) == (False, "HTTP 404")


def test_a_kubelet_that_says_ok_is_healthy(serve):
    assert node_state.check_kubelet_health("127.0.0.1", serve(200), 5).ok


def test_a_kubelet_that_complains_is_quoted(serve):
    check = node_state.check_kubelet_health("127.0.0.1", serve(500, b"syncloop failed"), 5)
    assert (check.ok, check.found) == (False, "HTTP 500: syncloop failed")


def test_a_kubelet_that_does_not_listen_is_told():
    assert "no answer from 127.0.0.1:9" in node_state.check_kubelet_health("127.0.0.1", 9, 5).found


def test_only_errors_after_the_start_count():
    log = (
        '100.5 w1 kubelet[7]: E1124 06:00:00.1 7 a.go:1] "early"\n'
        '200.5 w1 kubelet[7]: I1124 06:00:00.2 7 a.go:1] "fine"\n'
        '201.5 w1 kubelet[7]: E1124 06:00:00.3 7 a.go:1] "late"\n'
    )
    assert node_state.errors_in_log(log, 150) == ['E1124 06:00:00.3 7 a.go:1] "late"']


def test_errors_in_the_log_warn_and_never_block():
    assert not node_state.check_log(["E1124 x"], 60).blocks


def test_a_client_that_gets_no_answer_from_containerd_is_no_answer():
    assert not node_state.check_runtime("Client:\n  Version:  1.6.20\n").ok
    assert node_state.check_runtime("Client:\n  Version: 1\n\nServer:\n  Version:  1.6.20\n").ok


def test_containers_of_others_are_seen_before_anything_is_removed(host):
    base = "/run/containerd/io.containerd.runtime.v2.task"
    host.folder(f"{base}/k8s.io/4f")
    host.folder(f"{base}/moby/7a")
    host.process(900, "/usr/bin/dockerd")
    assert removal.foreign_containers(host.files) == ["dockerd", "moby/7a"]


def test_a_shim_of_kubernetes_and_what_runs_in_its_pods_belong_to_pods(host):
    host.process(1, "/usr/bin/containerd-shim-runc-v2", "-namespace", "k8s.io")
    host.process(2, "/usr/bin/containerd-shim-runc-v2", "-namespace", "moby")
    host.process(3, "/app", cgroup="0::/kubepods.slice/pod1/x")
    host.process(4, "/usr/sbin/sshd")
    found = [p.pid for p in processes.list_processes(host.files) if removal.is_of_a_pod(p)]
    assert found == [1, 3]


@pytest.mark.parametrize("number", [errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ECONNRESET])
def test_the_usual_failures_are_sentences(number):
    said = reach.describe(OSError(number, os.strerror(number)), 5)
    assert said.text == said
    assert "Errno" not in said


def test_routes_into_pod_networks_are_removed_in_their_own_family(tmp_path, monkeypatch):
    told, program = tmp_path / "told", tmp_path / "ip"
    program.write_text(
        f'#!/bin/sh\necho "$*" >> {told}\n[ "$3" = show ] && echo "$5 via x"\nexit 0\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert len(removal.remove_routes(["10.244.0.0/16", "fd00:244::/56"])) == 2
    assert told.read_text().splitlines() == [
        "-4 route show root 10.244.0.0/16",
        "-4 route flush root 10.244.0.0/16",
        "-6 route show root fd00:244::/56",
        "-6 route flush root fd00:244::/56",
    ]
