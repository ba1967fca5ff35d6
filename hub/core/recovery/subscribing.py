"""Begins subscriptions, and joins history to the live stream without a hole.

A subscription starts at the head that this node knows, or at the position that it resumes from. It
is a member of its channel before the first page of history is read, so no publication can be missed
in between. Offsets decide which of the two brings it (`hub.core.fanout.fanout`).
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from hub.core.commands import Subscribe
from hub.core.counters import Counters
from hub.core.fanout.channels import Channel
from hub.core.fanout.fanout import Fanout
from hub.core.fanout.membership import Ending, Membership
from hub.core.fanout.presence import PresenceTable
from hub.core.forensics.journal import Journal
from hub.core.options import SessionLimits
from hub.core.ports import Dialect
from hub.core.publication import Position
from hub.core.pushes import Gap, GapReason, JsonText, Reply, Subscribed
from hub.core.recovery.replay import Replay
from hub.core.recovery.start import Opened, Start, Starts, at_head
from hub.core.session.places import NO_PLACES
from hub.core.session.session import Session
from hub.core.session.subscription import NOWHERE, Subscription
from hub.core.session.withheld import Throttle
from hub.errors import ConflictError, HubError, TooManySubscriptionsError, UnavailableError

# Many peers connect to one channel between two of its publications. A frame has about 200 bytes.
_CACHED_ANSWERS = 256


class Subscribing:
    """Begins the subscriptions of a node's sessions."""

    def __init__(
        self,
        *,
        membership: Membership,
        replay: Replay,
        fanout: Fanout,
        presence: PresenceTable,
        limits: SessionLimits,
        counters: Counters,
        journal: Journal,
    ) -> None:
        self._fanout = fanout
        self._replay = replay
        self._presence = presence
        self._limits = limits
        self._counters = counters
        self._journal = journal
        self._channels = membership.channels
        self._ending = Ending(replay.broker, fanout, membership.end)
        self._membership = membership
        self.starts = Starts(replay, self._ending)
        replay.on_caught_up = self._ending.caught_up
        replay.find_end = self._ending.has_ended
        replay.catch_up = fanout.catch_up
        self._subscribed_live = lru_cache(maxsize=_CACHED_ANSWERS)(_subscribed_live)

    async def subscribe(
        self, session: Session, command: Subscribe, *, reply_in_stream: bool
    ) -> Mapping[str, object]:
        """Join, answer in the stream, and begin the replay; return the reply's `ok`.

        The answer stands in the channel's order before its first message. It is the reply itself,
        or a `subscribed` push where the reply goes another way. On `HubError` nothing has changed.
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
            # It begins anew, after everything that it already had. Refusals come before it ends.
            self._check_may(session, command)
            self._fanout.bring_up(held)
            self._membership.leave(held, lost=False)
        self._check(session, command)
        session.places.expect(command)
        try:
            [began] = await self._together(session, [command], reply_in_stream=reply_in_stream)
        except BaseException as error:
            if command.channel not in session.subscriptions:
                session.places.forget(command.channel)
                if brought:
                    # Its pattern would no longer bring the channel, so its peer has to resume.
                    session.close_error(
                        error if isinstance(error, HubError) else HubError("internal error")
                    )
            raise
        return _ok(command, began)

    def open_now(self, commands: Sequence[Subscribe]) -> Sequence[Opened] | None:
        """Return the channels of these commands, where nothing has to be awaited; else None.

        That is so where each channel is open here and no command asks for its history, as with
        nearly all peers that connect.
        """
        opened = []
        for command in commands:
            channel = self._channels.find(command.channel)
            if channel is None or command.since is not None or command.last or command.state:
                return None
            if channel.ended or not channel.end_known:
                return None
            opened.append((channel, command))
        return opened

    def begin_now(self, session: Session, opened: Sequence[Opened]) -> None:
        """Begin in this call all channels of a URL, which `open_now` has found.

        The effect is that of `subscribe`, without a coroutine. Raises `HubError`.
        """
        if session.places is not NO_PLACES:
            for channel, _ in opened:
                session.places.start(channel.name, channel.head)
            if session.dialect.marks_positions:
                session.tell_positions()
        for channel, command in opened:
            # An earlier write may have been too much, and have ended the session.
            self._check(session, command)
            self._enter_live(session, channel, command)

    async def _subscribe_in_url(self, session: Session, command: Subscribe) -> Mapping[str, object]:
        """Begin a channel of the URL.

        The first call begins all channels of the URL without a position, in one step and before the
        others. So the position of every channel is known before the first push of any, and each id
        of the stream names all channels.
        """
        session.places.expect(command)
        # Where the application is asked, each channel waits for its answer.
        unplaced = [
            each
            for each in session.places.unstarted
            if each.since is None and (each.judged or not command.judged)
        ]
        if unplaced and not session.subscriptions:
            await self._together(session, unplaced, reply_in_stream=False, tell=True)
        if session.places is NO_PLACES or command in session.places.unstarted:
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

        With `tell`, send the positions to resume from before anything else.
        """
        for command in commands:
            self._channels.joining(command.channel)
        try:
            opened = [(await self._channels.open(each.channel), each) for each in commands]
            began = await self.starts.of(opened)
            self._enter_all(session, opened, began, reply_in_stream=reply_in_stream, tell=tell)
        finally:
            for command in commands:
                self._channels.joined(command.channel)
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
            session.places.start(channel.name, at.position if asked is None else asked)
        if tell and session.dialect.marks_positions:
            session.tell_positions()
        for (channel, command), at in zip(opened, began, strict=True):
            # An earlier write may have been too much, and have ended the session.
            self._check(session, command)
            self._enter(session, channel, command, at, reply_in_stream=reply_in_stream)

    def _enter(
        self,
        session: Session,
        channel: Channel,
        command: Subscribe,
        began: Start,
        *,
        reply_in_stream: bool,
    ) -> None:
        subscription = self._join(session, channel, command, began.position.offset)
        if not began.recovered and command.since is None:
            # The only message with the start: a peer that is cut from now on resumes from here.
            session.tell_positions()
        session.push_in_order(subscription, _answer(command, began, is_reply=reply_in_stream))
        self._begin(subscription, command, began)

    def _join(
        self, session: Session, channel: Channel, command: Subscribe, cursor: int
    ) -> Subscription:
        """Make the session a member of the channel, after `cursor`."""
        wanted = command.filter
        if wanted is not None and command.state:
            wanted = wanted.for_rows()
        subscription = Subscription(
            session, channel, fill=command.fill, cursor=cursor, filter=wanted, state=command.state
        )
        if command.every_ms is not None:
            subscription.throttle = Throttle(command.every_ms / 1000, self._limits)
        self._journal.began(subscription, cursor)
        self._membership.join(subscription, command)
        return subscription

    def _enter_live(self, session: Session, channel: Channel, command: Subscribe) -> None:
        """Join a channel at its head, where nothing is missing, so that it is live at once."""
        offset = channel.offset
        subscription = self._join(session, channel, command, offset)
        # A second channel may have changed the dialect.
        dialect = session.dialect
        if command.given is None:
            frame = self._subscribed_live(dialect, channel.name, channel.epoch, offset)
        else:
            frame = _subscribed_live(dialect, channel.name, channel.epoch, offset, command.given)
        session.push_in_order(subscription, frame)
        subscription.go_live(offset)
        if dialect.marks_positions:
            self._fanout.mark(session)

    def enter_through_pattern(
        self,
        session: Session,
        channel: Channel,
        command: Subscribe,
        began: Start,
        *,
        announce: bool,
    ) -> None:
        """Join a channel that a pattern of the session matches; `announce` sends its start."""
        if session.patterns is not None:
            session.patterns.channels[channel.name] = None
            session.patterns.ended.pop(channel.name, None)
        subscription = self._join(session, channel, command, began.position.offset)
        if announce:
            if not began.recovered and command.since is None:
                session.tell_positions()
            push = Subscribed(channel.name, began.position, began.recovered, began.replayed)
            session.push_in_order(subscription, push)
        self._begin(subscription, command, began)

    def go_back(self, held: Subscription, command: Subscribe, began: Start) -> None:
        """Begin a subscription again at the position of a pattern's resume, from history."""
        self._fanout.catch_up(held)
        if held.closed:
            # That was too much, and ended the session.
            return
        self._journal.left(held, held.offset, "unsubscribed")
        self._journal.began(held, began.position.offset)
        self._begin(held, command, began)

    def _also_by_name(
        self, held: Subscription, command: Subscribe, *, reply_in_stream: bool
    ) -> Mapping[str, object]:
        """Keep a subscription that came through a pattern when that pattern ends."""
        session, channel = held.session, held.channel
        self._check_may(session, command)
        held.fill = held.fill or command.fill
        if session.patterns is not None:
            del session.patterns.channels[channel.name]
        if channel.options.presence:
            self._presence.enter(channel.name, session, command.presence)
        self._fanout.bring_up(held)
        owed_through = held.offset if held.live else held.replay_cursor
        at = Start(Position(channel.epoch, owed_through), 0, recovered=True)
        session.push_in_order(held, _answer(command, at, is_reply=reply_in_stream))
        return _ok(command, at)

    def only_through_pattern(self, held: Subscription) -> None:
        """Leave a channel by name that one of the session's patterns still matches."""
        session, channel = held.session, held.channel
        self._fanout.bring_up(held)
        if session.patterns is not None:
            session.patterns.channels[channel.name] = None
        if channel.options.presence:
            self._presence.exit(channel.name, session, lost=False)

    def _check_may(self, session: Session, command: Subscribe) -> None:
        self._check_command(session, command)
        patterns = session.patterns
        held = len(session.subscriptions) - (0 if patterns is None else len(patterns.channels))
        if held >= self._limits.max_subscriptions:
            limit = self._limits.max_subscriptions
            raise TooManySubscriptionsError(f"a session may hold {limit} subscriptions")

    def _check_command(self, session: Session, command: Subscribe) -> None:
        if session.closing:
            raise UnavailableError("the session is closing")
        session.identity.check_subscribe(command.channel)
        if command.presence is not None:
            self._channels.options(command.channel).check_presence(command.channel)
        if command.state:
            self._channels.options(command.channel).check_keyed(command.channel)

    def _check(self, session: Session, command: Subscribe) -> None:
        self._check_command(session, command)
        held = len(session.subscriptions)
        if held and command.channel in session.subscriptions:
            # It has a code of its own, because a browser may send the command again by itself.
            raise ConflictError(f"already subscribed to {command.channel!r}")
        limit = min(self._limits.max_subscriptions, session.dialect.max_channels)
        if held >= limit and session.patterns is not None:
            # Channels of patterns have a bound of their own.
            most = session.dialect.max_channels
            held = most if held >= most else held - len(session.patterns.channels)
        if held >= limit:
            raise TooManySubscriptionsError(f"a session may hold {limit} subscriptions")

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
            # The end of the replay sends the positions.
            kept = None if began.page is None else self._replay.keep(began.position, began.page)
            session.read_history(subscription, began.position.offset, kept)
            return
        subscription.go_live(max(channel.offset, began.position.offset))
        if session.dialect.marks_positions:
            self._fanout.mark(session)
        self._ending.caught_up(subscription)


def _subscribed_live(
    dialect: Dialect, channel: str, epoch: str, offset: int, given: bytes | None = None
) -> bytes:
    """Encode the `subscribed` push for all that subscribe while this is the channel's head."""
    head = at_head(Position(epoch, offset))
    push = Subscribed(channel, head.position, head.recovered, head.replayed, given=given)
    return dialect.encode(push, epoch)


def _answer(command: Subscribe, began: Start, *, is_reply: bool) -> Reply | Subscribed:
    """Return the message with a subscription's start: the reply, or a push in its place."""
    if is_reply:
        return Reply(command.id, _ok(command, began))
    return Subscribed(
        command.channel,
        began.position,
        began.recovered,
        began.replayed,
        began.state,
        command.given,
    )


def _ok(command: Subscribe, began: Start) -> dict[str, object]:
    rows = {"state": True} if began.state else {}
    given = {} if command.given is None else {"data": JsonText(command.given)}
    return {
        "channel": command.channel,
        "position": str(began.position),
        "recovered": began.recovered,
        "replayed": began.replayed,
        **rows,
        **given,
    }
