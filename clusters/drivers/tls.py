"""TLS towards an API server: the context both clients use, and the steps of reaching it one by one.

The steps exist so that a person who adopts a cluster is told which one fails: the name, the
connection, or the certificate.  No step sends a credential.
"""

import os
import socket
import ssl
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509

from beidou.base.sentences import Sentence, joined
from clusters.drivers import errors
from clusters.drivers.connection import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """The address that accepted a connection, and after how long."""

    address: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCertificate:
    """What the server showed of itself; ``is_verified`` is False only for insecure connections."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    is_verified: bool


def make_context(connection: Connection) -> ssl.SSLContext:
    """A context that trusts the cluster's CA alone and shows the client certificate, if any."""
    context = _verifying_context(connection)
    if connection.client_certificate_pem and connection.client_key_pem:
        _load_client_certificate(
            context, connection.client_certificate_pem, connection.client_key_pem
        )
    return context


def _verifying_context(connection: Connection) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if connection.insecure_skip_tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=connection.ca_pem)
        # As kubectl does: an intermediate CA may be the anchor, and the CN is no host name.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.hostname_checks_common_name = False
    return context


def _load_client_certificate(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """The ssl module reads keys from files only; this one is in memory and ends with its number."""
    with os.fdopen(os.memfd_create("client-certificate"), "w") as file:
        file.write(f"{certificate.rstrip()}\n{key.rstrip()}\n")
        file.flush()
        # A password, so that OpenSSL never asks for one at the terminal of the process.
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}", password="")


def reach(connection: Connection, *, cluster_name: str, timeout: float) -> Reached:
    """Resolve the name and open a connection; Unreachable says what failed and how long it took."""
    begun = time.monotonic()
    with _connect(connection, cluster_name=cluster_name, timeout=timeout) as plain:
        host, port = plain.getpeername()[:2]
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return Reached(address=shown, seconds=time.monotonic() - begun)


def check_server_certificate(
    connection: Connection, *, cluster_name: str, timeout: float
) -> ServerCertificate:
    """Shake hands as a client that verifies; CertificateProblem says what is wrong and since when.

    For an insecure connection the certificate is read without verification.
    """
    try:
        certificate = _handshake(
            connection,
            _verifying_context(connection),
            cluster_name=cluster_name,
            timeout=timeout,
        )
    except errors.CertificateProblem as problem:
        raise _with_facts(problem, connection, cluster_name=cluster_name, timeout=timeout) from (
            problem.__cause__
        )
    return _describe(certificate, is_verified=not connection.insecure_skip_tls_verify)


def read_server_certificate(
    connection: Connection, *, cluster_name: str, timeout: float
) -> ServerCertificate:
    """Read the certificate whether it is right or not; for its expiry and for explanations."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    certificate = _handshake(connection, context, cluster_name=cluster_name, timeout=timeout)
    return _describe(certificate, is_verified=False)


def _connect(connection: Connection, *, cluster_name: str, timeout: float) -> socket.socket:
    """A TCP connection to the first address that accepts; the timeout is for all of them."""
    begun = time.monotonic()
    failure: OSError = TimeoutError()
    try:
        candidates = socket.getaddrinfo(connection.host, connection.port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, address in candidates:
            left = timeout - (time.monotonic() - begun)
            if left <= 0:
                break
            plain = socket.socket(family, kind, protocol)
            plain.settimeout(left)
            try:
                plain.connect(address)
            except OSError as error:
                plain.close()
                failure = error
            else:
                return plain
        raise failure
    except OSError as error:
        raise errors.from_connection_failure(
            error,
            cluster_name=cluster_name,
            action=Sentence("connect to the API server"),
            address=connection.address,
            seconds=time.monotonic() - begun,
            timeout=timeout,
        ) from error


def _handshake(
    connection: Connection, context: ssl.SSLContext, *, cluster_name: str, timeout: float
) -> x509.Certificate:
    begun = time.monotonic()
    with _connect(connection, cluster_name=cluster_name, timeout=timeout) as plain:
        plain.settimeout(max(0.1, timeout - (time.monotonic() - begun)))
        try:
            with context.wrap_socket(plain, server_hostname=connection.verified_name) as secured:
                shown = secured.getpeercert(binary_form=True)
        except OSError as error:
            raise errors.from_connection_failure(
                error,
                cluster_name=cluster_name,
                action=Sentence("agree on TLS with the API server"),
                address=connection.address,
                seconds=time.monotonic() - begun,
                timeout=timeout,
            ) from error
    return x509.load_der_x509_certificate(shown or b"")


def _with_facts(
    problem: errors.CertificateProblem,
    connection: Connection,
    *,
    cluster_name: str,
    timeout: float,
) -> errors.CertificateProblem:
    """The same problem with what the certificate says: its dates, names or issuer."""
    if problem.code not in ("expired", "not_yet_valid", "wrong_name", "unknown_ca"):
        return problem
    found = read_server_certificate(connection, cluster_name=cluster_name, timeout=timeout)
    facts = {
        "expired": Sentence(
            "It ended on %(day)s at %(time)s UTC.",
            day=f"{found.not_after:%Y-%m-%d}",
            time=f"{found.not_after:%H:%M}",
        ),
        "not_yet_valid": Sentence(
            "It begins on %(day)s at %(time)s UTC.",
            day=f"{found.not_before:%Y-%m-%d}",
            time=f"{found.not_before:%H:%M}",
        ),
        "wrong_name": Sentence(
            "It names %(names)s, not %(wanted)s.",
            names=", ".join(found.names) or Sentence("nobody"),
            wanted=connection.verified_name,
        ),
        "unknown_ca": Sentence("It was issued by “%(issuer)s”.", issuer=found.issuer),
    }
    message = joined([problem.message, facts[problem.code]])
    return errors.CertificateProblem(message, code=problem.code)


def _describe(certificate: x509.Certificate, *, is_verified: bool) -> ServerCertificate:
    return ServerCertificate(
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        names=_names(certificate),
        not_before=certificate.not_valid_before_utc.astimezone(UTC),
        not_after=certificate.not_valid_after_utc.astimezone(UTC),
        is_verified=is_verified,
    )


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    names = alternative.value.get_values_for_type(x509.DNSName)
    addresses = alternative.value.get_values_for_type(x509.IPAddress)
    return (*names, *(str(address) for address in addresses))
