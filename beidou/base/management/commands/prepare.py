"""``manage.py prepare``: schema and static files, before the processes start."""

from typing import Any

from django.core.management.base import BaseCommand

from beidou.base import preparation


class Command(BaseCommand):
    help = "Apply migrations and collect static files, as far as anything changed."

    def handle(self, *args: Any, **options: Any) -> None:
        if preparation.migrate():
            self.stdout.write("The database schema is up to date now.")
        if preparation.collect_static():
            self.stdout.write("The static files are collected.")
