"""Which transport to try, in which order. Decisions only."""

from collections.abc import Sequence


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

    def better_than(self, transport: str) -> tuple[str, ...]:
        """What is preferred to `transport`, the best first."""
        return self._transports[: self._transports.index(transport)]

    def failed(self, *, blocked: bool) -> bool:
        """Whether to try the next transport at once.

        A hub that is away refuses every transport, so one failure that does not look like
        a block is no reason to leave a good transport; the second in a row is.
        """
        self._failures += 1
        return blocked or self._failures > 1

    def worked(self, transport: str) -> None:
        self._working = transport
        self._failures = 0
