"""The lookup ``prefix``: begins with, exactly, and always by index.

Django's ``startswith`` is LIKE.  SQLite cannot answer that from an ordinary index, but its texts
compare byte by byte, so a range says the same.  PostgreSQL compares by the rules of a language,
where a range would be wrong, and has a LIKE index for every indexed text column; addresses, which
are not text there, are asked for as ranges, and so are folded texts (``beidou.base.folded``).
"""

import re
from typing import TYPE_CHECKING, Any

from django.core.exceptions import EmptyResultSet
from django.db import models
from django.db.models import Lookup

from beidou.base.folded import Folded

HIGHEST = "\U0010ffff"
_LIKE_SPECIAL = str.maketrans({"\\": "\\\\", "%": "\\%", "_": "\\_"})


# The addresses of this family that begin so are no ranges, since zeros may be left out.
_IPV6_BEGINNING = re.compile(r"[0-9a-f]{0,4}(:[0-9a-f]{0,4}){0,7}(\.[0-9]{0,3}){0,3}")

Range = tuple[str, str]


def ranges_of(text: str) -> list[Range]:
    """The ranges of all IPv4 addresses whose text begins with ``text``.

    "10.8." is one range; "10.8.1" goes on as 10.8.1.x, 10.8.10.x … and 10.8.100.x …, which are
    three.  Empty when no IPv4 address begins so.
    """
    *whole, last = text.split(".")
    if len(whole) > 3 or not all(_is_part(part) for part in whole):
        return []
    if not last:
        return [_range(whole, 0, 255)] if whole else []
    if not _is_part(last):
        return []
    number = int(last)
    starts = [(number, number), (number * 10, number * 10 + 9), (number * 100, number * 100 + 99)]
    if number == 0:
        starts = starts[:1]
    return [_range(whole, low, min(high, 255)) for low, high in starts if low <= 255]


def _is_part(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) <= 255 and str(int(text)) == text


def _range(whole: list[str], low: int, high: int) -> Range:
    rest = 3 - len(whole)
    return (
        ".".join([*whole, str(low), *["0"] * rest]),
        ".".join([*whole, str(high), *["255"] * rest]),
    )


if TYPE_CHECKING:
    _Lookup = Lookup[Any]
else:
    _Lookup = Lookup


class Prefix(_Lookup):
    """``Machine.objects.filter(serial__prefix="CN7")``."""

    lookup_name = "prefix"
    prepare_rhs = False

    def as_sqlite(self, compiler: Any, connection: Any) -> tuple[str, list[Any]]:
        left, params = self.process_lhs(compiler, connection)
        right, values = self.process_rhs(compiler, connection)
        return (
            f"({left} >= {right} AND {left} < {right} || %s)",
            [*params, *values, *params, *values, HIGHEST],
        )

    def as_postgresql(self, compiler: Any, connection: Any) -> tuple[str, list[Any]]:
        if isinstance(self.lhs, Folded):
            return self.as_sqlite(compiler, connection)
        left, params = self.process_lhs(compiler, connection)
        text = str(self.rhs)
        if isinstance(self.lhs.output_field, models.GenericIPAddressField):
            ranges = ranges_of(text)
            if not ranges and not _IPV6_BEGINNING.fullmatch(text):
                raise EmptyResultSet
            if not ranges:
                return f"HOST({left}) LIKE %s", [*params, text.translate(_LIKE_SPECIAL) + "%"]
            parts = " OR ".join([f"{left} BETWEEN %s::inet AND %s::inet"] * len(ranges))
            return f"({parts})", [value for pair in ranges for value in (*params, *pair)]
        return f"{left} LIKE %s", [*params, text.translate(_LIKE_SPECIAL) + "%"]

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        return self.as_sqlite(compiler, connection)
