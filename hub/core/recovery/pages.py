"""A page of history as it goes into the stream: publications, gaps for missing ones, frames.

A page lacks publications that expired, that are invalid, or that history was not to keep
(`hub.core.session.withheld`). `items_of` fills in the last kind and puts gaps for the others.

`SharedPages` caches complete pages as frames, for all sessions that resume at one position. When a
proxy fails, all of its connections come back at once and resume from the same few positions. The
publication at an offset of an epoch never changes, so all sessions of one dialect get the same
frames. Example: 15,000 WebSockets that lack 101 to 120 of `feed` get the same 20 frames, encoded
and compressed once.
"""

from bisect import bisect_left
from dataclasses import dataclass

from hub.core.options import MIB
from hub.core.ports import Dialect, HistoryPage
from hub.core.publication import ENDS, Publication
from hub.core.pushes import Gap, GapReason
from hub.core.session.encoded import Encoded, Item, as_wanted, entry, skipped
from hub.core.session.ring import Entry
from hub.core.session.subscription import Subscription
from hub.core.session.withheld import HeldRange

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


def entry_for(item: Item | Entry, subscription: Subscription) -> Entry:
    """Encode an item for a subscription, without those that it does not want."""
    if isinstance(item, Entry):
        return item
    session = subscription.session
    own = isinstance(item, Publication) and item.skip_connection == session.id
    wanted = as_wanted(item, subscription.filter)
    if isinstance(item, Publication) and (own or wanted is None):
        return skipped(item.offset, 0.0)
    return entry(wanted or item, session.dialect, subscription.channel.epoch, 0.0)


def items_of(subscription: Subscription, page: HistoryPage, *, mends: bool) -> list[Item | Entry]:
    """Return the page's items for the stream: its publications, and gaps for missing ones.

    The items end before missing publications that have not come to this node yet, because the
    subscription will get those live. Where `mends` holds, they also end before a range that history
    no longer reaches back to, because rows will replace it.
    """
    cursor, came = subscription.replay_cursor, subscription.channel.offset
    items: list[Item | Entry] = []
    for publication in page.publications:
        if (before := publication.offset - 1) > cursor:
            items += _missing(subscription, page, cursor + 1, min(before, came))
            if before > came:
                break
        cursor = publication.offset
        items.append(publication)
    # Not the channel's own head: more may have been published since the page was read.
    if not page.publications:
        items += _missing(subscription, page, cursor + 1, min(page.head.offset, came))
    if mends:
        older = [
            n for n, item in enumerate(items) if isinstance(item, Gap) and item.first < page.oldest
        ]
        items = items[: older[0]] if older else items
    return items


def has_expired(subscription: Subscription, page: HistoryPage) -> bool:
    """Return whether neither history nor this node has the next publication."""
    first = subscription.replay_cursor + 1
    if first > page.head.offset or first >= page.oldest:
        return False
    return not any(each.first <= first <= each.last for each in _unkept(subscription))


def _unkept(subscription: Subscription) -> list[HeldRange]:
    """Return the ranges that history lacks and this node has, held or still to be written."""
    channel = subscription.channel
    held = [] if subscription.unkept is None else list(subscription.unkept)
    last = held[-1].last if held else subscription.replay_cursor
    for item in channel.unwritten:
        if isinstance(item, Publication) and item.keep_ms == 0 and item.offset > last:
            held.append(HeldRange(item.offset, item.offset, item))
    return held


def _missing(
    subscription: Subscription, page: HistoryPage, first: int, last: int
) -> list[Item | Entry]:
    """Return the items from `first` to `last` that the page lacks: held ones, and gaps."""
    items: list[Item | Entry] = []
    unkept = _unkept(subscription) if first <= last else []
    for held in unkept[bisect_left(unkept, first, key=_last_of) :]:
        if held.first > last:
            break
        items += _gaps(subscription, page, first, held.first - 1)
        if held.publication is not None and held.last <= last:
            items.append(held.publication)
        else:
            items.append(skipped(min(held.last, last), 0.0))
        first = held.last + 1
    items += _gaps(subscription, page, first, last)
    return items


def _last_of(held: HeldRange) -> int:
    return held.last


def _gaps(subscription: Subscription, page: HistoryPage, first: int, last: int) -> list[Gap]:
    """Return gaps from `first` to `last`: `invalid` where the page says so, else `expired`."""
    name, epoch = subscription.channel.name, subscription.channel.epoch
    gaps: list[Gap] = []
    while first <= last:
        reason = GapReason.INVALID if first in page.invalid else GapReason.EXPIRED
        end = first
        if reason is GapReason.INVALID:
            while end < last and end + 1 in page.invalid:
                end += 1
        else:
            end = min((n - 1 for n in page.invalid if first < n <= last), default=last)
        gaps.append(Gap(name, epoch, first, end, reason))
        first = end + 1
    return gaps
