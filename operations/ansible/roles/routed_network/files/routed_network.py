"""Keep the pod network of one node; runs there by itself, with Python 3.9 or later.

    routed_network.py NODE [MTU [routes]]

Writes the CNI configuration for the node's own pod range, and keeps one route to the range of every
other node through that node's address; with ``routes`` it keeps the routes alone. It signs in as
the kubelet does, whose certificate is read anew each time, since the kubelet renews it. Whatever
goes wrong is said and tried again: the routes stay as they are meanwhile.
"""

from __future__ import annotations

import dataclasses
import http.client
import ipaddress
import json
import os
import re
import ssl
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

KUBELET_CONF = "/etc/kubernetes/kubelet.conf"
CERTIFICATE = "/var/lib/kubelet/pki/kubelet-client-current.pem"
AUTHORITY = "/etc/kubernetes/pki/ca.crt"
CNI_CONFIGURATION = "/etc/cni/net.d/10-beidou.conflist"
IPV6 = "/proc/sys/net/ipv6"
"""Not there on a kernel without it."""
PROTOCOL = "186"
"""Marks our routes in the kernel's table, so that nobody else's is touched."""
WATCH_SECONDS = 290
TIMEOUT_SECONDS = 320
PAUSE_SECONDS = 3


class Problem(Exception):
    """Said, and tried again."""


@dataclasses.dataclass(frozen=True)
class Node:
    name: str
    ranges: tuple[str, ...]
    addresses: tuple[str, ...]


def read_node(raw: Mapping[str, Any]) -> Node:
    """Ranges and addresses are spelled as the kernel shows them."""
    spec, status = raw.get("spec", {}), raw.get("status", {})
    ranges = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
    internal = [a["address"] for a in status.get("addresses", []) if a["type"] == "InternalIP"]
    return Node(
        raw["metadata"]["name"],
        tuple(str(ipaddress.ip_network(each, strict=False)) for each in ranges),
        tuple(str(ipaddress.ip_address(each)) for each in internal),
    )


def wanted_routes(own: str, nodes: Mapping[str, Node]) -> dict[str, str]:
    """Range -> address through which it is reached, of the same family."""
    return {
        pod_range: address
        for node in nodes.values()
        if node.name != own
        for pod_range in node.ranges
        for address in node.addresses[::-1]
        if (":" in address) == (":" in pod_range)
    }


def cni_configuration(ranges: tuple[str, ...], mtu: int) -> str:
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": each}] for each in ranges],
        "routes": [{"dst": "::/0" if ":" in each else "0.0.0.0/0"} for each in ranges],
    }
    ptp: dict[str, Any] = {"type": "ptp", "ipMasq": False, "ipam": ipam}
    if mtu:
        ptp["mtu"] = mtu
    plugins = [ptp, {"type": "portmap", "capabilities": {"portMappings": True}}]
    return json.dumps({"cniVersion": "0.4.0", "name": "beidou", "plugins": plugins}, indent=1)


def write_configuration(text: str, path: str = CNI_CONFIGURATION) -> None:
    try:
        with open(path, encoding="utf-8") as file:
            if file.read() == text:
                return
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(f"{path}.new", path)
    say(f"wrote {path}")


def parse_routes(text: str) -> dict[str, str]:
    """``10.0.1.0/24 via 192.0.2.7 dev eth0`` per line, as ``ip route show`` prints them."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if "via" in words:
            found[words[0]] = words[words.index("via") + 1]
    return found


def keep_routes(wanted: Mapping[str, str]) -> None:
    for family in ("-4", "-6"):
        mine = {r: a for r, a in wanted.items() if (":" in r) == (family == "-6")}
        if family == "-6" and not mine and not os.path.exists(IPV6):
            continue
        there = parse_routes(ip(family, "route", "show", "proto", PROTOCOL))
        for pod_range, address in mine.items():
            if there.get(pod_range) != address:
                ip(family, "route", "replace", pod_range, "via", address, "proto", PROTOCOL)
                say(f"route to {pod_range} through {address}")
        for pod_range in there.keys() - mine.keys():
            ip(family, "route", "del", pod_range, "proto", PROTOCOL)
            say(f"no route to {pod_range} any more")


def ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Problem(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


class Api:
    """The API server, as the kubelet of this host knows it."""

    def __init__(self) -> None:
        with open(KUBELET_CONF, encoding="utf-8") as file:
            found = re.search(r"^\s*server:\s*[\"']?(https://[^\s\"']+)", file.read(), re.MULTILINE)
        if found is None:
            raise Problem(f"{KUBELET_CONF} names no server")
        self.place = urllib.parse.urlsplit(found.group(1))
        self.context = ssl.create_default_context(cafile=AUTHORITY)
        self.context.load_cert_chain(CERTIFICATE)

    def get(self, path: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPSConnection(
            self.place.hostname or "",
            self.place.port or 443,
            timeout=TIMEOUT_SECONDS,
            context=self.context,
        )
        connection.request("GET", path)
        answer = connection.getresponse()
        if answer.status != 200:
            raise Problem(f"the API server answered {answer.status} for {path}")
        return answer

    def nodes(self) -> tuple[dict[str, Node], str]:
        found = json.load(self.get("/api/v1/nodes"))
        nodes = [read_node(item) for item in found["items"]]
        return {node.name: node for node in nodes}, found["metadata"]["resourceVersion"]

    def changes(self, version: str) -> Iterator[tuple[str, Node]]:
        path = f"/api/v1/nodes?watch=true&resourceVersion={version}&timeoutSeconds={WATCH_SECONDS}"
        for line in self.get(path):
            event = json.loads(line)
            if event["type"] in ("ADDED", "MODIFIED", "DELETED"):
                yield event["type"], read_node(event["object"])
            elif event["type"] == "ERROR":
                return  # too old: everything is listed anew


def follow(own: str, mtu: int, routes_only: bool = False) -> None:
    api = Api()
    nodes, version = api.nodes()
    keep(own, nodes, mtu, routes_only)
    for kind, node in api.changes(version):
        if kind == "DELETED":
            nodes.pop(node.name, None)
        elif nodes.get(node.name) != node:
            nodes[node.name] = node
        else:
            continue
        keep(own, nodes, mtu, routes_only)


def keep(own: str, nodes: Mapping[str, Node], mtu: int, routes_only: bool = False) -> None:
    if not routes_only and own in nodes and nodes[own].ranges:
        write_configuration(cni_configuration(nodes[own].ranges, mtu))
    keep_routes(wanted_routes(own, nodes))


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(own: str, mtu: int, routes_only: bool = False) -> None:
    while True:
        try:
            follow(own, mtu, routes_only)
        except (Problem, OSError, ValueError, KeyError, http.client.HTTPException) as error:
            say(f"{type(error).__name__}: {error}; trying again")
            time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main(
        sys.argv[1],
        int(sys.argv[2]) if len(sys.argv) > 2 else 0,
        sys.argv[3:] == ["routes"],
    )
