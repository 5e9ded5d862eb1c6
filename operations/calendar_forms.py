"""Forms of maintenance windows and freezes; checked by the service that stores them."""

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.utils.text import capfirst
from django.utils.timezone import get_current_timezone_name
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminTextInputWidget

from beidou.base import permissions
from clusters.models import Cluster
from operations.models import Freeze, MaintenanceWindow
from operations.services import calendars

if TYPE_CHECKING:
    _WindowForm = forms.ModelForm[MaintenanceWindow]
    _FreezeForm = forms.ModelForm[Freeze]
else:
    _WindowForm = _FreezeForm = forms.ModelForm


def _narrow_clusters(field: Any, user: Any) -> None:
    field.queryset = permissions.visible_to(
        user, Cluster.objects.order_by("name"), permissions.CHANGE
    )


def _add_problems(form: Any) -> None:
    """Once the row has the values of the form, so that those are judged which will be stored."""
    if form.errors:
        return
    for name, sentence in calendars.find_problems(form.instance).items():
        form.add_error(name if name in form.fields else None, sentence)


class MaintenanceWindowForm(_WindowForm):
    """``acting_user`` is set by the admin."""

    acting_user: ClassVar[Any] = None
    weekdays = forms.MultipleChoiceField(
        choices=MaintenanceWindow.Weekday.choices,
        widget=UnfoldAdminCheckboxSelectMultipleWidget(),
        help_text=_("On which it begins."),
    )

    class Meta:
        model = MaintenanceWindow
        fields = ["cluster", "weekdays", "start", "minutes", "comment"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "weekdays" in self.fields:
            self.fields["weekdays"].label = capfirst(gettext("weekdays"))
        if "cluster" in self.fields:
            _narrow_clusters(self.fields["cluster"], self.acting_user)

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        _add_problems(self)


class FreezeForm(_FreezeForm):
    """Of labels and of the whole fleet for administrators alone; ``acting_user`` as above."""

    acting_user: ClassVar[Any] = None
    change_reason = forms.CharField(
        label=_("Reason of this change"),
        required=False,
        max_length=500,
        widget=UnfoldAdminTextInputWidget,
        help_text=_("Kept in the history and the audit trail."),
    )

    class Meta:
        model = Freeze
        fields = ["cluster", "label", "begins_at", "ends_at", "reason"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        zone = gettext("In the time zone %(zone)s.") % {"zone": get_current_timezone_name()}
        for name in ("begins_at", "ends_at"):
            if field := self.fields.get(name):
                field.help_text = f"{field.help_text} {zone}".strip()
        if "cluster" not in self.fields:
            return
        _narrow_clusters(self.fields["cluster"], self.acting_user)
        if not self.acting_user.is_superuser:
            self.fields["cluster"].required = True
            self.fields["cluster"].help_text = ""
            self.fields.pop("label", None)

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        _add_problems(self)
