"""Packet rules that Kubernetes leaves: found and removed by talking to the kernel itself.

A host need not have the ``nft`` program: kube-proxy brings its own in its image, and once the
image is gone nothing on the host could remove its tables. Tables are nftables objects, also those
of ``iptables-nft``; the old iptables (``iptables-legacy``) is asked through its own programs.
"""

from __future__ import annotations

import dataclasses
import errno
import fnmatch
import os
import re
import shlex
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator

from ansible.module_utils.beidou.host_facts import output_of, search_path

OWN_TABLES = ("kube-proxy", "cni_hostport", "cni_plugins_masquerade", "flannel-ipv[46]")
OWN_CHAINS = ("KUBE-*", "CNI-*", "cali-*", "FLANNEL-*")
FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}

NETLINK_NETFILTER = 12
NFTABLES = 10
GET_TABLE, DELETE_TABLE, GET_CHAIN = 1, 2, 4
BATCH_BEGIN, BATCH_END = 0x10, 0x11
REQUEST, ACKNOWLEDGE, DUMP = 0x1, 0x4, 0x300
ERROR, DONE = 2, 3
TABLE_NAME, CHAIN_TABLE, CHAIN_NAME = 1, 1, 3
HEADER = struct.Struct("=IHHII")
"""Length, type, flags, sequence, port: the head of every netlink message."""


@dataclasses.dataclass(frozen=True)
class Rules:
    """Tables as ``(family, name)``, chains as ``(family, table, name)``."""

    tables: tuple[tuple[int, str], ...]
    chains: tuple[tuple[int, str, str], ...]
    legacy_chains: tuple[tuple[str, str], ...] = ()
    """Of the old iptables: ``(program, chain)``."""
    virtual_servers: int = 0
    """IPVS services: only kube-proxy and load balancers make them."""


def of_kubernetes(rules: Rules) -> list[str]:
    """Name what Kubernetes or its network left, in words."""
    own = [f"table {FAMILIES.get(f, f)} {name}" for f, name in rules.tables if is_own_table(name)]
    own += [
        f"chain {chain} in {FAMILIES.get(family, family)} {table}"
        for family, table, chain in rules.chains
        if is_own_chain(chain) and not is_own_table(table)
    ]
    own += [f"chain {c} of {program}" for program, c in rules.legacy_chains if is_own_chain(c)]
    if rules.virtual_servers:
        own.append(f"{rules.virtual_servers} IPVS services")
    return own


def is_own_table(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in OWN_TABLES)


def is_own_chain(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in OWN_CHAINS)


def read_rules() -> Rules:
    """Raises OSError where the kernel refuses to tell, for instance without root."""
    return Rules(
        tables=tuple((f, a.get(TABLE_NAME, "")) for f, a in _dump(GET_TABLE)),
        chains=tuple(
            (f, a.get(CHAIN_TABLE, ""), a.get(CHAIN_NAME, "")) for f, a in _dump(GET_CHAIN)
        ),
        legacy_chains=tuple(_legacy_chains()),
        virtual_servers=count_virtual_servers(_read("/proc/net/ip_vs")),
    )


def remove_rules(rules: Rules) -> list[str]:
    """Remove what `of_kubernetes` names; return what was done, in words."""
    done = []
    for program in ("iptables", "ip6tables", "iptables-legacy", "ip6tables-legacy"):
        if "legacy" in program and not any(p == program for p, _ in rules.legacy_chains):
            continue  # saving would create the empty tables of the old iptables
        done += _remove_iptables_chains(program)
    for family, name in rules.tables:
        if is_own_table(name):
            _delete_table(family, name)
            done.append(f"removed table {FAMILIES.get(family, family)} {name}")
    if rules.virtual_servers and shutil.which("ipvsadm", path=search_path()):
        subprocess.run(["ipvsadm", "--clear"], check=False, capture_output=True)
        done.append("cleared the IPVS services")
    return done


def removal_script(saved: str) -> str:
    """Input of ``iptables-restore --noflush`` that takes own chains out of an ``iptables-save``.

    Rules of other chains that lead into them go first, then the rules inside, then the chains;
    a table that has none of them is not touched.
    """
    lines = []
    for table, chains, rules in _saved_tables(saved):
        own = [chain for chain in chains if is_own_chain(chain)]
        if not own:
            continue
        lines.append(f"*{table}")
        lines += [f"-F {chain}" for chain in own]
        lines += [re.sub(r"^-A", "-D", rule, count=1) for rule in rules if _leads_into(rule, own)]
        lines += [f"-X {chain}" for chain in own]
        lines.append("COMMIT")
    return "".join(f"{line}\n" for line in lines)


def _saved_tables(saved: str) -> Iterator[tuple[str, list[str], list[str]]]:
    table, chains, rules = "", [], []  # type: str, list[str], list[str]
    for line in saved.splitlines():
        if line.startswith("*"):
            table, chains, rules = line[1:].strip(), [], []
        elif line.startswith(":"):
            chains.append(line[1:].split()[0])
        elif line.startswith("-A"):
            rules.append(line)
        elif line.strip() == "COMMIT":
            yield table, chains, rules


def _leads_into(rule: str, chains: list[str]) -> bool:
    words = shlex.split(rule)  # comments are quoted and may hold anything
    target = next((words[i + 1] for i, w in enumerate(words[:-1]) if w in ("-j", "-g")), "")
    return words[1] not in chains and target in chains


def _remove_iptables_chains(program: str) -> list[str]:
    saved = output_of(f"{program}-save")
    script = removal_script(saved)
    if not script:
        return []
    restore = shutil.which(f"{program}-restore", path=search_path()) or f"{program}-restore"
    command = [restore, "--noflush"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return [f"{program}-restore refused: {done.stderr.strip()}"]
    return [f"removed {script.count('-X ')} chains with {program}"]


def _legacy_chains() -> Iterator[tuple[str, str]]:
    for program, names in (
        ("iptables-legacy", "/proc/net/ip_tables_names"),
        ("ip6tables-legacy", "/proc/net/ip6_tables_names"),
    ):
        if _read(names).strip():
            for _, chains, _ in _saved_tables(output_of(f"{program}-save")):
                for chain in chains:
                    yield program, chain


def count_virtual_servers(ip_vs: str) -> int:
    return sum(line.startswith(("TCP", "UDP", "SCTP", "FWM")) for line in ip_vs.splitlines())


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def _dump(kind: int) -> list[tuple[int, dict[int, str]]]:
    """All objects of a kind as family and texts; none where the kernel has no nftables."""
    try:
        with _connect() as connection:
            connection.send(_message(kind, REQUEST | DUMP, 0, b""))
            return list(_objects(connection))
    except OSError as error:
        if error.errno in (errno.EPROTONOSUPPORT, errno.EINVAL, errno.EOPNOTSUPP):
            return []
        raise


def _delete_table(family: int, name: str) -> None:
    batch = (
        _message(BATCH_BEGIN, REQUEST, 0, b"", subsystem=0, resource=NFTABLES)
        + _message(DELETE_TABLE, REQUEST | ACKNOWLEDGE, family, _attribute(TABLE_NAME, name))
        + _message(BATCH_END, REQUEST, 0, b"", subsystem=0, resource=NFTABLES)
    )
    with _connect() as connection:
        connection.send(batch)
        list(_objects(connection))


def _connect() -> socket.socket:
    connection = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    connection.settimeout(10)
    connection.bind((0, 0))
    return connection


def _message(
    kind: int, flags: int, family: int, body: bytes, *, subsystem: int = NFTABLES, resource: int = 0
) -> bytes:
    payload = struct.pack("=BB", family, 0) + struct.pack(">H", resource) + body
    head = HEADER.pack(HEADER.size + len(payload), subsystem << 8 | kind, flags, 1, 0)
    return head + payload


def _attribute(kind: int, text: str) -> bytes:
    value = text.encode() + b"\0"
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + b"\0" * (-length % 4)


def _objects(connection: socket.socket) -> Iterator[tuple[int, dict[int, str]]]:
    """Read until the end of a dump or an acknowledgement; an error becomes an OSError."""
    while True:
        data = connection.recv(1 << 17)
        while len(data) >= HEADER.size:
            length, kind, _, _, _ = HEADER.unpack_from(data)
            payload, data = data[HEADER.size : length], data[(length + 3) & ~3 :]
            if kind == DONE:
                return
            if kind == ERROR:
                number = -struct.unpack_from("=i", payload)[0]
                if number:
                    raise OSError(number, os.strerror(number))
                return
            yield payload[0], _attributes(payload[4:])


def _attributes(data: bytes) -> dict[int, str]:
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            break
        # The two upper bits are flags (nested, byte order).
        found[kind & 0x3FFF] = data[4:length].rstrip(b"\0").decode(errors="replace")
        data = data[(length + 3) & ~3 :]
    return found
