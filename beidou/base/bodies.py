"""Bodies from outside, of requests and of answers, must be something the database can keep."""

from typing import Any

from django.utils.translation import gettext_lazy

from beidou.base.errors import InvalidInput
from beidou.base.storable import unstorable_in

SENTENCE = gettext_lazy(
    "This cannot be stored: a text with a character such as NUL, or a number without end."
)


def refuse_unstorable(body: Any, *, code: str = InvalidInput.code) -> None:
    """Raise ``InvalidInput`` naming the fields of ``body`` that cannot be kept."""
    sentence = str(SENTENCE)
    fields = {path or "non_field_errors": sentence for path in unstorable_in(body)}
    if fields:
        raise InvalidInput(f"{', '.join(fields)}: {sentence}", code=code, fields=fields)
