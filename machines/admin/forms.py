"""The forms of the machine pages; they ask the services, so that errors stand at fields."""

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib.auth.models import Group
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminFileFieldWidget,
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from beidou.base import permissions
from beidou.base.errors import InvalidInput
from machines.models import Machine, SshCredential
from machines.services import belonging, credentials, edits, lifecycle, signing

if TYPE_CHECKING:
    _MachineForm = forms.ModelForm[Machine]
    _CredentialForm = forms.ModelForm[SshCredential]
else:  # Django's own class takes no parameter when it runs
    _MachineForm = _CredentialForm = forms.ModelForm


class ReasonForm(forms.Form):
    """Why: asked before every change of state."""

    reason = forms.CharField(
        label=_("Reason"),
        max_length=lifecycle.REASON_LIMIT,
        widget=UnfoldAdminTextInputWidget(),
        help_text=_("Stays with the machine: what is broken, who asked, which ticket."),
    )


class LabelsField(forms.CharField):
    """``key=value`` per line or comma, or JSON as before; a mapping comes out."""

    def prepare_value(self, value: Any) -> Any:
        return edits.write_labels(value).replace(", ", "\n") if isinstance(value, dict) else value

    def to_python(self, value: Any) -> Any:
        if isinstance(value, dict):
            return value
        text = str(value or "").strip()
        if text.startswith(("{", "[")):
            return forms.JSONField(required=False).clean(text) or {}
        try:
            return edits.parse_labels(text)
        except InvalidInput as error:
            raise forms.ValidationError(error.message) from error

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool((initial or {}) != self.to_python(data))
        except forms.ValidationError:
            return True


class MachineForm(_MachineForm):
    """A machine's intended values, with the reason of the change for history and audit."""

    user: ClassVar[Any]
    labels = LabelsField(
        label=_("Labels"),
        required=False,
        widget=UnfoldAdminTextareaWidget(
            attrs={"rows": 3, "placeholder": "tier=gold\nzone=a", "spellcheck": "false"}
        ),
        help_text=_("key=value, one per line."),
    )
    change_reason = forms.CharField(
        label=_("Reason of the change"),
        max_length=500,
        required=False,
        widget=UnfoldAdminTextInputWidget(),
        help_text=_("Stands in the timeline beside what was changed."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _limit_choices(self, self.user, present=self.instance)

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        stored = self.instance if self.instance.pk else None
        team, credential = values.get("owner_team"), values.get("credential")
        same_team = stored is not None and team == stored.owner_team
        same_credential = stored is not None and credential == stored.credential
        try:
            belonging.check(
                self.user,
                owner_team=None if same_team else team,
                credential=None if same_credential else credential,
                is_new=stored is None,
            )
        except InvalidInput as error:
            for name, sentence in error.fields.items():
                self.add_error(name, sentence)
        refused = lifecycle.edit_refusal(stored, self.changed_data) if stored else None
        if refused:
            self.add_error(None, refused)
        if stored is not None and values.get("address", stored.address) != stored.address:
            used = signing.credential_of(Machine(credential=credential, cluster=stored.cluster))
            problem = belonging.new_address_problem(self.user, used)
            if problem:
                self.add_error("address", problem)
        if stored is not None and "credential" in values:
            problem = edits.lost_credential_problem(self.user, stored, credential)
            if problem:
                self.add_error("credential", problem)
        return values


class CredentialForm(_CredentialForm):
    """Secrets go in and never come out: an empty field keeps what is stored."""

    acting_user: ClassVar[Any]
    forget = forms.MultipleChoiceField(
        label=_("Forget"),
        required=False,
        choices=[
            (name, getattr(SshCredential, name).field.verbose_name) for name in credentials.SECRETS
        ],
        widget=UnfoldAdminCheckboxSelectMultipleWidget(),
        help_text=_("Secrets to remove; an empty field above keeps what is stored."),
    )
    test_machine = forms.CharField(
        label=_("Test on machine"),
        required=False,
        widget=UnfoldAdminTextInputWidget(),
        help_text=_("Address or name of one machine; the credential is tried there when saved."),
    )

    class Meta:
        model = SshCredential
        fields = ("name", "team", "user", "port", *credentials.SECRETS, "become")
        widgets: ClassVar[dict[str, Any]] = {
            "private_key": UnfoldAdminTextareaWidget(
                attrs={"rows": 4, "autocomplete": "off", "spellcheck": "false"}
            ),
            **{
                name: UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"})
                for name in ("passphrase", "password", "become_password")
            },
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stored = {name: getattr(self.instance, name) for name in credentials.SECRETS}
        for name, stored in self._stored.items():
            if name in self.fields:
                self.initial[name] = ""
                if stored:
                    self.fields[name].help_text = _("Stored; leave empty to keep it.")

    def clean_test_machine(self) -> Any:
        text = self.cleaned_data["test_machine"].strip()
        if not text:
            return None
        visible = permissions.visible_to(self.acting_user, Machine.objects.all(), "operate")
        found = list(visible.search(text)[:2])  # type: ignore[attr-defined]
        if len(found) != 1:
            raise forms.ValidationError(
                _("No machine that you may operate has this name.")
                if not found
                else _("Several machines begin with this; write the whole address.")
            )
        return found[0]

    def _post_clean(self) -> None:
        """Put back the secrets that were left empty, after the form set them on the instance."""
        super()._post_clean()  # type: ignore[misc]
        forget = tuple(self.cleaned_data.get("forget", ()))
        given = {name: self.cleaned_data.get(name, "") for name in credentials.SECRETS}
        for name, stored in self._stored.items():
            setattr(self.instance, name, stored)
        credentials.apply_secrets(self.instance, given, forget=forget)
        try:
            credentials.validate(self.instance)
        except InvalidInput as error:
            for name, sentence in error.fields.items():
                self.add_error(name if name in self.fields else None, sentence)


def _limit_choices(form: forms.BaseForm, user: Any, *, present: Machine | None = None) -> None:
    """Teams and credentials that this person may give a machine, and those it has at ``present``:
    else saving another field would take away what the person may not choose."""
    choices: tuple[tuple[str, Any], ...] = (
        ("owner_team", permissions.teams_of(user)),
        ("credential", belonging.credentials_of(user)),
    )
    for name, usable in choices:
        field: Any = form.fields.get(name)
        if field is not None:
            kept = getattr(present, f"{name}_id", None)
            field.queryset = usable.model.objects.filter(Q(pk__in=usable.values("pk")) | Q(pk=kept))


class BulkEditForm(forms.Form):
    """New values for many machines; what is not ticked stays as it is."""

    change = forms.MultipleChoiceField(
        label=_("Fields to change"),
        required=False,
        choices=[
            ("role", _("role")),
            ("owner_team", _("owner team")),
            ("room", _("room")),
            ("rack", _("rack")),
            ("credential", _("SSH credential")),
        ],
        widget=UnfoldAdminCheckboxSelectMultipleWidget(),
        help_text=_("Filled in below is enough; tick a field that is to be emptied."),
    )
    role = forms.CharField(
        label=_("role"), max_length=63, required=False, widget=UnfoldAdminTextInputWidget()
    )
    owner_team = forms.ModelChoiceField(
        label=_("owner team"),
        queryset=Group.objects.none(),
        required=False,
        widget=UnfoldAdminSelectWidget(),
    )
    room = forms.CharField(
        label=_("room"), max_length=63, required=False, widget=UnfoldAdminTextInputWidget()
    )
    rack = forms.CharField(
        label=_("rack"), max_length=63, required=False, widget=UnfoldAdminTextInputWidget()
    )
    credential = forms.ModelChoiceField(
        label=_("SSH credential"),
        queryset=SshCredential.objects.none(),
        required=False,
        widget=UnfoldAdminSelectWidget(),
    )
    add_labels = forms.CharField(
        label=_("Set labels"),
        required=False,
        widget=UnfoldAdminTextInputWidget(),
        help_text=_("key=value, key=value; others stay."),
    )
    remove_labels = forms.CharField(
        label=_("Remove labels"),
        required=False,
        widget=UnfoldAdminTextInputWidget(),
        help_text=_("Keys, separated by commas."),
    )
    reason = forms.CharField(
        label=_("Reason of the change"),
        max_length=500,
        required=False,
        widget=UnfoldAdminTextInputWidget(),
    )

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _limit_choices(self, user)

    def clean_add_labels(self) -> dict[str, str]:
        try:
            return edits.parse_labels(self.cleaned_data["add_labels"])
        except InvalidInput as error:
            raise forms.ValidationError(error.message) from error

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        filled = {name for name, _label in self.fields["change"].choices if values.get(name)}  # type: ignore[attr-defined]
        values["change"] = sorted({*values.get("change", ()), *filled})
        if not (values["change"] or values.get("add_labels") or values.get("remove_labels")):
            raise forms.ValidationError(
                _("Fill in or tick a field, or give labels: nothing would change.")
            )
        return values

    def new_values(self) -> dict[str, Any]:
        return {name: self.cleaned_data[name] for name in self.cleaned_data["change"]}

    def removed_labels(self) -> list[str]:
        return [key.strip() for key in self.cleaned_data["remove_labels"].split(",") if key.strip()]


class ImportForm(forms.Form):
    file = forms.FileField(
        label=_("File"),
        widget=UnfoldAdminFileFieldWidget(attrs={"accept": ".csv,.xlsx"}),
        help_text=_("CSV (UTF-8) or XLSX, up to 20,000 rows. Nothing is written before you agree."),
    )
    change_reason = forms.CharField(
        label=_("Reason of the change"),
        max_length=500,
        required=False,
        widget=UnfoldAdminTextInputWidget(),
    )


class RegisterForm(forms.Form):
    """Whom the machines of a cluster's nodes shall belong to."""

    owner_team = forms.ModelChoiceField(
        label=_("owner team"),
        queryset=Group.objects.none(),
        required=False,
        widget=UnfoldAdminSelectWidget(),
        help_text=_("Counts once a machine has left the cluster."),
    )
    credential = forms.ModelChoiceField(
        label=_("SSH credential"),
        queryset=SshCredential.objects.none(),
        required=False,
        widget=UnfoldAdminSelectWidget(),
        help_text=_("With one, their facts are gathered at once."),
    )

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _limit_choices(self, user)
