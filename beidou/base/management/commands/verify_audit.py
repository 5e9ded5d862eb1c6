"""``manage.py verify_audit``: prove that no audit entry was changed, removed or inserted."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from beidou.base import audit
from beidou.base.models import AuditEntry


class Command(BaseCommand):
    help = "Walk the hash chain of the audit trail; exit code 1 and a sentence for every flaw."

    def handle(self, *args: Any, **options: Any) -> None:
        flaws = 0
        for sentence in audit.verify():
            flaws += 1
            self.stdout.write(sentence)
        if flaws:
            raise CommandError(f"The audit trail has {flaws} flaws.", returncode=1)
        self.stdout.write(f"The audit trail is whole: {AuditEntry.objects.count()} entries.")
