"""Request bodies whose texts the database can keep; the others are refused at their fields."""

from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from rest_framework import exceptions, parsers

from beidou.base.errors import InvalidInput
from beidou.base.storable import unstorable_in

SENTENCE = gettext_lazy(
    "This cannot be stored: a text with a character such as NUL, or a number without end."
)


def check(value: Any, *, code: str = InvalidInput.code) -> None:
    """Raise ``InvalidInput`` naming the fields."""
    sentence = str(SENTENCE)
    fields = {path or "non_field_errors": sentence for path in unstorable_in(value)}
    if fields:
        raise InvalidInput(f"{', '.join(fields)}: {sentence}", code=code, fields=fields)


class JSONParser(parsers.JSONParser):
    def parse(self, *args: Any, **kwargs: Any) -> Any:
        try:
            data = super().parse(*args, **kwargs)
            check(data)
        except RecursionError:
            raise exceptions.ParseError(_("The JSON is nested too deeply.")) from None
        return data


class FormParser(parsers.FormParser):
    def parse(self, *args: Any, **kwargs: Any) -> Any:
        data = super().parse(*args, **kwargs)
        check({name: " ".join(texts) for name, texts in data.lists()})
        return data


class MultiPartParser(parsers.MultiPartParser):
    def parse(self, *args: Any, **kwargs: Any) -> Any:
        found = super().parse(*args, **kwargs)
        check({name: " ".join(texts) for name, texts in found.data.lists()})
        return found
