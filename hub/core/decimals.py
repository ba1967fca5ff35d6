"""Reads numbers in settings, flags, queries and headers: plain decimals and nothing else.

Python's `int` and `float` also read underscores (`8_311`), signs, other scripts' digits, exponents,
`nan` and `inf`, so that a typing error would count as a number.
"""

import re

# More digits than any value here needs, and as many as every reader takes.
_WHOLE = re.compile(r"[0-9]{1,18}")
_NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?")


def whole(text: str) -> int | None:
    """Return `text` as a whole number; None where it is none."""
    return int(text) if _WHOLE.fullmatch(text) else None


def number(text: str) -> float | None:
    """Return `text` as a number, with or without a decimal point; None where it is none."""
    return float(text) if _NUMBER.fullmatch(text) else None
