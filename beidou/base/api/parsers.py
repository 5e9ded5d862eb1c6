"""Request bodies whose texts the database can keep; the others are refused at their fields."""

from typing import Any

from django.utils.translation import gettext as _
from rest_framework import exceptions, parsers

from beidou.base.bodies import refuse_unstorable


class JSONParser(parsers.JSONParser):
    def parse(self, *args: Any, **kwargs: Any) -> Any:
        try:
            data = super().parse(*args, **kwargs)
            refuse_unstorable(data)
        except RecursionError:
            raise exceptions.ParseError(_("The JSON is nested too deeply.")) from None
        return data


class FormParser(parsers.FormParser):
    def parse(self, *args: Any, **kwargs: Any) -> Any:
        data = super().parse(*args, **kwargs)
        refuse_unstorable({name: " ".join(texts) for name, texts in data.lists()})
        return data


class MultiPartParser(parsers.MultiPartParser):
    def parse(self, *args: Any, **kwargs: Any) -> Any:
        found = super().parse(*args, **kwargs)
        refuse_unstorable({name: " ".join(texts) for name, texts in found.data.lists()})
        return found
