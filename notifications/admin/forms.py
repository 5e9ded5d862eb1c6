"""The forms of rules and receivers; they ask the services, so that errors stand at fields."""

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminPasswordWidget,
    UnfoldAdminTextareaWidget,
)

from beidou.base import notices, permissions
from beidou.base.errors import InvalidInput
from notifications.models import NotificationRule, Receiver
from notifications.services import belonging, receivers, rules

if TYPE_CHECKING:
    _RuleForm = forms.ModelForm[NotificationRule]
    _ReceiverForm = forms.ModelForm[Receiver]
else:  # Django's own class takes no parameter when it runs
    _RuleForm = _ReceiverForm = forms.ModelForm


class _OfUser:
    """What both forms share: the team among those of the user."""

    user: ClassVar[Any]
    instance: Any
    fields: dict[str, Any]
    initial: Any
    cleaned_data: dict[str, Any]

    def limit_team(self) -> None:
        field = self.fields.get("team")
        if field is None:
            return
        teams = belonging.teams_led_by(self.user)
        present = Q(pk__in=teams.values("pk")) | Q(pk=self.instance.team_id)
        field.queryset = teams.model.objects.filter(present)
        if not self.user.is_superuser:
            field.required = self.instance.pk is None or self.instance.team_id is not None
        if self.instance.pk is None:
            self.initial.setdefault("team", belonging.default_team(self.user))

    def say(self, error: InvalidInput) -> None:
        for name, sentence in (error.fields or {"": error.message}).items():
            self.add_error(name if name in self.fields else None, sentence)  # type: ignore[attr-defined]


class RuleForm(_OfUser, _RuleForm):
    kinds = forms.MultipleChoiceField(
        label=_("Kinds"),
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget(),
        help_text=_("What is told; none chosen: everything."),
    )

    class Meta:
        model = NotificationRule
        fields = (
            "name",
            "team",
            "enabled",
            "kinds",
            "severity",
            "scope",
            "labels",
            "clusters",
            "receivers",
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limit_team()
        kinds: Any = self.fields.get("kinds")
        if kinds is not None:
            kinds.choices = [(kind.name, str(kind.label)) for kind in notices.KINDS.values()]
        self._limit("clusters", belonging.clusters_for(self.user))
        writable = permissions.visible_to(self.user, Receiver.objects.all(), permissions.CHANGE)
        self._limit("receivers", writable.defer(*receivers.SECRETS))

    def _limit(self, name: str, usable: Any) -> None:
        """What the person may choose, and what is chosen at present."""
        field: Any = self.fields.get(name)
        if field is None:
            return
        present = Q()
        if self.instance.pk is not None:
            present = Q(pk__in=getattr(self.instance, name).values("pk"))
        field.queryset = usable.model.objects.filter(
            Q(pk__in=usable.values("pk")) | present if present else Q(pk__in=usable.values("pk"))
        ).defer(*(receivers.SECRETS if name == "receivers" else ()))

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if self.errors:
            return values
        stored = NotificationRule.objects.get(pk=self.instance.pk) if self.instance.pk else None
        wanted = NotificationRule(
            **{
                name: values[name]
                for name in ("name", "team", "kinds", "severity", "scope", "labels")
            }
        )
        try:
            rules.validate(
                wanted,
                self.user,
                clusters=list(values["clusters"]),
                receivers=list(values["receivers"]),
                stored=stored,
            )
        except InvalidInput as error:
            self.say(error)
        values["labels"] = wanted.labels
        if wanted.scope != NotificationRule.Scope.CHOSEN:
            values["clusters"] = values["clusters"].none()
        return values


class ReceiverForm(_OfUser, _ReceiverForm):
    """Secrets go in and never come out: an empty field keeps what is stored."""

    class Meta:
        model = Receiver
        fields = (
            "name",
            "team",
            "channel",
            "addresses",
            "webhook_url",
            "secret",
            "service_url",
            "language",
            "enabled",
        )
        widgets: ClassVar[dict[str, Any]] = {
            "addresses": UnfoldAdminTextareaWidget(
                attrs={"rows": 3, "placeholder": "oncall@example.com", "spellcheck": "false"}
            ),
            **{
                name: UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"})
                for name in receivers.SECRETS
            },
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limit_team()
        self._stored = {name: getattr(self.instance, name) for name in receivers.SECRETS}
        for name, stored in self._stored.items():
            if name in self.fields:
                self.initial[name] = ""
                if stored:
                    self.fields[name].help_text = _("Stored; leave empty to keep it.")

    def _post_clean(self) -> None:
        """Put back the secrets that were left empty, after the form set them on the instance."""
        super()._post_clean()  # type: ignore[misc]
        if self.errors:
            return
        stored = Receiver.objects.get(pk=self.instance.pk) if self.instance.pk else None
        given = {name: self.cleaned_data.get(name, "") for name in receivers.SECRETS}
        for name, secret in self._stored.items():
            setattr(self.instance, name, secret)
        receivers.apply_secrets(self.instance, given)
        try:
            receivers.validate(self.instance, self.user, stored=stored)
        except InvalidInput as error:
            self.say(error)
