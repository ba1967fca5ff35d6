"""Sends history to a session, page by page, as fast as its transport takes it.

The rest of a page that the transport does not take is kept until it takes more, so that a slow
reader costs an external broker no more than a fast one. New publications are in history meanwhile,
or are held beside it where history does not keep them (`hub.core.session.withheld`). The
subscription goes live when its cursor meets the head. Where history was trimmed faster than the
peer reads, a gap `expired` announces the range.
"""

from collections.abc import Awaitable, Callable, Sequence

from hub.core.counters import Counters
from hub.core.fanout.channels import Channel
from hub.core.forensics.journal import Journal
from hub.core.options import KIB, MIB
from hub.core.ports import PAGE_BYTES, Broker, HistoryPage
from hub.core.publication import ENDS, Position, Publication
from hub.core.pushes import Change, Gap, PresenceReset, State
from hub.core.recovery.pages import SharedPages, entry_for, has_expired, items_of
from hub.core.session.encoded import Encoded, Item
from hub.core.session.ring import Entry, EntryKind
from hub.core.session.session import Session
from hub.core.session.subscription import KeptPage, KeptPageBudget, StateNeed, Subscription

# Guess, not measured: large enough that a page costs more than its request. Its bytes are
# `PAGE_BYTES`.
PAGE_PUBLICATIONS = 64
# Rows of a channel's state. A page of them is read and encoded in 1 to 2 ms, so that 10,000 rows
# hold up the loop no longer than history does.
PAGE_ROWS = 500
# Rows are sent anew where history no longer reaches back to them, at most so often before a gap
# announces the loss. A busy channel without history would never come to an end. A guess.
MAX_STATE_TRIES = 3
# Bytes of pages that peers have taken in part: 256 slow readers at a time.
MAX_KEPT_BYTES = 32 * MIB
# Where no more may be kept, the rest of a page is read again. The kernel takes at least so much.
SMALL_PAGE_BYTES = 16 * KIB


class Replay:
    """Sends history to the sessions of a node.

    Args:
        max_kept_bytes: bound on all pages that are kept for slow readers.
    """

    def __init__(
        self,
        broker: Broker,
        counters: Counters,
        journal: Journal,
        max_kept_bytes: int = MAX_KEPT_BYTES,
    ) -> None:
        self.broker = broker
        self._counters = counters
        self._journal = journal
        self._kept = KeptPageBudget(max_kept_bytes)
        self._pages = SharedPages()
        self.on_caught_up: Callable[[Subscription], None] = lambda _: None
        """Called with a subscription that has read all of history, and is live."""
        self.catch_up: Callable[[Subscription], None] = lambda _: None
        """Gives a subscription everything up to the `reset` that its channel has for it."""
        self.find_end: Callable[[Channel], Awaitable[object]] = _find_nothing
        """Finds out whether a channel has ended, before rows are sent, which do not tell it."""

    @property
    def kept_bytes(self) -> int:
        """Bytes of the kept pages' publications."""
        return self._kept.bytes

    async def first_page(self, channel: str, after: int) -> HistoryPage:
        """Read the first page for a subscription that begins after `after`."""
        return await self.broker.history(
            channel, after, PAGE_PUBLICATIONS, max_bytes=self._page_bytes()
        )

    def keep(self, position: Position, page: HistoryPage) -> KeptPage | None:
        """Keep `page`, which follows `position`; return None where the kept pages are too many."""
        if self._kept.bytes >= self._kept.max_bytes:
            return None
        return KeptPage(page, position, self._kept)

    def _page_bytes(self) -> int:
        return SMALL_PAGE_BYTES if self._kept.bytes >= self._kept.max_bytes else PAGE_BYTES

    async def run(self, session: Session) -> None:
        """Serve every replaying subscription of the session until it takes no more writes.

        Raises `HubError` when the broker cannot read its history.
        """
        if session.replay_running:
            return
        session.replay_running = True
        try:
            while session.writable and session.replaying:
                subscription = session.replaying[0]
                if subscription.epoch != subscription.channel.epoch:
                    # History has the new epoch alone, and the `reset` comes before it.
                    self.catch_up(subscription)
                if (state := subscription.state_need) is not None and state.reading:
                    await self._send_rows(session, subscription, state)
                    self._take_turns(session, subscription)
                    continue
                asked = subscription.position
                page = _take_kept(subscription) or await self._read(subscription)
                # A reset that was sent meanwhile moved the cursor. One still to be sent follows.
                epoch = subscription.channel.epoch
                current = page.head.epoch == epoch and subscription.position == asked
                current = current and asked.epoch == epoch
                waits = not subscription.closed and not subscription.live
                if session.writable and waits and current:
                    self._write(session, subscription, page)
                self._take_turns(session, subscription)
        finally:
            session.replay_running = False
        if session.dialect.marks_positions:
            session.write_positions()

    def _take_turns(self, session: Session, subscription: Subscription) -> None:
        """Move the subscription to the end: one that never ends must not starve the others."""
        if subscription in session.replaying:
            others = [each for each in session.replaying if each is not subscription]
            goes_on = not (subscription.closed or subscription.live)
            session.replaying = [*others, subscription] if goes_on else others

    async def _send_rows(
        self, session: Session, subscription: Subscription, state: StateNeed
    ) -> None:
        """Send a page of the channel's rows; after the last page history goes on.

        All pages hold as of the position of the first. Rows that have changed since are left out of
        them: the publication that changed a row follows that position, and comes as a message.
        """
        channel, after, position = subscription.channel, state.after, state.position
        if position is None:
            await self.find_end(channel)
        page = await self.broker.state(
            channel.name,
            after,
            PAGE_ROWS,
            upto=None if position is None else position.offset,
            max_bytes=self._page_bytes(),
        )
        current = (after, position) == (state.after, state.position)
        current = current and page.head.epoch == channel.epoch == subscription.epoch
        waits = state.reading and not subscription.closed and not subscription.live
        if not (session.writable and waits and current):
            return
        if position is None:
            position = state.position = page.head
            self._begin_at(subscription, position, fresh=state.fresh)
        more = page.next is not None
        wanted, rows = subscription.filter, page.rows
        if wanted is not None:
            rows = tuple([row for row in rows if wanted.matches(row.tags)])
        push = State(channel.name, position, rows, more, page.dropped)
        frame = session.dialect.encode(push, channel.epoch)
        session.deliver(Encoded([Entry(EntryKind.KEEP, position.offset, frame, 0.0)]))
        if page.next is not None:
            state.after = page.next
            return
        state.reading = state.fresh = False
        if position.offset >= channel.offset:
            self._go_live(session, subscription, position.offset)

    def _begin_at(self, subscription: Subscription, position: Position, *, fresh: bool) -> None:
        """Move to `position`, because the rows stand for everything up to it."""
        first, last = subscription.replay_cursor + 1, position.offset
        if fresh:
            self._journal.began(subscription, last)
        else:
            self._journal.rows_sent(subscription, first, last, last)
        subscription.replay_cursor = last

    def _go_live(self, session: Session, subscription: Subscription, offset: int) -> None:
        subscription.go_live(offset)
        if subscription.presence_lost or _passes_presence(subscription):
            subscription.presence_lost = False
            session.push_in_order(subscription, PresenceReset(subscription.channel.name))
        self.on_caught_up(subscription)

    async def _read(self, subscription: Subscription) -> HistoryPage:
        return await self.first_page(subscription.channel.name, subscription.position.offset)

    def _keep(self, subscription: Subscription, page: HistoryPage) -> None:
        """Keep the rest of a page for the peer, unless the kept pages are too many."""
        cursor = subscription.replay_cursor
        rest = tuple(item for item in page.publications if item.offset > cursor)
        if rest and not subscription.closed:
            kept = HistoryPage(page.head, page.oldest, rest, page.invalid)
            subscription.keep(self.keep(subscription.position, kept))

    def _write(self, session: Session, subscription: Subscription, page: HistoryPage) -> None:
        channel, state = subscription.channel, subscription.state_need
        mends = state is not None and state.tries < MAX_STATE_TRIES
        if state is not None and mends and has_expired(subscription, page):
            state.tries += 1
            subscription.go_back_to_state(subscription.position)
            return
        first = subscription.replay_cursor + 1
        if (shared := self._pages.find(subscription, page)) is not None:
            taken = self._send(session, shared.encoded)
            if taken == len(page.publications):
                subscription.replay_cursor = page.last
                channel.ended_offset = max(channel.ended_offset, shared.ended_offset)
            else:
                self._move(subscription, page.publications[:taken])
        elif items := items_of(subscription, page, mends=mends):
            encoded = Encoded([entry_for(item, subscription) for item in items])
            self._move(subscription, items[: self._send(session, encoded)])
        self._journal.replayed(subscription, first, subscription.replay_cursor)
        if subscription.replay_cursor >= channel.offset:
            channel.end_known = True
            self._go_live(session, subscription, subscription.replay_cursor)
        else:
            self._keep(subscription, page)

    def _move(self, subscription: Subscription, items: Sequence[Item | Entry]) -> None:
        """Move the cursor past items that are at the link, and count and note them."""
        session, channel = subscription.session, subscription.channel
        for item in items:
            if isinstance(item, Gap):
                self._counters.gaps[item.reason] += 1
                self._journal.missing(subscription, item)
                subscription.replay_cursor = item.last
            elif isinstance(item, Publication):
                subscription.replay_cursor = item.offset
                if item.marks & ENDS:
                    channel.ended_offset = max(channel.ended_offset, item.offset)
                if item.skip_connection == session.id:
                    self._journal.own(subscription, item.offset)
            elif isinstance(item, Entry):
                subscription.replay_cursor = item.offset
        if subscription.unkept is not None:
            subscription.unkept.pass_to(subscription.replay_cursor)

    def _send(self, session: Session, encoded: Encoded) -> int:
        """Write a page as far as the link takes it; return how many frames it took."""
        before = session.sent
        whole = session.deliver(encoded)
        self._counters.replayed += session.sent - before
        return whole


async def _find_nothing(_: Channel) -> None:
    """Do nothing."""


def _take_kept(subscription: Subscription) -> HistoryPage | None:
    """Return the kept page, where it follows the subscription's position; it is kept no longer."""
    kept, position = subscription.kept, subscription.position
    subscription.keep(None)
    return kept.page if kept is not None and kept.position == position else None


def _passes_presence(subscription: Subscription) -> bool:
    """Return whether a join or leave that is not sent yet stands before replayed publications."""
    channel = subscription.channel
    items = [*channel.unwritten]
    ends = [n for n, item in enumerate(items) if isinstance(item, Publication | Gap)
            and 0 < _last(item) <= subscription.offset]  # fmt: skip
    return any(isinstance(item, Change) for item in items[: ends[-1] if ends else 0])


def _last(item: Publication | Gap) -> int:
    return item.last if isinstance(item, Gap) else item.offset
