"""What every channel is given: a message in one language, ready to be sent."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Message:
    """``key`` is the same at each repetition; ``data`` is the body of a webhook."""

    key: str
    severity: str
    subject: str
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)
