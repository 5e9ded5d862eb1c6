"""``manage.py createsuperuser``: Django's own, with an audit entry for whom it makes."""

from typing import Any

from django.contrib.auth.management.commands import createsuperuser
from django.db.models.signals import post_save

from beidou.base import audit, context
from beidou.base.models import User


class Command(createsuperuser.Command):
    def handle(self, *args: Any, **options: Any) -> str | None:
        post_save.connect(_record, sender=User)
        try:
            with context.acting(actor_name="manage.py createsuperuser"):
                return super().handle(*args, **options)
        finally:
            post_save.disconnect(_record, sender=User)


def _record(*, instance: User, created: bool, **kwargs: Any) -> None:
    """In the transaction in which a user is saved."""
    if created:
        audit.record("add", instance, after=audit.snapshot(instance))
