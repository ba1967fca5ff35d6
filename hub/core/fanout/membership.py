"""Subscriptions enter channels and leave them: by command, with their session, at a channel's end.

A channel has ended while its newest publication is marked as its last. A live member leaves after
the batch that has the end. A member that reads history leaves when it has read the end, and so does
one that comes later. How a subscription begins is in `hub.core.recovery.subscribing`.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import Protocol

from hub.core.commands import Subscribe
from hub.core.fanout.channels import Channel
from hub.core.fanout.fanout import Fanout
from hub.core.fanout.open_channels import OpenChannels
from hub.core.fanout.presence import PresenceTable
from hub.core.forensics.journal import Journal
from hub.core.ports import Broker, Dialect, InTurn
from hub.core.publication import ENDS, Position
from hub.core.pushes import Unsubscribed
from hub.core.session.outbox import Unsent
from hub.core.session.session import Session
from hub.core.session.subscription import Subscription
from hub.errors import BadRequestError, HubError

ENDED = "ended"
"""Reason of the `unsubscribed` that follows a channel's end."""
# Members that leave in one turn of the loop. Each costs about 20 us (a guess).
_AT_ONCE = 200
# Channels that an ended session leaves in one turn: 7 us each, and 16 us with presence (measured on
# fakes). Nearly all sessions have fewer, and leave in the step that ends them.
LEFT_AT_ONCE = 50

_Parting = tuple[Subscription, Position, Unsent | None]
"""A subscription of an ended session, its last position, and the range that was still owed."""


class ChannelWatch(Protocol):
    """Called when a channel comes into use on this node, and when it falls out of use."""

    def __call__(self, channel: str, *, used: bool) -> None: ...


class Membership:
    """Takes subscriptions into channels and out of them; one per node."""

    def __init__(
        self,
        *,
        channels: OpenChannels,
        fanout: Fanout,
        presence: PresenceTable,
        journal: Journal,
        in_turn: InTurn,
    ) -> None:
        self._in_turn = in_turn
        self.channels = channels
        self._fanout = fanout
        self._presence = presence
        self._journal = journal
        self.held = 0
        """The number of all sessions' subscriptions. Figures need it every second."""
        self.goes_on: Callable[[str], None] | None = None
        """Called with a channel that a session left at its end and that has more by now."""
        self.watch: ChannelWatch | None = None
        """Called with channels that get their first session here, or lose their last."""
        self._parting: dict[str, None] = {}

    @property
    def parting(self) -> Collection[str]:
        """The ended connections that have still to leave some of their channels."""
        return self._parting

    def join(self, subscription: Subscription, command: Subscribe) -> None:
        """Take a subscription in. Batches sealed from now on go to it too."""
        session, channel = subscription.session, subscription.channel
        if session.subscriptions and (several := session.dialect.several) is not None:
            speak(session, several)
        session.subscriptions[channel.name] = subscription
        channel.add(subscription)
        self.held += 1
        if self.watch is not None and len(channel) == 1:
            self.watch(channel.name, used=True)
        if channel.options.presence and not subscription.through_pattern:
            self._presence.enter(channel.name, session, command.presence)

    def unsubscribe(
        self, session: Session, name: str, *, how: str = "unsubscribed"
    ) -> Subscription:
        """Leave a channel after everything it already had for this session.

        The journal notes `how` the subscription ended.
        """
        if (subscription := session.subscriptions.get(name)) is None:
            raise BadRequestError(f"not subscribed to {name!r}")
        self._fanout.settle(subscription)
        self._withdraw(subscription, how)
        return subscription

    def _withdraw(self, subscription: Subscription, how: str) -> None:
        """Leave a channel that has written all that it had for the session."""
        self.leave(subscription, lost=False, how=how)
        subscription.session.places.forget(subscription.channel.name)

    def expel(self, session: Session, name: str, reason: str) -> None:
        """Take the session out of a channel after everything it already had, and say so to it."""
        subscription = self.unsubscribe(session, name, how=reason)
        session.push_in_order(subscription, Unsubscribed(name, reason))

    def end(self, subscription: Subscription, reason: str) -> None:
        """Expel the session at the channel's end, where the subscription is still its own.

        Where one of its patterns matches the channel, publications after the end come through it.
        """
        channel, session = subscription.channel, subscription.session
        name = channel.name
        if session.subscriptions.get(name) is subscription:
            self._fanout.settle(subscription)
            last = subscription.offset
            # Not `expel`: it would write the items of the open batch that have no offset again.
            self._withdraw(subscription, reason)
            session.push_in_order(subscription, Unsubscribed(name, reason))
            subscription.replay_cursor = last
            session.places.keep(subscription)
            if session.patterns is not None and session.patterns.covers(name):
                session.patterns.left_at_end(name, Position(channel.epoch, last))
                if not channel.ended and self.goes_on is not None:
                    self.goes_on(name)

    def leave_all(self, session: Session) -> None:
        """Take an ended session out of all its channels; where it has many, in turns.

        It is a member of none of them from now on. Example: a session of 990 channels is counted
        out of all of them in this call. Twenty turns note its ends, withdraw its members, and
        close the channels that nobody else is in.
        """
        held = tuple(session.subscriptions.values())
        if len(held) <= LEFT_AT_ONCE:
            for subscription in held:
                self.leave(subscription, lost=True)
            return
        self.held -= len(held)
        self._parting[session.id] = None
        parting = deque([_part(each) for each in held])
        self._in_turn(lambda: self._part_some(session, parting), session.link.address)

    def _part_some(self, session: Session, parting: deque[_Parting]) -> None:
        try:
            for _ in range(min(LEFT_AT_ONCE, len(parting))):
                self._end_one(*parting.popleft())
        finally:
            # A fault may have ended this turn. The other channels are left all the same: a stop
            # waits for that.
            if parting:
                self._in_turn(lambda: self._part_some(session, parting), session.link.address)
            else:
                del self._parting[session.id]
                if session.patterns is not None:
                    session.patterns.by_text.clear()

    def _end_one(self, subscription: Subscription, last: Position, unsent: Unsent | None) -> None:
        try:
            self._journal.left(subscription, last.offset, "closed", last.epoch)
            if unsent is not None:
                self._journal.unsent(subscription, *unsent)
        finally:
            self._go(subscription, lost=True)

    def leave(self, subscription: Subscription, *, lost: bool, how: str = "unsubscribed") -> None:
        """Take a subscription out of its channel; `lost` where its session has ended."""
        if subscription.closed:
            # Its last write was too much, and ended the session.
            return
        self._note_end(subscription, "closed" if lost else how)
        self.held -= 1
        self._go(subscription, lost=lost)

    def _go(self, subscription: Subscription, *, lost: bool) -> None:
        session, channel = subscription.session, subscription.channel
        subscription.close()
        session.subscriptions.pop(channel.name, None)
        channel.remove(subscription)
        # The channel may have been closed and opened anew since the session ended.
        is_current = self.channels.find(channel.name) in {None, channel}
        if self.watch is not None and is_current and not len(channel):
            self.watch(channel.name, used=False)
        if subscription.through_pattern:
            if session.patterns is not None:
                del session.patterns.channels[channel.name]
        elif channel.options.presence:
            self._presence.exit(channel.name, session, lost=lost)
        self.channels.close_if_empty(channel)

    def _note_end(self, subscription: Subscription, how: str) -> None:
        """Note the last offset: of an unsubscribe with the owed range, which still goes out."""
        last = subscription.position.offset
        if how != "closed":
            last = max(last, subscription.offset)
        self._journal.left(subscription, last, how)


def _part(subscription: Subscription) -> _Parting:
    """Count a member of an ended session out of its channel, and drop what it is owed."""
    outbox, position = subscription.session.outbox, subscription.position
    unsent = None if outbox is None else outbox.part(subscription)
    subscription.channel.remove(subscription)
    subscription.group = None
    return subscription, position, unsent


def speak(session: Session, dialect: Dialect) -> None:
    """Switch the session to another dialect in every channel, from its next batch on."""
    session.dialect = dialect
    for subscription in session.subscriptions.values():
        subscription.channel.regroup(subscription)


class Ending:
    """Lets members leave ended channels, a few in each turn of the loop; one per node.

    Args:
        expel: takes a member out of its channel and tells it why.
    """

    def __init__(
        self, broker: Broker, fanout: Fanout, expel: Callable[[Subscription, str], None]
    ) -> None:
        self._broker = broker
        self._fanout = fanout
        self._expel = expel
        self._leaving: deque[tuple[Iterator[Subscription], int]] = deque()
        fanout.on_ended = self.begin

    def begin(self, channel: Channel) -> None:
        """Let all members leave that have the end by now."""
        if not self._leaving:
            self._fanout.later(self._some)
        self._leaving.append((iter(list(channel)), channel.ended_offset))

    def _some(self) -> None:
        left = _AT_ONCE
        try:
            while self._leaving:
                members, end = self._leaving[0]
                for subscription in islice(members, left):
                    left -= 1
                    if subscription.offset >= end:
                        self._leave(subscription)
                if not left:
                    break
                self._leaving.popleft()
        finally:
            # A fault of one member may have ended this turn. The others leave in the next one.
            if self._leaving:
                self._fanout.later(self._some)

    def caught_up(self, subscription: Subscription) -> None:
        """Let a subscription leave that has read all of a channel, where that has ended."""
        if subscription.channel.ended:
            self._leave(subscription)

    def _leave(self, subscription: Subscription) -> None:
        if not subscription.closed and not subscription.session.closing:
            self._expel(subscription, ENDED)

    async def has_ended(self, channel: Channel) -> bool:
        """Return whether the channel has ended; read history where this node does not know yet."""
        if not channel.end_known and not channel.ended:
            offset, epoch = channel.offset, channel.epoch
            try:
                page = await self._broker.history(channel.name, offset - 1, 1)
            except HubError:
                # A peer that asks for nothing of history does not have to wait for it.
                return False
            newest = page.publications[-1] if page.publications else None
            if page.head.epoch == channel.epoch == epoch:
                channel.end_known = True
                if newest is not None and newest.offset == offset and newest.marks & ENDS:
                    channel.ended_offset = max(channel.ended_offset, offset)
        return channel.ended
