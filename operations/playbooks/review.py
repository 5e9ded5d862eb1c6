"""What a reviewer of a source should look at: what is new in it, and what deserves a second look.

The remarks are a help, no wall: whoever wants to hide something from a pattern can.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from beidou.base.sentences import Sentence
from operations.drivers import trees
from operations.drivers.trees import Entry, Tree
from operations.playbooks.declaration import Declaration, Part

REMARKS_MAX: Final = 100
LINES_MAX: Final = 4000
TEXT_MAX: Final = 400_000
COMPARED_MAX: Final = 1000  # lines of one file
CONTEXT: Final = 3
_Part = tuple[str, int, int, int, int]
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
    if not name.endswith((".yml", ".yaml", ".j2")) and not _holds_variables(entry.path):
        return
    if len(entry.content) > TEXT_MAX:
        yield Sentence("%(path)s is too large to be looked through.", path=entry.path)
        return
    for number, line in enumerate(entry.content.decode("utf-8", "replace").splitlines(), 1):
        if _ON_PORTAL.search(line) and not line.lstrip().startswith("#"):
            yield Sentence(
                "%(path)s, line %(line)s, is done on the worker's machine: %(text)s",
                path=entry.path, line=number, text=line.strip()[:200],
            )  # fmt: skip
        elif _REACHED.search(line) and not line.lstrip().startswith("#"):
            yield Sentence(
                "%(path)s, line %(line)s, says how hosts are reached: %(text)s",
                path=entry.path, line=number, text=line.strip()[:200],
            )  # fmt: skip
        elif _OUTSIDE.search(line):
            yield Sentence(
                "%(path)s, line %(line)s, shows what may be secret: %(text)s",
                path=entry.path, line=number, text=line.strip()[:200],
            )  # fmt: skip


def _holds_variables(path: str) -> bool:
    """Ansible reads files below these folders that have no ending, too."""
    *folders, name = path.split("/")
    return "." not in name and not {"group_vars", "host_vars"}.isdisjoint(folders)


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
    """One file; ``what`` is added, removed or changed; ``lines`` is a unified diff of texts;
    ``hidden`` says why not all of it is there: lines (there are too many), large or binary."""

    path: str
    what: str
    lines: tuple[str, ...] = ()
    hidden: str = ""


def changes(old: Sequence[Entry], new: Sequence[Entry]) -> list[Change]:
    """What differs, file by file; without an old one everything is added.  At most ``LINES_MAX``
    lines are shown; which files differ, and where something is not shown, is always said."""
    before, after = _by_path(old), _by_path(new)
    found, left = [], LINES_MAX
    for path in sorted(before.keys() | after.keys()):
        was, now = before.get(path), after.get(path)
        if was == now:
            continue
        what = "added" if was is None else "removed" if now is None else "changed"
        lines: tuple[str, ...] = ()
        if not (hidden := _why_hidden(was) or _why_hidden(now)):
            # Nothing is compared that cannot be shown.
            lines = tuple(islice(_difference(was, now), left + 1)) if left else ()
            hidden = "lines" if len(lines) > left or not left else ""
            lines = lines[:left]
        left -= len(lines)
        found.append(Change(path, what, lines, hidden))
    return found


def _by_path(entries: Sequence[Entry]) -> Mapping[str, Entry]:
    return {entry.path: entry for entry in entries}


def _why_hidden(entry: Entry | None) -> str:
    if entry is None or entry.kind == trees.LINK:
        return ""
    if len(entry.content) > TEXT_MAX:
        return "large"
    return "binary" if b"\0" in entry.content else ""


def _difference(old: Entry | None, new: Entry | None) -> Iterator[str]:
    if old is not None and new is not None and old.kind != new.kind:
        yield f"{old.kind} → {new.kind}"
    yield from _compared(_lines(old), _lines(new))


def _lines(entry: Entry | None) -> list[str]:
    if entry is None:
        return []
    if entry.kind == trees.LINK:
        return [f"→ {entry.content.decode('utf-8', 'replace')}"]
    return entry.content.decode("utf-8", "replace").splitlines()


def _compared(old: list[str], new: list[str]) -> Iterator[str]:
    """A unified diff.  Only between the first and the last line that differ is anything compared,
    and not much: a source can be made so that comparing takes hours."""
    begin = _alike(old, new)
    end = _alike(old[begin:][::-1], new[begin:][::-1])
    first = max(begin - CONTEXT, 0)
    old_part = old[first : len(old) - max(end - CONTEXT, 0)]
    new_part = new[first : len(new) - max(end - CONTEXT, 0)]
    for group in _groups(old_part, new_part, begin - first, min(end, CONTEXT)):
        (_tag, i1, _i2, j1, _j2), (_last, _i1, i2, _j1, j2) = group[0], group[-1]
        yield f"@@ -{first + i1 + 1},{i2 - i1} +{first + j1 + 1},{j2 - j1} @@"
        for tag, begin_old, end_old, begin_new, end_new in group:
            if tag == "equal":
                yield from (f" {line}" for line in old_part[begin_old:end_old])
            else:
                yield from (f"-{line}" for line in old_part[begin_old:end_old])
                yield from (f"+{line}" for line in new_part[begin_new:end_new])


def _alike(old: list[str], new: list[str]) -> int:
    """How many lines are the same from the beginning on."""
    pairs = zip(old, new, strict=False)
    return next(
        (n for n, (one, other) in enumerate(pairs) if one != other), min(len(old), len(new))
    )


def _groups(old: list[str], new: list[str], before: int, after: int) -> Iterable[list[_Part]]:
    """Parts as of ``SequenceMatcher``; ``before`` and ``after`` lines are the same."""
    counts = len(old) - before - after, len(new) - before - after
    if not any(counts):
        return []
    if all(counts) and max(counts) <= COMPARED_MAX:
        return difflib.SequenceMatcher(None, old, new).get_grouped_opcodes(CONTEXT)
    ends = len(old) - after, len(new) - after
    parts: list[_Part] = [
        ("equal", 0, before, 0, before),
        ("replace", before, ends[0], before, ends[1]),
        ("equal", ends[0], len(old), ends[1], len(new)),
    ]
    return [parts]
