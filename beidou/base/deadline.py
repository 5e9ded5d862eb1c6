"""An end for a whole conversation: a peer that sends a byte now and then keeps every single read
in time, and would hold its thread for ever."""

import socket
import threading
from contextlib import suppress


class Deadline:
    """Cuts the watched socket after ``seconds``, counted from the beginning."""

    def __init__(self, seconds: float) -> None:
        self._over = threading.Event()
        self._sock: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        self._timer.start()

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    def watch(self, sock: socket.socket | None) -> None:
        """From now on this socket; at once when it is too late already."""
        self._sock = sock
        if self.is_over:
            self._cut()

    def end(self) -> None:
        self._timer.cancel()

    def _cut(self) -> None:
        self._over.set()
        if self._sock is not None:
            with suppress(OSError):  # it ended by itself in this moment
                # Not the method of TLS sockets, which takes their state from under the reader.
                socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
