"""Whether the address, CA and credential of a connection can be used, before anything is sent."""

import re
import ssl
from datetime import datetime
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm

from beidou.base.sentences import Sentence
from clusters.drivers import certificates, tls
from clusters.drivers.connection import Connection
from clusters.drivers.kubeconfig_text import refuse

SERVER_LENGTH = 500  # characters of the server's address; as many as are stored
_HOST_NAME = re.compile(r"[A-Za-z0-9.:_*-]{1,253}")
_HEADER_SAFE = re.compile(r"[\x21-\x7e]+")


def is_host(name: str) -> bool:
    """Whether it can be looked up: also no part of it is empty or longer than 63 characters."""
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return _HOST_NAME.fullmatch(name) is not None


def checked_server(server: str, *, field_name: str) -> str:
    """The address without trailing slash, when it is an https address and nothing more."""
    if not server:
        raise refuse(
            "kubeconfig_no_server", Sentence("The address of the server is missing."), field_name
        )
    if len(server) > SERVER_LENGTH:
        raise refuse(
            "kubeconfig_bad_server",
            Sentence(
                "The address of the server is longer than %(limit)s characters.",
                limit=SERVER_LENGTH,
            ),
            field_name,
        )
    try:
        parts = urlsplit(server)
        port = parts.port
    except ValueError:
        raise refuse(
            "kubeconfig_bad_server",
            Sentence("The address of the server is not a valid URL."),
            field_name,
        ) from None
    if parts.scheme != "https":
        raise refuse(
            "kubeconfig_not_https",
            Sentence(
                "The address of the server does not begin with https://; "
                "Beidou sends credentials over TLS only."
            ),
            field_name,
        )
    extra = parts.username or parts.password or parts.query or parts.fragment
    if extra or port == 0 or not is_host(parts.hostname or ""):
        raise refuse(
            "kubeconfig_bad_server",
            Sentence(
                "The address of the server must have the form https://host:port, "
                "optionally with a path."
            ),
            field_name,
        )
    return server.rstrip("/")


def checked_ca(pem: str, *, field_name: str) -> str:
    try:
        certificates.load_certificates(pem)
    except ValueError:
        raise refuse(
            "kubeconfig_bad_ca",
            Sentence("The CA certificate is not a PEM certificate."),
            field_name,
        ) from None
    return pem


def check_credential(connection: Connection, *, now: datetime, field_name: str) -> None:
    """There is one, it is complete and readable, and it is in its time."""
    certificate, key = connection.client_certificate_pem, connection.client_key_pem
    if connection.token is None and certificate is None and key is None:
        raise refuse(
            "kubeconfig_no_credential",
            Sentence("The kubeconfig contains neither a client certificate nor a token."),
            field_name,
        )
    if (certificate is None) != (key is None):
        sentence = (
            Sentence("The kubeconfig contains a client key without its certificate.")
            if certificate is None
            else Sentence("The kubeconfig contains a client certificate without its key.")
        )
        raise refuse("kubeconfig_incomplete_credential", sentence, field_name)
    if certificate is not None and key is not None:
        _check_client_certificate(certificate, key, now=now)
    if connection.token is not None:
        _check_token(connection.token, now=now, field_name=field_name)
    try:
        tls.make_context(connection)
    except ssl.SSLError as error:
        raise refuse(
            "kubeconfig_unusable",
            Sentence(
                "The certificates or the key cannot be used for TLS (%(reason)s).",
                reason=error.reason,
            ),
            field_name,
        ) from None


def _check_client_certificate(pem: str, key_pem: str, *, now: datetime) -> None:
    try:
        certificate = certificates.load_certificates(pem)[0]
    except ValueError:
        raise refuse(
            "kubeconfig_bad_certificate",
            Sentence("The client certificate is not a PEM certificate."),
        ) from None
    if certificates.key_is_encrypted(key_pem):
        raise refuse(
            "kubeconfig_encrypted_key",
            Sentence(
                "The client key is protected by a passphrase, which kubeconfigs do not provide "
                "for; store it without one."
            ),
        )
    try:
        fits = certificates.key_fits_certificate(key_pem, certificate)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise refuse(
            "kubeconfig_bad_key", Sentence("The client key is not a PEM private key.")
        ) from None
    if not fits:
        raise refuse(
            "kubeconfig_key_mismatch",
            Sentence("The client key does not belong to the client certificate."),
        )
    if certificate.not_valid_after_utc <= now:
        raise refuse(
            "kubeconfig_certificate_expired",
            Sentence(
                "The client certificate expired %(since)s.",
                since=_since(certificate.not_valid_after_utc),
            ),
        )
    if certificate.not_valid_before_utc > now:
        begin = certificate.not_valid_before_utc
        raise refuse(
            "kubeconfig_certificate_not_yet_valid",
            Sentence(
                "The client certificate is valid only from %(begin)s UTC.",
                begin=f"{begin:%Y-%m-%d %H:%M}",
            ),
        )


def _check_token(token: str, *, now: datetime, field_name: str) -> None:
    if not _HEADER_SAFE.fullmatch(token):
        raise refuse(
            "kubeconfig_bad_token",
            Sentence("The token contains blanks, line breaks or characters that no token has."),
            field_name,
        )
    end = certificates.token_expiry(token)
    if end is not None and end <= now:
        raise refuse(
            "kubeconfig_token_expired",
            Sentence("The token expired %(since)s.", since=_since(end)),
            field_name,
        )


def _since(moment: datetime) -> str:
    """Without how long ago that was: the sentence is stored where a credential ran out."""
    return Sentence("on %(day)s at %(time)s UTC", day=f"{moment:%Y-%m-%d}", time=f"{moment:%H:%M}")
