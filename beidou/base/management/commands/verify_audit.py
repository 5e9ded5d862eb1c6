"""``manage.py verify_audit``: prove that no audit entry was changed, removed or inserted."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from beidou.base import audit
from beidou.base.models import AuditEntry


class Command(BaseCommand):
    help = "Walk the hash chain of the audit trail; exit code 1 and a sentence for every flaw."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--expect",
            metavar="ENTRY:DIGEST",
            help="The newest entry as an earlier call named it, kept outside of the database.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        flaws = 0
        for sentence in chain(_unexpected(options["expect"] or ""), audit.verify()):
            flaws += 1
            self.stdout.write(sentence)
        if flaws:
            raise CommandError(f"The audit trail has {flaws} flaws.", returncode=1)
        self.stdout.write(f"The audit trail is whole: {AuditEntry.objects.count()} entries.")
        newest = AuditEntry.objects.order_by("-id").first()
        if newest is not None:
            self.stdout.write(f"Newest: {newest.id}:{newest.digest}")


def _unexpected(expected: str) -> Iterator[str]:
    """Whoever can write to the database can shorten the chain and its end alike; only what was
    noted elsewhere shows it."""
    if not expected:
        return
    number, _colon, digest = expected.partition(":")
    if not number.isdecimal() or not digest:
        raise CommandError("Write --expect as ENTRY:DIGEST, as this command prints it.")
    if not AuditEntry.objects.filter(id=int(number), digest=digest.strip()).exists():
        yield f"Entry {number} is gone or has another digest than the expected one."
