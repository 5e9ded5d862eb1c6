"""The Chinese translation is complete: every text of the code has one, and none is a guess.

Works on a copy of the tracked files, because ``makemessages`` writes into the tree.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CATALOGUE = Path("locale/zh_Hans/LC_MESSAGES/django.po")
IGNORED = ("tests/*", "lab/*", "bench/*")


def message_ids(catalogue: Path) -> set[str]:
    """All texts of a catalogue, with their context."""
    shown = subprocess.run(
        ["msgattrib", "--no-wrap", "--no-obsolete", str(catalogue)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: set[str] = set()
    context = current = ""
    is_id = False
    for line in shown.stdout.splitlines():
        if line.startswith("msgctxt "):
            context = line[8:]
        elif line.startswith("msgid "):
            current, is_id = line[6:].strip('"'), True
        elif line.startswith("msgstr") and is_id:
            found.add(f"{context}|{current}")
            context, is_id = "", False
        elif is_id and line.startswith('"'):
            current += line.strip('"')
    return found


def incomplete(catalogue: Path, *arguments: str) -> set[str]:
    """The texts that ``msgattrib`` selects with ``arguments``."""
    with tempfile.NamedTemporaryFile(suffix=".po") as selected:
        subprocess.run(
            ["msgattrib", *arguments, "--no-obsolete", "-o", selected.name, str(catalogue)],
            check=True,
        )
        return message_ids(Path(selected.name)) - {"|"} if Path(selected.name).exists() else set()


def texts_of_code(copy: Path) -> set[str]:
    """The texts that ``makemessages`` finds now."""
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, files):
        source = ROOT / name
        if source.is_file() and source.suffix in (".py", ".html", ".txt", ".po"):
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    ignored = [word for pattern in IGNORED for word in ("--ignore", pattern)]
    subprocess.run(
        [sys.executable, "manage.py", "makemessages", "--locale", "zh_Hans",
         "--no-location", "--no-obsolete", *ignored],
        cwd=copy, check=True, capture_output=True, text=True,
        env={**os.environ, "BEIDOU_DATA_DIR": str(copy / "data")},
    )  # fmt: skip
    return message_ids(copy / CATALOGUE)


def is_compiled(catalogue: Path) -> bool:
    """The compiled file beside the catalogue is what the catalogue compiles to.

    It is in the repository, because a machine that only runs the portal has no gettext.
    """
    with tempfile.NamedTemporaryFile(suffix=".mo") as fresh:
        subprocess.run(["msgfmt", "--check-format", "-o", fresh.name, str(catalogue)], check=True)
        compiled = catalogue.with_suffix(".mo")
        return compiled.exists() and compiled.read_bytes() == Path(fresh.name).read_bytes()


def main() -> int:
    catalogue = ROOT / CATALOGUE
    if not catalogue.exists():
        print(f"{CATALOGUE} is missing.")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        needed = texts_of_code(Path(folder))
    problems = [
        ("has no entry", needed - message_ids(catalogue)),
        ("is not translated", incomplete(catalogue, "--untranslated")),
        ("is marked fuzzy", incomplete(catalogue, "--only-fuzzy")),
    ]
    for sentence, texts in problems:
        for text in sorted(texts):
            print(f"{text.split('|', 1)[1]!r} {sentence} in {CATALOGUE}.")
    stale = [each for each in sorted(catalogue.parent.glob("*.po")) if not is_compiled(each)]
    for each in stale:
        print(f"{each.relative_to(ROOT).with_suffix('.mo')} is not current: run `make messages`.")
    return int(bool(stale) or any(texts for _, texts in problems))


if __name__ == "__main__":
    sys.exit(main())
