"""Which transport to try, in which order. Decisions only."""

from collections.abc import Sequence

# After a connection by a lesser transport that lived this long, in seconds, the better ones
# are tried first again: networks change. Guess, not measured.
_FORGET_AFTER_SECONDS = 60.0


class Choice:
    """Remembers what worked."""

    def __init__(self, transports: Sequence[str]) -> None:
        self._transports = tuple(transports)
        self._working: str | None = None
        self._failures = 0

    def order(self) -> tuple[str, ...]:
        """All transports, the one that worked last first."""
        if self._working is None:
            return self._transports
        others = (name for name in self._transports if name != self._working)
        return (self._working, *others)

    def failed(self, *, blocked: bool) -> bool:
        """Whether to try the next transport at once.

        A hub that is away refuses every transport, so one failure that does not look like
        a block is no reason to leave a good transport; the second in a row is.
        """
        self._failures += 1
        return blocked or self._failures > 1

    def blocked(self, transport: str) -> None:
        """A connection was welcomed and then passed nothing: the next transport goes first."""
        following = self._transports.index(transport) + 1
        self._working = self._transports[following % len(self._transports)]

    def worked(self, transport: str) -> None:
        self._working = transport
        self._failures = 0

    def ended(self, lived_seconds: float) -> None:
        """A connection ended after `lived_seconds`."""
        if lived_seconds >= _FORGET_AFTER_SECONDS:
            self._working = None
