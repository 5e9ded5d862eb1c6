"""A message as a signed webhook; see ``beidou.base.webhooks``."""

import ssl

from beidou.base import webhooks
from beidou.base.addresses import Limits
from notifications.drivers.message import Message


def send(
    message: Message,
    *,
    url: str,
    secret: str,
    limits: Limits,
    context: ssl.SSLContext | None = None,
    seconds: float = webhooks.SECONDS,
) -> None:
    """POST it; any answer 2xx is success."""
    webhooks.post(
        message.data,
        key=message.key,
        url=url,
        secret=secret,
        limits=limits,
        context=context,
        seconds=seconds,
    )
