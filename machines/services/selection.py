"""Which machines a pasted text means: "10.8.3.11-30, bj-r12-07, 10.8.3.0/28"."""

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db.models import Q
from django.utils.translation import gettext as _

from beidou.base import permissions
from clusters.models import Node
from machines.models import Machine

ADDRESSES_MAX: Final = 2048  # in all ranges of one text together
NAMES_MAX: Final = 2048
_SEPARATORS = re.compile(r"[,;\s]+")
_RANGE = re.compile(r"(\d+\.\d+\.\d+\.\d+)-(\d+(?:\.\d+){0,3})")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Found = tuple[dict[str, list[Machine]], dict[str, list[Machine]]]  # by address, by name


@dataclass(frozen=True)
class Unknown:
    """A part of the text that names no machine, and why."""

    text: str
    reason: str


@dataclass(frozen=True)
class Selection:
    machines: list[Machine]
    unknown: list[Unknown]


@dataclass(frozen=True)
class _Part:
    """One word of the text: the addresses it stands for, or none when it is a name.

    ``is_whole``: every address of it must be a machine (a network names what there is).
    """

    text: str
    addresses: tuple[str, ...]
    is_whole: bool = True


def parse_machines(text: str, *, user: Any, action: str = permissions.VIEW) -> Selection:
    """Find the machines that ``text`` names among those on which ``user`` may do ``action``.

    Addresses, ranges of them (the end may be its last parts alone), networks, hostnames, serial
    numbers, asset tags and node names, whatever their case, separated by commas or white space; one
    query.  What one may not see is as unknown as what does not exist.
    """
    return parse_each([text], user=user, action=action)[0]


def parse_each(
    texts: Sequence[str], *, user: Any, action: str = permissions.VIEW
) -> list[Selection]:
    """``parse_machines`` for each of many texts, which share the queries."""
    parsed = [_parts(text) for text in texts]
    found: Found = ({}, {})
    for addresses, names in _batches(part for parts, _unknown in parsed for part in parts):
        by_address, by_name = _find(addresses, names, user=user, action=action)
        found[0].update(by_address)
        for name, machines in by_name.items():
            known = found[1].setdefault(name, [])
            known += [machine for machine in machines if machine not in known]
    return [_chosen(parts, unknown, found) for parts, unknown in parsed]


def _batches(parts: Iterable[_Part]) -> Iterator[tuple[set[str], set[str]]]:
    """Addresses and names in sets that one query can ask for."""
    addresses: set[str] = set()
    names: set[str] = set()
    for part in parts:
        addresses.update(part.addresses)
        if not part.addresses:
            names.add(part.text)
        if len(addresses) + len(names) >= ADDRESSES_MAX:
            yield addresses, names
            addresses, names = set(), set()
    if addresses or names:
        yield addresses, names


def _chosen(parts: Iterable[_Part], unknown: list[Unknown], found: Found) -> Selection:
    chosen: dict[int, Machine] = {}
    for part in parts:
        machines, missing = _match(part, found)
        chosen |= {machine.pk: machine for machine in machines}
        unknown += missing
    return Selection(machines=list(chosen.values()), unknown=unknown)


def _parts(text: str) -> tuple[list[_Part], list[Unknown]]:
    parts: list[_Part] = []
    unknown: list[Unknown] = []
    left = ADDRESSES_MAX
    for word in dict.fromkeys(filter(None, _SEPARATORS.split(text))):
        if len(parts) >= NAMES_MAX:
            unknown.append(
                Unknown(word, _("More than %(max)d names at once.") % {"max": NAMES_MAX})
            )
            break
        try:
            part = _part(word, left)
        except ValueError as error:
            unknown.append(Unknown(word, str(error)))
            continue
        left -= len(part.addresses)
        parts.append(part)
    return parts, unknown


def _part(word: str, left: int) -> _Part:
    """Raises ``ValueError`` with the sentence for the person."""
    if "/" in word and word[0].isalnum():
        return _network(word, left)
    found = _RANGE.fullmatch(word)
    if found:
        return _range(word, found.group(1), found.group(2), left)
    try:
        return _Part(word, (str(ipaddress.ip_address(word)),))
    except ValueError:
        return _Part(word, ())


def _network(word: str, left: int) -> _Part:
    try:
        network = ipaddress.ip_network(word, strict=False)
    except ValueError:
        raise ValueError(_("This is neither a network nor a name.")) from None
    _bound(network.num_addresses, left)
    return _Part(word, tuple(str(address) for address in network), is_whole=False)


def _range(word: str, first: str, end: str, left: int) -> _Part:
    """ "10.8.3.11-30" ends at 10.8.3.30, "10.8.3.11-4.30" at 10.8.4.30."""
    start_parts, end_parts = first.split("."), end.split(".")
    last = ".".join([*start_parts[: 4 - len(end_parts)], *end_parts])
    try:
        low, high = ipaddress.IPv4Address(first), ipaddress.IPv4Address(last)
    except ValueError:
        raise ValueError(_("This range has a part that is no address.")) from None
    if high < low:
        raise ValueError(
            _("This range ends (%(last)s) before it begins (%(first)s).")
            % {"last": last, "first": first}
        )
    _bound(int(high) - int(low) + 1, left)
    return _Part(word, tuple(str(ipaddress.IPv4Address(n)) for n in range(int(low), int(high) + 1)))


def _bound(count: int, left: int) -> None:
    if count > left:
        raise ValueError(
            _("This means %(count)d addresses; at most %(max)d are looked up at once.")
            % {"count": count, "max": ADDRESSES_MAX}
        )


def _find(addresses: Iterable[str], names: Iterable[str], *, user: Any, action: str) -> Found:
    condition = Q(address__in=list(addresses)) | _called(list(names))
    visible = permissions.visible_to(user, Machine.objects.all(), action)
    rows = visible.filter(condition).select_related("cluster", "node", "credential", "owner_team")
    by_address: dict[str, list[Machine]] = {}
    by_name: dict[str, list[Machine]] = {}
    for machine in rows:
        by_address.setdefault(str(machine.address), []).append(machine)
        node = machine.node.name if machine.node else ""
        for name in {machine.hostname, machine.serial, machine.asset_tag, node}:
            if name:
                by_name.setdefault(name.casefold(), []).append(machine)
    return by_address, by_name


def _called(names: list[str]) -> Q:
    """A union of one query per index, as in a search."""
    if not names:
        return Q(pk__in=[])
    nodes = Node.objects.order_by().filter(name__folded__in=names, machine__isnull=False)
    machines = Machine.objects.order_by()
    own = [
        machines.filter(**{f"{field}__folded__in": names}).values("pk")
        for field in ("hostname", "serial", "asset_tag")
    ]
    return Q(pk__in=nodes.values("machine").union(*own, all=True))


def _match(part: _Part, found: Found) -> tuple[list[Machine], list[Unknown]]:
    by_address, by_name = found
    if not part.addresses:
        machines = by_name.get(part.text.casefold(), [])
        if len(machines) > 1:
            where = ", ".join(sorted(str(machine.address) for machine in machines))
            reason = _("Several machines have this name: %(addresses)s.") % {"addresses": where}
            return [], [Unknown(part.text, reason)]
        reason = _("No machine you may use has this name, serial number or asset tag.")
        return machines, [] if machines else [Unknown(part.text, reason)]
    machines = [each for address in part.addresses for each in by_address.get(address, [])]
    if not part.is_whole:
        reason = _("No machine you may use has an address in this network.")
        return machines, [] if machines else [Unknown(part.text, reason)]
    reason = _("No machine you may use has this address.")
    missing = [Unknown(each, reason) for each in part.addresses if each not in by_address]
    return machines, missing
