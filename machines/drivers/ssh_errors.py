"""What can go wrong between the portal and a host, as far as callers act on the difference."""

from beidou.base.errors import PermanentError, TemporaryError
from beidou.base.sentences import Sentence
from machines.drivers.ssh_keys import HostKey


class Unreachable(TemporaryError):
    """Nobody answered, or the connection could not be set up; says where and how long tried."""

    code = "unreachable"


class HostKeyUnknown(PermanentError):
    """No key is pinned for the host, so nothing was sent to it."""

    code = "host_key_unknown"


class HostKeyChanged(PermanentError):
    """The host shows another key than the pinned one; nothing was sent to it.

    ``presented`` is what a person may accept as the new key.
    """

    code = "host_key_changed"

    def __init__(self, place: str, *, pinned: HostKey, presented: HostKey) -> None:
        super().__init__(
            Sentence(
                "The host key of %(place)s has changed: pinned is %(pinned)s, presented was "
                "%(presented)s. Nothing is done on this machine until a person accepts the new "
                "key.",
                place=place,
                pinned=f"{pinned.fingerprint} ({pinned.type})",
                presented=f"{presented.fingerprint} ({presented.type})",
            )
        )
        self.pinned = pinned
        self.presented = presented


class AuthenticationFailed(PermanentError):
    """The host refused the user with what the credential holds."""

    code = "authentication_failed"


class NoPrivilege(PermanentError):
    """Signed in, but not as root and not able to become root."""

    code = "no_privilege"


class TimedOut(TemporaryError):
    """The host was reached, but signing in or the script took longer than allowed."""

    code = "timed_out"


class ConnectionBroken(TemporaryError):
    """The connection ended while a script ran; whether it finished is not known."""

    code = "connection_broken"


class OutputTooLarge(PermanentError):
    """The script printed more than the portal is willing to hold in memory."""

    code = "output_too_large"
