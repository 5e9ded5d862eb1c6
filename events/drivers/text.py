"""The full-text index of the embedded store, and what people type into it.

Words are what lies between anything that is no letter or digit, on both databases, so that
``web-api-6f`` finds the same.  People type words (all of them must be there, in any order),
``"exact phrases"``, ``begin*`` and ``-not``.
"""

import re
from dataclasses import dataclass

TEXT_COLUMNS = ("reason", "kind", "namespace", "name", "node", "component", "message")
_TERM = re.compile(r'(?P<no>-?)(?:"(?P<phrase>[^"]*)"?|(?P<word>[^\s"]+))')
_TOKEN = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Term:
    tokens: tuple[str, ...]
    is_prefix: bool = False
    is_excluded: bool = False


def tokens(text: str) -> list[str]:
    """The words of a text, in small letters."""
    return _TOKEN.findall(text.lower())


def parse(text: str) -> list[Term]:
    """The terms of a search; what has no letter or digit says nothing."""
    terms = []
    for found in _TERM.finditer(text):
        word = found["word"] or found["phrase"] or ""
        if words := tokens(word):
            is_prefix = bool(found["word"]) and word.endswith("*")
            terms.append(Term(tuple(words), is_prefix, is_excluded=bool(found["no"])))
    return terms


def for_sqlite(terms: list[Term]) -> tuple[str, str]:
    """The FTS5 expressions of what must be there and of what must not; "" where nothing is."""
    wanted = " AND ".join(_fts5(term) for term in terms if not term.is_excluded)
    unwanted = " OR ".join(_fts5(term) for term in terms if term.is_excluded)
    return wanted, unwanted


def _fts5(term: Term) -> str:
    return f'"{" ".join(term.tokens)}"' + ("*" if term.is_prefix else "")


def for_postgresql(terms: list[Term]) -> str:
    """The ``tsquery`` of the terms."""
    return " & ".join(_tsquery(term) for term in terms)


def _tsquery(term: Term) -> str:
    *first, last = (f"'{token}'" for token in term.tokens)
    words = " <-> ".join([*first, last + (":*" if term.is_prefix else "")])
    return f"!({words})" if term.is_excluded else f"({words})"
