"""Compare dotted version numbers without a library."""

from __future__ import annotations

import re


def version_numbers(text: str) -> tuple[int, ...]:
    """The leading numbers of ``6.1.0-18-amd64``, ``v1.36.3``, ``22.04``; may be empty."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", text.strip())
    return tuple(int(number) for number in found.group(1).split(".")) if found else ()


def is_at_least(version: str, minimum: str) -> bool:
    """Missing parts count as zero: 12 is at least 12.0, and unknown is less than everything.

    A minimum that is no version is reached by none: a mistake in it must not switch a check off.
    """
    have, want = version_numbers(version), version_numbers(minimum)
    length = max(len(have), len(want))
    pad = lambda numbers: numbers + (0,) * (length - len(numbers))  # noqa: E731
    return bool(have and want) and pad(have) >= pad(want)
