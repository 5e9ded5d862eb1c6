"""Facts of an X.509 certificate, read without a library: whose it is, its key's pin, its end.

kubeadm pins a cluster's authority by the SHA-256 of its SubjectPublicKeyInfo; comparing that with
the authority in a host's kubelet.conf tells to which cluster the host belongs, whatever address
the API server has.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from datetime import datetime, timezone

PEM = re.compile(
    r"-----BEGIN CERTIFICATE-----\s+([A-Za-z0-9+/=\s]+?)-----END CERTIFICATE-----", re.DOTALL
)
COMMON_NAME = bytes.fromhex("0603550403")  # the object identifier 2.5.4.3
VALIDITY, SUBJECT, PUBLIC_KEY = 3, 4, 5
"""Places after the version: serial, signature, issuer, validity, subject, key."""
VERSION_TAG = 0xA0
UTC_TIME = 0x17


def certificates_in(pem: str) -> list[bytes]:
    return [base64.b64decode(body) for body in PEM.findall(pem)]


def public_key_pin(certificate: bytes) -> str:
    """``sha256:…`` as in kubeadm's caCertHashes; ValueError if it is no certificate."""
    return "sha256:" + hashlib.sha256(_field(certificate, PUBLIC_KEY)).hexdigest()


def common_name(certificate: bytes) -> str:
    """The subject's common name; empty if it has none."""
    subject = _field(certificate, SUBJECT)
    at = subject.find(COMMON_NAME)
    if at < 0:
        return ""
    _, start, end = _element(subject, at + len(COMMON_NAME))
    return subject[start:end].decode(errors="replace")


def not_after(certificate: bytes) -> datetime:
    """When it ends; ValueError if it is no certificate."""
    validity = _field(certificate, VALIDITY)
    _, start, end = _element(validity, 0)
    times = list(_elements(validity[start:end]))
    if len(times) != 2:
        raise ValueError("this is not an X.509 certificate")
    tag, start, end = _element(times[1], 0)
    # RFC 5280: a year of two digits lies between 1950 and 2049.
    text = times[1][start:end].decode("ascii", "replace")
    if tag == UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc)  # noqa: UP017


def _field(certificate: bytes, number: int) -> bytes:
    try:
        _, start, _ = _element(certificate, 0)
        tag, body, end = _element(certificate, start)
        fields = list(_elements(certificate[body:end]))
    except IndexError as error:
        raise ValueError("this is not an X.509 certificate") from error
    with_version = bool(fields) and fields[0][0] == VERSION_TAG
    place = number + (1 if with_version else 0)
    if tag != 0x30 or place >= len(fields):
        raise ValueError("this is not an X.509 certificate")
    return fields[place]


def _elements(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        _, _, end = _element(data, at)
        yield data[at:end]
        at = end


def _element(data: bytes, at: int) -> tuple[int, int, int]:
    """Tag, start and end of the contents of the DER element at ``at``."""
    tag, length, start = data[at], data[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length = int.from_bytes(data[start : start + size], "big")
        start += size
    return tag, start, start + length
