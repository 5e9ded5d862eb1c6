"""The errors of the product: what a person did wrong, and what the outside world did.

``InvalidInput`` and ``Conflict`` are answers to a person: they become 400 and 409 in the API and a
message at the field in a page.  ``Forbidden`` is a 403 in both, noted in the audit trail: a page
that shows what a service answered catches ``SAID`` and lets it pass.  ``TemporaryError`` and
``PermanentError`` are about clusters, hosts and stores: whoever calls a driver decides from the
class alone whether a repetition makes sense.
Messages are whole sentences that name the system and the action; they never contain a secret.
"""

from collections.abc import Mapping

from beidou.base.sentences import Sentence
from beidou.base.storable import storable

MESSAGE_LIMIT = 500


def shorten(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """Cut foreign text so that neither a log line nor a page drowns in it, and it can be kept."""
    if isinstance(text, Sentence):
        return text.each(lambda put_in: shorten(put_in, limit))
    text = storable(" ".join(text.split()))
    return text if len(text) <= limit else text[: limit - 1] + "…"


class BeidouError(Exception):
    """Base of all errors raised on purpose; ``code`` is stable and machine-readable."""

    code = "error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class InvalidInput(BeidouError):
    """What was asked cannot be right; ``fields`` names the culprits (field name -> sentence)."""

    code = "invalid_input"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.fields = dict(fields or {})


class Conflict(BeidouError):
    """The request was well formed, but the object is not in a state that allows it."""

    code = "conflict"


class Forbidden(BeidouError):
    """The object may be seen by this user, the action may not be done."""

    code = "forbidden"


class ExternalError(BeidouError):
    """Something outside answered badly or not at all."""

    code = "external_error"


class TemporaryError(ExternalError):
    """May go well when repeated, after ``retry_after`` seconds at the earliest."""

    code = "temporary_error"

    def __init__(self, message: str, *, code: str | None = None, retry_after: float = 5.0) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class PermanentError(ExternalError):
    """Will go wrong again until somebody changes something."""

    code = "permanent_error"


SAID = (InvalidInput, Conflict, ExternalError)
"""What a page shows as a sentence and goes on: all of them but a missing right."""
