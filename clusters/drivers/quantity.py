"""Kubernetes quantities ("100m", "1Gi", "1e3"), read exactly into whole numbers.

CPU is kept in millicores and everything else in its own unit (bytes, pods), as Kubernetes itself
does: parts of a unit are rounded up, away from zero.  Floating point is never involved, because
sums over thousands of pods must agree with what the scheduler computes.
"""

import re
from fractions import Fraction
from functools import lru_cache

# Kubernetes stores quantities in 64 bits and caps larger ones.
LARGEST = 2**63 - 1

_QUANTITY = re.compile(
    r"(?P<sign>[+-]?)(?P<digits>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
    r"(?:(?P<suffix>[KMGTPE]i|[numkMGTPE])|[eE](?P<exponent>[+-]?[0-9]{1,3}))?"
)
_LONGEST_TEXT = 64

_MULTIPLIERS: dict[str | None, Fraction] = {
    None: Fraction(1),
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
    "Ki": Fraction(2**10),
    "Mi": Fraction(2**20),
    "Gi": Fraction(2**30),
    "Ti": Fraction(2**40),
    "Pi": Fraction(2**50),
    "Ei": Fraction(2**60),
}


def exact(text: str) -> Fraction:
    """The exact value of a quantity; ValueError names what cannot be read."""
    match = _QUANTITY.fullmatch(text) if len(text) <= _LONGEST_TEXT else None
    if match is None:
        raise ValueError(f"{text[:_LONGEST_TEXT]!r} is not a Kubernetes quantity")
    value = Fraction(match["digits"]) * _MULTIPLIERS[match["suffix"]]
    if match["exponent"]:
        value *= Fraction(10) ** int(match["exponent"])
    return -value if match["sign"] == "-" else value


# Nearly all quantities of a cluster are a few hundred different texts.
@lru_cache(maxsize=8192)
def millicores(text: str) -> int:
    """CPU as thousandths of a core: "1500m" and "1.5" are 1500."""
    return _whole(exact(text) * 1000)


@lru_cache(maxsize=8192)
def units(text: str) -> int:
    """Memory, storage (bytes) or a count (pods, devices): "1Ki" is 1024."""
    return _whole(exact(text))


def _whole(value: Fraction) -> int:
    """Round away from zero and cap at 64 bits, as Kubernetes does."""
    size = min(-(-abs(value.numerator) // value.denominator), LARGEST)
    return size if value >= 0 else -size
