"""The network of one lab: an own bridge with a podman network on it, leading nowhere else.

podman would make the bridge with the first host and remove it with the last.  The lab makes it
itself and keeps one end of a cable in it, so that the gateway address, on which the artifact
server listens, exists as long as the lab does.
"""

from lab.process import run
from lab.state import LabRecord

LABEL = "beidou-lab"
"""Everything podman holds for a lab carries this label with the lab's name as value."""


FENCE = """\
table inet lab_@BRIDGE@ {
  chain forward {
    type filter hook forward priority -10; policy accept;
    iifname "@BRIDGE@" oifname != "@BRIDGE@" drop
    oifname "@BRIDGE@" iifname != "@BRIDGE@" drop
  }
}
"""


def network_name(record: LabRecord) -> str:
    return f"{LABEL}-{record.name}"


def ensure_network(record: LabRecord) -> None:
    """Make network and bridge of a lab unless they are there."""
    if network_name(record) not in _networks(record.name):
        run(
            "podman", "network", "create",
            "--label", f"{LABEL}={record.name}",
            "--subnet", record.network(),
            "--gateway", record.gateway,
            "--opt", "isolate=true",
            "--internal",
            "--disable-dns",
            network_name(record),
        )  # fmt: skip
    bridge = _bridge(network_name(record))
    if bridge not in _interfaces():
        run("ip", "link", "add", bridge, "type", "bridge")
        run("ip", "link", "add", _cable(record), "type", "veth", "peer", "name", _plug(record))
        run("ip", "link", "set", _cable(record), "master", bridge)
        run("ip", "address", "add", f"{record.gateway}/24", "dev", bridge)
        run("ip", "link", "set", _plug(record), "arp", "off")  # it is nobody's card
        for interface in (_cable(record), _plug(record), bridge):
            run("ip", "link", "set", interface, "up")
        _keep_inside(bridge)


def _keep_inside(bridge: str) -> None:
    """Drop what hosts send elsewhere: the machine may forward packets for reasons of its own."""
    run("nft", "-f", "-", input_text=FENCE.replace("@BRIDGE@", bridge))


def remove_network(lab_name: str) -> None:
    """Remove network and bridge of a lab; its hosts are gone already."""
    _remove(_networks(lab_name))


def remove_all_networks() -> None:
    """Remove the networks of all labs, also of those whose record is lost."""
    _remove(_networks())


def _remove(networks: list[str]) -> None:
    for name in networks:
        bridge = _bridge(name)
        run("podman", "network", "rm", "--force", name)
        if bridge in _interfaces():
            for cable in _attached(bridge):
                run("ip", "link", "delete", cable)
            run("ip", "link", "delete", bridge)
        table = f"table inet lab_{bridge}"
        run("nft", "-f", "-", input_text=f"add {table}\ndelete {table}\n")  # absent is fine


def _cable(record: LabRecord) -> str:
    return f"bdlab{record.subnet}a"


def _plug(record: LabRecord) -> str:
    return f"bdlab{record.subnet}b"


def _bridge(network: str) -> str:
    """The name podman has chosen for the network's bridge."""
    return run("podman", "network", "inspect", "--format", "{{.NetworkInterface}}", network).strip()


def _networks(lab_name: str | None = None) -> list[str]:
    label = LABEL if lab_name is None else f"{LABEL}={lab_name}"
    listing = run("podman", "network", "ls", "--filter", f"label={label}", "--format", "{{.Name}}")
    return listing.split()


def _interfaces() -> list[str]:
    return _names(run("ip", "-brief", "link", "show"))


def _attached(bridge: str) -> list[str]:
    return _names(run("ip", "-brief", "link", "show", "master", bridge))


def _names(listing: str) -> list[str]:
    return [line.split()[0].partition("@")[0] for line in listing.splitlines() if line]
