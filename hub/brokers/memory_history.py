"""What the histories of all channels in memory hold together, and the bound on it.

At the bound the oldest publications go first, over all channels, by age: whoever resumes from
before them gets a gap `expired`. No I/O, no clock; constant work for each publication, taken over
many.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from hub.core.publication import Publication

if TYPE_CHECKING:
    from hub.brokers.memory_log import ChannelLog

# What one publication without key, sender or trace takes beside its data: the object and its
# place in the collector's lists (112), the head of its data (40), offset, time, and when it was
# taken (88), its places in three lists (24), and what lists hold in reserve. Measured with
# tracemalloc on Python 3.11 (tests/brokers/test_memory_history.py does it again).
OVERHEAD_BYTES = 280
# Of a short string beside its characters.
_STRING_BYTES = 56
# Marks of publications that are gone are cleared out when they are so many and the larger part.
_CLEAR_FROM = 1024


def cost_bytes(publication: Publication) -> int:
    """What holding it takes, object and all. The channel's name is the log's own."""
    size = len(publication.data) + OVERHEAD_BYTES
    if publication.key is not None:
        size += len(publication.key) * 4 + _STRING_BYTES
    if publication.sender is not None:
        size += len(publication.sender) * 4 + _STRING_BYTES
    if publication.skip_connection is not None:
        size += len(publication.skip_connection) + _STRING_BYTES
    if publication.trace is not None:
        size += len(publication.trace) + _STRING_BYTES
    return size


class HistoryBudget:
    """One per broker; shared by its logs."""

    def __init__(self, max_bytes: int, on_empty: Callable[["ChannelLog"], None]) -> None:
        """`on_empty` is told a log that holds nothing any more, without having been asked."""
        self.max_bytes = max_bytes
        self.on_empty = on_empty
        self.bytes = 0
        self._order: deque[ChannelLog] = deque()
        """A mark for each publication taken, oldest first: the log that holds it. A log lets go
        of its oldest first, so the first of its marks are those of publications that are gone."""
        self._superseded = 0
        """How many marks are of publications that are gone."""

    def take(self, log: "ChannelLog", publication: Publication) -> None:
        """Count a publication that `log` holds from now on, and make room for it."""
        self.bytes += cost_bytes(publication)
        self._order.append(log)
        while self.bytes > self.max_bytes:
            self._drop_oldest()

    def give_back(self, log: "ChannelLog", publication: Publication) -> None:
        """The oldest publication of `log` is held no longer."""
        self.bytes -= cost_bytes(publication)
        if self._order[0] is log:
            self._order.popleft()
            return
        log.superseded += 1
        self._superseded += 1
        if self._superseded > _CLEAR_FROM and self._superseded * 2 > len(self._order):
            self._clear_out()

    def _drop_oldest(self) -> None:
        log = self._order.popleft()
        if log.superseded:
            log.superseded -= 1
            self._superseded -= 1
        else:
            self.bytes -= cost_bytes(log.drop_first())
            if not len(log):
                self.on_empty(log)

    def _clear_out(self) -> None:
        """Keep only the marks of publications that are held."""
        kept: deque[ChannelLog] = deque()
        for log in self._order:
            if log.superseded:
                log.superseded -= 1
            else:
                kept.append(log)
        self._order = kept
        self._superseded = 0
