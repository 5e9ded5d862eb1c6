"""What a reviewer of a source should look at: what is new in it, and what deserves a second look.

The remarks are a help, no wall: whoever wants to hide something from a pattern can.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from beidou.base.sentences import Sentence
from operations.drivers import trees
from operations.drivers.trees import Entry, Tree
from operations.playbooks.declaration import Declaration, Part

REMARKS_MAX: Final = 100
LINES_MAX: Final = 4000
TEXT_MAX: Final = 400_000
_PLUGINS: Final = re.compile(
    r"(^|/)(action|become|cache|callback|cliconf|connection|filter|httpapi|inventory|lookup|netconf|"
    r"shell|strategy|terminal|test|vars)_plugins/.+\.py$|(^|/)plugins/.+\.py$"
)
_ON_PORTAL: Final = re.compile(
    r"(delegate_to\s*:\s*['\"]?(localhost|127\.0\.0\.1|::1)|\blocal_action\b|"
    r"(^|\s)hosts\s*:\s*['\"]?(localhost|127\.0\.0\.1)|connection\s*:\s*['\"]?local\b|"
    r"(lookup|query|q)\s*\(\s*['\"](ansible\.builtin\.)?(pipe|file|env|url|password|unvault)\b|"
    r"\bwith_(pipe|file|env|url)\b)"
)
_REACHED: Final = re.compile(
    r"\bansible_(ssh_\w+|(sftp|scp|paramiko)_\w+|host_key_checking|connection|host|port)['\"]?"
    r"\s*(:|=(?!=))"
)
# A group that holds a repetition, or a choice, and is repeated itself: "(a+)+", "(a|aa)*".
_NESTED: Final = re.compile(r"\((?:[^()\\]|\\.)*(?:[*+|]|\{\d*,)(?:[^()\\]|\\.)*\)(?:[*+]|\{\d*,)")
_OUTSIDE: Final = re.compile(r"(no_log\s*:\s*false)", re.IGNORECASE)


def remarks(tree: Tree) -> list[Sentence]:
    """In the order of the files."""
    found = [Sentence("Submodule %(path)s is not fetched.", path=path) for path in tree.left_out]
    for entry in tree.entries:
        found += _of(entry)
        if len(found) >= REMARKS_MAX:
            return [*found[:REMARKS_MAX], Sentence("… and more.")]
    return found


def _of(entry: Entry) -> Iterator[Sentence]:
    name = entry.path.rsplit("/", 1)[-1]
    if name == "ansible.cfg":
        yield Sentence("%(path)s is not used: the portal's own settings count.", path=entry.path)
    elif name in ("requirements.yml", "requirements.yaml"):
        yield Sentence(
            "%(path)s is not installed: put roles and collections into the source.", path=entry.path
        )
    if _PLUGINS.search(entry.path):
        yield Sentence("%(path)s is a plugin: it runs on the worker's machine.", path=entry.path)
    if entry.content.startswith(b"$ANSIBLE_VAULT"):
        yield Sentence(
            "%(path)s is encrypted with ansible-vault, which the portal cannot open.",
            path=entry.path,
        )
    if not name.endswith((".yml", ".yaml", ".j2")) or len(entry.content) > TEXT_MAX:
        return
    for number, line in enumerate(entry.content.decode("utf-8", "replace").splitlines(), 1):
        if _ON_PORTAL.search(line) and not line.lstrip().startswith("#"):
            yield Sentence(
                "%(path)s, line %(line)s, is done on the worker's machine: %(text)s",
                path=entry.path, line=number, text=line.strip()[:200],
            )  # fmt: skip
        elif _OUTSIDE.search(line):
            yield Sentence(
                "%(path)s, line %(line)s, shows what may be secret: %(text)s",
                path=entry.path, line=number, text=line.strip()[:200],
            )  # fmt: skip


def remarks_on(declared: Declaration) -> Iterator[Sentence]:
    """A pattern is tried on what people give, and nothing ends one that takes for ever."""
    for playbook in declared.playbooks:
        for name, part in playbook.parameters.properties.items():
            if any(_NESTED.search(pattern) for pattern in _patterns(part)):
                yield Sentence(
                    "The pattern of %(name)s in %(playbook)s repeats what repeats: see that no "
                    "value can keep the portal busy for hours.",
                    name=name, playbook=playbook.name,
                )  # fmt: skip


def _patterns(part: Part) -> Iterator[str]:
    yield part.pattern or ""
    for each in [*(part.properties or {}).values(), *([part.items] if part.items else [])]:
        yield from _patterns(each)


@dataclass(frozen=True)
class Change:
    """One file; ``what`` is added, removed or changed; ``lines`` is a unified diff of texts."""

    path: str
    what: str
    lines: tuple[str, ...] = ()


def changes(old: Sequence[Entry], new: Sequence[Entry]) -> list[Change]:
    """What differs, file by file; without an old one everything is added.  At most ``LINES_MAX``
    lines are shown; which files differ is always said."""
    before, after = _by_path(old), _by_path(new)
    found, left = [], LINES_MAX
    for path in sorted(before.keys() | after.keys()):
        was, now = before.get(path), after.get(path)
        if was == now:
            continue
        what = "added" if was is None else "removed" if now is None else "changed"
        lines = tuple(_difference(was, now))[: max(left, 0)]
        left -= len(lines)
        found.append(Change(path, what, lines))
    return found


def _by_path(entries: Sequence[Entry]) -> Mapping[str, Entry]:
    return {entry.path: entry for entry in entries}


def _difference(old: Entry | None, new: Entry | None) -> Iterator[str]:
    texts = [_lines(old), _lines(new)]
    if texts[0] is None or texts[1] is None:
        return
    if old is not None and new is not None and old.kind != new.kind:
        yield f"{old.kind} → {new.kind}"
    yield from list(difflib.unified_diff(texts[0], texts[1], lineterm="", n=3))[2:]


def _lines(entry: Entry | None) -> list[str] | None:
    """None for what is no text."""
    if entry is None:
        return []
    if entry.kind == trees.LINK:
        return [f"→ {entry.content.decode('utf-8', 'replace')}"]
    if len(entry.content) > TEXT_MAX or b"\0" in entry.content:
        return None
    return entry.content.decode("utf-8", "replace").splitlines()
