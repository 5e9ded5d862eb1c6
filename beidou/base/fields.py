"""Fields that hold secrets: encrypted in the database, plain in memory only.

``EncryptedTextField`` uses MultiFernet (AES-128-CBC and HMAC-SHA256, the Fernet specification) with
the keys of ``BEIDOU_ENCRYPTION_KEYS``: the first encrypts, all decrypt.  ``manage.py
rotate_secrets`` re-encrypts every row with the first key, after which the old ones can be dropped.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.apps import apps
from django.conf import settings
from django.db import models

from beidou.base.errors import PermanentError
from beidou.base.sentences import Sentence

if TYPE_CHECKING:
    _TextField = models.TextField[str, str]
else:
    _TextField = models.TextField


@lru_cache(maxsize=4)
def _cipher(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key.encode()) for key in keys])


def cipher() -> MultiFernet:
    return _cipher(tuple(settings.ENCRYPTION_KEYS))


def encrypt(text: str) -> str:
    return cipher().encrypt(text.encode()).decode() if text else ""


def decrypt(stored: str) -> str:
    """The plain text; ``PermanentError`` when none of the configured keys fits."""
    if not stored:
        return ""
    try:
        return cipher().decrypt(stored.encode()).decode()
    except InvalidToken as error:
        raise PermanentError(
            Sentence(
                "A stored secret cannot be read with the keys in BEIDOU_ENCRYPTION_KEYS; "
                "add the key it was written with."
            ),
            code="wrong_encryption_key",
        ) from error


class EncryptedTextField(_TextField):
    """Text that the database sees encrypted. Not searchable, never shown by admin or API."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("blank", True)
        kwargs.setdefault("default", "")
        super().__init__(*args, **kwargs)

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        return value if value is None else encrypt(str(value))

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> str | None:
        return value if value is None else decrypt(value)


def encrypted_columns() -> Iterator[tuple[type[models.Model], list[str]]]:
    """Every model with encrypted fields and their names."""
    for model in apps.get_models():
        names = [
            f.attname for f in model._meta.concrete_fields if isinstance(f, EncryptedTextField)
        ]
        if names:
            yield model, names
