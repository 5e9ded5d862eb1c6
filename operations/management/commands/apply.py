"""``manage.py apply -f FILE --user NAME``: carry out manifests from the command line."""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from beidou.base import context
from beidou.base.errors import BeidouError
from beidou.base.models import User
from operations.services import manifests


class Command(BaseCommand):
    help = "Apply manifests (YAML or JSON) in the name of a user; the same twice changes nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("-f", "--file", required=True, help="The file; - is standard input.")
        parser.add_argument("--user", required=True, help="Who asks for it: a user name.")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["user"], is_active=True).first()
        if user is None:
            raise CommandError(f"There is no active user {options['user']!r}.")
        text = self._read(options["file"])
        with context.acting(actor_id=user.pk, actor_name=user.get_username()):
            try:
                applied = manifests.apply(manifests.parse(text), acting_user=user)
            except BeidouError as error:
                raise CommandError(self._explain(error)) from error
        for each in applied:
            word = "created" if each.is_new else "unchanged"
            self.stdout.write(f"{each.kind.lower()}/{each.row.name} {word}")

    def _read(self, name: str) -> str:
        try:
            return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{name} cannot be read: {error}.") from error

    def _explain(self, error: BeidouError) -> str:
        fields = getattr(error, "fields", {})
        return "\n".join([error.message, *(f"  {name}: {text}" for name, text in fields.items())])
