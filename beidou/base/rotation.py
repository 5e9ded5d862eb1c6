"""Encrypting all stored secrets anew with the first of ``BEIDOU_ENCRYPTION_KEYS``.

Works on the raw columns, row by row under the old value's condition: a row that somebody changes
meanwhile was encrypted with the first key anyway and is left alone.  An interrupted run is simply
started again: what is done is recognised by opening with the first key alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings
from django.db import connection, models

from beidou.base.errors import PermanentError
from beidou.base.fields import cipher, encrypted_columns

BATCH = 200


@dataclass(frozen=True)
class Rotated:
    """``unreadable``: keys of the rows that none of the configured keys opens."""

    table: str
    column: str
    rotated: int
    already: int
    unreadable: tuple[int, ...]


def rotate() -> Iterator[Rotated]:
    """One result per encrypted column."""
    if not settings.ENCRYPTION_KEYS:
        raise PermanentError("BEIDOU_ENCRYPTION_KEYS holds no key.")
    first = Fernet(settings.ENCRYPTION_KEYS[0].encode())
    for model, attributes in encrypted_columns():
        for attribute in attributes:
            yield _rotate_column(model, attribute, first)


def _rotate_column(model: type[models.Model], attribute: str, first: Fernet) -> Rotated:
    quote = connection.ops.quote_name
    table = model._meta.db_table
    column = str(model._meta.get_field(attribute).column)  # type: ignore[union-attr]
    key = str(model._meta.pk.column)
    rotated, already, unreadable = 0, 0, []
    last: int = -1
    while True:
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT {quote(key)}, {quote(column)} FROM {quote(table)} "  # noqa: S608
                f"WHERE {quote(key)} > %s ORDER BY {quote(key)} LIMIT {BATCH}",
                [last],
            )
            rows = cursor.fetchall()
            for pk, stored in rows:
                last = pk
                if not stored:
                    continue
                if _opens(first, stored):
                    already += 1
                    continue
                try:
                    fresh = cipher().rotate(stored.encode()).decode()
                except InvalidToken:
                    unreadable.append(pk)
                    continue
                cursor.execute(
                    f"UPDATE {quote(table)} SET {quote(column)} = %s "  # noqa: S608
                    f"WHERE {quote(key)} = %s AND {quote(column)} = %s",
                    [fresh, pk, stored],
                )
                rotated += cursor.rowcount
        if len(rows) < BATCH:
            return Rotated(table, column, rotated, already, tuple(unreadable))


def _opens(key: Fernet, stored: str) -> bool:
    try:
        key.decrypt(stored.encode())
    except InvalidToken:
        return False
    return True
