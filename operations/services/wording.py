"""What pydantic finds wrong, in our own sentences: its words know one language and our insides."""

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext_lazy
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from beidou.base.sentences import spoken, untranslated

_WORDS: Mapping[str, Any] = {
    "missing": gettext_lazy("is missing"),
    "extra_forbidden": gettext_lazy("is not known here"),
    "string_type": gettext_lazy("must be a text"),
    "int_type": gettext_lazy("must be a whole number"),
    "int_parsing": gettext_lazy("must be a whole number"),
    "int_from_float": gettext_lazy("must be a whole number"),
    "int_parsing_size": gettext_lazy("is too large a number"),
    "bool_type": gettext_lazy("must be true or false"),
    "bool_parsing": gettext_lazy("must be true or false"),
    "list_type": gettext_lazy("must be a list"),
    "dict_type": gettext_lazy("must be a mapping"),
    "model_type": gettext_lazy("must be a mapping"),
    "model_attributes_type": gettext_lazy("must be a mapping"),
    "greater_than_equal": gettext_lazy("must be at least %(ge)s"),
    "less_than_equal": gettext_lazy("must be at most %(le)s"),
    "string_too_long": gettext_lazy("has more than %(max_length)s characters"),
    "too_long": gettext_lazy("has more than %(max_length)s entries"),
    "too_short": gettext_lazy("has fewer than %(min_length)s entries"),
    "literal_error": gettext_lazy("must be one of these: %(expected)s"),
    "string_pattern_mismatch": gettext_lazy("has characters that are not allowed here"),
}


_NOT_VALID = gettext_lazy("is not a valid value")


def problems(error: ValidationError) -> list[tuple[tuple[int | str, ...], str]]:
    """Place and sentence (without its full stop) of each mistake, as they were found."""
    return [(item["loc"], sentence(item)) for item in error.errors()]


def sentence(item: ErrorDetails) -> str:
    context = item.get("ctx", {})
    if item["type"] == "value_error":
        return str(context["error"])  # one of ours, translated where it was raised
    if item["type"] in _WORDS:
        values = {name: _listed(value) for name, value in context.items()}
        return str(_WORDS[item["type"]]) % values
    return str(_NOT_VALID)


def told(error: ValidationError) -> list[tuple[tuple[int | str, ...], str]]:
    """The same as sentences that can be stored and read in every language."""
    return [(item["loc"], _stored(item)) for item in error.errors()]


def _stored(item: ErrorDetails) -> str:
    context = item.get("ctx", {})
    if item["type"] == "value_error":
        error = context["error"]
        return error.args[0] if error.args else str(error)  # a sentence where ours is one
    words = untranslated(_WORDS.get(item["type"], _NOT_VALID))
    values = {name: str(_listed(value)) for name, value in context.items()}
    found: str = spoken({"text": words.msgid, "params": values})
    return found


def _listed(value: Any) -> Any:
    """Choices come as "'a', 'b' or 'c'"."""
    return value.replace(" or ", ", ") if isinstance(value, str) else value
