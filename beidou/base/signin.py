"""Signing in: name and password, then the second factor of whoever has one.

The password alone does not sign anybody in who has a second factor: until the code is right, the
session holds nothing but who is about to sign in and since when.  Failures are counted by
django-axes per name and address; the lock-out says how long it lasts.
"""

import math
import time
from typing import Any

from axes.models import AccessAttempt
from django import forms
from django.conf import settings
from django.contrib import admin
from django.contrib.auth import REDIRECT_FIELD_NAME, load_backend, login
from django.contrib.auth.views import LoginView
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.generic import FormView
from django_otp import login as otp_login
from unfold.forms import AuthenticationForm
from unfold.widgets import UnfoldAdminTextInputWidget

from beidou.base import audit, second_factor
from beidou.base.errors import InvalidInput, PermanentError
from beidou.base.middleware import act_as, client_address
from beidou.base.models import AuditEntry, User

PENDING = "pending_sign_in"
PENDING_SECONDS = 300


def _finish(request: HttpRequest, user: User, *, backend: str, device: Any = None) -> None:
    with transaction.atomic():
        login(request, user, backend=backend)
        if device is not None:
            otp_login(request, device)
        act_as(user)
        audit.record("sign in", user, after={"second_factor": device is not None})


class SignInForm(AuthenticationForm):  # type: ignore[misc]
    """Django's own refusal speaks of staff accounts, which nobody here has heard of."""

    error_messages = {
        **AuthenticationForm.error_messages,
        "invalid_login": gettext_lazy(
            "The name or the password is wrong, or this account may not sign in to the pages. "
            "Upper and lower case matter."
        ),
    }

    def clean(self) -> Any:
        """No account has a longer name, and what counts the attempts could not keep it."""
        if len(self.cleaned_data.get("username", "")) > self.fields["username"].max_length:
            raise self.get_invalid_login_error()
        return super().clean()


class SignInView(LoginView):
    """The page *Log in*; the same address as the admin's, which it stands in front of."""

    template_name = "admin/login.html"
    authentication_form = SignInForm
    redirect_authenticated_user = False

    def get_default_redirect_url(self) -> str:
        return reverse("admin:index")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return {
            **super().get_context_data(**kwargs),
            **admin.site.each_context(self.request),
            "title": _("Log in"),
            "app_path": self.request.get_full_path(),
            "username": self.request.user.get_username(),
        }

    def form_valid(self, form: Any) -> HttpResponse:
        user = form.get_user()
        if not second_factor.is_enabled(user):
            _finish(self.request, user, backend=user.backend)
            return redirect(self.get_success_url())
        self.request.session.cycle_key()
        self.request.session[PENDING] = {
            "user": user.pk,
            "backend": user.backend,
            "at": time.time(),
            "next": self.get_success_url(),
        }
        return redirect("sign_in_code")


class CodeForm(forms.Form):
    code = forms.CharField(
        label=gettext_lazy("Code"),
        max_length=20,
        help_text=gettext_lazy("Of your authenticator app, or one of your backup codes."),
        widget=UnfoldAdminTextInputWidget(
            attrs={"autocomplete": "one-time-code", "inputmode": "text", "autofocus": ""}
        ),
    )


class SecondFactorView(FormView):  # type: ignore[type-arg]  # has no subscript at run time
    """The code, for at most five minutes after the password."""

    template_name = "account/sign_in_code.html"
    form_class = CodeForm
    user: User
    pending: dict[str, Any]

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        pending = request.session.get(PENDING)
        if pending is None or time.time() - pending["at"] > PENDING_SECONDS:
            request.session.pop(PENDING, None)
            return redirect("admin:login")
        user = load_backend(pending["backend"]).get_user(pending["user"])
        if not isinstance(user, User):  # deactivated meanwhile
            return redirect("admin:login")
        self.pending, self.user = pending, user
        return super().dispatch(request, *args, **kwargs)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return {
            **super().get_context_data(**kwargs),
            **admin.site.each_context(self.request),
            "title": _("Second factor"),
        }

    def form_valid(self, form: CodeForm) -> HttpResponse:
        try:
            device = second_factor.verify(self.user, code=form.cleaned_data["code"])
        except (InvalidInput, PermanentError) as error:  # wrong, or its secret cannot be read
            audit.record(
                "sign in", self.user, outcome=AuditEntry.Outcome.FAILED, reason=error.message
            )
            form.add_error("code", error.message)
            return self.form_invalid(form)
        del self.request.session[PENDING]
        _finish(self.request, self.user, backend=self.pending["backend"], device=device)
        return redirect(self.pending["next"])


def minutes_locked(*, username: str, address: str) -> int:
    """How long the name stays locked out from this address, in begun minutes."""
    attempt = (
        AccessAttempt.objects.filter(username=username, ip_address=address)
        .order_by("-attempt_time")
        .first()
    )
    if attempt is None:
        return 1
    passed = (timezone.now() - attempt.attempt_time).total_seconds()
    cool_off = float(settings.AXES_COOLOFF_TIME) * 60
    return max(1, int(math.ceil(cool_off - passed / 60)))


def locked_out(
    request: HttpRequest, response: HttpResponse | None, credentials: dict[str, Any] | None
) -> HttpResponse:
    """django-axes asks for this answer: the page *Log in*, saying why and for how long."""
    username = (credentials or {}).get("username") or request.POST.get("username", "")
    minutes = minutes_locked(username=username, address=client_address(request))
    form = AuthenticationForm(request, initial={"username": username})
    context = {
        **admin.site.each_context(request),
        "form": form,
        "title": _("Log in"),
        "app_path": request.get_full_path(),
        REDIRECT_FIELD_NAME: request.POST.get(REDIRECT_FIELD_NAME, ""),
        "refusal": _(
            "Too many failed attempts: this name is locked from your address for another "
            "%(minutes)d minutes. An administrator can unlock it sooner."
        )
        % {"minutes": minutes},
    }
    return render(request, "admin/login.html", context, status=429)
