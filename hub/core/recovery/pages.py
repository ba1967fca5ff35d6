"""Pages of history as frames, made once for all who resume at one place.

When a proxy fails, all of its connections come back at once and resume from the same few
positions. What stands at an offset of an epoch never changes, so what one of them is sent is right
for each that speaks alike. Example: 15,000 WebSockets that lack 101 to 120 of `feed` are sent
the same 20 frames, encoded and compressed once.
"""

from dataclasses import dataclass

from hub.core.options import MIB
from hub.core.ports import Dialect, HistoryPage
from hub.core.publication import ENDS
from hub.core.session.encoded import Encoded, entry
from hub.core.session.subscription import Subscription

# Storms resume from where a few batches ended: 30 pages of the largest size. A guess.
MAX_SHARED_BYTES = 4 * MIB
# The joined frames and the single ones, and what Python keeps beside each of these.
_TIMES_SIZE = 2
_ENTRY_BYTES = 250

_Key = tuple[str, str, Dialect, int, int]
"""Channel, epoch, dialect, first and last offset."""


@dataclass(frozen=True, slots=True)
class SharedPage:
    """All publications of a stretch, in one dialect."""

    encoded: Encoded
    ended_offset: int
    """Of the newest that was to be the last of its channel; 0 where there is none."""
    skips: frozenset[str]
    """Connections that are not to get back what they published of it."""
    bytes: int


class SharedPages:
    """One per node; the page that nobody asked for longest goes first.

    Args:
        max_bytes: of all pages together.
    """

    def __init__(self, max_bytes: int = MAX_SHARED_BYTES) -> None:
        self._max_bytes = max_bytes
        self._pages: dict[_Key, SharedPage] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._pages)

    def find(self, subscription: Subscription, page: HistoryPage) -> SharedPage | None:
        """What follows the cursor of `subscription`, of which `page` was read.

        None where that is not the same for all: something is missing, or is filtered out, or is
        the session's own.
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
        # Behind the others: it was asked for last.
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
