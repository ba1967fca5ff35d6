"""What the journal keeps of a connection that is gone, and its place among all that is kept."""

import sys
from dataclasses import dataclass

from hub.core.noted import Notes
from hub.core.records import SessionRecord

# Measured with `tracemalloc` (1,150): a closed connection's last record without the texts that
# peers and operators choose, which are counted as they are.
CLOSED_BYTES = 1200


@dataclass(frozen=True, slots=True)
class ClosedSession:
    """A connection that is gone."""

    record: SessionRecord
    """As it was in the end."""
    closed_ms: int
    """Milliseconds since 1970 UTC."""
    closed_at_seconds: float
    code: int
    reason: str
    notes: Notes


class Farewell:
    """The place of a closed connection among everything that is kept."""

    __slots__ = ("_closed", "_connection", "oldest_at", "size")

    def __init__(self, closed: dict[str, ClosedSession], gone: ClosedSession) -> None:
        record = gone.record
        texts = (record.user_agent, record.subject or "", record.address, gone.reason)
        self._closed = closed
        self._connection = record.connection
        self.oldest_at = gone.closed_at_seconds
        self.size = CLOSED_BYTES + sum(sys.getsizeof(text) for text in texts)

    def __len__(self) -> int:
        return int(self._connection in self._closed)

    def forget_oldest(self) -> int:
        del self._closed[self._connection]
        return self.size
