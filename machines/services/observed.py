"""What a visit or a cluster says about a machine, in the words in which people write it down.

Intended values are texts such as "2×960G, 4×8000G" or "Debian 12"; this module turns facts into
the same words and decides whether both mean the same thing.  It is pure: no database, no network.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from clusters.models import Node
from machines.drivers.facts import Facts

MIB: Final = 1024 * 1024
# The kernel keeps some memory for itself, and makers count disks in powers of ten.
TOLERANCE: Final = 0.06
_GROUP = re.compile(r"\s*(?:(\d+)\s*[x×*]\s*)?(.+?)\s*", re.IGNORECASE)
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*(M|G|T)(?:i?B|bit/s|bit|bps|bE|E)?", re.IGNORECASE)
_SCALE: Final = {"M": 0.001, "G": 1.0, "T": 1000.0}

Values = dict[str, str]


def from_facts(facts: Facts) -> Values:
    """Field name -> observed text; what could not be read is not there."""
    found: dict[str, str | None] = {"hostname": facts.hostname}
    if facts.system:
        found |= {
            "serial": facts.system.serial,
            "vendor": facts.system.vendor,
            "model": facts.system.model,
            "system_uuid": facts.system.uuid,
        }
    if facts.cpu:
        found["cpus"] = str(facts.cpu.threads)
    if facts.memory:
        found["memory_mib"] = str(facts.memory.total // MIB)
    if facts.disks is not None:
        found["disks"] = _grouped(f"{round(disk.size / 1e9)}G" for disk in facts.disks)
    if facts.nics is not None:
        found["nics"] = _grouped(_speed(nic.speed_mbit) for nic in facts.nics if nic.is_physical)
    if facts.gpus is not None:
        found["gpus"] = _grouped(
            gpu.name or f"{gpu.vendor_id}:{gpu.device_id}" for gpu in facts.gpus
        )
    if facts.os:
        found["os"] = facts.os.name or " ".join(filter(None, [facts.os.id, facts.os.version]))
        found["kernel"] = facts.os.kernel
    return {name: value[:300] for name, value in found.items() if value}


def from_node(node: Node) -> Values:
    """The same for what Kubernetes reports."""
    found = {
        "hostname": node.name,
        "cpus": str(node.cpu_capacity // 1000) if node.cpu_capacity else "",
        "memory_mib": str(node.memory_capacity // MIB) if node.memory_capacity else "",
        "os": node.os_image,
        "kernel": node.kernel_version,
        "system_uuid": node.system_uuid,
    }
    return {name: value for name, value in found.items() if value}


def _speed(mbit: int | None) -> str:
    if not mbit:
        return "?"
    return f"{mbit / 1000:g}G"


def _grouped(parts: Iterable[str]) -> str:
    counted = Counter(parts)
    return ", ".join(f"{count}×{part}" for part, count in sorted(counted.items()))


def agree(field: str, intended: str, observed: str) -> bool:
    """Whether both texts mean the same for ``field``."""
    if intended.strip().casefold() == observed.strip().casefold():
        return True
    compare = _COMPARE.get(field)
    return compare is not None and compare(intended, observed)


def _numbers_are_close(intended: str, observed: str) -> bool:
    try:
        wanted, found = float(intended), float(observed)
    except ValueError:
        return False
    return abs(wanted - found) <= TOLERANCE * max(wanted, found)


def _same_host(intended: str, observed: str) -> bool:
    """A short name agrees with the full one."""
    one, other = intended.casefold().rstrip("."), observed.casefold().rstrip(".")
    return one == other or one.split(".")[0] == other or one == other.split(".")[0]


def _same_system(intended: str, observed: str) -> bool:
    """ "Debian 12" agrees with "Debian GNU/Linux 12 (bookworm)": every word occurs in it."""
    said = set(re.findall(r"[\w.]+", observed.casefold()))
    words = re.findall(r"[\w.]+", intended.casefold())
    return bool(words) and all(word in said for word in words)


def _same_groups(intended: str, observed: str) -> bool:
    """ "2×960G" agrees with two disks of 954 G; the order of the groups means nothing."""
    wanted, found = _amounts(intended), _amounts(observed)
    if wanted is None or found is None or len(wanted) != len(found):
        return False
    return all(
        abs(one - other) <= TOLERANCE * max(one, other)
        for one, other in zip(sorted(wanted), sorted(found), strict=True)
    )


def _amounts(text: str) -> list[float] | None:
    """ "2×960G, 1×1.92T" as [960, 960, 1920]; None when it is written in another way."""
    amounts: list[float] = []
    for part in text.split(","):
        group = _GROUP.fullmatch(part)
        amount = _AMOUNT.fullmatch(group.group(2)) if group else None
        if group is None or amount is None:
            return None
        size = float(amount.group(1)) * _SCALE[amount.group(2).upper()]
        amounts += [size] * min(int(group.group(1) or 1), 1000)
    return amounts


_COMPARE: Final[dict[str, Callable[[str, str], bool]]] = {
    "hostname": _same_host,
    "memory_mib": _numbers_are_close,
    "disks": _same_groups,
    "nics": _same_groups,
    "os": _same_system,
}
