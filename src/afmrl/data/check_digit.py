"""The check digit of a GTIN: whether a row of digits can be one at all."""

from __future__ import annotations

GTIN_LENGTHS = (8, 12, 13, 14)


def check_digit(digits: str) -> int:
    """What follows these digits (GS1: weights 3 and 1 from the right).

    >>> check_digit("400638133393")
    1
    """
    total = sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(digits)))
    return (10 - total % 10) % 10


def has_check_digit(digits: str) -> bool:
    """Whether the last digit is the check digit of the others."""
    return check_digit(digits[:-1]) == int(digits[-1])


def is_gtin(text: str) -> bool:
    """Whether text is 8, 12, 13 or 14 digits, not all zero, of which the last is the check digit of the others.

    >>> is_gtin("4006381333931"), is_gtin("4006381333930"), is_gtin("2024")
    (True, False, False)
    """
    return (
        text.isascii()
        and text.isdigit()
        and len(text) in GTIN_LENGTHS
        and bool(text.strip("0"))
        and has_check_digit(text)
    )
