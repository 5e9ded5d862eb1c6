"""Why a connection failed, in words for people instead of the numbers of an operating system."""

import errno
import re
import socket
from typing import Final

from beidou.base.errors import shorten
from beidou.base.sentences import Sentence

_REFUSED: Final = Sentence("it refused the connection")
_NO_WAY: Final = Sentence("no route leads there")
_SILENT: Final = Sentence("it did not answer in time")
_BROKE_OFF: Final = Sentence("it broke off the connection")
_WORDS: Final = {
    errno.ECONNREFUSED: _REFUSED,
    errno.EHOSTUNREACH: _NO_WAY,
    errno.ENETUNREACH: _NO_WAY,
    errno.EHOSTDOWN: _NO_WAY,
    errno.ETIMEDOUT: _SILENT,
    errno.ECONNRESET: _BROKE_OFF,
    errno.ECONNABORTED: _BROKE_OFF,
    errno.EPIPE: _BROKE_OFF,
}
# asyncio tells of several tries, or of the call that failed, in a text with numbers.
_NUMBER = re.compile(r"\[Errno (-?\d+)\]")


def in_words(error: BaseException) -> str:
    """The usual failures as half a sentence; of any other, what the library says."""
    if isinstance(error, socket.gaierror):
        return Sentence("its name is not known here")
    found = _NUMBER.search(str(error))
    number = getattr(error, "errno", None) or (int(found[1]) if found else None)
    if number in _WORDS:
        return _WORDS[number].now()
    if isinstance(error, TimeoutError):
        return _SILENT.now()
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return _BROKE_OFF.now()
    plain = getattr(error, "strerror", None) if found else None
    return shorten(str(plain or error), 200) or type(error).__name__
