"""To which cluster a host belongs, by the credentials of its kubelet."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import re
from collections.abc import Callable

from ansible.module_utils.beidou.certificates import (
    certificates_in,
    common_name,
    public_key_pin,
)
from ansible.module_utils.beidou.host_files import HostFiles
from ansible.module_utils.beidou.sentences import Sentence

KUBELET_CONF = "/etc/kubernetes/kubelet.conf"
TRACES_OF_A_JOIN = ("/etc/kubernetes/bootstrap-kubelet.conf", "/etc/kubernetes/pki/ca.crt")
NONE, PARTIAL, JOINED, OTHER = "none", "partial", "joined", "other"


@dataclasses.dataclass(frozen=True)
class Membership:
    state: str
    """``none``, ``partial`` (a join was interrupted), ``joined`` (as wanted) or ``other``."""
    server: str = ""
    authority: str = ""
    """Pin of the cluster's authority, ``sha256:…``."""
    node_name: str = ""
    reason: str = ""
    """Why the state is ``other``, as a sentence."""


def read_membership(host: HostFiles, ca_cert_hashes: list[str], node_name: str) -> Membership:
    conf = host.text(KUBELET_CONF)
    if not conf:
        partial = any(host.exists(path) for path in TRACES_OF_A_JOIN)
        return Membership(PARTIAL if partial else NONE)
    found = Membership(
        JOINED,
        server=_value(conf, "server"),
        authority=_authority(host, conf),
        node_name=_node_name(host, conf),
    )
    reason = _difference(found, ca_cert_hashes, node_name)
    return dataclasses.replace(found, state=OTHER if reason else JOINED, reason=reason)


def _difference(found: Membership, ca_cert_hashes: list[str], node_name: str) -> str:
    if found.authority not in ca_cert_hashes:
        return Sentence(
            "The machine is already a node of another cluster: API server %(server)s, authority"
            " %(authority)s, node name %(node)s. Remove it there first.",
            server=found.server,
            authority=found.authority or Sentence("unreadable"),
            node=found.node_name or Sentence("unknown"),
        )
    if found.node_name != node_name:
        return Sentence(
            "The machine is already in this cluster under the node name %(found)s, not %(wanted)s.",
            found=found.node_name or Sentence("unknown"),
            wanted=node_name,
        )
    return ""


def _value(conf: str, key: str) -> str:
    """The first ``key: value`` of a kubeconfig; there is no YAML library on the host."""
    found = re.search(rf"^\s*{re.escape(key)}:\s*(\S+)\s*$", conf, re.MULTILINE)
    return found.group(1).strip("\"'") if found else ""


def _pem(host: HostFiles, conf: str, data_key: str, file_key: str) -> str:
    data = _value(conf, data_key)
    if data:
        try:
            return base64.b64decode(data, validate=True).decode(errors="replace")
        except binascii.Error:
            return ""
    return host.text(_value(conf, file_key))


def _authority(host: HostFiles, conf: str) -> str:
    pem = _pem(host, conf, "certificate-authority-data", "certificate-authority")
    return _first(pem, public_key_pin)


def _node_name(host: HostFiles, conf: str) -> str:
    pem = _pem(host, conf, "client-certificate-data", "client-certificate")
    prefix = "system:node:"
    name = _first(pem, common_name)
    return name[len(prefix) :] if name.startswith(prefix) else ""


def _first(pem: str, read: Callable[[bytes], str]) -> str:
    try:
        return next((read(der) for der in certificates_in(pem)), "")
    except (ValueError, binascii.Error):
        return ""
