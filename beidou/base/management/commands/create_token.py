"""``manage.py create_token USER``: an API token, its key printed once."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from beidou.base import context, tokens
from beidou.base.errors import InvalidInput
from beidou.base.models import User


class Command(BaseCommand):
    help = "Make an API token for a user and print its key, which is not shown again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user")
        parser.add_argument("--name", default="command line", help="what will use it")
        parser.add_argument("--days", type=int, help="how long it lasts; default: until revoked")

    def handle(
        self, *args: Any, user: str, name: str, days: int | None = None, **options: Any
    ) -> None:
        found = User.objects.filter(username=user).first()
        if found is None:
            raise CommandError(f"There is no user {user}.")
        if not found.is_active:
            raise CommandError(f"User {user} is not active.")
        with context.acting(actor_name="manage.py create_token"):
            try:
                _token, key = tokens.issue(user=found, name=name, days=days)
            except InvalidInput as error:
                raise CommandError(error.message) from error
        self.stdout.write(key)
