"""A certificate authority for tests: real X.509 certificates, made in milliseconds."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Issued:
    certificate_pem: str
    key_pem: str


class Authority:
    """Issues server and client certificates that end when a test wants them to.

    With a ``parent`` it is an intermediate CA, else a root.
    """

    def __init__(self, name: str = "test-ca", *, parent: "Authority | None" = None) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        issuer = parent or self
        self.certificate = (
            _builder(self._name, issuer._name, self._key.public_key(), _days(-400), _days(3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
            )
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .sign(issuer._key, hashes.SHA256())
        )
        self.ca_pem = self.certificate.public_bytes(Encoding.PEM).decode()

    def issue(
        self,
        common_name: str,
        *,
        organization: str = "",
        names: tuple[str, ...] = (),
        begins: datetime | None = None,
        ends: datetime | None = None,
        passphrase: str = "",
        rsa_bits: int = 0,
    ) -> Issued:
        """A certificate with its key; ``names`` are DNS names and addresses of a server."""
        key: PrivateKey = ec.generate_private_key(ec.SECP256R1())
        if rsa_bits:
            key = rsa.generate_private_key(65537, rsa_bits)
        builder = (
            _builder(
                _name(common_name, organization),
                self._name,
                key.public_key(),
                begins or _days(-1),
                ends or _days(365),
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .add_extension(_key_usage(signs_certificates=False), critical=True)
        )
        if names:
            alternative = x509.SubjectAlternativeName([_general_name(name) for name in names])
            builder = builder.add_extension(alternative, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        encryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
        return Issued(
            certificate_pem=certificate.public_bytes(Encoding.PEM).decode(),
            key_pem=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode(),
        )


def _days(days: float) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)


def _name(common_name: str, organization: str = "") -> x509.Name:
    parts = [x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)]
    if organization:
        parts.append(x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(parts)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    begins: datetime,
    ends: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
