"""Receivers: checked when saved; their secrets go in and never come out."""

from collections.abc import Mapping
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils.translation import gettext as _

from beidou.base import addresses, webhooks
from beidou.base.errors import InvalidInput
from notifications.models import NotificationRule, Receiver
from notifications.services import belonging, channels

SECRETS: Final = ("secret", "service_url")
MAILBOXES: Final = 50
SECRET_LEAST: Final = 16
# What each channel uses; the rest is emptied, so that nothing forgotten stays behind.
_FIELDS: Final = {
    Receiver.Channel.EMAIL: ("addresses",),
    Receiver.Channel.WEBHOOK: ("webhook_url", "secret"),
}
_CHAT_FIELDS: Final = ("service_url",)
_ALL_FIELDS: Final = ("addresses", "webhook_url", "secret", "service_url")


def validate(receiver: Receiver, user: Any, *, stored: Receiver | None = None) -> None:
    """Raise ``InvalidInput`` naming the fields when nobody could be told by it, or ``user`` may not
    have it so.  ``stored`` is the row as it was."""
    if stored is None or stored.team_id != receiver.team_id:
        belonging.check_team(user, receiver.team)
        _check_rules(receiver)
    used = _FIELDS.get(Receiver.Channel(receiver.channel), _CHAT_FIELDS)
    for name in set(_ALL_FIELDS) - set(used):
        setattr(receiver, name, "")
    if receiver.channel == Receiver.Channel.EMAIL:
        _check_mailboxes(receiver)
    elif receiver.channel == Receiver.Channel.WEBHOOK:
        _check_webhook(receiver, stored)
    else:
        _check_chat(receiver)


def _check_rules(receiver: Receiver) -> None:
    if receiver.pk is None:
        return
    others = NotificationRule.objects.filter(receivers=receiver, team__isnull=False)
    foreign = others.exclude(team=receiver.team_id).first()
    if foreign is not None:
        text = _("The rule %(rule)s of another team tells this receiver; take it out there.") % {
            "rule": foreign
        }
        raise InvalidInput(text, fields={"team": text})


def _check_mailboxes(receiver: Receiver) -> None:
    found = channels.mailboxes(receiver)
    wrong = [each for each in found if not _is_mailbox(each)]
    text = ""
    if not found:
        text = _("Give at least one address.")
    elif wrong:
        text = _("This is no e-mail address: %(address)s") % {"address": wrong[0][:100]}
    elif len(found) > MAILBOXES:
        text = _("At most %(count)d addresses; use a mailing list for more.") % {"count": MAILBOXES}
    if text:
        raise InvalidInput(text, fields={"addresses": text})
    receiver.addresses = "\n".join(found)


def _is_mailbox(text: str) -> bool:
    try:
        validate_email(text)
    except ValidationError:
        return False
    return True


def _check_webhook(receiver: Receiver, stored: Receiver | None) -> None:
    receiver.webhook_url = receiver.webhook_url.strip()
    addresses.check(receiver.webhook_url, webhooks.limits())
    text = ""
    if len(receiver.secret) < SECRET_LEAST:
        text = _("The secret needs at least %(count)d characters.") % {"count": SECRET_LEAST}
    elif (
        stored is not None
        and stored.secret == receiver.secret
        and stored.webhook_url
        and addresses.is_other_host(stored.webhook_url, receiver.webhook_url)
    ):
        # Else whoever may edit it could have messages signed for a host of their own.
        text = _("Give a new secret with the address of another host.")
    if text:
        raise InvalidInput(text, fields={"secret": text})


def _check_chat(receiver: Receiver) -> None:
    from notifications.drivers import chat  # noqa: PLC0415  large, and most processes never ask

    receiver.service_url = receiver.service_url.strip()
    chat.check(receiver.channel, receiver.service_url)


def apply_secrets(receiver: Receiver, given: Mapping[str, str]) -> None:
    """Set the secrets that were given; an empty one keeps what is stored."""
    for name in SECRETS:
        if given.get(name):
            setattr(receiver, name, given[name])
