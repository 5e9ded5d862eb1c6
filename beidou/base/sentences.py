"""Sentences that are stored once and read in every language.

A ``Sentence`` is a text in the language of whoever reads it now, which remembers its English
original and what was put into that.  Stored are these two; the words come when the row is loaded:

    change_status(step, to=FAILED, reason=Sentence("Node %(name)s is gone.", name=node))

``makemessages`` collects the originals, as it does those of ``gettext``.  Whatever takes the text
apart (a slice, an f-string around it) leaves a plain text in one language: put one sentence into
another as a parameter, or use ``joined``.  Plain texts (what people and clusters wrote) go through
the same fields unchanged.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self

from django.conf import settings
from django.utils.functional import Promise
from django.utils.translation import gettext, override

_PLACE = re.compile(r"%\((\w+)\)[sd]|%%")
_STOPS = (".", "。")
_ONE_STOP = re.compile(r"[^.][.。]\Z")  # three of them are not the end of a sentence
_PLAIN = "%(text)s"
_BEGIN = '{"text":'  # how a stored sentence begins; a plain text that does so is stored as one, too


class Sentence(str):
    """See the module.  Parameters are texts, numbers, sentences, or whatever ``str`` makes a text.

    They are only filled in, never read as a pattern: what people and hosts wrote may stand in them.
    """

    msgid: str
    params: dict[str, Any]

    def __new__(cls, msgid: str, /, **params: Any) -> Self:
        self = super().__new__(cls, _filled(_translated(msgid), params, _now))
        self.msgid = msgid
        self.params = params
        return self

    @property
    def english(self) -> str:
        """For what is kept in one language: logs, and values in the audit trail."""
        return _filled(self.msgid, self.params, in_english)

    def now(self) -> "Sentence":
        """The same sentence in the language that is active now."""
        return Sentence(self.msgid, **self.params)

    def each(self, change: Callable[[str], str]) -> "Sentence":
        """The same sentence with every text that was put into it changed."""
        changed = {
            name: value.each(change)
            if isinstance(value, Sentence)
            else change(value)
            if isinstance(value, str)
            else value
            for name, value in self.params.items()
        }
        return Sentence(self.msgid, **changed)

    def __reduce__(self) -> Any:
        return _again, (self.msgid, self.params)


def _translated(text: str) -> str:
    # Drivers are used without settings, too.  For an empty text gettext gives the catalogue's head.
    return gettext(text) if text and settings.configured else text


def _again(msgid: str, params: dict[str, Any]) -> Sentence:
    return Sentence(msgid, **params)


def _now(value: Any) -> Any:
    return value.now() if isinstance(value, Sentence) else value


def in_english(value: Any) -> Any:
    """``value``, also a nested one, with sentences as plain English."""
    return _each_sentence(value, lambda sentence: sentence.english)


def _filled(pattern: str, params: Mapping[str, Any], words: Callable[[Any], Any]) -> str:
    """``%``, but patterns may come from a host: no widths, and nothing raises.

    A whole sentence may be put in where the pattern ends one: there is a single full stop then.
    """

    def fill(place: re.Match[str]) -> str:
        if place[1] is None:
            return "%"
        if place[1] not in params:
            return place[0]
        text = str(words(params[place[1]]))
        ends_here = pattern[place.end() : place.end() + 1] in _STOPS
        return text[:-1] if ends_here and _ONE_STOP.search(text) else text

    return _PLACE.sub(fill, pattern)


def untranslated(text: str | Promise) -> Sentence:
    """The sentence of a lazy text, such as the label of a choice."""
    with override(None):
        plain = str(text)
    return Sentence(plain)  # outside: it is shown as soon as it is made


def languages() -> Iterator[None]:
    """Each language of the pages in turn, active while the loop's body runs."""
    for code, _name in settings.LANGUAGES:
        with override(code):
            yield


def joined(parts: Iterable[str], separator: str = " ") -> str:
    """Sentences one after the other, each in the reader's language."""
    numbered = {f"part{number}": part for number, part in enumerate(parts)}
    if len(numbered) < 2:
        return next(iter(numbered.values()), "")
    return Sentence(separator.join(f"%({name})s" for name in numbered), **numbered)


# --- storing --------------------------------------------------------------------------------------


def neutral(value: Any) -> Any:
    """``value`` for JSON, with sentences as ``{"text", "params"}``."""
    return _each_sentence(value, _as_data)


def _as_data(sentence: Sentence) -> dict[str, Any]:
    return {
        "text": sentence.msgid,
        "params": {name: _parameter(value) for name, value in sentence.params.items()},
    }


def _parameter(value: Any) -> Any:
    if isinstance(value, Sentence):
        return _as_data(value)
    # Python's own texts and numbers alone: the value of a TextChoices is one, a lazy text is not.
    return value if type(value) in (str, int, float) else str(value)


def _each_sentence(value: Any, change: Callable[[Sentence], Any]) -> Any:
    if isinstance(value, Sentence):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _each_sentence(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_each_sentence(item, change) for item in value]
    return value


def spoken(value: Any) -> Any:
    """JSON with every ``{"text", "params"}`` in it as a ``Sentence``."""
    if isinstance(value, list):
        return [spoken(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"text", "params"} and isinstance(value["text"], str):
        params = value["params"] if isinstance(value["params"], dict) else {}
        return Sentence(value["text"], **{name: spoken(item) for name, item in params.items()})
    return {name: spoken(item) for name, item in value.items()}


def to_column(text: str) -> str:
    """What stands in the database for ``text``."""
    if not isinstance(text, Sentence):
        if not text.startswith(_BEGIN):
            return text
        text = Sentence(_PLAIN, text=text)
    return json.dumps(_as_data(text), ensure_ascii=False, separators=(",", ":"))


def from_column(stored: str) -> str:
    """The text of a column; one from before there were sentences, or by hand, is as it is."""
    if not stored.startswith(_BEGIN):
        return stored
    try:
        found = spoken(json.loads(stored))
    except ValueError:
        return stored
    return found if isinstance(found, Sentence) else stored
