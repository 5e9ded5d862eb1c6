"""Whole numbers that come as text from addresses, headers and forms.

``int`` alone does not do: it raises for "²", which is a digit to Python, and for thousands of
digits; and no database column takes a number of twenty.
"""

DIGITS_MAX = 18
NUMBER_MAX = 2**53
"""More than any counter of ours reaches; what databases and browsers still count exactly."""


def as_number(text: str) -> int | None:
    """A whole number of at least 0, at most ``NUMBER_MAX``; None for what is none."""
    if not (text.isascii() and text.isdecimal()):
        return None
    return NUMBER_MAX if len(text) > DIGITS_MAX else min(int(text), NUMBER_MAX)


def as_key(value: int | str) -> int | None:
    """A row's key, from a number or its digits; None for what no row can have."""
    text = str(value)
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= DIGITS_MAX else None
