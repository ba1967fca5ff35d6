"""Moments as peers write them: milliseconds since 1970 UTC, or ISO 8601."""

import math
from datetime import UTC, datetime

from hub.core import decimals
from hub.errors import BadRequestError

LATEST_MS = 253_402_300_799_999
"""Since 1970: the last day that every calendar knows, 9999-12-31."""


def read_moment(name: str, given: int | str) -> int:
    """Milliseconds since 1970; text without an offset is UTC, what is older than 1970 is 0.

    Raises:
        BadRequestError: it is neither, or later than `LATEST_MS`.
    """
    if isinstance(given, int) or (given.isascii() and given.isdigit()):
        return _milliseconds(name, given)
    try:
        found = datetime.fromisoformat(given)
        found = found if found.tzinfo else found.replace(tzinfo=UTC)
        return max(0, math.ceil(found.timestamp() * 1000 - 0.001))
    except (ValueError, OverflowError):
        raise BadRequestError(
            f"{name} is {given[:40]!r}, expected milliseconds since 1970 or ISO 8601"
        ) from None


def _milliseconds(name: str, given: int | str) -> int:
    found = given if isinstance(given, int) else decimals.whole(given)
    if found is None or not 0 <= found <= LATEST_MS:
        shown = str(given)[:40]
        raise BadRequestError(f"{name} is {shown}, allowed is 0 to {LATEST_MS}")
    return found
