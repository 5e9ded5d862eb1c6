"""Forms: the settings of a cluster's operations, and the start of an operation.

The options of a kind come from the JSON schema of its parameters, so a new kind needs no form.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.utils.text import capfirst, format_lazy
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from beidou.base import display, fields, permissions
from beidou.base.errors import BeidouError
from clusters.models import Cluster
from machines.models import SshCredential
from machines.services import belonging
from operations.kinds.base import KINDS, Kind
from operations.models import ClusterSettings, Operation
from operations.services import cluster_settings

SchemaPart = Mapping[str, Any]

# What parameters are called on the form; others by the title in their schema.
_LABELS = {
    "kubernetes_version": _("Kubernetes version"),
    "labels": _("Labels"),
    "taints": _("Taints"),
    "probe_namespace": _("Namespace of the test pods"),
    "ask_first": _("Show the plan before anything is changed"),
    "delete_bare_pods": _("Delete pods that nothing makes anew"),
    "delete_local_data": _("Give up data that pods keep on the node"),
    "allow_single_copy": _("Interrupt workloads with a single copy"),
    "allow_pending": _("Go on although pods fit nowhere else"),
    "on_blocked": _("When a disruption budget blocks a pod"),
    "raise_owner": _("Give blocked workloads one more copy for a while"),
    "delete_blocked": _("Delete blocked pods past their budget"),
    "force_delete": _("Delete pods by force that do not end"),
    "force_unreachable": _("Go on without hosts that are not reached"),
    "pods_at_once": _("Pods at once"),
    "limit_minutes": _("Time limit of the drain, minutes"),
    "test_pods": _("Start test pods"),
    "pull_image": _("Image to pull"),
    "log_minutes": _("Look back in logs, minutes"),
    "control_plane_endpoint": _("Endpoint of the control planes"),
    "pod_network": _("Network of the pods"),
    "service_network": _("Network of the Services"),
    "network": _("How pods reach each other"),
    "network_manifest": _("Manifest of the network"),
    "kubeadm_config": _("Additions to kubeadm's configuration"),
    "playbook": _("Playbook"),
    "accept_single_endpoint": _("Accept an endpoint that leads to one machine alone"),
    "confirm": _("The cluster's name, to confirm"),
    "give_up": _("Go on without these, which are lost"),
    "approved": _("Approve what would be lost"),
    "wave_size": _("Workers at once"),
    "gate_minutes": _("Time limit until the cluster is well again, minutes"),
    "snapshot": _("Snapshot of etcd"),
    "snapshot_folder": _("Folder of the snapshots"),
    "snapshots_kept": _("Snapshots that are kept"),
    "allow_removed_apis": _("Go on although APIs are in use that go"),
    # Of steps that are no operations.
    "hours": _("Time limit of the decision, hours"),
    "text": _("Text"),
    "ticket": _("Decided by the site's ticket system"),
    "seconds": _("Seconds"),
    "minutes": _("Time limit, minutes"),
    "severity": _("Severity"),
    "receiver": _("Receiver"),
    "must_arrive": _("Wait until somebody was told"),
    "query": _("Query"),
    "comparison": _("Comparison"),
    "value": _("Value"),
    "match": _("Which values"),
    "times": _("Looks in a row"),
    "machines": _("Machines"),
    "params": _("Parameters"),
    "template": _("Template"),
    "version": _("Version"),
}
_HELP = {
    "kubernetes_version": _("Empty: the version of the API server."),
    "labels": _("One key=value per line, in addition to those of the role."),
    "taints": _("One key=value:Effect or key:Effect per line."),
    "ask_first": _("Stops after preCheck until it is retried without this."),
    "delete_bare_pods": _("Pods without a controller are lost."),
    "delete_local_data": _("emptyDir volumes are lost, hostPath data stays behind on the host."),
    "allow_single_copy": _("They are away until the new copy is ready."),
    "allow_pending": _("These pods wait until there is room."),
    "on_blocked": _("A budget that can never be met is not waited for."),
    "raise_owner": _("The copy is taken away again at the end of the drain."),
    "delete_blocked": _("An approval that holds for this retry alone."),
    "force_delete": _("After their grace period and 30 seconds."),
    "force_unreachable": _("The node is deleted, the host is not reset and becomes Faulty."),
    "pods_at_once": _("How many may be on their way at the same time."),
    "limit_minutes": _("What is left then is named, and can be retried."),
    "test_pods": _(
        "Without them, nothing is created in the cluster, and the pod network is not tested."
    ),
    "pull_image": _(
        "Each node pulls it from its registry; empty: the test image, if its registry has a mirror "
        "in the cluster's settings."
    ),
    "control_plane_endpoint": _(
        "host:port that leads to all control planes; empty: the first one's address, and the "
        "cluster is lost with it."
    ),
    "pod_network": _("Of no other cluster, and without addresses of machines."),
    "service_network": _("Of no other cluster, and without addresses of machines."),
    "network_manifest": _("Only with “a manifest”: YAML that is applied to the cluster."),
    "confirm": _("Typed because this cannot be undone; the plan says what will be gone."),
    "give_up": _("Hostnames, addresses or nodes. Nothing is reset there; machines become Faulty."),
    "approved": _("An approval that holds for this retry alone."),
    "accept_single_endpoint": _(
        "The API is lost with that machine, however many control planes there are."
    ),
    "kubeadm_config": _(
        "JSON: additions to ClusterConfiguration, KubeletConfiguration and KubeProxyConfiguration."
    ),
    "wave_size": _("They are drained and upgraded side by side; control planes go one by one."),
    "gate_minutes": _("After each control plane and each wave; then it stops."),
    "snapshot_folder": _("On a control plane; with every secret of the cluster in it."),
    "snapshots_kept": _("The newest; older ones of this portal are removed there."),
    "allow_removed_apis": _("Whoever asks for them is answered with an error afterwards."),
    # Of steps that are no operations.
    "text": _("What people read."),
    "minutes": _("When it is over, the step has failed."),
    "version": _("0: the newest when the task begins."),
    "params": _("JSON: of the HealthCheck, or of the start of a task with the template."),
}
_HELP_WHERE_REQUIRED = {
    "kubernetes_version": _("Of the whole cluster, as the artifact source has it, like v1.36.3."),
}
_CHOICES = {
    "stop": _("stop"),
    "wait": _("wait until the time limit"),
    "take": _("take one, and stop if that fails"),
    "skip": _("take none"),
    "all": _("all of them"),
    "any": _("at least one"),
    "task": _("those of the task"),
    "cluster": _("all of the cluster"),
    "info": _("Info"),
    "warning": _("Warning"),
    "critical": _("Critical"),
    "routed": _("routes between the nodes (built in)"),
    "manifest": _("a manifest"),
}
_LONG_TEXT = 1000  # characters; a field that may hold more is as high as several lines
# What an empty field of the settings could hold.
_EXAMPLES = {
    "overrides": '{"sandbox_image": "registry.example.com/pause:3.10"}',
    "policy": '{"min_cpus": 4, "min_memory_mib": 8192}',
}


if TYPE_CHECKING:
    _ModelForm = forms.ModelForm[ClusterSettings]
else:
    _ModelForm = forms.ModelForm


class DocumentField(forms.JSONField):
    """JSON; what was left empty is shown empty again."""

    def prepare_value(self, value: Any) -> Any:
        return "" if value in (None, {}) else super().prepare_value(value)


class ClusterSettingsForm(_ModelForm):
    """Checked by the same service that stores it; ``acting_user`` is set by the admin."""

    acting_user: ClassVar[Any] = None
    change_reason = forms.CharField(
        label=_("Reason"),
        required=False,
        max_length=500,
        widget=UnfoldAdminTextInputWidget,
        help_text=_("Kept in the history and the audit trail."),
    )

    class Meta:
        model = ClusterSettings
        fields = [
            "cluster", "credential", "artifact_source", "overrides", "policy", "limit", "time_zone",
        ]  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        user = self.acting_user
        if "cluster" in self.fields:
            owned = permissions.visible_to(user, Cluster.objects.all(), permissions.CHANGE)
            taken = ClusterSettings.objects.values("cluster")
            self._narrow("cluster", owned.exclude(pk__in=taken))
        if "credential" in self.fields:
            usable = belonging.credentials_of(user)
            self._narrow(
                "credential",
                usable | SshCredential.objects.filter(pk=self.instance.credential_id or 0),
            )
        for name, example in _EXAMPLES.items():
            if name in self.fields:
                self.fields[name].required = False
                self.fields[name].widget.attrs["placeholder"] = example
        if "policy" in self.fields:
            self.fields["policy"].help_text = _(
                "What differs from the default policy, as JSON. Keys: %(keys)s."
            ) % {"keys": ", ".join(cluster_settings.default_policy())}

    def _narrow(self, name: str, rows: Any) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ModelChoiceField)  # noqa: S101
        field.queryset = rows

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        values = {name: cleaned[name] for name in cluster_settings.FIELDS if name in cleaned}
        problems = cluster_settings.find_problems(
            values, acting_user=self.acting_user, kept=self.instance
        )
        for name, sentence in problems.items():
            self.add_error(name, sentence)
        return cleaned


class _ClusterField(forms.ModelChoiceField):  # type: ignore[type-arg]
    """Names the clusters whose certificate is not verified: an operation trusts what they say."""

    def label_from_instance(self, obj: Any) -> str:
        return f"{obj} – {gettext('TLS not verified')}" if obj.insecure_tls else str(obj)


class StartForm(forms.Form):
    """What, where, with which machines, and the general options."""

    kind = forms.ChoiceField(label=_("Operation"), widget=UnfoldAdminSelectWidget)
    cluster = _ClusterField(
        label=_("Cluster"),
        queryset=Cluster.objects.none(),
        empty_label=_("Choose a cluster"),
        widget=UnfoldAdminSelectWidget,
    )
    machines = forms.CharField(
        label=_("Machines"),
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4, "spellcheck": "false"}),
        help_text=_(
            "Addresses, ranges (for example 192.0.2.11-30), networks, hostnames or serial numbers, "
            "separated by commas or white space."
        ),
    )
    max_failed_percent = forms.IntegerField(
        label=_("Failed machines allowed, %"),
        min_value=0,
        max_value=100,
        initial=100,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text=_("100: never stop for failures; 0: stop at the first."),
    )
    forks = forms.IntegerField(
        label=_("Machines at once"),
        min_value=1,
        max_value=200,
        initial=10,
        widget=UnfoldAdminIntegerFieldWidget,
    )
    priority = forms.ChoiceField(
        label=_("Priority"),
        choices=Operation.Priority.choices,
        required=False,
        initial=Operation.Priority.NORMAL,
        widget=UnfoldAdminSelectWidget,
        help_text=_("Which begins first where not all can; high is for who may approve."),
    )
    reason = forms.CharField(
        label=_("Reason"),
        max_length=500,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text=_("Kept with the operation and in the audit trail."),
    )

    def clean_priority(self) -> str:
        return str(self.cleaned_data["priority"] or Operation.Priority.NORMAL)

    def __init__(self, *args: Any, user: Any, whole_cluster: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if whole_cluster:
            self.fields["machines"].required = False
            self.fields["machines"].help_text = format_lazy(
                "{} {}",
                _("Empty: all machines of the cluster."),
                self.fields["machines"].help_text,
            )
        choices = [(name, kind.title) for name, kind in KINDS.items() if not kind.makes_cluster]
        self._kind_field.choices = choices
        rows = permissions.visible_to(user, Cluster.objects.order_by("name"), permissions.OPERATE)
        field = self.fields["cluster"]
        assert isinstance(field, forms.ModelChoiceField)  # noqa: S101
        field.queryset = rows

    @property
    def _kind_field(self) -> forms.ChoiceField:
        field = self.fields["kind"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101
        return field


class CreateClusterForm(forms.Form):
    """How the machines of a new cluster are reached and installed; see ``ClusterSettings``."""

    credential = forms.ModelChoiceField(
        label=_("SSH credential"),
        queryset=SshCredential.objects.none(),
        required=False,
        empty_label=display.NOTHING,
        widget=UnfoldAdminSelectWidget,
        help_text=_("For machines that have none of their own."),
    )
    artifact_source = forms.CharField(
        label=capfirst(_("artifact source")),
        max_length=500,
        widget=UnfoldAdminTextInputWidget,
        help_text=_("http(s) address or folder with kubernetes/VERSION/ARCH/ and SHA256SUMS."),
    )
    registry_mirror = forms.CharField(
        label=_("Registry mirror"),
        max_length=500,
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "https://mirror.example.com"}),
        help_text=_("Asked for every image that is not on the machine already."),
    )
    overrides = DocumentField(
        label=capfirst(_("playbook variables")),
        required=False,
        widget=UnfoldAdminTextareaWidget(
            attrs={"rows": 3, "spellcheck": "false", "placeholder": _EXAMPLES["overrides"]}
        ),
        help_text=_("Variables of our roles that this site sets differently."),
    )
    policy = DocumentField(
        label=capfirst(_("preCheck policy")),
        required=False,
        widget=UnfoldAdminTextareaWidget(
            attrs={"rows": 3, "spellcheck": "false", "placeholder": _EXAMPLES["policy"]}
        ),
        help_text=_("What differs from the default policy: least CPU, memory, disk per path …"),
    )
    forks = forms.IntegerField(
        label=_("Machines at once"),
        min_value=1,
        max_value=200,
        initial=10,
        widget=UnfoldAdminIntegerFieldWidget,
    )
    reason = forms.CharField(
        label=_("Reason"),
        max_length=500,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text=_("Kept with the operation and in the audit trail."),
    )

    approval = forms.BooleanField(
        label=_("Have it approved first"),
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text=_(
            "As a one-click task: somebody else approves what the checks have found, and the new "
            "cluster is proved by a health check."
        ),
    )

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["credential"]
        assert isinstance(field, forms.ModelChoiceField)  # noqa: S101
        field.queryset = belonging.credentials_of(user)

    def to_settings(self) -> dict[str, Any]:
        names = ("credential", "artifact_source", "overrides", "policy")
        return {name: value for name in names if (value := self.cleaned_data[name])}


class ParamsForm(forms.Form):
    """The options of one kind; ``params`` has what was chosen, ready for the kind's own check."""

    def __init__(
        self, *args: Any, kind: Kind, schema: SchemaPart | None = None, owner: str = "",
        **kwargs: Any,
    ) -> None:  # fmt: skip
        """``schema`` in place of the kind's own, where that depends on what is chosen; ``owner``
        says for whom and for what secrets are kept between plan and start."""
        kwargs["prefix"] = "params"
        super().__init__(*args, **kwargs)
        self._owner = owner
        self._secrets: list[str] = []
        schema = kind.params.model_json_schema() if schema is None else schema
        for name, part in schema.get("properties", {}).items():
            if name in kind.approvals:
                continue  # nobody chooses it for an operation of their own
            required = name in schema.get("required", [])
            resolved = _resolved(part, schema)
            if "properties" not in resolved:
                self.fields[name] = _field(name, resolved, required=required)
                continue
            for inner, each in resolved["properties"].items():
                self._add_inner(f"{name}.{inner}", each, inner in resolved.get("required", []))

    def _add_inner(self, name: str, part: SchemaPart, required: bool) -> None:
        if part.get("format") == "password" or part.get("writeOnly"):
            self._secrets.append(name)
            required = False  # it may be kept since the plan; the kind itself asks
        self.fields[name] = _field(name, part, required=required)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        kept = self._kept()
        for name in self._secrets:
            if not cleaned.get(name) and kept.get(name):
                cleaned[name] = kept[name]
            if cleaned.get(name):
                self.fields[name].help_text = _("Kept since the plan; leave empty to keep it.")
        return cleaned

    def _kept(self) -> dict[str, str]:
        try:
            found = json.loads(fields.decrypt(self.data.get("params-kept", "")) or "{}")
        except (BeidouError, ValueError):
            return {}
        secrets: dict[str, str] = found.get("secrets", {}) if found else {}
        return secrets if found.get("owner") == self._owner else {}

    @property
    def kept(self) -> str:
        """The secrets that were given, encrypted for the next press of a button: none of them
        is ever sent back readable."""
        if not self.is_bound or not self.is_valid():
            return ""
        given = {name: self.cleaned_data.get(name) for name in self._secrets}
        secrets = {name: text for name, text in given.items() if text}
        if not secrets:
            return ""
        return fields.encrypt(json.dumps({"owner": self._owner, "secrets": secrets}))

    @property
    def params(self) -> dict[str, Any]:
        """Empty texts are left out, so that the kind's defaults count."""
        found: dict[str, Any] = {}
        for name, value in self.cleaned_data.items():
            if value in ("", None):
                continue
            outer, dot, inner = name.partition(".")
            if dot:
                found.setdefault(outer, {})[inner] = value
            else:
                found[name] = value
        return found


def place_problems(given: Iterable[forms.BaseForm], fields: Mapping[str, str]) -> dict[str, str]:
    """Put each mistake that a service names at the field it is about; returns the others."""
    others = {}
    for name, sentence in fields.items():
        for form, own, place in _places(list(given), name.removeprefix("params.")):
            form.add_error(own, f"{place}: {sentence}" if place else capfirst(sentence))
            break
        else:
            others[name] = sentence
    return others


def _places(given: Sequence[forms.BaseForm], path: str) -> Iterator[tuple[Any, str, str]]:
    """The fields that ``path`` may be about, the narrowest first, and the place within each."""
    ends = [len(path), *(found.start() for found in reversed(list(re.finditer(r"[.\[]", path))))]
    for end in ends:
        for form in given:
            if path[:end] in form.fields:
                yield form, path[:end], path[end:].removeprefix(".")


def _resolved(part: SchemaPart, schema: SchemaPart) -> SchemaPart:
    """Follow ``$ref`` and take the one real alternative of an optional value."""
    if "$ref" in part:
        name = str(part["$ref"]).rsplit("/", 1)[-1]
        return {**schema.get("$defs", {}).get(name, {}), **part}
    options = [each for each in part.get("anyOf", []) if each.get("type") != "null"]
    return {**options[0], **part} if len(options) == 1 else part


def _field(name: str, part: SchemaPart, *, required: bool) -> forms.Field:
    common: dict[str, Any] = {
        "label": _LABELS.get(name) or part.get("title") or name.rpartition(".")[2],
        "help_text": (_HELP_WHERE_REQUIRED if required else _HELP).get(name)
        or part.get("description", ""),
        "required": required,
        "initial": part.get("default"),
    }
    kind = part.get("type")
    if "enum" in part:
        labels = {**_CHOICES, **part.get("x-labels", {})}
        choices = [(value, labels.get(value, str(value))) for value in part["enum"]]
        if not required and part.get("default") is None:
            choices = [("", display.NOTHING), *choices]
        attrs = {"data-reload": ""} if part.get("x-reload") else {}
        select = UnfoldAdminSelectWidget(attrs=attrs)
        if kind == "string":
            return forms.ChoiceField(choices=choices, widget=select, **common)
        return forms.TypedChoiceField(
            choices=choices, coerce=_as_declared(part["enum"]), empty_value=None, widget=select,
            **common,
        )  # fmt: skip
    if part.get("format") == "password" or part.get("writeOnly"):
        secret = UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"})
        if part.get("writeOnly"):  # perhaps several lines, like a key
            secret = _SecretTextWidget(attrs={"rows": 3, "autocomplete": "off"})
        return forms.CharField(widget=secret, strip=False, **common)
    if kind == "number":
        return NumberField(widget=UnfoldAdminTextInputWidget, **common)
    if kind == "boolean":
        return forms.BooleanField(widget=UnfoldBooleanSwitchWidget, **{**common, "required": False})
    if kind == "integer":
        return forms.IntegerField(
            min_value=part.get("minimum"),
            max_value=part.get("maximum"),
            widget=UnfoldAdminIntegerFieldWidget,
            **common,
        )
    if kind == "array" and part.get("items", {}).get("type") == "string":
        return LinesField(**common)
    if kind == "object" and part.get("additionalProperties", {}) == {"type": "string"}:
        return PairsField(**common)
    if kind == "string" and part.get("maxLength", 0) > _LONG_TEXT:
        area = UnfoldAdminTextareaWidget(attrs={"rows": 4, "spellcheck": "false"})
        return forms.CharField(max_length=part["maxLength"], widget=area, **common)
    if kind == "string":
        return forms.CharField(
            max_length=part.get("maxLength"), widget=UnfoldAdminTextInputWidget, **common
        )
    return DocumentField(widget=UnfoldAdminTextareaWidget(attrs={"rows": 4}), **common)


def _as_declared(choices: list[Any]) -> Any:
    """Back from the text of a choice to what the schema has."""
    values = {str(value): value for value in choices}
    return lambda text: values.get(text, text)


class NumberField(forms.FloatField):
    """A number; a whole one stays whole."""

    def to_python(self, value: Any) -> Any:
        number = super().to_python(value)
        return int(number) if number is not None and number.is_integer() else number


class _SecretTextWidget(UnfoldAdminTextareaWidget):  # type: ignore[misc]
    """A text of several lines that is never sent back."""

    def format_value(self, value: Any) -> Any:
        return ""


class LinesField(forms.CharField):
    """A list of texts, one per line."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs["help_text"] = kwargs.get("help_text") or _("One per line.")
        super().__init__(
            widget=UnfoldAdminTextareaWidget(attrs={"rows": 2, "spellcheck": "false"}), **kwargs
        )

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        text = self.prepare_value(value) or ""
        return [line.strip() for line in str(text).splitlines() if line.strip()]

    def validate(self, value: Any) -> None:
        forms.Field.validate(self, value)

    def run_validators(self, value: Any) -> None:
        """Those of texts do not apply to lists; the kind's own model checks the parts."""


class PairsField(LinesField):
    """A mapping of texts, one ``key=value`` per line."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs["help_text"] = kwargs.get("help_text") or _("One key=value per line.")
        super().__init__(**kwargs)

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, dict):
            return "\n".join(f"{key}={text}" for key, text in value.items())
        return value

    def to_python(self, value: Any) -> Any:
        pairs: dict[str, str] = {}
        for line in super().to_python(value):
            key, equals, text = line.partition("=")
            if not equals or not key.strip():
                raise forms.ValidationError(
                    _("“%(line)s” is not key=value."), params={"line": line}, code="invalid"
                )
            pairs[key.strip()] = text.strip()
        return pairs


def schema_fields(schema: SchemaPart) -> dict[str, forms.Field]:
    """A field for each property, none of them required: whoever asks checks them together."""
    return {
        name: _field(name, _resolved(part, schema), required=False)
        for name, part in schema.get("properties", {}).items()
    }


def answer_fields(kind: Kind) -> dict[str, forms.Field]:
    """Fields of the parameters that a retry may change, approvals last."""
    schema = kind.params.model_json_schema()
    names = [name for name in schema.get("properties", {}) if name in kind.answers]
    names.sort(key=lambda name: name in kind.approvals)
    return {
        name: _field(name, _resolved(schema["properties"][name], schema), required=False)
        for name in names
    }


def fingerprint(values: Mapping[str, Any]) -> str:
    """The same text for the same wish: what was planned and what is started must be one."""
    return json.dumps(values, sort_keys=True, default=str)
