"""Texts that no database column takes: PostgreSQL has no NUL, and half a character has no bytes."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def is_storable(text: str) -> bool:
    """Whether the database can keep ``text``, and compare with it."""
    return _UNSTORABLE.search(text) is None


def unstorable_in(value: Any, path: str = "") -> Iterator[str]:
    """The dotted paths of all texts and names in ``value`` that cannot be kept."""
    if isinstance(value, str):
        if not is_storable(value):
            yield path
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if not is_storable(str(name)):
                yield path or "?"
            else:
                yield from unstorable_in(item, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from unstorable_in(item, f"{path}.{index}" if path else str(index))
