"""Numbers in shared memory that reader processes write and all processes read.

Each number is an aligned machine word with one writer, so there is no lock. `slot` is the reader's.
"""

from collections.abc import MutableSequence
from dataclasses import dataclass

FIELDS = 8
"""Numbers per reader: a cache line of their own, so that writers do not disturb each other."""
_CONNECTED, _DELIVERED, _ENDED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Progress:
    """All readers' numbers together."""

    numbers: MutableSequence[int]

    def write(self, slot: int, *, connected: int, delivered: int, ended: int) -> None:
        """Publish one reader's numbers."""
        start = slot * FIELDS
        self.numbers[start + _CONNECTED] = connected
        self.numbers[start + _DELIVERED] = delivered
        self.numbers[start + _ENDED] = ended

    @property
    def connected(self) -> int:
        """Connections that are subscribed (also those that ended since)."""
        return sum(self.numbers[_CONNECTED::FIELDS])

    @property
    def delivered(self) -> int:
        """Messages received over all connections."""
        return sum(self.numbers[_DELIVERED::FIELDS])

    @property
    def ended(self) -> int:
        """Connections that failed or were lost."""
        return sum(self.numbers[_ENDED::FIELDS])
