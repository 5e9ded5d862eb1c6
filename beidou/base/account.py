"""*My account*: language, password, second factor and API tokens of whoever is signed in."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth import authenticate
from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.views import PasswordChangeView
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse_lazy
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views import View
from unfold.forms import AdminOwnPasswordChangeForm
from unfold.widgets import (
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from beidou.base import audit, second_factor, tokens
from beidou.base.errors import SAID, Conflict, InvalidInput
from beidou.base.models import ApiToken, User


class LanguageForm(forms.Form):
    language = forms.ChoiceField(
        label=gettext_lazy("Language"),
        required=False,
        choices=[("", gettext_lazy("As the browser says")), *settings.LANGUAGES],
        widget=UnfoldAdminSelectWidget(),
    )


class TokenForm(forms.Form):
    name = forms.CharField(
        label=gettext_lazy("What will use it"), max_length=100, widget=UnfoldAdminTextInputWidget()
    )
    days = forms.TypedChoiceField(
        label=gettext_lazy("Lasts"),
        coerce=lambda value: int(value) or None,
        empty_value=None,
        choices=[
            ("30", gettext_lazy("30 days")),
            ("90", gettext_lazy("90 days")),
            ("365", gettext_lazy("one year")),
            ("0", gettext_lazy("until it is revoked")),
        ],
        widget=UnfoldAdminSelectWidget(),
    )


class CodeForm(forms.Form):
    code = forms.CharField(
        label=gettext_lazy("Code"),
        max_length=20,
        widget=UnfoldAdminTextInputWidget(
            attrs={"autocomplete": "one-time-code", "inputmode": "numeric"}
        ),
    )


def _is_own_password(request: HttpRequest, password: str) -> bool:
    """Asks as the sign-in does: wrong ones are audited and counted, and in the end lock out."""
    username = request.user.get_username()
    return authenticate(request, username=username, password=password) == request.user


class PasswordForm(forms.Form):
    """Asked before the second factor is weakened: an open screen alone shall not be enough."""

    password = forms.CharField(
        label=gettext_lazy("Your password"),
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "current-password"}),
    )

    def __init__(self, *args: Any, request: HttpRequest, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._request = request

    def clean_password(self) -> str:
        password = str(self.cleaned_data["password"])
        if not _is_own_password(self._request, password):
            raise forms.ValidationError(_("This is not your password."))
        return password


class _AccountView(LoginRequiredMixin, View):
    """Gives every page of the account the frame of the admin."""

    def page(self, template: str, *, title: str, status: int = 200, **context: Any) -> HttpResponse:
        values = {**admin.site.each_context(self.request), "title": title, **context}
        response = render(self.request, template, values, status=status)
        response["Cache-Control"] = "no-store"  # some pages show a secret this once
        return response


class AccountView(_AccountView):
    def get(self, request: HttpRequest, token_form: TokenForm | None = None) -> HttpResponse:
        user = request.user
        assert isinstance(user, User)  # noqa: S101  LoginRequiredMixin
        return self.page(
            "account/account.html",
            title=_("My account"),
            status=200 if token_form is None else 400,
            language_form=LanguageForm(initial={"language": user.language}),
            token_form=token_form or TokenForm(),
            tokens=ApiToken.objects.filter(user=user, revoked_at=None),
            second_factor_on=second_factor.is_enabled(user),
            backup_codes_left=second_factor.backup_codes_left(user),
            teams=user.groups.order_by("name"),
        )


class LanguageView(_AccountView):
    def post(self, request: HttpRequest) -> HttpResponse:
        form = LanguageForm(request.POST)
        if not form.is_valid():
            messages.error(request, _("There is no such language."))
            return redirect("account")
        user = User.objects.get(pk=request.user.pk or 0)
        if user.language != form.cleaned_data["language"]:
            with transaction.atomic():
                before, user.language = user.language, form.cleaned_data["language"]
                user.save(update_fields=["language"])
                audit.record(
                    "change", user, before={"language": before}, after={"language": user.language}
                )
        here = request.POST.get("next", "")
        is_ours = url_has_allowed_host_and_scheme(here, {request.get_host()}, request.is_secure())
        return redirect(here if is_ours else "account")


class TokenCreateView(AccountView):
    def post(self, request: HttpRequest) -> HttpResponse:
        form = TokenForm(request.POST)
        if not form.is_valid():
            return self.get(request, form)
        token, key = tokens.issue(user=request.user, **form.cleaned_data)
        return self.page("account/new_token.html", title=_("New API token"), token=token, key=key)


class TokenRevokeView(_AccountView):
    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        token = get_object_or_404(ApiToken, pk=pk, user=request.user)
        tokens.revoke(token)
        messages.success(request, _("The token %(token)s is revoked.") % {"token": token})
        return redirect("account")


class SecondFactorOnView(_AccountView):
    """The QR code, and the first code that proves that it was read."""

    def get(self, request: HttpRequest, form: CodeForm | None = None) -> HttpResponse:
        assert isinstance(request.user, User)  # noqa: S101
        try:
            device = second_factor.begin(request.user)
        except Conflict as error:
            messages.info(request, error.message)
            return redirect("account")
        return self.page(
            "account/second_factor_on.html",
            title=_("Switch the second factor on"),
            status=200 if form is None else 400,
            qr_code=second_factor.qr_code(device),
            secret=second_factor.secret(device),
            form=form or CodeForm(),
        )

    def post(self, request: HttpRequest) -> HttpResponse:
        assert isinstance(request.user, User)  # noqa: S101
        form = CodeForm(request.POST)
        if form.is_valid():
            try:
                codes = second_factor.confirm(request.user, code=form.cleaned_data["code"])
            except InvalidInput as error:
                form.add_error("code", error.message)
            except Conflict as error:
                messages.info(request, error.message)
                return redirect("account")
            else:
                return self.page("account/backup_codes.html", title=_("Backup codes"), codes=codes)
        return self.get(request, form)


class SecondFactorChangeView(_AccountView):
    """Switch off, or make new backup codes: after the password."""

    change: str = "off"

    def get(self, request: HttpRequest, form: PasswordForm | None = None) -> HttpResponse:
        assert isinstance(request.user, User)  # noqa: S101
        is_off = self.change == "off"
        return self.page(
            "account/confirm_password.html",
            title=_("Switch the second factor off") if is_off else _("New backup codes"),
            status=200 if form is None else 400,
            consequence=_("Your password alone will be enough to sign in.")
            if is_off
            else _("The backup codes you have now will be void."),
            dangerous=is_off,
            form=form or PasswordForm(request=request),
        )

    def post(self, request: HttpRequest) -> HttpResponse:
        assert isinstance(request.user, User)  # noqa: S101
        form = PasswordForm(request.POST, request=request)
        if not form.is_valid():
            return self.get(request, form)
        if self.change == "off":
            second_factor.switch_off(request.user)
            messages.success(request, _("Your second factor is switched off."))
            return redirect("account")
        try:
            codes = second_factor.renew_backup_codes(request.user)
        except SAID as error:
            messages.error(request, error.message)
            return redirect("account")
        return self.page("account/backup_codes.html", title=_("Backup codes"), codes=codes)


class OwnPasswordForm(AdminOwnPasswordChangeForm):  # type: ignore[misc]
    def __init__(self, *args: Any, request: HttpRequest, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._request = request
        self.fields["new_password2"].help_text = _(
            "API tokens stay valid when the password changes; revoke them on their own."
        )

    def clean_old_password(self) -> str:
        password = str(self.cleaned_data["old_password"])
        if not _is_own_password(self._request, password):
            raise forms.ValidationError(_("This is not your password."))
        return password


class OwnPasswordView(PasswordChangeView):
    """The admin's page *Change password*."""

    form_class = OwnPasswordForm
    template_name = "registration/password_change_form.html"
    success_url = reverse_lazy("account")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return {**super().get_context_data(**kwargs), **admin.site.each_context(self.request)}

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "request": self.request}

    def form_valid(self, form: Any) -> HttpResponse:
        response = super().form_valid(form)
        messages.success(self.request, _("Your password is changed."))
        return response
