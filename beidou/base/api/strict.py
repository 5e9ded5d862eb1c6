"""Bodies in which every name means something."""

from collections.abc import Iterable
from typing import Any

from django.http import QueryDict
from django.utils.translation import gettext as _
from rest_framework import serializers
from rest_framework.fields import empty


def refuse_unknown(data: Any, known: Iterable[str]) -> None:
    """A misspelt ``dry_run`` must not start anything, nor a misspelt limit be taken for none.

    Forms are let through: browsers and programs add fields of their own to them.
    """
    if not isinstance(data, dict) or isinstance(data, QueryDict):
        return
    if strange := sorted(set(data) - set(known)):
        raise serializers.ValidationError(dict.fromkeys(strange, _("There is no such field.")))


def refuse_unknown_in_each(rows: Any, known: Iterable[str]) -> None:
    """The same for a list of bodies; the first that is wrong is named by its number."""
    for number, row in enumerate(rows if isinstance(rows, list) else []):
        try:
            refuse_unknown(row, known)
        except serializers.ValidationError as error:
            raise serializers.ValidationError({str(number): error.detail}) from error


class StrictSerializer(serializers.Serializer[Any]):
    def run_validation(self, data: Any = empty) -> Any:
        refuse_unknown(data, self.fields)
        return super().run_validation(data)
