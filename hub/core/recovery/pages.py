"""A cache of history pages as frames, shared by all sessions that resume at one position.

When a proxy fails, all of its connections come back at once and resume from the same few positions.
The publication at an offset of an epoch never changes, so all sessions of one dialect get the same
frames. Example: 15,000 WebSockets that lack 101 to 120 of `feed` get the same 20 frames, encoded
and compressed once.
"""

from dataclasses import dataclass

from hub.core.options import MIB
from hub.core.ports import Dialect, HistoryPage
from hub.core.publication import ENDS
from hub.core.session.encoded import Encoded, entry
from hub.core.session.subscription import Subscription

# A reconnect storm resumes from the ends of a few batches: 30 pages of the largest size. A guess.
MAX_SHARED_BYTES = 4 * MIB
# The joined frames and the single ones, and Python's overhead of each entry.
_TIMES_SIZE = 2
_ENTRY_BYTES = 250

_Key = tuple[str, str, Dialect, int, int]
"""Channel, epoch, dialect, first and last offset."""


@dataclass(frozen=True, slots=True)
class SharedPage:
    """All publications of a range in one dialect."""

    encoded: Encoded
    ended_offset: int
    """The newest offset that is marked as its channel's last; 0 without any."""
    skips: frozenset[str]
    """Connections that must not get back their own publications in it."""
    bytes: int


class SharedPages:
    """The shared pages of a node. The least recently used page goes first.

    Args:
        max_bytes: bound on all pages together.
    """

    def __init__(self, max_bytes: int = MAX_SHARED_BYTES) -> None:
        self._max_bytes = max_bytes
        self._pages: dict[_Key, SharedPage] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._pages)

    def find(self, subscription: Subscription, page: HistoryPage) -> SharedPage | None:
        """Return the frames of `page`, which follows the subscription's cursor.

        Return None where the frames are not the same for all sessions: publications are missing, or
        filtered out, or are the session's own.
        """
        publications, first = page.publications, subscription.replay_cursor + 1
        if not publications or subscription.filter is not None:
            return None
        last = publications[-1].offset
        if publications[0].offset != first or last - first + 1 != len(publications):
            return None
        session, channel = subscription.session, subscription.channel
        key = (channel.name, channel.epoch, session.dialect, first, last)
        found = self._pages.pop(key, None) or self._make(page, session.dialect, channel.epoch)
        # Moved to the end: it is the most recently used.
        self._pages[key] = found
        return None if session.id in found.skips else found

    def _make(self, page: HistoryPage, dialect: Dialect, epoch: str) -> SharedPage:
        publications = page.publications
        encoded = Encoded([entry(each, dialect, epoch, 0.0) for each in publications])
        size = encoded.size * _TIMES_SIZE + len(publications) * _ENTRY_BYTES
        self.bytes += size
        while self.bytes > self._max_bytes and self._pages:
            self.bytes -= self._pages.pop(next(iter(self._pages))).bytes
        ended = [each.offset for each in publications if each.marks & ENDS]
        skips = {each.skip_connection for each in publications if each.skip_connection}
        return SharedPage(encoded, max(ended, default=0), frozenset(skips), size)
