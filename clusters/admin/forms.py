"""Forms of the cluster pages: what to adopt, how to call it, and why."""

from typing import Any, cast

from django import forms
from django.contrib.auth.models import Group
from django.utils.translation import gettext_lazy as _
from unfold.widgets import (
    UnfoldAdminFileFieldWidget,
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from beidou.base import display
from beidou.base.errors import InvalidInput
from beidou.base.models import User
from clusters.drivers.kubeconfig_text import SIZE_LIMIT
from clusters.models import Cluster, ClusterGrant, name_validator
from clusters.services import adoption, grants
from clusters.services.adoption import Details
from clusters.services.checking import Source


def _text(**attrs: Any) -> UnfoldAdminTextInputWidget:
    return UnfoldAdminTextInputWidget(attrs=attrs)


def _area(rows: int, placeholder: str = "") -> UnfoldAdminTextareaWidget:
    attrs = {"rows": rows, "placeholder": placeholder, "spellcheck": "false"}
    return UnfoldAdminTextareaWidget(attrs=attrs)


class SourceForm(forms.Form):
    """A pasted or uploaded kubeconfig, or server, CA and token."""

    kubeconfig = forms.CharField(
        label=_("Kubeconfig"),
        required=False,
        strip=False,
        widget=_area(10, "apiVersion: v1\nkind: Config\n…"),
        help_text=_("Paste it whole; certificates and keys must be inside, not in files."),
    )
    kubeconfig_file = forms.FileField(
        label=_("… or upload it"), required=False, widget=UnfoldAdminFileFieldWidget()
    )
    context = forms.CharField(
        label=_("Context"),
        required=False,
        widget=_text(autocomplete="off"),
        help_text=_("Empty: the current context of the kubeconfig."),
    )
    server = forms.CharField(
        label=_("API server"),
        required=False,
        widget=_text(autocomplete="off", placeholder="https://10.0.0.10:6443"),
    )
    ca_pem = forms.CharField(
        label=_("CA certificate"),
        required=False,
        strip=False,
        widget=_area(4, "-----BEGIN CERTIFICATE-----"),
    )
    token = forms.CharField(
        label=_("Token"),
        required=False,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "off"}),
        help_text=_("Of a service account."),
    )

    def clean_kubeconfig_file(self) -> Any:
        file = self.cleaned_data.get("kubeconfig_file")
        if file is not None and file.size > SIZE_LIMIT:
            raise forms.ValidationError(_("The file is larger than 1 MiB."))
        return file

    def to_source(self) -> Source:
        """What was given; an uploaded file wins over pasted text."""
        given = self.cleaned_data
        text = given["kubeconfig"]
        if given.get("kubeconfig_file"):
            text = given["kubeconfig_file"].read().decode("utf-8", "replace")
        return Source(
            kubeconfig=text,
            context=given["context"],
            server=given["server"],
            ca_pem=given["ca_pem"],
            token=given["token"],
        )


class LabelsField(forms.CharField):
    """``key=value`` per line or comma; a mapping comes out."""

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, dict):
            return "\n".join(f"{key}={text}" for key, text in sorted(value.items()))
        return value

    def to_python(self, value: Any) -> Any:
        if isinstance(value, dict):
            return value
        labels: dict[str, str] = {}
        for item in str(value or "").replace(",", "\n").splitlines():
            if not item.strip():
                continue
            key, equals, text = item.partition("=")
            if not key.strip() or not equals:
                raise forms.ValidationError(
                    _("“%(item)s” is not key=value."), params={"item": item.strip()[:60]}
                )
            labels[key.strip()] = text.strip()
        return labels

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool((initial or {}) != self.to_python(data))
        except forms.ValidationError:
            return True


def labels_field() -> LabelsField:
    return LabelsField(
        label=_("Labels"),
        required=False,
        widget=_area(2, "tier=gold"),
        help_text=_("key=value, one per line; grants by label follow them."),
    )


class DetailsForm(forms.Form):
    """How the new cluster is called and whom it belongs to."""

    name = forms.CharField(
        label=_("Name"), max_length=63, validators=[name_validator], widget=_text()
    )
    environment = forms.ChoiceField(
        label=_("Environment"),
        choices=[("", display.NOTHING), *Cluster.Environment.choices],
        required=False,
        widget=UnfoldAdminSelectWidget(),
    )
    region = forms.CharField(label=_("Region"), max_length=63, required=False, widget=_text())
    contact = forms.CharField(label=_("Contact"), max_length=200, required=False, widget=_text())
    description = forms.CharField(label=_("Description"), required=False, widget=_area(2))
    labels = labels_field()
    team = forms.ModelChoiceField(
        label=_("Owner team"),
        queryset=Group.objects.order_by("name"),
        required=False,
        widget=UnfoldAdminSelectWidget(),
    )
    team_owns = forms.BooleanField(
        label=_("Grant this team the role Owner"),
        required=False,
        initial=True,
        widget=UnfoldBooleanSwitchWidget(),
    )

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if user.is_superuser:
            return
        # See ``adoption.adopt``: one of the own teams, and it becomes owner.
        del self.fields["team_owns"]
        team = cast("forms.ModelChoiceField[Group]", self.fields["team"])
        team.queryset = user.groups.order_by("name")
        team.required = True
        team.help_text = _("It is granted the role Owner.")

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if Cluster.objects.filter(name=name).exists():
            raise forms.ValidationError(_("There is a cluster of this name already."))
        return name

    def to_details(self) -> Details:
        return Details(**self.cleaned_data)


class ClusterForm(forms.ModelForm):  # type: ignore[type-arg]
    """What people say about a cluster, and why they change it."""

    labels = labels_field()
    change_reason = forms.CharField(
        label=_("Reason for the change"), max_length=100, required=False, widget=_text()
    )

    class Meta:
        model = Cluster
        fields = (
            "name",
            "description",
            "environment",
            "region",
            "labels",
            "team",
            "contact",
        )

    def clean_labels(self) -> dict[str, str]:
        try:
            return adoption.validate_labels(self.cleaned_data["labels"])
        except InvalidInput as error:
            raise forms.ValidationError(error.message) from error


class ReasonForm(forms.Form):
    """Why; kept in the audit trail."""

    reason = forms.CharField(label=_("Reason"), max_length=500, widget=_text(autofocus="autofocus"))


class CordonForm(ReasonForm):
    """The way past windows and freezes is offered where it is needed and may be gone."""

    break_glass = forms.BooleanField(
        label=_("In spite of windows and freezes"),
        required=False,
        widget=UnfoldBooleanSwitchWidget(),
        help_text=_("An entry of its own in the audit trail."),
    )

    def __init__(self, *args: Any, may_break_glass: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not may_break_glass:
            del self.fields["break_glass"]


class UnadoptForm(forms.Form):
    confirm = forms.CharField(label=_("Name of the cluster"), widget=_text(autocomplete="off"))
    reason = forms.CharField(label=_("Reason"), max_length=500, required=False, widget=_text())


class GrantForm(forms.ModelForm):  # type: ignore[type-arg]
    """A grant; ``user`` is set by the page, which knows who asks."""

    user: Any = None

    class Meta:
        model = ClusterGrant
        fields = ("team", "role", "cluster", "label")
        help_texts = {
            "role": _(
                "A Deployer will deploy applications, which this version cannot do yet; until then "
                "the role gives what Viewer gives."
            )
        }

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if "cluster" in self.errors or "label" in self.errors:
            return cleaned
        try:
            cleaned["label"] = grants.checked_target(cleaned["cluster"], cleaned["label"])
            grants.require_may_grant(self.user, cleaned["cluster"])
        except InvalidInput as error:
            for name, sentence in error.fields.items():
                self.add_error(name, sentence)
        return cleaned
