"""The form of a site system; it asks the service, so that errors stand at fields."""

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminPasswordWidget

from beidou.base import permissions
from beidou.base.errors import InvalidInput
from clusters.models import Cluster
from operations.outside import systems
from operations.outside.models import SiteSystem

if TYPE_CHECKING:
    _Form = forms.ModelForm[SiteSystem]
else:
    _Form = forms.ModelForm


class SiteSystemForm(_Form):
    """The secret goes in and never comes out: an empty field keeps what is stored."""

    user: ClassVar[Any] = None

    class Meta:
        model = SiteSystem
        fields = ("cluster", "purpose", "url", "secret")
        widgets: ClassVar[dict[str, Any]] = {
            "secret": UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"})
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stored = self.instance.secret
        field = self.fields.get("cluster")
        if isinstance(field, forms.ModelChoiceField):
            field.queryset = permissions.visible_to(
                self.user, Cluster.objects.all(), permissions.CHANGE
            )
        if "secret" in self.fields:
            self.initial["secret"] = ""
            if self._stored:
                self.fields["secret"].help_text = _("Stored; leave empty to keep it.")

    def _post_clean(self) -> None:
        """Put back the secret that was left empty, after the form set it on the instance."""
        super()._post_clean()  # type: ignore[misc]
        if self.errors:
            return
        stored = SiteSystem.objects.get(pk=self.instance.pk) if self.instance.pk else None
        self.instance.secret = self.cleaned_data.get("secret") or self._stored
        try:
            systems.validate(self.instance, self.user, stored=stored)
        except InvalidInput as error:
            for name, sentence in error.fields.items():
                self.add_error(name if name in self.fields else None, sentence)
