"""Tickets: credentials of an operator's page for requests whose only place for them is the URL.

A browser can set no header on a WebSocket or an EventSource, and URLs end up in logs, where an
operator key must not be. So the page asks for a ticket with the key in a header and puts the ticket
into the URL: it opens sessions that read, for ten minutes, and nothing else.

A ticket is a token as in `hub.auth.tokens`, signed with a secret made from an operator key. So
every node with the same keys takes it, and no node remembers any. The secret is not the key itself:
where a token key happens to be the same text, its tokens are still no tickets.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from hub.auth.tokens import ALGORITHM, TokenVerifier
from hub.core.identity import Identity

# A page asks for the next one before this one ends. Guess, not measured.
LIFE_SECONDS = 600


class Tickets:
    """Issue and verify tickets; without operator keys there are none."""

    __slots__ = ("_clock", "_secrets", "_verifier")

    def __init__(
        self,
        operator_keys: Sequence[str],
        *,
        clock: Callable[[], float],
        leeway_seconds: float = 0,
    ) -> None:
        """Take the keys and a clock of seconds since 1970 UTC, which other nodes' may differ from
        by the leeway."""
        self._secrets = tuple(_secret(key) for key in operator_keys)
        self._clock = clock
        self._verifier = TokenVerifier(
            self._secrets, clock=clock, leeway_seconds=leeway_seconds, setting="HUB_OPERATOR_KEYS"
        )

    def issue(self) -> str | None:
        """Return a new ticket; None where there are no keys, so that none is needed."""
        if not self._secrets:
            return None
        import jwt  # noqa: PLC0415 - see `hub.auth.algorithms`

        claims = {
            "exp": int(self._clock()) + LIFE_SECONDS,
            "hub": {"subscribe": ["*"]},
        }
        return jwt.encode(claims, self._secrets[0], algorithm=ALGORITHM)

    def verify(self, ticket: str) -> Identity:
        """Return an operator with read rights only; raise `UnauthorizedError` unless the ticket is
        valid now."""
        identity = self._verifier.verify(ticket)
        return replace(identity, publisher="ticket", operator=True, observer=True)


def _secret(key: str) -> str:
    text = f"broadcast hub operator ticket\n{key}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
