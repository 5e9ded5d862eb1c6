"""Where a webhook may lead.

Whoever may write an address in a form must not reach with it what only the portal reaches: the
services of its own machine, and the metadata addresses of clouds.  The name is resolved once, every
address of it is checked, and the connection goes to a checked address: a name server that answers
otherwise the second time changes nothing.
"""

import fnmatch
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from beidou.base.errors import InvalidInput, PermanentError, TemporaryError
from beidou.base.sentences import Sentence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Limits:
    """``hosts``: the only ones, empty for all; ``*.example.com`` is every host below."""

    allow_http: bool = False
    allow_local: bool = False
    hosts: tuple[str, ...] = ()


def check(url: str, limits: Limits) -> SplitResult:
    """The parts of ``url``; ``InvalidInput`` with a sentence when no webhook may lead there.

    Asks no name server: for that see ``resolve``.
    """
    try:
        parts = urlsplit(url)
        port_is_right = parts.port != 0
    except ValueError:  # brackets that do not close, a port that is no number
        raise _wrong(Sentence("This is no address; write https://host/path.")) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_right:
        raise _wrong(Sentence("This is no address; write https://host/path."))
    if any(sign <= " " or sign == "\x7f" for sign in url):
        raise _wrong(Sentence("An address has no spaces."))
    if parts.username or parts.password or parts.fragment:
        raise _wrong(Sentence("Leave user, password and fragment out of the address."))
    if parts.scheme == "http" and not limits.allow_http:
        raise _wrong(Sentence("The address must begin with https://."))
    if limits.hosts and not _is_listed(parts.hostname, limits.hosts):
        raise _wrong(
            Sentence(
                "Webhooks to %(host)s are not allowed here; ask whoever runs the portal for "
                "BEIDOU_WEBHOOK_HOSTS.",
                host=parts.hostname,
            )
        )
    literal = _literal(parts.hostname)
    if literal is not None and not limits.allow_local and is_local(literal):
        raise _wrong(_refusal(parts.hostname))
    return parts


def is_other_host(old: str, new: str) -> bool:
    """Whether a secret that was given for ``old`` would go to another host, or to another service
    of it, with ``new``; what is no address at all is another."""
    try:
        return urlsplit(old).netloc.lower() != urlsplit(new).netloc.lower()
    except ValueError:
        return True


def resolve(host: str, port: int, limits: Limits) -> str:
    """An address of ``host`` to connect to; refused when any of its addresses is local."""
    try:
        found: Sequence[tuple[object, ...]] = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )
    except (OSError, UnicodeError) as error:
        raise TemporaryError(
            Sentence("The name %(host)s is not known here.", host=host), code="webhook_unknown_host"
        ) from error
    addresses = [str(entry[4][0]) for entry in found]  # type: ignore[index]
    for text in addresses:
        address = _literal(text)
        if not limits.allow_local and (address is None or is_local(address)):
            raise PermanentError(_refusal(host), code="webhook_local_address")
    return addresses[0]


def is_local(address: Address) -> bool:
    """Loopback, link-local (with the metadata of clouds) and what is no host at all.

    Private networks are not: the systems of a site are there.
    """
    inner = _inner(address)
    return any(
        each.is_loopback
        or each.is_link_local
        or each.is_multicast
        or each.is_unspecified
        or (each.version == 4 and each in _THIS_NETWORK)
        or str(each) in _METADATA
        for each in (address, *inner)
    )


_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
_METADATA = frozenset({"100.100.100.200", "fd00:ec2::254", "168.63.129.16"})
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def _inner(address: Address) -> list[Address]:
    """The IPv4 addresses to which an IPv6 one may lead."""
    if address.version == 4:
        return []
    inner: list[Address] = [each for each in (address.ipv4_mapped, address.sixtofour) if each]
    if address in _NAT64 or int(address) >> 32 == 0:
        inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return inner


def _literal(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


def _is_listed(host: str, listed: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(host.lower().rstrip("."), each.lower()) for each in listed)


def _refusal(host: str) -> Sentence:
    return Sentence(
        "%(host)s leads to the portal's own machine or network link; webhooks may not go there.",
        host=host,
    )


def _wrong(sentence: Sentence) -> InvalidInput:
    return InvalidInput(sentence, code="bad_webhook", fields={"webhook_url": sentence})
