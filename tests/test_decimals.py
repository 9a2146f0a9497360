"""Products of decimal text."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.decimals import product, require_numbers

NUMBERS = st.from_regex(r"(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?", fullmatch=True)


@pytest.mark.parametrize(
    ("price", "quantity", "expected"),
    [
        ("1.50", "0.10", "0.15"),
        ("67012.50000000", "0.00012000", "8.0415"),
        ("100", "10", "1000"),
        ("0.00000001", "0.00000001", "0.0000000000000001"),
        ("0.00", "5", "0"),
        ("0", "0.0000000000000000", "0"),
        ("1.5e-7", "2E3", "0.0003"),
        ("1e3", "2", "2000"),
    ],
)
def test_product(price, quantity, expected):
    """Every digit, none too many, and never an exponent."""
    assert product(price, quantity) == expected


@given(NUMBERS, NUMBERS)
def test_a_product_is_exact(price, quantity):
    """However many digits there are, none is rounded."""
    text = product(price, quantity)
    assert Fraction(text) == Fraction(price) * Fraction(quantity)
    assert "E" not in text
    assert "." not in text or not text.endswith(("0", "."))
    assert text == product(quantity, price)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "NaN",
        "Infinity",
        "+1",
        "1_000",
        "1,000",
        "01",
        ".5",
        "5.",
        "\u0661",
        "x",
        '1"',
        "1],[2",
        "1e999999999",
        "1e-999999999",
        "1e400",
        "9" * 400,
        "0." + "1" * 300,
        "null",
        "1 1",
    ],
)
def test_what_is_no_number_is_refused(bad):
    """What is no JSON number, or out of all proportion, is an error, whichever of the two it is."""
    for price, quantity in ((bad, "1.5"), ("1.5", bad)):
        with pytest.raises((ValueError, ArithmeticError)):
            product(price, quantity)


def test_numbers():
    """JSON numbers are numbers, and nothing else is."""
    for good in ("0", "1.50", "0.00000001", "-1", "1e5", "9" * 30):
        require_numbers(good, "1")
    for bad in ("", "x", "1,2", "1_0", "+1", "NaN", "null"):
        with pytest.raises(ValueError):
            require_numbers("1", bad)
