"""The second factor: time-based codes (TOTP) of a phone, and backup codes for when it is lost.

A user has a second factor as soon as one TOTP device is confirmed; sign-in asks for it from then
on.  A code that was used already is refused, and django-otp slows guessing down: after the n-th
wrong code in a row the next one is looked at after 2^(n-1) seconds at the earliest.  Of backup
codes only digests are stored.
"""

import base64
import io
from typing import Any

import qrcode
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from qrcode.image.svg import SvgPathImage

from beidou.base import audit
from beidou.base.errors import Conflict, InvalidInput
from beidou.base.models import TotpDevice
from beidou.base.sentences import Sentence

BACKUP_CODES = 10
_BACKUP_NAME = "backup codes"


def is_enabled(user: AbstractBaseUser) -> bool:
    return bool(TotpDevice.objects.filter(user=user, confirmed=True).exists())


def backup_codes_left(user: AbstractBaseUser) -> int:
    return int(StaticToken.objects.filter(device__user=user, device__confirmed=True).count())


def begin(user: AbstractBaseUser) -> Any:
    """The not yet confirmed device of ``user``; the same one until it is confirmed."""
    if is_enabled(user):
        raise Conflict(_("Your second factor is switched on already."), code="second_factor_on")
    device, _new = TotpDevice.objects.get_or_create(
        user=user, confirmed=False, defaults={"name": "authenticator"}
    )
    return device


def qr_code(device: Any) -> str:
    """The device's secret as an SVG that authenticator apps read."""
    picture = qrcode.make(device.config_url, image_factory=SvgPathImage, border=2)
    stream = io.BytesIO()
    picture.save(stream)
    text = stream.getvalue().decode()
    return text[text.index("<svg") :]


def secret(device: Any) -> str:
    """The device's secret in groups of four, for typing it by hand."""
    text = base64.b32encode(device.bin_key).decode().rstrip("=")
    return " ".join(text[at : at + 4] for at in range(0, len(text), 4))


def confirm(user: AbstractBaseUser, *, code: str) -> list[str]:
    """Switch the second factor on with a first code; gives the backup codes, shown this once."""
    device = begin(user)
    _check(device, code)
    with transaction.atomic():
        device.confirmed = True
        device.save()
        codes = _new_backup_codes(user)
        audit.record("switch second factor on", user)
    return codes


def renew_backup_codes(user: AbstractBaseUser) -> list[str]:
    """New backup codes; the old ones are void."""
    if not is_enabled(user):
        raise Conflict(_("Your second factor is not switched on."), code="second_factor_off")
    with transaction.atomic():
        codes = _new_backup_codes(user)
        audit.record("renew backup codes", user)
    return codes


def switch_off(user: AbstractBaseUser, *, reason: str = "") -> None:
    """Remove all devices of ``user``."""
    with transaction.atomic():
        TotpDevice.objects.filter(user=user).delete()
        StaticDevice.objects.filter(user=user).delete()
        audit.record("switch second factor off", user, reason=reason)


def verify(user: AbstractBaseUser, *, code: str) -> Any:
    """The device that accepts ``code``; ``InvalidInput`` when none does."""
    code = code.replace(" ", "").lower()
    is_backup = not (code.isdigit() and len(code) == 6)
    model = StaticDevice if is_backup else TotpDevice
    if is_backup:
        code = digest(code)
    with transaction.atomic():
        devices = list(model.objects.filter(user=user, confirmed=True).select_for_update())
        refusal: InvalidInput | None = None
        for device in devices:
            try:
                _check(device, code)
            except InvalidInput as error:  # raised after the commit: the count of failures stays
                refusal = error
            else:
                return device
    raise refusal or _wrong()


def _wrong() -> InvalidInput:
    return InvalidInput(
        Sentence("This code is not right, or it was used already."), code="wrong_code"
    )


def _check(device: Any, code: str) -> None:
    is_allowed, why = device.verify_is_allowed()
    if not is_allowed:
        seconds = max(1, round((why["locked_until"] - timezone.now()).total_seconds()))
        raise InvalidInput(
            Sentence("Too many wrong codes; wait %(seconds)d s.", seconds=seconds),
            code="too_many_codes",
        )
    if not device.verify_token(code):
        raise _wrong()


def _new_backup_codes(user: AbstractBaseUser) -> list[str]:
    StaticDevice.objects.filter(user=user).delete()
    device = StaticDevice.objects.create(user=user, name=_BACKUP_NAME)
    codes = [StaticToken.random_token() for _number in range(BACKUP_CODES)]
    StaticToken.objects.bulk_create(
        StaticToken(device=device, token=digest(code)) for code in codes
    )
    return codes


def digest(code: str) -> str:
    """What is stored of a backup code: 80 bits of an HMAC under the secret key, in base 32."""
    mac = salted_hmac("beidou.base.second_factor", code, algorithm="sha256").digest()
    return base64.b32encode(mac[:10]).decode().lower()
