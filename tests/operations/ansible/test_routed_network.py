"""The service that keeps the routed pod network: what it reads, what it wants, what it does."""

import json
import stat

import pytest

from tests.operations.ansible.host_code import load_file


@pytest.fixture
def script():
    return load_file("roles/routed_network/files/routed_network.py")


def raw(name, address="10.0.0.1", pod_range="10.244.0.0/24", **more):
    status = {"addresses": [{"type": "InternalIP", "address": address}]} if address else {}
    spec = {"podCIDR": pod_range, "podCIDRs": [pod_range]} if pod_range else {}
    return {"metadata": {"name": name}, "spec": spec, "status": status, **more}


def nodes(script, *items):
    read = [script.read_node(item) for item in items]
    return {node.name: node for node in read}


def test_there_is_a_route_to_every_other_node(script):
    there = nodes(
        script,
        raw("a", "10.0.0.1", "10.244.0.0/24"),
        raw("b", "10.0.0.2", "10.244.1.0/24"),
        raw("c", "10.0.0.3", "10.244.2.0/24"),
    )
    assert script.wanted_routes("a", there) == {
        "10.244.1.0/24": "10.0.0.2",
        "10.244.2.0/24": "10.0.0.3",
    }


@pytest.mark.parametrize("half", [raw("b", ""), raw("b", pod_range="")])
def test_a_node_that_is_not_whole_yet_has_no_route(script, half):
    assert script.wanted_routes("a", nodes(script, raw("a"), half)) == {}


def test_a_range_is_reached_through_an_address_of_its_family(script):
    item = raw("b", "10.0.0.2", "10.244.1.0/24")
    item["spec"]["podCIDRs"].append("fd00:1::/64")
    item["status"]["addresses"] += [
        {"type": "InternalIP", "address": "fd00::2"},
        {"type": "Hostname", "address": "b"},
    ]
    assert script.wanted_routes("a", nodes(script, item)) == {
        "10.244.1.0/24": "10.0.0.2",
        "fd00:1::/64": "fd00::2",
    }


def test_of_several_addresses_the_first_leads_to_the_node(script):
    item = raw("b", "10.0.0.2", "10.244.1.0/24")
    item["status"]["addresses"].append({"type": "InternalIP", "address": "192.168.0.2"})
    assert script.wanted_routes("a", nodes(script, item)) == {"10.244.1.0/24": "10.0.0.2"}


def test_pods_get_addresses_of_the_node_s_own_range(script):
    made = json.loads(script.cni_configuration(("10.244.1.0/24",), 0))
    ptp, portmap = made["plugins"]
    assert ptp["ipam"]["ranges"] == [[{"subnet": "10.244.1.0/24"}]]
    assert ptp["ipam"]["routes"] == [{"dst": "0.0.0.0/0"}]
    assert "mtu" not in ptp
    assert portmap["type"] == "portmap"
    assert json.loads(script.cni_configuration(("fd00::/64",), 1400))["plugins"][0]["mtu"] == 1400


def test_the_configuration_is_written_once(script, tmp_path, capsys):
    path = tmp_path / "net.d" / "10-beidou.conflist"
    script.write_configuration("one", str(path))
    script.write_configuration("one", str(path))
    assert path.read_text() == "one"
    assert capsys.readouterr().out.count("wrote") == 1
    script.write_configuration("two", str(path))
    assert path.read_text() == "two"


@pytest.fixture
def kernel(script, tmp_path, monkeypatch):
    """A stand-in for ``ip``: answers with its routes of each family and notes what it is told."""
    told, routes = tmp_path / "told", tmp_path / "routes"
    for family in ("-4", "-6"):
        (tmp_path / f"routes{family}").write_text("")
    program = tmp_path / "ip"
    program.write_text(
        f'#!/bin/sh\n[ "$3" = show ] && {{ cat {routes}$1; exit 0; }}\necho "$*" >> {told}\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    class Kernel:
        def has(self, text):
            (tmp_path / "routes-4").write_text(text)

        def has6(self, text):
            (tmp_path / "routes-6").write_text(text)

        def told(self):
            return told.read_text().splitlines() if told.exists() else []

    return Kernel()


def test_what_is_right_already_is_left_alone(script, kernel):
    kernel.has("10.244.1.0/24 via 10.0.0.2 dev eth0 \n")
    script.keep_routes({"10.244.1.0/24": "10.0.0.2"})
    assert kernel.told() == []


def test_routes_follow_the_nodes(script, kernel):
    kernel.has("10.244.1.0/24 via 10.0.0.9 dev eth0\n10.244.7.0/24 via 10.0.0.7 dev eth0\n")
    script.keep_routes({"10.244.1.0/24": "10.0.0.2", "10.244.2.0/24": "10.0.0.3"})
    assert kernel.told() == [
        "-4 route replace 10.244.1.0/24 via 10.0.0.2 proto 186",
        "-4 route replace 10.244.2.0/24 via 10.0.0.3 proto 186",
        "-4 route del 10.244.7.0/24 proto 186",
    ]


def test_a_route_that_cannot_be_set_is_a_problem_that_is_told(script, tmp_path, monkeypatch):
    program = tmp_path / "ip"
    program.write_text('#!/bin/sh\n[ "$3" = show ] || { echo no way >&2; exit 2; }\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(script.Problem, match="no way"):
        script.keep_routes({"10.244.1.0/24": "10.0.0.2"})


def test_routes_of_both_families_follow_the_nodes(script, kernel):
    kernel.has("10.244.1.0/24 via 10.0.0.2 dev eth0\n")
    kernel.has6("fd00:0:0:1::/64 via fd00::9 dev eth0 metric 1024 pref medium\n")
    script.keep_routes({"10.244.1.0/24": "10.0.0.2", "fd00:0:0:2::/64": "fd00::2"})
    assert kernel.told() == [
        "-6 route replace fd00:0:0:2::/64 via fd00::2 proto 186",
        "-6 route del fd00:0:0:1::/64 proto 186",
    ]


def test_what_is_spelled_otherwise_than_by_the_kernel_is_known_again(script, kernel):
    kernel.has6("fd00:0:0:1::/64 via fd00::2 dev eth0 metric 1024 pref medium\n")
    there = nodes(script, raw("b", "FD00:0::2", "fd00:0000:0:1::/64"))
    script.keep_routes(script.wanted_routes("a", there))
    assert kernel.told() == []


def test_a_route_of_ipv6_that_cannot_be_set_is_a_problem_too(script, tmp_path, monkeypatch):
    program = tmp_path / "ip"
    program.write_text('#!/bin/sh\n[ "$3" = show ] || { echo no route to host >&2; exit 2; }\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(script.Problem, match="no route to host"):
        script.keep_routes({"fd00:1::/64": "fd00::2"})


def test_a_kernel_without_ipv6_is_asked_for_none_of_it(script, tmp_path, monkeypatch):
    program = tmp_path / "ip"
    program.write_text('#!/bin/sh\n[ "$1" = -4 ] || exit 2\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(script, "IPV6", str(tmp_path / "none"))
    script.keep_routes({"10.244.1.0/24": "10.0.0.2"})
    with pytest.raises(script.Problem):
        script.keep_routes({"fd00:1::/64": "fd00::2"})


def test_without_a_server_in_the_kubelet_s_credentials_it_says_so(script, tmp_path, monkeypatch):
    conf = tmp_path / "kubelet.conf"
    conf.write_text("apiVersion: v1\n")
    monkeypatch.setattr(script, "KUBELET_CONF", str(conf))
    with pytest.raises(script.Problem, match="names no server"):
        script.Api()


def test_with_routes_alone_no_cni_configuration_is_written(script, kernel, monkeypatch):
    written: list[str] = []
    monkeypatch.setattr(script, "write_configuration", written.append)
    there = nodes(script, raw("a"), raw("b", "10.0.0.2", "10.244.1.0/24"))
    script.keep("a", there, 0, routes_only=True)
    assert written == []
    script.keep("a", there, 0)
    assert len(written) == 1
