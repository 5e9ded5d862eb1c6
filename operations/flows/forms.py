"""The form that begins a task: one page, one click."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldBooleanSwitchWidget,
)

from operations.flows import catalog
from operations.flows.library import finding
from operations.flows.start import MACHINES_MAX
from operations.forms import StartForm
from operations.outside import systems
from operations.outside.models import SiteSystem

BATCHES_HELP = _(
    "0: all of them at once. Batches are those of a step: all of them go through it before the "
    "next step begins."
)
_NETWORK_CHOICES = (
    ("routes", _("routes to pods, on all nodes")),
    ("webhook", _("ask the network system of the site")),
)
# Choice, and the step behind which comes what; routes go with the node by themselves.
_NETWORK_STEPS = (
    ("routes", "ScaleUp", "PodRoutes"),
    ("webhook", "ScaleUp", "SiteNetwork"),
    ("webhook", "ScaleDown", "SiteNetworkRemoval"),
)


class StartTaskForm(StartForm):
    """Which template, where, with which machines, in which batches; ``forks`` is left to each
    operation."""

    kind = forms.ChoiceField(label=_("Template"), widget=UnfoldAdminSelectWidget)
    approval = forms.BooleanField(
        label=_("Ask for approval"),
        required=False,
        initial=True,
        widget=UnfoldBooleanSwitchWidget,
        help_text=_("Somebody else who may approve on the cluster has to say yes on the way."),
    )
    replaced = forms.CharField(
        label=_("Machines that are replaced"),
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4, "spellcheck": "false"}),
        help_text=_("They go out once the others are in and take pods; written as above."),
    )
    network = forms.ChoiceField(
        label=_("Network"),
        required=False,
        widget=UnfoldAdminSelectWidget,
        help_text=_(
            "What is done to the network once the machines are in, or out. Routes to a node that "
            "leaves go by themselves."
        ),
    )
    batch_size = forms.IntegerField(
        label=_("Machines per batch"),
        min_value=0,
        max_value=MACHINES_MAX,
        initial=0,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text=BATCHES_HELP,
    )
    batch_pause = forms.IntegerField(
        label=_("Seconds between batches"),
        min_value=0,
        max_value=7 * 86400,
        initial=0,
        widget=UnfoldAdminIntegerFieldWidget,
    )

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, user=user, **kwargs)
        del self.fields["forks"]
        self.templates = {each.name: each for each in finding.offered()}
        self._kind_field.choices = [(name, each.title) for name, each in self.templates.items()]
        network = self.fields["network"]
        assert isinstance(network, forms.ChoiceField)  # noqa: S101
        network.choices = [("", _("nothing")), *_NETWORK_CHOICES]

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        cluster, asked = values.get("cluster"), values.get("network") == "webhook"
        if asked and cluster and systems.find(cluster.pk, SiteSystem.Purpose.NETWORK) is None:
            self.add_error("network", systems.missing(cluster, SiteSystem.Purpose.NETWORK))
        return values

    def steps(self) -> list[str] | None:
        """The template's steps, without the questions where none are wanted; None for one of the
        site, which says itself what is asked."""
        chosen = self.templates[self.cleaned_data["kind"]]
        if chosen.content is not None:
            return None
        with_approval = self.cleaned_data["approval"]
        steps = [
            name
            for name in chosen.steps
            if with_approval or catalog.named(name).kind != "workOrder"
        ]
        for choice, name, behind in _NETWORK_STEPS:
            if choice == self.cleaned_data["network"] and name in steps:
                steps.insert(steps.index(name) + 1, behind)
        return steps
