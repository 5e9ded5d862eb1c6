"""``manage.py changepassword``: Django's own; the audit entry of the new password names it."""

from typing import Any

from django.contrib.auth.management.commands import changepassword

from beidou.base import context


class Command(changepassword.Command):
    def handle(self, *args: Any, **options: Any) -> str | None:
        with context.acting(actor_name="manage.py changepassword"):
            return super().handle(*args, **options)
