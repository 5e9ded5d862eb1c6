"""One SSH connection to one host, up to and including the sign-in (the asynchronous part).

Nothing of the user the portal runs as is used: no configuration, agent, default keys or known
hosts.  The only host key trusted is the pinned one, and until it is seen nothing secret is sent.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

import asyncssh

from beidou.base.errors import InvalidInput, PermanentError, shorten
from beidou.base.network import in_words
from beidou.base.sentences import Sentence, joined
from machines.drivers.ssh_errors import (
    AuthenticationFailed,
    HostKeyChanged,
    HostKeyUnknown,
    TimedOut,
    Unreachable,
)
from machines.drivers.ssh_keys import BadKey, HostKey, describe, load_public_key, open_private_key

Connection = asyncssh.SSHClientConnection

HOST_KEY_ALGORITHMS: Final = (  # in the order of preference when none is pinned yet
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
_RSA_SIGNATURES: Final = ("rsa-sha2-512", "rsa-sha2-256")


@dataclass(frozen=True, kw_only=True)
class Target:
    """A host and how to sign in to it; secrets are kept out of its ``repr``.

    ``become`` means: use sudo when ``user`` is not root.  ``host_key`` is the pinned public key
    ("ssh-ed25519 AAAA…"); without one nothing but ``scan_host_key`` talks to the host.
    """

    address: str
    port: int = 22
    user: str = "root"
    private_key: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    become: bool = False
    become_password: str | None = field(default=None, repr=False)
    host_key: str | None = None

    @property
    def place(self) -> str:
        """Address and port as people write them."""
        return place(self.address, self.port)

    @property
    def needs_sudo(self) -> bool:
        """Whether root is to be reached through sudo."""
        return self.become and self.user != "root"


@dataclass(frozen=True, kw_only=True)
class PrivateKeys:
    """Opens each different key once per call: a passphrase costs a tenth of a second or more."""

    opened: dict[tuple[str, str | None], asyncssh.SSHKey | BadKey] = field(
        default_factory=dict, repr=False
    )

    def of(self, target: Target) -> asyncssh.SSHKey | None:
        """Return the target's key; raises ``BadKey``."""
        if not target.private_key:
            return None
        secret = (target.private_key, target.passphrase)
        if secret not in self.opened:
            try:
                self.opened[secret] = open_private_key(*secret)
            except BadKey as error:
                self.opened[secret] = error
        found = self.opened[secret]
        if isinstance(found, BadKey):
            raise found
        return found


class _Contact(asyncssh.SSHClient):
    """Remembers how far a connection came, and trusts exactly one host key."""

    def __init__(self, pinned: HostKey) -> None:
        self.pinned = pinned
        self.is_connected = False
        self.presented: HostKey | None = None

    def connection_made(self, conn: Connection) -> None:
        self.is_connected = True

    def validate_host_public_key(
        self, host: str, addr: str, port: int, key: asyncssh.SSHKey
    ) -> bool:
        self.presented = describe(key)
        return self.is_verified

    @property
    def is_verified(self) -> bool:
        """Whether the pinned key was shown, so that a later failure is about signing in."""
        return self.presented == self.pinned


def place(address: str, port: int) -> str:
    """Address and port as people write them, IPv6 in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


async def scan(
    address: str,
    port: int,
    connect_timeout: float,
    algorithms: tuple[str, ...] = HOST_KEY_ALGORITHMS,
) -> HostKey:
    """Fetch the key a host shows, without signing in."""
    where = place(address, port)
    try:
        async with asyncio.timeout(connect_timeout):
            key = await asyncssh.get_server_host_key(
                address, port, config=None, server_host_key_algs=algorithms
            )
    except TimeoutError as error:
        message = Sentence(
            "%(place)s did not show a host key within %(limit)s seconds.",
            place=where,
            limit=f"{connect_timeout:g}",
        )
        raise Unreachable(message) from error
    except (OSError, asyncssh.Error) as error:
        raise _no_connection(where, error) from error
    except (ValueError, OverflowError) as error:
        raise _impossible(where, error) from error
    if key is None:
        raise PermanentError(
            Sentence("%(place)s did not show a host key.", place=where), code="no_host_key"
        )
    return describe(key)


@contextlib.asynccontextmanager
async def signed_in(
    target: Target, private_key: asyncssh.SSHKey | None, *, connect_timeout: float
) -> AsyncIterator[Connection]:
    """Hold a connection whose host key is the pinned one and whose user was accepted."""
    connection = await _sign_in(target, private_key, connect_timeout)
    try:
        yield connection
    finally:
        connection.close()  # does not wait for the other side, which may hang
        await connection.wait_closed()


async def _sign_in(
    target: Target, private_key: asyncssh.SSHKey | None, connect_timeout: float
) -> Connection:
    methods = _authentication_methods(target, private_key)
    contact = _Contact(pinned_key(target))
    started = time.monotonic()
    try:
        async with asyncio.timeout(connect_timeout):
            return await asyncssh.connect(
                target.address,
                target.port,
                client_factory=lambda: contact,
                username=target.user,
                # An empty list would load the default keys of the portal's user; None does not.
                client_keys=[private_key] if private_key else None,
                password=target.password,
                preferred_auth=methods,
                known_hosts=([], [], []),
                server_host_key_algs=algorithms_for(target),
                config=None,
                agent_path=None,
                x509_trusted_certs=None,
                x509_trusted_cert_paths=[],
                login_timeout=0,
            )
    except TimeoutError as error:
        raise _sign_in_timed_out(target, contact, time.monotonic() - started) from error
    except asyncssh.HostKeyNotVerifiable as error:
        if contact.presented is None:
            raise _no_connection(target.place, error) from error
        raise _changed(target, contact.pinned, contact.presented) from error
    except (OSError, asyncssh.Error) as error:
        if contact.is_verified and not isinstance(error, OSError | asyncssh.ConnectionLost):
            raise _refused(target, methods, error) from error
        raise _no_connection(target.place, error) from error
    except (ValueError, OverflowError) as error:
        raise _impossible(target.place, error) from error


def _authentication_methods(target: Target, private_key: asyncssh.SSHKey | None) -> list[str]:
    methods = ["publickey"] if private_key else []
    if target.password:
        methods += ["password", "keyboard-interactive"]
    if not methods:
        message = Sentence("The credential has neither a private key nor a password.")
        raise InvalidInput(message, code="empty_credential", fields={"private_key": message})
    return methods


def pinned_key(target: Target) -> HostKey:
    """Return the only key the host may show; ``HostKeyUnknown`` when none is pinned."""
    if not target.host_key:
        raise HostKeyUnknown(
            Sentence(
                "No host key is pinned for %(place)s; its fingerprint must be accepted first.",
                place=target.place,
            )
        )
    return describe(load_public_key(target.host_key))


def algorithms_for(target: Target) -> tuple[str, ...]:
    """What to ask a host for: first of all a key of the pinned type, which it may have beside the
    one it prefers.  A host that was installed anew without such a key shows another instead of
    hanging up, which could not be told from a lost connection."""
    if not target.host_key:
        return HOST_KEY_ALGORITHMS
    pinned = pinned_key(target)
    first = _RSA_SIGNATURES if pinned.type == "ssh-rsa" else (pinned.type,)
    return first + tuple(each for each in HOST_KEY_ALGORITHMS if each not in first)


def _changed(target: Target, pinned: HostKey, presented: HostKey) -> HostKeyChanged:
    return HostKeyChanged(target.place, pinned=pinned, presented=presented)


def _sign_in_timed_out(target: Target, contact: _Contact, waited: float) -> TimedOut | Unreachable:
    if contact.is_verified:
        return TimedOut(
            Sentence(
                "%(place)s did not finish the sign-in of %(user)s in %(seconds)s seconds.",
                place=target.place,
                user=target.user,
                seconds=f"{waited:.1f}",
            )
        )
    if contact.is_connected:
        return Unreachable(
            Sentence(
                "%(place)s accepts connections but did not speak SSH for %(seconds)s seconds.",
                place=target.place,
                seconds=f"{waited:.1f}",
            )
        )
    return Unreachable(
        Sentence(
            "%(place)s did not answer for %(seconds)s seconds.",
            place=target.place,
            seconds=f"{waited:.1f}",
        )
    )


def _refused(target: Target, methods: list[str], error: Exception) -> AuthenticationFailed:
    words = {"publickey": Sentence("key"), "password": Sentence("password")}
    return AuthenticationFailed(
        Sentence(
            "%(place)s refused the sign-in of %(user)s (tried: %(means)s): %(why)s.",
            place=target.place,
            user=target.user,
            means=joined([words.get(method, method) for method in methods], ", "),
            why=shorten(str(error), 200),
        )
    )


def _no_connection(where: str, error: Exception) -> Unreachable | PermanentError:
    """Say why there is no connection: the network (repeat) or what answers there (do not)."""
    reason = in_words(error)
    if isinstance(error, OSError | asyncssh.ConnectionLost):
        return Unreachable(
            Sentence("No SSH connection to %(place)s: %(why)s.", place=where, why=reason)
        )
    return PermanentError(
        Sentence(
            "What answers at %(place)s cannot be talked to over SSH: %(why)s.",
            place=where,
            why=reason,
        ),
        code="not_ssh",
    )


def _impossible(where: str, error: Exception) -> InvalidInput:
    """Refuse an address, port or user that no network takes; it must not end a whole run."""
    message = Sentence(
        "%(place)s cannot be asked, its address, port or user is impossible: %(why)s.",
        place=shorten(where),
        why=shorten(str(error)),
    )
    return InvalidInput(message, code="impossible_target", fields={"address": message})
