"""Chats through apprise: of its hundred services the few whose hosts are fixed.

apprise reaches files, devices and any host.  So the classes of these services are named here, an
address is taken only when it begins with the scheme of its channel, and without parameters: they
could switch off what protects (certificates, time).
"""

import logging
from typing import Any, Final

from apprise.common import NotifyFormat, NotifyType
from apprise.plugins.dingtalk import NotifyDingTalk
from apprise.plugins.feishu import NotifyFeishu
from apprise.plugins.slack import NotifySlack
from apprise.plugins.wecombot import NotifyWeComBot

from beidou.base.errors import InvalidInput, TemporaryError
from beidou.base.sentences import Sentence
from notifications.drivers.message import Message

SERVICES: Final[dict[str, Any]] = {
    "slack": NotifySlack,
    "dingtalk": NotifyDingTalk,
    "feishu": NotifyFeishu,
    "wecom": NotifyWeComBot,
}
"""By channel: all that can be reached."""
CONNECT_SECONDS, READ_SECONDS = 5.0, 10.0
_TYPES: Final = {
    "info": NotifyType.INFO,
    "warning": NotifyType.WARNING,
    "critical": NotifyType.FAILURE,
}
# Its warnings may name tokens.
logging.getLogger("apprise").setLevel(logging.CRITICAL)


def check(channel: str, url: str) -> Any:
    """The service of ``url``; ``InvalidInput`` when it is none of ``channel``."""
    kind = SERVICES[channel]
    scheme = kind.secure_protocol
    if not url.lower().startswith(f"{scheme}://"):
        raise _wrong(Sentence("The address must begin with %(scheme)s://.", scheme=scheme))
    if "?" in url:
        raise _wrong(Sentence("Leave parameters (after ?) out of the address."))
    try:
        service = kind(**kind.parse_url(url))
    except TypeError as error:  # the base of apprise's own exceptions, too
        raise _wrong(
            Sentence("This is no address of %(scheme)s with all of its tokens.", scheme=scheme)
        ) from error
    service.redirects = False
    service.socket_connect_timeout = CONNECT_SECONDS
    service.socket_read_timeout = READ_SECONDS
    return service


def send(message: Message, *, channel: str, url: str) -> None:
    """One message; apprise says only whether it worked, so it is always worth another try."""
    service = check(channel, url)
    # apprise cuts a long text into several messages, which would be more than was agreed.
    most = max(200, (service.body_maxlen or 2000) - len(message.subject) - 100)
    is_sent = service.notify(
        title=message.subject,
        body=_cut(message.text, most),
        notify_type=_TYPES[message.severity],
        body_format=NotifyFormat.TEXT,
    )
    if not is_sent:
        raise TemporaryError(
            Sentence(
                "%(service)s did not take the message; are the tokens still valid?",
                service=str(service.service_name),
            ),
            code="chat_failed",
        )


def _cut(text: str, most: int) -> str:
    """Services count bytes; a cut in the middle of a character is left out."""
    whole = text.encode()
    return text if len(whole) <= most else whole[: most - 4].decode("utf-8", "ignore") + "…"


def _wrong(sentence: Sentence) -> InvalidInput:
    return InvalidInput(sentence, code="bad_chat_address", fields={"service_url": sentence})
