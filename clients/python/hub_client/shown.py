"""A URL as an error that is about it shows it: whole, but for what may be a secret.

Whoever wrote `http://hub.example/?room=1` has to see the query that is refused, and a log must not
hold the token that somebody put there.
"""

import re

HIDDEN = "********"
_SECRET_NAME = re.compile(
    r"pass|pwd|secret|token|credential|auth|signature|key$|^(sig|jwt|pin|code)$", re.IGNORECASE
)


def whole_url(url: str) -> str:
    """`url` without a user's name and password, and with `HIDDEN` in place of other secrets.

    A password that was not escaped may hold what ends the host of a URL, so all up to the last
    `@` is left out, whatever stands before it.
    """
    base, *rest = re.split("([?#&])", re.sub("(?<=//).*@", "", url))
    marks, pairs = rest[::2], rest[1::2]
    return base + "".join(mark + _shown(pair) for mark, pair in zip(marks, pairs, strict=True))


def _shown(pair: str) -> str:
    """Of a query or fragment; what has no name may be anything."""
    name, equals, value = pair.partition("=")
    if not equals:
        return HIDDEN if pair else ""
    return f"{name}={HIDDEN}" if value and _SECRET_NAME.search(name) else pair
