"""Sign-outs, failed sign-ins and lock-outs for the audit trail, from signals of Django and axes."""

from typing import Any

from axes.signals import user_locked_out
from django.contrib.auth.signals import user_logged_out, user_login_failed
from django.db import transaction
from django.http import HttpRequest

from beidou.base import audit
from beidou.base.models import AuditEntry


def connect() -> None:
    user_logged_out.connect(_signed_out, dispatch_uid="beidou-signed-out")
    user_login_failed.connect(_failed, dispatch_uid="beidou-sign-in-failed")
    user_locked_out.connect(_locked_out, dispatch_uid="beidou-locked-out")


def _signed_out(*, user: Any, **kwargs: Any) -> None:
    if user is not None:
        with transaction.atomic():
            audit.record("sign out", user)


def _failed(
    *, credentials: dict[str, Any], request: HttpRequest | None = None, **kwargs: Any
) -> None:
    is_locked = getattr(request, "axes_locked_out", False)
    with transaction.atomic():
        audit.record(
            "sign in",
            name=str(credentials.get("username", "")),
            reason="locked out" if is_locked else "wrong name or password",
            outcome=AuditEntry.Outcome.REFUSED if is_locked else AuditEntry.Outcome.FAILED,
        )


def _locked_out(*, username: str, **kwargs: Any) -> None:
    with transaction.atomic():
        audit.record("lock out", name=username or "", outcome=AuditEntry.Outcome.REFUSED)
