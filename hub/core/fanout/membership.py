"""Subscriptions enter channels and leave them; the journal and presence are told.

How a subscription begins, with what it missed, is `hub.core.recovery.subscribing`'s.
"""

from collections.abc import Callable
from typing import Protocol

from hub.core.commands import Subscribe
from hub.core.fanout.channels import OpenChannels
from hub.core.fanout.fanout import Fanout
from hub.core.fanout.presence import PresenceTable
from hub.core.forensics.journal import Journal
from hub.core.ports import Dialect
from hub.core.publication import Position
from hub.core.pushes import Unsubscribed
from hub.core.session.session import Session
from hub.core.session.subscription import Subscription
from hub.errors import BadRequestError


class ChannelWatch(Protocol):
    """Sees channels come into use here, and fall out of it."""

    def __call__(self, channel: str, *, used: bool) -> None: ...


class Membership:
    """One per node; counts what all sessions hold."""

    def __init__(
        self,
        *,
        channels: OpenChannels,
        fanout: Fanout,
        presence: PresenceTable,
        journal: Journal,
    ) -> None:
        self.channels = channels
        self._fanout = fanout
        self._presence = presence
        self._journal = journal
        self.held = 0
        """Subscriptions of all sessions: counted, because figures are told every second."""
        self.goes_on: Callable[[str], None] | None = None
        """Told of a channel that a session has left at its end, and that has more by now."""
        self.watch: ChannelWatch | None = None
        """Told of channels that get their first session here, or lose their last."""

    def join(self, subscription: Subscription, command: Subscribe) -> None:
        """Take a subscription in: batches sealed from now on go to it too."""
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
        """Leave a channel behind everything it already had for this session.

        `how` is what the journal is told of it.
        """
        if (subscription := session.subscriptions.get(name)) is None:
            raise BadRequestError(f"not subscribed to {name!r}")
        self._fanout.settle(subscription)
        self.leave(subscription, lost=False, how=how)
        session.places.forget(name)
        return subscription

    def expel(self, session: Session, name: str, reason: str) -> None:
        """Take the session out of a channel, behind everything it already had, and tell it."""
        subscription = self.unsubscribe(session, name, how=reason)
        session.push_in_order(subscription, Unsubscribed(name, reason))

    def end(self, subscription: Subscription, reason: str) -> None:
        """As `expel`, where the subscription is still the session's.

        Where one of its patterns matches the channel, what follows the end comes through that.
        """
        channel, session = subscription.channel, subscription.session
        name = channel.name
        if session.subscriptions.get(name) is subscription:
            self._fanout.settle(subscription)
            last = subscription.offset
            self.expel(session, name, reason)
            subscription.replay_cursor = last
            session.places.keep(subscription)
            if session.patterns is not None and session.patterns.covers(name):
                session.patterns.left_at_end(name, Position(channel.epoch, last))
                if not channel.ended and self.goes_on is not None:
                    self.goes_on(name)

    def leave_all(self, session: Session) -> None:
        """The session has ended: nothing is written to it any more."""
        for subscription in tuple(session.subscriptions.values()):
            self.leave(subscription, lost=True)

    def leave(self, subscription: Subscription, *, lost: bool, how: str = "unsubscribed") -> None:
        """Take a subscription out of its channel; `lost` where its session has ended."""
        session, channel = subscription.session, subscription.channel
        if subscription.closed:
            # Writing its last to it was too much: the session has ended under it.
            return
        self._note_end(subscription, "closed" if lost else how)
        subscription.close()
        session.subscriptions.pop(channel.name, None)
        channel.remove(subscription)
        self.held -= 1
        if self.watch is not None and not len(channel):
            self.watch(channel.name, used=False)
        if subscription.through_pattern:
            if session.patterns is not None:
                del session.patterns.channels[channel.name]
        elif channel.options.presence:
            self._presence.exit(channel.name, session, lost=lost)
        self.channels.close_if_empty(channel)

    def _note_end(self, subscription: Subscription, how: str) -> None:
        """What is owed at an unsubscribe still goes out; what is owed at the end never will."""
        last = subscription.position.offset
        if how != "closed":
            last = max(last, subscription.offset)
        self._journal.left(subscription, last, how)


def speak(session: Session, dialect: Dialect) -> None:
    """Speak another dialect from the next batch on, in every channel."""
    for subscription in session.subscriptions.values():
        subscription.channel.remove(subscription)
    session.dialect = dialect
    for subscription in session.subscriptions.values():
        subscription.channel.add(subscription)
