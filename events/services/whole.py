"""The whole object of an event, as the cluster gave it."""

import json
from typing import Any

from beidou.base.errors import PermanentError
from beidou.base.storable import storable
from events.services.stores.base import FoundEvent


def whole(event: FoundEvent) -> Any:
    """What was in the JSON; its text where that cannot be read as such."""
    if event.trouble:
        raise PermanentError(event.trouble)
    text = event.raw.decode(errors="replace")
    try:
        return storable(json.loads(text))
    except (ValueError, RecursionError):
        return storable(text)


def pretty(event: FoundEvent) -> str:
    found = whole(event)
    return found if isinstance(found, str) else json.dumps(found, indent=2, ensure_ascii=False)
