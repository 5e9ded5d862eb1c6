"""Sentences that the portal can say in the reader's language.

English here, on the host; to the portal goes how they were made: ``{"text", "params"}``.
"""

from __future__ import annotations

from collections.abc import Iterable


class Sentence(str):
    """``text`` with ``%(name)s`` for each parameter: a text, a number or another sentence."""

    text: str
    params: dict[str, object]

    def __new__(cls, text: str, **params: object) -> Sentence:
        self = super().__new__(cls, text % params)
        self.text, self.params = text, params
        return self

    def __deepcopy__(self, memo: object) -> Sentence:
        return self


def as_data(value: object) -> object:
    """What is sent for ``value``; texts that are no sentences are sent as they are."""
    if not isinstance(value, Sentence):
        return value
    params = {name: as_data(each) for name, each in value.params.items()}
    return {"text": value.text, "params": params}


def joined(parts: Iterable[str], separator: str) -> str:
    """Texts and sentences one after the other."""
    numbered = {f"part{number}": part for number, part in enumerate(parts)}
    if not any(isinstance(part, Sentence) for part in numbered.values()):
        return separator.join(numbered.values())
    return Sentence(separator.join(f"%({name})s" for name in numbered), **numbered)


def failure(message: str) -> dict[str, object]:
    """What ``fail_json`` takes: ``msg`` for whoever runs the playbook by hand."""
    return {"msg": str(message), "sentence": as_data(message)}
