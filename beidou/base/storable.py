"""What no database column takes: PostgreSQL has no NUL, half a character no bytes, JSON no ∞."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
# In JSON all of these hide in escapes; a pair of halves is one whole character.
_SUSPECT = re.compile(rb"\\u(?:0000|d[89a-f])", re.IGNORECASE)
_ESCAPE = re.compile(
    rb"\\(?:u(?P<bad>0000|d[89ab]..(?!\\ud[c-f])|d[c-f]..)|ud[89ab]..\\u....|.)",
    re.IGNORECASE | re.DOTALL,
)


def is_storable(text: str) -> bool:
    """Whether the database can keep ``text``, and compare with it."""
    return _UNSTORABLE.search(text) is None


def storable(value: Any) -> Any:
    """``value``, also a nested one, with a visible sign for whatever cannot be kept.

    For what hosts and clusters say: bytes that are no UTF-8 reach us as surrogates.  What people
    send is refused instead, by ``unstorable_in``.
    """
    if isinstance(value, str):
        if _UNSTORABLE.search(value) is None:
            return value
        return _UNSTORABLE.sub(lambda found: "␀" if found[0] == "\0" else "\ufffd", value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, int):  # before the slower question below
        return value
    if isinstance(value, Mapping):
        return {storable(name): storable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    return value


def storable_json(data: bytes) -> bytes:
    """JSON of a foreign program, so that every text decoded from it can be kept."""
    if not _SUSPECT.search(data):
        return data
    return _ESCAPE.sub(lambda found: rb"\ufffd" if found["bad"] else found[0], data)


def unstorable_in(value: Any, path: str = "") -> Iterator[str]:
    """The dotted paths of all texts, names and numbers in ``value`` that cannot be kept."""
    if isinstance(value, str):
        if not is_storable(value):
            yield path
    elif isinstance(value, float):
        if not math.isfinite(value):
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
