"""What Django's model permissions are called: their stored names are English, for one language."""

from typing import Any

from django import forms
from django.contrib.auth.models import Permission
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

_DEEDS = {
    "add": gettext_lazy("May add: %(what)s"),
    "change": gettext_lazy("May change: %(what)s"),
    "delete": gettext_lazy("May delete: %(what)s"),
    "view": gettext_lazy("May see: %(what)s"),
}
_NAMES = {"base.audit_fleet": gettext_lazy("May see everything of the fleet (fleet-wide Auditor)")}


def name_of(permission: Permission) -> str:
    """In the language of the reader; as Django says it where it is none of the usual ones."""
    kind = permission.content_type
    label = f"{kind.app_label}.{permission.codename}"
    if label in _NAMES:
        return str(_NAMES[label])
    deed = permission.codename.partition("_")[0]
    model = kind.model_class()
    if deed not in _DEEDS or model is None:
        return _("%(app)s: %(name)s") % {"app": kind.app_label, "name": permission.name}
    return str(_DEEDS[deed]) % {"what": model._meta.verbose_name_plural}


class PermissionsField(forms.ModelMultipleChoiceField):  # type: ignore[type-arg]
    """The permissions one may choose, by name."""

    def label_from_instance(self, obj: Any) -> str:
        return name_of(obj)
