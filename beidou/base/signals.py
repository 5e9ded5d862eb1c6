"""Sign-outs, failed sign-ins, lock-outs and new passwords for the audit trail, from signals of
Django and axes."""

from typing import Any

from axes.signals import user_locked_out
from django.contrib.auth.signals import user_logged_out, user_login_failed
from django.db import transaction
from django.db.models.signals import post_save
from django.http import HttpRequest

from beidou.base import audit, notices
from beidou.base.models import AuditEntry, User
from beidou.base.sentences import Sentence


def connect() -> None:
    user_logged_out.connect(_signed_out, dispatch_uid="beidou-signed-out")
    user_login_failed.connect(_failed, dispatch_uid="beidou-sign-in-failed")
    user_locked_out.connect(_locked_out, dispatch_uid="beidou-locked-out")
    post_save.connect(_saved, sender=User, dispatch_uid="beidou-user-saved")


def _signed_out(*, user: Any, **kwargs: Any) -> None:
    if user is not None:
        with transaction.atomic():
            audit.record("sign out", user)


def _failed(
    *, credentials: dict[str, Any], request: HttpRequest | None = None, **kwargs: Any
) -> None:
    is_locked = getattr(request, "axes_locked_out", False)
    name = str(credentials.get("username", ""))
    user = getattr(request, "user", None)
    is_signed_in = user is not None and name and user.get_username() == name  # on *My account*
    with transaction.atomic():
        audit.record(
            "confirm password" if is_signed_in else "sign in",
            name=name,
            reason=Sentence("locked out") if is_locked else Sentence("wrong name or password"),
            outcome=AuditEntry.Outcome.REFUSED if is_locked else AuditEntry.Outcome.FAILED,
        )


def _locked_out(*, username: str, ip_address: str = "", **kwargs: Any) -> None:
    with transaction.atomic():
        notices.publish(
            notices.News(
                kind="account.locked_out",
                severity=notices.Severity.WARNING,
                title=Sentence("The name %(name)s is locked out.", name=username or "?"),
                details=Sentence(
                    "Too many failed attempts to sign in from %(address)s.",
                    address=ip_address or "?",
                ),
            )
        )
        audit.record("lock out", name=username or "", outcome=AuditEntry.Outcome.REFUSED)


def _saved(*, instance: User, created: bool, raw: bool = False, **kwargs: Any) -> None:
    """A new password by whatever way it comes: a page, ``changepassword``, a shell.

    Django keeps the plain text until the row is saved; when it only makes a better hash of the
    same password there is none.
    """
    if not created and not raw and getattr(instance, "_password", None) is not None:
        audit.record("set password", instance)
