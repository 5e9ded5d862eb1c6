"""Reading certificates, keys and tokens that a person pasted: is it one, does it fit, how long yet.

All times are aware and in UTC.  Private parts are looked at, never kept or quoted.
"""

import base64
import binascii
import hashlib
import math
from datetime import UTC, datetime

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

FITTING_MAX = 10_000
_fitting: set[bytes] = set()
PUBLIC_BYTES = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


class _Claims(msgspec.Struct, frozen=True):
    """What is read of a JSON web token."""

    exp: float | None = None
    sub: str = ""


def load_certificates(pem: str) -> list[x509.Certificate]:
    """The certificates of a PEM text in their order; ValueError when there is none."""
    return x509.load_pem_x509_certificates(pem.encode())


def key_is_encrypted(pem: str) -> bool:
    """Whether a PEM private key needs a passphrase."""
    return "ENCRYPTED" in pem


def key_fits_certificate(key_pem: str, certificate: x509.Certificate) -> bool:
    """Whether the private key belongs to the certificate; ValueError when it cannot be read.

    Reading an RSA key proves its primes, which takes longer than all else that a connection needs:
    pairs found to fit are remembered by their digest.
    """
    pair = hashlib.sha256(key_pem.encode() + _public_bytes(certificate.public_key())).digest()
    if pair in _fitting:
        return True
    key = load_pem_private_key(key_pem.encode(), password=None)
    if _public_bytes(key.public_key()) != _public_bytes(certificate.public_key()):
        return False
    if len(_fitting) >= FITTING_MAX:
        _fitting.clear()
    _fitting.add(pair)
    return True


def public_key_hash(certificate: x509.Certificate) -> str:
    """``sha256:<hex>`` of the public key, as ``kubeadm join --discovery-token-ca-cert-hash``."""
    return "sha256:" + hashlib.sha256(_public_bytes(certificate.public_key())).hexdigest()


def _public_bytes(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(*PUBLIC_BYTES)


def common_name(certificate: x509.Certificate) -> str:
    """The CN of the subject, which Kubernetes takes for the user name; empty if there is none."""
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def token_expiry(token: str) -> datetime | None:
    """When a JSON web token ends; None for one without end and for opaque tokens."""
    claims = _token_claims(token)
    if claims is None or claims.exp is None or not math.isfinite(claims.exp):
        return None
    try:
        return datetime.fromtimestamp(claims.exp, UTC)
    except (OverflowError, ValueError, OSError):
        return None  # thousands of years away: no end that matters


def token_subject(token: str) -> str:
    """Whom a JSON web token names; empty for opaque tokens."""
    claims = _token_claims(token)
    return claims.sub if claims else ""


def _token_claims(token: str) -> _Claims | None:
    parts = token.split(".")
    if len(parts) != 3:
        return None
    padded = parts[1] + "=" * (-len(parts[1]) % 4)
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(padded), type=_Claims)
    except (binascii.Error, ValueError):  # msgspec's errors are ValueErrors
        return None
