"""SSH keys as the portal stores and shows them: one line of text and a SHA256 fingerprint.

A private key is tried when it is saved, so that a wrong passphrase is a message at the field and
not a failed operation at night.  No message here contains any part of a key or a passphrase.
"""

from dataclasses import dataclass

import asyncssh

from beidou.base.errors import InvalidInput
from beidou.base.sentences import Sentence

MAX_KEY_LENGTH = 64 * 1024
_WRONG_PASSPHRASE = ("Incorrect passphrase", "Unable to decrypt")


class BadKey(InvalidInput):
    """A key or its passphrase cannot be used; ``fields`` names which of the two."""

    code = "bad_key"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message, fields={field: message})


@dataclass(frozen=True, kw_only=True)
class HostKey:
    """The public key of a host: ``key`` is the pinned text ("ssh-ed25519 AAAA…", no comment)."""

    type: str
    key: str
    fingerprint: str


def validate_private_key(text: str, passphrase: str | None = None) -> str:
    """Return the fingerprint of a private key, or raise ``BadKey`` naming the field at fault."""
    return open_private_key(text, passphrase).get_fingerprint()


def decrypt_private_key(text: str, passphrase: str | None = None) -> str:
    """Return the key in OpenSSH format without its passphrase, for programs that cannot ask.

    The caller keeps the result in a 0600 file for the length of one run at most.
    """
    return open_private_key(text, passphrase).export_private_key("openssh").decode()


def fingerprint(key: str) -> str:
    """Return "SHA256:…" of a public key line, as ``ssh-keygen -l`` prints it."""
    return load_public_key(key).get_fingerprint()


def describe(key: asyncssh.SSHKey) -> HostKey:
    """Turn a library key into the value the portal stores."""
    line = " ".join(key.export_public_key("openssh").decode().split()[:2])
    return HostKey(type=key.get_algorithm(), key=line, fingerprint=key.get_fingerprint())


def load_public_key(text: str) -> asyncssh.SSHKey:
    """Read a public key line; ``BadKey`` at ``host_key`` when it is none."""
    try:
        return asyncssh.import_public_key(text)
    except (asyncssh.KeyImportError, ValueError) as error:
        message = Sentence("The host key is not a public key line such as 'ssh-ed25519 AAAA…'.")
        raise BadKey("host_key", message) from error


def open_private_key(text: str, passphrase: str | None) -> asyncssh.SSHKey:
    """Read a private key; ``BadKey`` at ``private_key`` or ``passphrase`` when that fails."""
    _refuse_what_is_no_private_key(text)
    # Keys pasted into a page arrive with CRLF and often without the last newline.
    clean = text.strip().replace("\r\n", "\n") + "\n"
    try:
        return asyncssh.import_private_key(clean, passphrase or None)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError) as error:
        raise _unreadable(str(error), has_passphrase=bool(passphrase)) from error


def _refuse_what_is_no_private_key(text: str) -> None:
    """Name the usual mistakes, which the library calls just "invalid"."""
    start = text.lstrip()
    if len(text) > MAX_KEY_LENGTH:
        raise BadKey("private_key", Sentence("The private key is longer than 64 KiB."))
    if start.startswith(("ssh-", "ecdsa-", "sk-", "---- BEGIN SSH2 PUBLIC")):
        raise BadKey(
            "private_key", Sentence("This is a public key; the private key is needed here.")
        )
    if start.startswith("PuTTY-User-Key-File"):
        message = Sentence(
            "PuTTY keys cannot be read; export the key in OpenSSH format with puttygen."
        )
        raise BadKey("private_key", message)


def _unreadable(reason: str, *, has_passphrase: bool) -> BadKey:
    """Decide from the library's reason whether the key or the passphrase is at fault."""
    if reason.startswith("Passphrase must be specified"):
        return BadKey(
            "passphrase", Sentence("The private key is encrypted and needs its passphrase.")
        )
    if has_passphrase and reason.startswith(_WRONG_PASSPHRASE):
        return BadKey("passphrase", Sentence("The passphrase does not open the private key."))
    return BadKey("private_key", Sentence("The private key cannot be read: %(why)s.", why=reason))
