"""Joining and leaving channels: the seams between history and the live stream.

A subscription starts at the head this node knows, or at the position it asks to resume from.
It is a member of its channel before the first page of history is read, so nothing can fall
between the two: offsets decide what comes from where (`hub.core.fanout.fanout`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Protocol

from hub.core.commands import Subscribe
from hub.core.counters import Counters
from hub.core.fanout.channels import Channel, OpenChannels
from hub.core.fanout.fanout import Fanout
from hub.core.fanout.presence import PresenceTable
from hub.core.forensics.journal import Journal
from hub.core.identity import Identity
from hub.core.options import ChannelOptions, Namespaces, SessionLimits
from hub.core.ports import Dialect
from hub.core.publication import Position, Publication
from hub.core.pushes import (
    Change,
    Gap,
    GapReason,
    Member,
    PresenceReset,
    Reply,
    Subscribed,
    Unsubscribed,
)
from hub.core.recovery.ending import Ending
from hub.core.recovery.replay import Replay
from hub.core.recovery.start import Start, as_read, at_head, start, with_state
from hub.core.session.session import Session
from hub.core.session.subscription import NOWHERE, Subscription
from hub.core.session.throttle import Throttle
from hub.errors import (
    BadRequestError,
    ConflictError,
    HubError,
    TooManySubscriptionsError,
    UnavailableError,
)

# Many connect to one channel between two of its publications. A frame has about 200 bytes.
_CACHED_ANSWERS = 256

Opened = tuple[Channel, Subscribe]
"""A channel that is open here, and the command that asks for it."""


class ChannelWatch(Protocol):
    """Sees channels come into use here, and fall out of it."""

    def __call__(self, channel: str, *, used: bool) -> None: ...


class Subscribing:
    """One per node; owns the channels that have sessions here."""

    def __init__(
        self,
        *,
        replay: Replay,
        fanout: Fanout,
        presence: PresenceTable,
        namespaces: Namespaces,
        limits: SessionLimits,
        counters: Counters,
        journal: Journal,
    ) -> None:
        broker = self._broker = replay.broker
        self._fanout = fanout
        self._replay = replay
        self._presence = presence
        self._limits = limits
        self._counters = counters
        self._journal = journal
        self.channels = OpenChannels(broker, namespaces)
        self._ending = Ending(broker, fanout, self._end)
        replay.on_caught_up = self._ending.caught_up
        self._subscribed_live = lru_cache(maxsize=_CACHED_ANSWERS)(_subscribed_live)
        self.held = 0
        """Subscriptions of all sessions: counted, because figures are told every second."""
        self.watch: ChannelWatch | None = None
        """Told of channels that get their first session here, or lose their last."""

    async def subscribe(
        self, session: Session, command: Subscribe, *, reply_in_stream: bool
    ) -> Mapping[str, object]:
        """Join, answer in the stream, and begin the replay. Returns the reply's `ok`.

        The answer stands in the channel's order before its first message: the reply itself, or
        a `subscribed` push where the reply goes another way. Raises `HubError` and then changes
        nothing.
        """
        if command.in_url:
            return await self._subscribe_in_url(session, command)
        held = session.subscriptions.get(command.channel)
        brought = held is not None and held.through_pattern
        if held is not None and brought:
            as_it_is = command.since is None and not command.last
            if (
                as_it_is
                and not command.state
                and not command.every_ms
                and command.filter == held.filter
            ):
                return self._also_by_name(held, command, reply_in_stream=reply_in_stream)
            # It is begun anew, behind everything that it already had.
            self._check_may(session, command)
            self._fanout.settle(held)
            self._leave(held, lost=False)
        self._check(session, command)
        session.expect(command)
        try:
            [began] = await self._together(session, [command], reply_in_stream=reply_in_stream)
        except BaseException as error:
            if command.channel not in session.subscriptions:
                session.forget(command.channel)
                if brought:
                    # Its pattern would bring it no more: it has to come back for it.
                    session.close_error(
                        error if isinstance(error, HubError) else HubError("internal error")
                    )
            raise
        return _ok(command.channel, began)

    def open_now(self, commands: Sequence[Subscribe]) -> Sequence[Opened] | None:
        """The channels of these commands, where there is nothing to wait for; None else.

        Nothing is waited for where each channel is open here and none of its history is asked
        for: so it is with nearly all who connect.
        """
        opened = []
        for command in commands:
            channel = self.channels.find(command.channel)
            if channel is None or command.since is not None or command.last or command.state:
                return None
            if channel.ended or not channel.end_known:
                return None
            opened.append((channel, command))
        return opened

    def begin_now(self, session: Session, opened: Sequence[Opened]) -> None:
        """Begin all channels of a URL, which `open_now` has found, in this call.

        It does what `subscribe` does, without a coroutine. Raises `HubError`.
        """
        if session.places is not None:
            for channel, _ in opened:
                session.starts(channel.name, channel.head)
            if session.dialect.marks_positions:
                session.tell_positions()
        for channel, command in opened:
            # Writing what comes first may have been too much, and have ended the session.
            self._check(session, command)
            self._enter_live(session, channel, command)

    async def _subscribe_in_url(self, session: Session, command: Subscribe) -> Mapping[str, object]:
        """Begin a channel of the URL.

        With the first of them begin all those that ask for no position, in one step, and before
        the others: so a place to resume from is known of every channel before anything is said
        of any, and each id of a stream names them all.
        """
        session.expect(command)
        unplaced = [each for each in session.unstarted if each.since is None]
        if unplaced and not session.subscriptions:
            await self._together(session, unplaced, reply_in_stream=False, tell=True)
        if session.places is None or command in session.unstarted:
            self._check(session, command)
            await self._together(session, [command], reply_in_stream=False)
        return {}

    async def _together(
        self,
        session: Session,
        commands: Sequence[Subscribe],
        *,
        reply_in_stream: bool,
        tell: bool = False,
    ) -> Sequence[Start]:
        """Join channels in one step, as soon as each is open and its start is known.

        `tell` says where to resume before it says anything of them.
        """
        for command in commands:
            self.channels.joining(command.channel)
        try:
            opened = [(await self.channels.open(each.channel), each) for each in commands]
            began = await self.starts(opened)
            self._enter_all(session, opened, began, reply_in_stream=reply_in_stream, tell=tell)
        finally:
            for command in commands:
                self.channels.joined(command.channel)
        return began

    def _enter_all(
        self,
        session: Session,
        opened: Sequence[Opened],
        began: Sequence[Start],
        *,
        reply_in_stream: bool,
        tell: bool,
    ) -> None:
        """Join channels whose starts are known."""
        for (channel, command), at in zip(opened, began, strict=True):
            asked = command.since if at.reset else None
            if at.state:
                asked = command.since or NOWHERE
            session.starts(channel.name, at.position if asked is None else asked)
        if tell and session.dialect.marks_positions:
            session.tell_positions()
        for (channel, command), at in zip(opened, began, strict=True):
            # Writing what comes first may have been too much, and have ended the session.
            self._check(session, command)
            self._enter(session, channel, command, at, reply_in_stream=reply_in_stream)

    async def starts(self, opened: Sequence[Opened]) -> Sequence[Start]:
        """Where each begins, as of one moment: asking for the last one takes its time."""
        while True:
            asked = [await self._start(channel, command) for channel, command in opened]
            now = [
                _as_of_now(channel, command, found)
                for (channel, command), found in zip(opened, asked, strict=True)
            ]
            if None not in now:
                return [at for at in now if at is not None]

    def _enter(
        self,
        session: Session,
        channel: Channel,
        command: Subscribe,
        began: Start,
        *,
        reply_in_stream: bool,
    ) -> None:
        cursor = began.position.offset
        subscription = _subscription(session, channel, command, cursor)
        self._journal.began(subscription, cursor)
        self._join(subscription, command)
        if not began.recovered and command.since is None:
            # Nothing else may say it: a cut from here on goes on from here.
            session.tell_positions()
        answer: Reply | Subscribed
        if reply_in_stream:
            answer = Reply(command.id, _ok(channel.name, began))
        else:
            answer = Subscribed(
                channel.name, began.position, began.recovered, began.replayed, began.state
            )
        session.push_in_order(subscription, answer)
        self._begin(subscription, command, began)

    def _enter_live(self, session: Session, channel: Channel, command: Subscribe) -> None:
        """As `_enter` at the channel's head: nothing is missing, so the subscription is live."""
        offset = channel.offset
        subscription = _subscription(session, channel, command, offset)
        self._journal.began(subscription, offset)
        self._join(subscription, command)
        dialect = session.dialect
        frame = self._subscribed_live(dialect, channel.name, channel.epoch, offset)
        session.push_frame_in_order(subscription, frame)
        subscription.go_live(offset)
        if dialect.marks_positions:
            self._fanout.mark(session)

    def enter_through_pattern(
        self, session: Session, channel: Channel, command: Subscribe, began: Start, *, told: bool
    ) -> None:
        """Join a channel that a pattern of the session matches; `told` pushes where it starts."""
        cursor = began.position.offset
        subscription = _subscription(session, channel, command, cursor)
        if session.patterns is not None:
            session.patterns.channels[channel.name] = None
        self._journal.began(subscription, cursor)
        self._join(subscription, command)
        if told:
            if not began.recovered and command.since is None:
                session.tell_positions()
            said = Subscribed(channel.name, began.position, began.recovered, began.replayed)
            session.push_in_order(subscription, said)
        self._begin(subscription, command, began)

    def _also_by_name(
        self, held: Subscription, command: Subscribe, *, reply_in_stream: bool
    ) -> Mapping[str, object]:
        """What a pattern has brought goes on as it is, and does not end with the pattern."""
        session, channel = held.session, held.channel
        self._check_may(session, command)
        held.fill = held.fill or command.fill
        if session.patterns is not None:
            del session.patterns.channels[channel.name]
        if channel.options.presence:
            self._presence.enter(channel.name, session, command.presence)
        at = Start(held.position, 0, recovered=True)
        answer: Reply | Subscribed = Subscribed(channel.name, at.position, at.recovered, 0)
        if reply_in_stream:
            answer = Reply(command.id, _ok(channel.name, at))
        self._fanout.settle(held)
        session.push_in_order(held, answer)
        return _ok(channel.name, at)

    def only_through_pattern(self, held: Subscription) -> None:
        """The session has left a channel that one of its patterns still brings."""
        session, channel = held.session, held.channel
        self._fanout.settle(held)
        if session.patterns is not None:
            session.patterns.channels[channel.name] = None
        if channel.options.presence:
            self._presence.exit(channel.name, session, lost=False)

    def _check_may(self, session: Session, command: Subscribe) -> None:
        if session.closing:
            raise UnavailableError("the session is closing")
        session.identity.check_subscribe(command.channel)
        patterns = session.patterns
        held = len(session.subscriptions) - (0 if patterns is None else len(patterns.channels))
        if held >= self._limits.max_subscriptions:
            limit = self._limits.max_subscriptions
            raise TooManySubscriptionsError(f"a session may hold {limit} subscriptions")

    def _check(self, session: Session, command: Subscribe) -> None:
        if session.closing:
            raise UnavailableError("the session is closing")
        session.identity.check_subscribe(command.channel)
        if command.presence is not None:
            self._check_presence(command.channel)
        held = len(session.subscriptions)
        if held and command.channel in session.subscriptions:
            # Of its own code: a browser may send the command again by itself.
            raise ConflictError(f"already subscribed to {command.channel!r}")
        if command.state and not self.options(command.channel).keyed:
            raise BadRequestError(f"{command.channel!r} keeps no state: its namespace is not keyed")
        if command.state and command.filter is not None:
            # A removal, or a row whose tags change, would not get through, and leave a row behind.
            raise BadRequestError("state and filter do not go together")
        limit = min(self._limits.max_subscriptions, session.dialect.max_channels)
        if held >= limit and session.patterns is not None:
            # Those of patterns have a bound of their own.
            most = session.dialect.max_channels
            held = most if held >= most else held - len(session.patterns.channels)
        if held >= limit:
            raise TooManySubscriptionsError(f"a session may hold {limit} subscriptions")

    async def _start(self, channel: Channel, command: Subscribe) -> Start:
        """Ask history only where something of it was asked for."""
        if command.state and command.since is None:
            await self._ending.has_ended(channel)
            return with_state(at_head(channel.head), channel.head, fresh=True)
        began = await self._history_start(channel, command)
        return with_state(began, channel.head, fresh=False) if command.state else began

    async def _history_start(self, channel: Channel, command: Subscribe) -> Start:
        """Of a channel that has ended everything is asked for: nothing else will come."""
        asks = command.since is not None or bool(command.last)
        ended = not asks and await self._ending.has_ended(channel)
        if not asks and not ended:
            return start(since=None, last=None, head=channel.head, oldest=channel.offset + 1)
        page = await self._broker.history(channel.name, channel.offset, limit=1)
        if page.head.epoch != channel.epoch:
            # An epoch ended while it was asked. Once more: should it still be another one, then
            # a `reset` is on its way and says all there is to say.
            page = await self._broker.history(channel.name, channel.offset, limit=1)
        head = channel.head
        if page.head.epoch != head.epoch:
            return start(since=command.since, last=command.last, head=head, oldest=head.offset + 1)
        if page.head.offset > head.offset:
            # What another node delivered already may still be on its way to this one. Who comes
            # from there is ahead of this channel, not lost: it skips what it has.
            head = page.head
        everything = command.last is None and ended
        began = start(
            since=command.since,
            last=head.offset + 1 - page.oldest if everything else command.last,
            head=head,
            oldest=min(page.oldest, head.offset + 1),
        )
        if command.since is None and began.replayed:
            first = await self._replay.first_page(channel.name, began.position.offset)
            began = as_read(began, first)
        if asks and not began.replayed:
            # Where something is replayed, its last one says so.
            await self._ending.has_ended(channel)
        return began

    def _join(self, subscription: Subscription, command: Subscribe) -> None:
        session, channel = subscription.session, subscription.channel
        if session.subscriptions and (several := session.dialect.several) is not None:
            switch(session, several)
        session.subscriptions[channel.name] = subscription
        if command.every_ms is not None:
            self._journal.throttled(session, channel.name, command.every_ms)
        if subscription.filter is not None:
            self._journal.filtered(session, channel.name, subscription.filter.text.decode())
        channel.add(subscription)
        self.held += 1
        if self.watch is not None and len(channel) == 1:
            self.watch(channel.name, used=True)
        if channel.options.presence and not subscription.through_pattern:
            self._presence.enter(channel.name, session, command.presence)

    def _begin(self, subscription: Subscription, command: Subscribe, began: Start) -> None:
        session, channel = subscription.session, subscription.channel
        if began.state:
            session.read_state(subscription, command.since or NOWHERE)
            return
        if began.reset:
            self._counters.gaps[GapReason.RESET] += 1
            offset = began.position.offset
            gap = Gap(channel.name, channel.epoch, 0, offset, GapReason.RESET)
            session.push_in_order(subscription, gap, offset, resumes=command.since)
        missing = began.replayed > 0 or began.position.offset < channel.offset
        if missing and not channel.options.keeps_history:
            self._counters.gaps[GapReason.EXPIRED] += 1
            first, last = began.position.offset + 1, channel.offset
            gap = Gap(channel.name, channel.epoch, first, last, GapReason.EXPIRED)
            self._journal.missing(subscription, gap)
            session.push_in_order(subscription, gap, last)
            missing = False
        if missing:
            # Its end tells the positions.
            kept = None if began.page is None else self._replay.keep(began.position, began.page)
            session.read_history(subscription, began.position.offset, kept)
            return
        subscription.go_live(max(channel.offset, began.position.offset))
        if session.dialect.marks_positions:
            self._fanout.mark(session)
        self._ending.caught_up(subscription)

    # -- leaving ---------------------------------------------------------------------------

    def unsubscribe(self, session: Session, name: str) -> Subscription:
        """Leave a channel behind everything it already had for this session."""
        if (subscription := session.subscriptions.get(name)) is None:
            raise BadRequestError(f"not subscribed to {name!r}")
        self._fanout.settle(subscription)
        self._leave(subscription, lost=False)
        session.forget(name)
        return subscription

    def expel(self, session: Session, name: str, reason: str) -> None:
        """Take the session out of a channel, behind everything it already had, and tell it."""
        subscription = self.unsubscribe(session, name)
        session.push_in_order(subscription, Unsubscribed(name, reason))

    def _end(self, subscription: Subscription, reason: str) -> None:
        name = subscription.channel.name
        if subscription.session.subscriptions.get(name) is subscription:
            self.expel(subscription.session, name, reason)

    def leave_all(self, session: Session) -> None:
        """The session has ended: nothing is written to it any more."""
        for subscription in tuple(session.subscriptions.values()):
            self._leave(subscription, lost=True)

    def _leave(self, subscription: Subscription, *, lost: bool) -> None:
        session, channel = subscription.session, subscription.channel
        if subscription.closed:
            # Writing its last to it was too much: the session has ended under it.
            return
        self._note_end(subscription, lost=lost)
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

    def _note_end(self, subscription: Subscription, *, lost: bool) -> None:
        """What is owed at an unsubscribe still goes out; what is owed at the end never will."""
        last = subscription.position.offset
        if lost:
            self._journal.left(subscription, last, "closed")
        else:
            self._journal.left(subscription, max(last, subscription.offset), "unsubscribed")

    # -- presence --------------------------------------------------------------------------

    def options(self, channel: str) -> ChannelOptions:
        return self.channels.options(channel)

    async def members(self, channel: str) -> Sequence[Member]:
        """Who is present on any node.

        Raises `BadRequestError` where the namespace keeps no presence.
        """
        self._check_presence(channel)
        if (asked := self.channels.get(channel)) is None:
            return await self._presence.members(channel)
        self._fanout.asks_members(asked)
        try:
            return await self._presence.members(channel)
        finally:
            self._fanout.told_members(asked, lag_seconds=self._presence.lag_seconds)

    def update_presence(self, session: Session, channel: str, data: bytes) -> None:
        """Let the session's member say something else of itself.

        Raises `BadRequestError` where the session is no member of the channel.
        """
        if channel not in session.subscriptions:
            raise BadRequestError(f"not subscribed to {channel!r}")
        self._check_presence(channel)
        self._presence.update(channel, session, data)

    def _check_presence(self, channel: str) -> None:
        if not self.options(channel).presence:
            raise BadRequestError(f"presence is off for {channel!r}")

    def change_identity(self, session: Session, identity: Identity) -> None:
        """Give the session another identity; its members change with its subject."""
        present = [
            s.channel.name
            for s in session.subscriptions.values()
            if s.channel.options.presence and not s.through_pattern
        ]
        if session.identity.subject == identity.subject:
            session.identity = identity
            return
        said = {name: self._presence.data(name, session) for name in present}
        for name in said:
            self._presence.exit(name, session, lost=False)
        session.identity = identity
        for name, data in said.items():
            self._presence.enter(name, session, data)

    # -- hub.core.ports.Downstream -----------------------------------------------------------

    def deliver(self, publication: Publication) -> None:
        if (channel := self.channels.get(publication.channel)) is not None:
            self._fanout.add(channel, publication)

    def lost(self, gap: Gap) -> None:
        if (channel := self.channels.get(gap.channel)) is not None:
            self._counters.gaps[gap.reason] += len(channel)
            self._journal.lost(gap)
            if gap.first and channel.options.keyed:
                self._mend_by_state(channel)
            self._fanout.add(channel, gap)

    def _mend_by_state(self, channel: Channel) -> None:
        """Something is lost: subscriptions with state are sent the rows in place of a gap."""
        for subscription in [each for each in channel if each.state_need is not None]:
            if subscription.live:
                self._fanout.settle(subscription)
            if not subscription.closed and subscription.live:
                subscription.session.read_state(subscription, subscription.resume_from)

    def reset(self, channel: str, head: Position) -> None:
        if (open_channel := self.channels.get(channel)) is not None:
            self._counters.gaps[GapReason.RESET] += len(open_channel)
            self._fanout.reset(open_channel, head)

    def announce(self, channel: str, change: Change | PresenceReset) -> None:
        if (open_channel := self.channels.get(channel)) is not None:
            self._fanout.announce(open_channel, change)


def _subscribed_live(dialect: Dialect, channel: str, epoch: str, offset: int) -> bytes:
    """What is said to all who subscribe to a channel while this is its head."""
    head = at_head(Position(epoch, offset))
    said = Subscribed(channel, head.position, head.recovered, head.replayed)
    return dialect.encode(said, epoch)


def _subscription(
    session: Session, channel: Channel, command: Subscribe, cursor: int
) -> Subscription:
    subscription = Subscription(
        session,
        channel,
        fill=command.fill,
        cursor=cursor,
        filter=command.filter,
        state=command.state,
    )
    if command.every_ms is not None:
        subscription.throttle = Throttle(command.every_ms / 1000)
    return subscription


def _ok(channel: str, began: Start) -> dict[str, object]:
    rows = {"state": True} if began.state else {}
    return {
        "channel": channel,
        "position": str(began.position),
        "recovered": began.recovered,
        "replayed": began.replayed,
        **rows,
    }


def _as_of_now(channel: Channel, command: Subscribe, asked: Start) -> Start | None:
    """What was found out a while ago, as it is now; None where it has to be asked again."""
    if asked.state:
        return replace(asked, position=channel.head)
    asked_for_some = command.last or (command.last is None and channel.ended)
    if command.since is None and not (asked_for_some and channel.options.keeps_history):
        head = channel.head
        return start(since=None, last=command.last, head=head, oldest=head.offset + 1)
    return asked if asked.position.epoch == channel.epoch else None


def switch(session: Session, dialect: Dialect) -> None:
    """Speak another dialect from the next batch on, in every channel."""
    for subscription in session.subscriptions.values():
        subscription.channel.remove(subscription)
    session.dialect = dialect
    for subscription in session.subscriptions.values():
        subscription.channel.add(subscription)
