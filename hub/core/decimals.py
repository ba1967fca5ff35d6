"""Numbers that come as text: settings, flags, queries, headers. Plain decimals and nothing else.

Python's own `int` and `float`, and what is built on them, also read underscores (`8_311`), signs,
other scripts' digits, exponents, `nan` and `inf`: a slip of the keyboard would count as a number.
"""

import re

# As many digits as nothing here needs, and as any reader takes.
_WHOLE = re.compile(r"[0-9]{1,18}")
_NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?")


def whole(text: str) -> int | None:
    """The whole number that `text` is; None for anything else."""
    return int(text) if _WHOLE.fullmatch(text) else None


def number(text: str) -> float | None:
    """The number that `text` is, with or without a decimal point; None for anything else."""
    return float(text) if _NUMBER.fullmatch(text) else None
