"""Write the texts of theme and admin that nobody has translated into beidou/theme_texts.py.

unfold comes without translations, and Django's own catalogues lack a few.  What they say is
collected here with gettext_noop, so that makemessages puts it into our catalogue (hence not under
locale/, which makemessages passes over); what Django's catalogues know already is left out.
With --check nothing is written: the exit code says whether the file is what would be written.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import django
import unfold
from django.conf import settings
from django.utils import translation

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "beidou" / "theme_texts.py"
LANGUAGE = "zh-hans"
APPS = ("admin", "auth")
CATALOGUE = Path("locale") / "en" / "LC_MESSAGES" / "django.po"
HEAD = '''"""Texts of theme and admin without translations; written by bin/theme_texts.py."""

from django.utils.translation import gettext_noop, ngettext_lazy

# fmt: off
# ruff: noqa: E501
'''


def catalogue_of_theme(folder: Path) -> str:
    """What ``makemessages`` finds in a copy of the theme."""
    shutil.copytree(
        Path(unfold.__file__).parent, folder / "unfold", ignore=shutil.ignore_patterns("static")
    )
    locale = folder / "locale"
    locale.mkdir()
    subprocess.run(
        [sys.executable, "-m", "django", "makemessages", "--locale", "en", "--no-location",
         "--no-wrap"],
        cwd=folder, check=True, capture_output=True, env=_plain_environment(),
    )  # fmt: skip
    return (locale / "en" / "LC_MESSAGES" / "django.po").read_text()


def _plain_environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}


def texts_of(catalogue: str) -> list[tuple[str, str]]:
    """(text, plural or empty) of each entry but the head."""
    found = []
    for entry in catalogue.split("\n\n")[1:]:
        parts: dict[str, str] = {}
        key = ""
        for line in entry.splitlines():
            if match := re.match(r'(msgid|msgid_plural|msgstr\S*) (".*")$', line):
                key = match[1]
                parts[key] = ast.literal_eval(match[2])
            elif line.startswith('"'):
                parts[key] += ast.literal_eval(line)
        found.append((parts["msgid"], parts.get("msgid_plural", "")))
    return sorted(found)


def is_known(text: str, plural: str) -> bool:
    """Django's own catalogues have a translation."""
    if plural:
        return translation.ngettext(text, plural, 1) != text
    return translation.gettext(text) != text


def needed() -> str:
    """What the file has to be."""
    settings.configure(
        USE_I18N=True,
        LANGUAGE_CODE=LANGUAGE,
        INSTALLED_APPS=[f"django.contrib.{app}" for app in (*APPS, "contenttypes")],
    )
    django.setup()
    with tempfile.TemporaryDirectory() as folder:
        texts = set(texts_of(catalogue_of_theme(Path(folder))))
    for app in APPS:
        english = Path(django.__file__).parent / "contrib" / app / CATALOGUE
        texts |= set(texts_of(english.read_text()))
    with translation.override(LANGUAGE):
        unknown = [pair for pair in sorted(texts) if not is_known(*pair)]
    lines = [
        f"ngettext_lazy({_quoted(text)}, {_quoted(plural)})"
        if plural
        else f"gettext_noop({_quoted(text)})"
        for text, plural in unknown
    ]
    return HEAD + "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def main() -> int:
    text = needed()
    if "--check" in sys.argv:
        if TARGET.exists() and TARGET.read_text() == text:
            return 0
        print(f"{TARGET.relative_to(ROOT)} is not current: run `make messages`.")
        return 1
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
