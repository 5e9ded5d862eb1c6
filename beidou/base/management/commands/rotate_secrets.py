"""``manage.py rotate_secrets``: encrypt every stored secret with the first key."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from beidou.base import audit, context, rotation


class Command(BaseCommand):
    help = (
        "Encrypt every stored secret with the first key of BEIDOU_ENCRYPTION_KEYS; "
        "afterwards the other keys can be taken out. May be interrupted and repeated."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        unreadable = rotated = 0
        with context.acting(actor_name="manage.py rotate_secrets"):
            for result in rotation.rotate():
                rotated += result.rotated
                unreadable += len(result.unreadable)
                self.stdout.write(
                    f"{result.table}.{result.column}: {result.rotated} encrypted anew, "
                    f"{result.already} were already"
                )
                if result.unreadable:
                    keys = ", ".join(map(str, result.unreadable[:20]))
                    self.stderr.write(f"{result.table}.{result.column}: no key opens rows {keys}")
            audit.record("rotate secrets", after={"rotated": rotated, "unreadable": unreadable})
        if unreadable:
            raise CommandError(
                f"{unreadable} secrets cannot be read; add the keys they were written with to "
                "BEIDOU_ENCRYPTION_KEYS, or enter the secrets anew."
            )
        self.stdout.write("All secrets open with the first key; the others can be taken out.")
