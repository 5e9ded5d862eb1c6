"""Where nodes look for the API server, and whether that hangs on one machine.

Names are resolved where the portal runs; nodes may see it otherwise, so a name with several
addresses is only warned about.
"""

import socket
from collections.abc import Collection
from urllib.parse import urlsplit

from beidou.base.sentences import Sentence
from operations.kinds.base import Check, check
from operations.kinds.create_cluster.params import split_endpoint

split = split_endpoint


def addresses_of(host: str) -> set[str]:
    """What the name leads to, seen from here; the address itself; nothing when it is not known."""
    try:
        return {
            str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        }
    except OSError:
        return set()


def host_of(server: str) -> str:
    return urlsplit(server).hostname or ""


def leads_to(host: str, own: Collection[str]) -> tuple[bool, bool]:
    """Whether ``host`` leads to one of the addresses ``own``, and whether to these alone."""
    found = addresses_of(host) or {host}
    shared = found & set(own)
    return bool(shared), bool(shared) and found <= set(own)


def leaving_checks(host: str, server: str, node: str, own: Collection[str]) -> list[Check]:
    """Whether the cluster, and the portal, find the API server without the node that leaves."""
    return [
        _leaving(
            "endpoint",
            host,
            node,
            own,
            Sentence(
                "let the endpoint lead to a control plane that stays (move its address, or change "
                "the name or the balancer), then retry"
            ),
        ),
        _leaving(
            "portal-connection",
            host_of(server),
            node,
            own,
            Sentence(
                "replace the cluster's credential by one whose kubeconfig names the endpoint or a "
                "control plane that stays, then retry"
            ),
        ),
    ]


def _leaving(name: str, host: str, node: str, own: Collection[str], advice: Sentence) -> Check:
    leads, alone = leads_to(host, own)
    found: str = Sentence("%(host)s leads to %(node)s", host=host, node=node)
    if not leads:
        found = host or "–"
    elif not alone:
        found = Sentence("%(host)s leads to %(node)s, too", host=host, node=node)
    return check(
        name,
        not leads,
        found,
        Sentence("an address that stays when %(node)s is gone", node=node),
        advice,
        "error" if alone else "warning",
    )
