"""From a receiver's row to the call of its driver, with nothing of the database left in it."""

from collections.abc import Callable
from functools import partial

from django.conf import settings

from beidou.base import webhooks
from beidou.base.errors import PermanentError
from beidou.base.sentences import Sentence
from notifications.drivers import mail, webhook
from notifications.drivers.message import Message
from notifications.models import Receiver

Send = Callable[[], None]


def mailboxes(receiver: Receiver) -> list[str]:
    return list(dict.fromkeys(receiver.addresses.replace(",", " ").replace(";", " ").split()))


def sender_for(receiver: Receiver, message: Message) -> Send:
    """What sends ``message``; it may run in any thread."""
    if receiver.channel == Receiver.Channel.EMAIL:
        if settings.MAIL_SERVER is None:
            raise PermanentError(
                Sentence("This portal sends no e-mail: BEIDOU_EMAIL_URL is not set."),
                code="no_mail_server",
            )
        return partial(
            mail.send,
            message,
            server=mail.Server(**settings.MAIL_SERVER),
            sender=settings.MAIL_FROM,
            addresses=mailboxes(receiver),
        )
    if receiver.channel == Receiver.Channel.WEBHOOK:
        return partial(
            webhook.send,
            message,
            url=receiver.webhook_url,
            secret=receiver.secret,
            limits=webhooks.limits(),
        )
    from notifications.drivers import chat  # noqa: PLC0415  large, and most processes never send

    return partial(chat.send, message, channel=receiver.channel, url=receiver.service_url)
