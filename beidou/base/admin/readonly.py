"""Values that a page only shows: another object is a link for who may open it, else a name."""

from typing import Any

from django.contrib.auth.models import Permission
from django.db import models
from django.utils.safestring import SafeString
from unfold import forms as theme
from unfold.fields import UnfoldAdminReadonlyField

from beidou.base import links
from beidou.base.admin import rights
from beidou.base.display import NOTHING


class ReadonlyField(UnfoldAdminReadonlyField):
    """Django and the theme link whatever has a page, whoever reads."""

    def get_admin_url(self, remote_field: Any, remote_obj: models.Model) -> SafeString:
        return links.link_for(self.form.reader, remote_obj)

    def contents(self) -> Any:
        field, _name, value = self.resolved_field or (None, "", None)
        if getattr(field, "related_model", None) is Permission and value is not None:
            chosen = value.select_related("content_type")
            return ", ".join(rights.name_of(each) for each in chosen) or NOTHING
        return super().contents()


# The theme makes these fields by this name; there is no setting for another class.
theme.UnfoldAdminReadonlyField = ReadonlyField
