"""How single cells are read and written: trimmed, with sentences for what cannot be right."""

import ipaddress
from collections.abc import Iterable
from typing import Any, Final

from django.db import models
from django.utils.translation import gettext as _
from import_export import widgets
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

from beidou.base.errors import InvalidInput
from machines.services import edits

XLSX_TEXT_MAX: Final = 32_767  # characters of a cell
# What a spreadsheet would calculate instead of show; some skip a tab or a return before it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def without_formula(value: Any) -> Any:
    """The value as a cell that is shown as it is; reading takes the apostrophe off again."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def for_xlsx(value: Any) -> Any:
    """The value as far as a spreadsheet can hold it: shorter, and with a sign for control codes."""
    if not isinstance(value, str):
        return value
    return ILLEGAL_CHARACTERS_RE.sub("\ufffd", value)[:XLSX_TEXT_MAX]


def shows(cell: Any, value: Any) -> bool:
    """Whether the cell is what an export writes for ``value``, even where that is not all of it:
    then nobody has changed it, and it changes nothing."""
    if not isinstance(cell, str) or not isinstance(value, str):
        return False
    written = without_formula(value)
    return _one_newline(cell) in map(_one_newline, (written, for_xlsx(written)))


def _one_newline(text: str) -> str:
    """XML knows one sign for the end of a line."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


class TextWidget(widgets.CharWidget):  # type: ignore[misc]
    """Trimmed text; a number from a spreadsheet loses no digits and gains no ".0"."""

    def clean(self, value: Any, row: Any = None, **kwargs: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        text = str(value).strip()
        return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


class UuidWidget(TextWidget):
    """In the spelling that is stored, so that capitals are no difference."""

    def clean(self, value: Any, row: Any = None, **kwargs: Any) -> str:
        return super().clean(value).lower()


class AddressWidget(TextWidget):
    def clean(self, value: Any, row: Any = None, **kwargs: Any) -> str:
        return spell_address(super().clean(value))


def spell_address(text: str) -> str:
    """One spelling per address, the one that is stored: ::ffff:10.8.3.11 is 10.8.3.11.

    ``ValueError`` with the sentence for the person.
    """
    if not text:
        raise ValueError(_("Give an IP address."))
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(_("“%(text)s” is no IP address.") % {"text": text}) from None
    return str(getattr(address, "ipv4_mapped", None) or address)


class CountWidget(widgets.Widget):  # type: ignore[misc]
    def clean(self, value: Any, row: Any = None, **kwargs: Any) -> int | None:
        text = TextWidget().clean(value)
        if not text:
            return None
        if not text.isascii() or not text.isdigit():
            raise ValueError(_("“%(text)s” is no whole number.") % {"text": text})
        return int(text)

    def render(self, value: Any, obj: Any = None, **kwargs: Any) -> Any:
        return "" if value is None else value


class LabelsWidget(widgets.Widget):  # type: ignore[misc]
    def clean(self, value: Any, row: Any = None, **kwargs: Any) -> dict[str, str]:
        try:
            return edits.parse_labels(TextWidget().clean(value))
        except InvalidInput as error:
            raise ValueError(error.message) from error

    def render(self, value: Any, obj: Any = None, **kwargs: Any) -> str:
        return edits.write_labels(value or {})


class NamedWidget(widgets.Widget):  # type: ignore[misc]
    """A related row by its name, among those that the importing person may use."""

    def __init__(self, queryset: models.QuerySet[Any], missing: str) -> None:
        super().__init__()
        self._queryset, self._missing = queryset, missing
        self._known: dict[str, Any] | None = None

    def clean(self, value: Any, row: Any = None, **kwargs: Any) -> Any:
        name = TextWidget().clean(value)
        if not name:
            return None
        if self._known is None:
            self._known = {each.name: each for each in self._queryset}
        if name not in self._known:
            raise ValueError(self._missing % {"name": name})
        return self._known[name]

    def render(self, value: Any, obj: Any = None, **kwargs: Any) -> str:
        return str(value.name) if value else ""


class DateWidget(widgets.DateWidget):  # type: ignore[misc]
    def clean(self, value: Any, row: Any = None, **kwargs: Any) -> Any:
        try:
            return super().clean(value, row, **kwargs)
        except ValueError:
            raise ValueError(
                _("“%(text)s” is no date; write it as 2027-12-31.") % {"text": value}
            ) from None


def is_filled(row: Iterable[Any]) -> bool:
    """Whether any cell says something: spreadsheets leave empty rows behind."""
    return any(TextWidget().clean(value) for value in row)


def text_of(row: dict[str, Any], name: str) -> str:
    """A cell as trimmed text; empty when the row has no such column."""
    return TextWidget().clean(row.get(name))


def address_in(text: str) -> str:
    """One spelling of the address, or nothing when ``text`` is none."""
    try:
        return spell_address(text)
    except ValueError:
        return ""
