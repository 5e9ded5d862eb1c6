"""The whole object of an event, as the cluster gave it."""

import json
import zlib
from typing import Any

from beidou.base.errors import PermanentError
from beidou.base.sentences import Sentence
from beidou.base.storable import storable
from events.models import Event

OBJECT_MAX_BYTES = 8 * 1024 * 1024
"""Several times what an API server takes; a few KiB may stand for gigabytes."""


def whole(event: Event) -> Any:
    """What was in the JSON; its text where that cannot be read as such."""
    unpacking = zlib.decompressobj()
    try:
        content = unpacking.decompress(bytes(event.raw), OBJECT_MAX_BYTES)
    except zlib.error as error:
        raise PermanentError(
            Sentence("The whole object is damaged in the event store (%(why)s).", why=str(error))
        ) from error
    if unpacking.unconsumed_tail:
        raise PermanentError(
            Sentence(
                "The whole object is larger than %(most)s MiB, and is not shown.",
                most=str(OBJECT_MAX_BYTES >> 20),
            )
        )
    text = content.decode(errors="replace")
    try:
        return storable(json.loads(text))
    except (ValueError, RecursionError):
        return storable(text)


def pretty(event: Event) -> str:
    found = whole(event)
    return found if isinstance(found, str) else json.dumps(found, indent=2, ensure_ascii=False)
