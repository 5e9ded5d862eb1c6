"""``manage.py new_encryption_key``: a key for ``BEIDOU_ENCRYPTION_KEYS``."""

from typing import Any

from cryptography.fernet import Fernet
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Print a new key; put it first in BEIDOU_ENCRYPTION_KEYS, then run rotate_secrets."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(Fernet.generate_key().decode())
