"""``manage.py document_configuration``: docs/configuration.md from the table of variables."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from beidou.base.config import VARIABLES

INTRODUCTION = """\
# Configuration

Every setting is an environment variable. They are checked when a process starts: a wrong or
unknown one is named with one sentence, all of them together, and nothing starts. All processes
(web, worker, collector, commands) must get the same values.

This page is generated from `beidou/base/config.py` by `manage.py document_configuration`.

| variable | default | meaning |
|---|---|---|
"""
AFTERWORD = """
## Keys

Without `BEIDOU_SECRET_KEY` and `BEIDOU_ENCRYPTION_KEYS` the first start makes keys and keeps them
in the data folder (`secret_key`, `encryption_keys`, readable by the owner alone). Whoever loses the
encryption keys loses the stored credentials: keep a copy apart from the database's backup.

To change the encryption key: `manage.py new_encryption_key`, put the new key *before* the old one,
restart all processes, run `manage.py rotate_secrets`, then take the old key out and restart again.
"""


def document() -> str:
    rows = [
        f"| `{variable.environment}` | {_default(variable.default)} | {variable.meaning} |\n"
        for variable in VARIABLES
    ]
    return INTRODUCTION + "".join(rows) + AFTERWORD


def _default(value: str | None) -> str:
    if value is None:
        return "see right"
    return f"`{value}`" if value else "empty"


class Command(BaseCommand):
    help = "Write docs/configuration.md; --check only says whether it is up to date."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true")

    def handle(self, *args: Any, check: bool, **options: Any) -> None:
        path: Path = settings.BASE_DIR / "docs" / "configuration.md"
        text = document()
        if not check:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            raise CommandError(
                "docs/configuration.md is not up to date; run `manage.py document_configuration`."
            )
