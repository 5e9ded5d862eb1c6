"""The forked process of the messenger: until SIGTERM."""

import signal
import threading
from types import FrameType

from django.db import connections

from notifications.services.messenger import Messenger


def main() -> None:
    stop = threading.Event()

    def on_term(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, on_term)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which ends us
    Messenger().run(stop)
    connections.close_all()
