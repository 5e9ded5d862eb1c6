"""Certificates of a local control plane, made with the openssl program (no package needed)."""

from dataclasses import dataclass
from pathlib import Path

from lab.process import run

DAYS = "365"
CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key as PEM files."""

    certificate: Path
    key: Path


def make_authority(folder: Path, name: str) -> KeyPair:
    """A self-signed authority."""
    pair = KeyPair(folder / f"{name}.crt", folder / f"{name}.key")
    run(
        "openssl", "req", "-x509", *CURVE, "-days", DAYS, "-subj", f"/CN={name}",
        "-addext", "basicConstraints=critical,CA:TRUE",
        "-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature",
        "-keyout", pair.key, "-out", pair.certificate,
    )  # fmt: skip
    return pair


def issue(
    folder: Path, name: str, authority: KeyPair, *, subject: str, addresses: tuple[str, ...] = ()
) -> KeyPair:
    """A certificate for a client, or with addresses ("IP:…", "DNS:…") for a server."""
    pair = KeyPair(folder / f"{name}.crt", folder / f"{name}.key")
    request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
    lines = ["keyUsage=critical,digitalSignature"]
    lines.append(f"extendedKeyUsage={'serverAuth' if addresses else 'clientAuth'}")
    if addresses:
        lines.append(f"subjectAltName={','.join(addresses)}")
    extensions.write_text("\n".join(lines))
    run("openssl", "req", "-new", *CURVE, "-subj", subject, "-keyout", pair.key, "-out", request)
    run(
        "openssl", "x509", "-req", "-in", request, "-days", DAYS, "-extfile", extensions,
        "-CA", authority.certificate, "-CAkey", authority.key, "-CAcreateserial",
        "-out", pair.certificate,
    )  # fmt: skip
    return pair
