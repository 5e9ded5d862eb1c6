"""What somebody gives to a playbook, checked by its declaration: the one place for form, API,
manifest.

Secrets leave here apart from the rest.  In the parameters of an operation, and wherever these are
shown, stands a mark in their place: it says that two are the same, and nothing else.
"""

import base64
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _

from beidou.base import audit
from beidou.base.errors import InvalidInput
from beidou.base.sentences import Sentence
from beidou.base.storable import unstorable_in
from operations.playbooks.declaration import SECRET_LEAST, Parameters, Part

TEXT_MAX: Final = 100_000
HIDDEN: Final = "●●●"
_MARK: Final = re.compile(re.escape(audit.HIDDEN) + r" #[0-9a-f]{8}")


@dataclass(frozen=True)
class Given:
    """``shown`` has every value, and marks for ``secrets``."""

    shown: dict[str, Any]
    secrets: dict[str, str]


def check(
    parameters: Parameters, given: Mapping[str, Any], *, owner: str, marks_are_kept: bool = False
) -> Given:
    """With the defaults of what was left out; ``InvalidInput`` names each wrong one.

    ``owner`` names the playbook: the mark of a secret differs from playbook to playbook.  A mark is
    no secret, and is refused, unless ``marks_are_kept``: to compare with what was given before.
    """
    problems: dict[str, str] = {}
    shown: dict[str, Any] = {}
    secrets: dict[str, str] = {}
    for name in given:
        if name not in parameters.properties:
            problems[name] = _("There is no such parameter.")
    for name, part in parameters.properties.items():
        value = given.get(name)
        if value is None or (value == "" and part.is_secret):
            if name in parameters.required and part.default is None:
                problems[name] = _("This is missing.")
            elif part.default is not None:
                shown[name] = part.default
            continue
        if isinstance(value, str) and part.is_secret and _MARK.fullmatch(value):
            if not marks_are_kept:
                problems[name] = _("This is the mark of a secret; give the secret itself.")
            shown[name] = value
            continue
        if found := next(_wrong(part, value), None):
            place, sentence = found
            problems[f"{name}{place}"] = sentence
        elif part.is_secret:
            secrets[name] = value
            shown[name] = _mark(owner, name, value)
        else:
            shown[name] = value
    if problems:
        fields = {f"params.variables.{name}": sentence for name, sentence in problems.items()}
        place, sentence = next(iter(fields.items()))
        raise InvalidInput(f"{place}: {sentence}", code="invalid_params", fields=fields)
    return Given(shown, secrets)


def wrong_default(parameters: Parameters) -> str:
    """The first parameter whose default it would refuse itself; empty when there is none.

    Patterns are not tried: nobody has released them yet, and one can keep a worker for hours.
    """
    for name, part in parameters.properties.items():
        if part.default is not None and any(_wrong(_without_patterns(part), part.default)):
            return name
    return ""


def _without_patterns(part: Part) -> Part:
    inner = {name: _without_patterns(each) for name, each in (part.properties or {}).items()}
    return part.model_copy(
        update={
            "pattern": None,
            "items": _without_patterns(part.items) if part.items else None,
            "properties": inner if part.properties is not None else None,
        }
    )


def _mark(owner: str, name: str, secret: str) -> str:
    digest = salted_hmac(f"beidou.playbook:{owner}:{name}", secret, algorithm="sha256").hexdigest()
    return f"{audit.HIDDEN} #{digest[:8]}"


def _is_type(kind: str, value: Any) -> bool:
    if kind == "boolean":
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    types: dict[str, Any] = {
        "string": str, "integer": int, "number": (int, float), "array": list, "object": dict,
    }  # fmt: skip
    return isinstance(value, types[kind])


def _wrong(part: Part, value: Any) -> Iterator[tuple[str, str]]:
    """Place below the parameter and sentence of each mistake."""
    if not _is_type(part.type, value):
        yield "", _wanted_type(part.type)
        return
    if part.enum is not None and value not in part.enum:
        known = ", ".join(str(each) for each in part.enum)
        yield "", _("This must be one of these: %(known)s.") % {"known": known}
        return
    if next(unstorable_in(value), None) is not None:
        yield "", _("This holds a character that cannot be stored.")
    elif isinstance(value, str):
        yield from (("", sentence) for sentence in _wrong_text(part, value))
    elif isinstance(value, list):
        yield from _wrong_list(part, value)
    elif isinstance(value, dict):
        yield from _wrong_object(part, value)
    elif part.type in ("integer", "number"):
        yield from (("", sentence) for sentence in _wrong_number(part, value))


def _wanted_type(kind: str) -> str:
    return {
        "string": _("This must be a text."),
        "integer": _("This must be a whole number."),
        "number": _("This must be a number."),
        "boolean": _("This must be true or false."),
        "array": _("This must be a list."),
        "object": _("This must be a mapping."),
    }[kind]


def _wrong_text(part: Part, value: str) -> Iterator[str]:
    least = max(part.minLength or 0, SECRET_LEAST if part.is_secret else 0)
    most = min(part.maxLength if part.maxLength is not None else TEXT_MAX, TEXT_MAX)
    if len(value) < least:
        yield _("This has fewer than %(count)s characters.") % {"count": least}
    elif len(value) > most:
        yield _("This has more than %(count)s characters.") % {"count": most}
    elif part.pattern is not None and not re.search(part.pattern, value):
        yield _("This does not have the form %(pattern)s.") % {"pattern": part.pattern}


def _wrong_number(part: Part, value: float) -> Iterator[str]:
    if not math.isfinite(value):
        yield _("This must be a number.")
    elif part.minimum is not None and value < part.minimum:
        yield _("This must be at least %(least)s.") % {"least": part.minimum}
    elif part.maximum is not None and value > part.maximum:
        yield _("This must be at most %(most)s.") % {"most": part.maximum}


def _wrong_list(part: Part, value: list[Any]) -> Iterator[tuple[str, str]]:
    if len(value) < (part.minItems or 0):
        yield "", _("This has fewer than %(count)s entries.") % {"count": part.minItems}
    elif len(value) > (1000 if part.maxItems is None else part.maxItems):
        yield "", _("This has too many entries.")
    for index, each in enumerate(value):
        if part.items is not None:
            yield from ((f"[{index}]{place}", text) for place, text in _wrong(part.items, each))


def _wrong_object(part: Part, value: dict[str, Any]) -> Iterator[tuple[str, str]]:
    known = part.properties or {}
    for name in part.required:
        if name not in value:
            yield f".{name}", _("This is missing.")
    for name, each in value.items():
        if name in known:
            yield from ((f".{name}{place}", text) for place, text in _wrong(known[name], each))
        elif part.properties is not None and not part.additionalProperties:
            yield f".{name}", _("There is no such parameter.")


class Masker:
    """Takes secrets out of whatever a playbook says: as they are, in JSON, in URLs and in base64.

    What a playbook takes apart or encodes in another way is not recognised.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        texts: set[str] = set()
        for secret in secrets.values():
            for part in (secret, *secret.splitlines()):
                if len(part) >= SECRET_LEAST:
                    texts |= set(_forms(part))
        self._texts = sorted(texts, key=len, reverse=True)

    def __call__(self, value: Any) -> Any:
        """``value``, also a nested one."""
        if not self._texts:
            return value
        if isinstance(value, Sentence):
            return value.each(self)
        if isinstance(value, str):
            for text in self._texts:
                value = value.replace(text, HIDDEN)
            return value
        if isinstance(value, Mapping):
            return {self(name): self(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self(item) for item in value]
        return value


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]
    yield quote(secret, safe="")
    yield base64.b64encode(secret.encode()).decode().rstrip("=")
