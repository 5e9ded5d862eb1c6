"""``manage.py serve``: the whole portal on one machine: web, worker and collector."""

import socket
import sys
import time
import urllib.error
import urllib.request
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from beidou.base import preparation
from beidou.base.supervisor import Program, Supervisor


def programs() -> list[Program]:
    """Web and collector end at once; a worker may finish the step it is in."""
    manage = (sys.executable, str(settings.BASE_DIR / "manage.py"))
    return [
        Program("web", (*manage, "web"), stop_seconds=10),
        Program("worker", (*manage, "work"), stop_seconds=30),
        Program("collector", (*manage, "collect"), stop_seconds=10),
    ]


SETTLING_SECONDS = 1.0


class Announcement:
    """Says where the portal is and what the first password is, once, when all of it has started.

    The programs write lines of their own while they start; what a newcomer needs comes a moment
    after web answers, in one block, so that it is the last thing on the screen.
    """

    def __init__(self, *, command: BaseCommand, password: str | None) -> None:
        self._command = command
        self._password = password
        self._started_at = self._asked_at = time.monotonic()
        self._answered_at: float | None = None
        self._is_made = False
        host = "127.0.0.1" if settings.HOST in ("0.0.0.0", "::") else settings.HOST  # noqa: S104
        shown = f"[{host}]" if ":" in host else host
        self.address = f"http://{shown}:{settings.PORT}/"

    def tick(self) -> None:
        now = time.monotonic()
        if self._is_made:
            return
        if self._answered_at is not None:
            if now - self._answered_at >= SETTLING_SECONDS:
                self._is_made = True
                self._say(self._answered_at - self._started_at)
        elif now - self._asked_at >= 0.5:
            self._asked_at = now
            if self._answers():
                self._answered_at = time.monotonic()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}healthz", timeout=2):  # noqa: S310
                return True
        except urllib.error.HTTPError:
            return True  # a redirect to https or a refused host name is an answer too
        except OSError:
            return False

    def _say(self, seconds: float) -> None:
        lines = [f"Beidou is at {self.address} (started in {seconds:.1f} s)."]
        if self._password:
            lines += [
                "",
                "    name      admin",
                f"    password  {self._password}",
                "",
                "The password is shown this once; `manage.py changepassword admin` sets another.",
            ]
        lines.append("Ctrl-C stops it.")
        frame = "=" * max(map(len, lines))
        self._command.stdout.write("\n".join(["", frame, *lines, frame, ""]))
        self._command.stdout.flush()


class Command(BaseCommand):
    help = "Prepare what has to be prepared, then run web, worker and collector until Ctrl-C."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--without-collector", action="store_true")

    def handle(self, *args: Any, without_collector: bool, **options: Any) -> None:
        self._refuse_taken_port()
        if preparation.migrate():
            self.stdout.write("The database is ready.")
        if preparation.collect_static():
            self.stdout.write("The static files are ready.")
        announcement = Announcement(command=self, password=preparation.ensure_admin())
        chosen = [one for one in programs() if not (without_collector and one.name == "collector")]
        Supervisor(chosen).run(tick=announcement.tick)
        self.stdout.write("Beidou has stopped.")

    def _refuse_taken_port(self) -> None:
        family = socket.AF_INET6 if ":" in settings.HOST else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((settings.HOST, settings.PORT))
            except OSError as error:
                raise CommandError(
                    f"Cannot listen on {settings.HOST}:{settings.PORT}: {error.strerror}. "
                    "Set BEIDOU_PORT to a free port, or stop what uses it."
                ) from error
