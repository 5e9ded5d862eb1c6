"""``manage.py ensure_admin``: make the first administrator."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from beidou.base.preparation import ensure_admin


class Command(BaseCommand):
    help = "Make an administrator with a generated password, unless there is one already."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--username", default="admin")

    def handle(self, *args: Any, username: str, **options: Any) -> None:
        password = ensure_admin(username=username)
        if password is None:
            self.stdout.write("There is an administrator already; nothing was changed.")
        else:
            self.stdout.write(f"User {username}, password {password}")
