"""Quantities are exact: sums over a fleet must agree with the scheduler's."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusters.drivers import quantity

SUFFIXES = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100m", 100),
        ("1", 1000),
        ("1.5", 1500),
        (".5", 500),
        ("2.", 2000),
        ("0.1m", 1),
        ("1e3", 1_000_000),
        ("1E-3", 1),
        ("250u", 1),
        ("-100m", -100),
        ("+1", 1000),
        ("0", 0),
    ],
)
def test_cpu_is_read_as_millicores(text: str, expected: int):
    assert quantity.millicores(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1Ki", 1024),
        ("1Gi", 2**30),
        ("1500k", 1_500_000),
        ("128974848", 128_974_848),
        ("129e6", 129_000_000),
        ("129M", 129_000_000),
        ("1E", 10**18),
        ("1Ei", 2**60),
        ("1.5Gi", 1_610_612_736),
        ("1m", 1),
        ("100Ei", quantity.LARGEST),
        ("9e99", quantity.LARGEST),
    ],
)
def test_memory_is_read_as_bytes_rounded_up_and_capped(text: str, expected: int):
    assert quantity.units(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "1 Gi",
        "1gi",
        "Gi",
        "1KiB",
        "0x10",
        "1e",
        "1e1000",
        "--1",
        "1.2.3",
        "NaN",
        "²",
        "1" * 65,
    ],
)
def test_what_is_no_quantity_is_refused(text: str):
    with pytest.raises(ValueError, match="is not a Kubernetes quantity"):
        quantity.units(text)


@given(whole=st.integers(0, 10**6), suffix=st.sampled_from(SUFFIXES))
def test_the_value_is_the_number_times_the_suffix(whole: int, suffix: str):
    one = quantity.exact(f"1{suffix}")
    assert quantity.exact(f"{whole}{suffix}") == whole * one


@given(st.decimals(min_value=0, max_value=10**9, places=6))
def test_decimal_fractions_lose_nothing(number: Decimal):
    assert quantity.exact(f"{number:f}") == Fraction(number)


@given(st.integers(0, 10**15), st.sampled_from(SUFFIXES))
def test_rounding_never_takes_anything_away(number: int, suffix: str):
    text = f"{number}{suffix}"
    exact = quantity.exact(text)
    expected = exact if exact < quantity.LARGEST else Fraction(quantity.LARGEST)
    assert expected <= quantity.units(text) < expected + 1


@given(st.text(max_size=80))
def test_any_text_is_a_quantity_or_a_value_error(text: str):
    try:
        assert isinstance(quantity.exact(text), Fraction)
    except ValueError as error:
        assert "quantity" in str(error)  # noqa: PT017 - either outcome is right
