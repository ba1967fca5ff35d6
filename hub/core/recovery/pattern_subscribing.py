"""Subscribes by pattern: a session is in every channel that one of its patterns matches.

The session has an ordinary subscription to each such channel, so a publication costs no more, and
gaps, resuming and explanations work as in any channel. Patterns are looked up once for a channel,
when it appears, by its segments (`hub.core.patterns`).

A pattern begins at the heads of the existing channels. A channel that appears later is read from
its beginning. So is a channel that a resuming session does not name, because it appeared since. A
gap announces what history lacks. A pattern that would take its session into too many channels
ends, and the session gets a push.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from hub.core.commands import Subscribe, SubscribePattern, UnsubscribePattern
from hub.core.eager import NEXT_TURN, Rest, begin
from hub.core.fanout.channels import Channel
from hub.core.fanout.fanout import Fanout
from hub.core.fanout.membership import Membership, speak
from hub.core.options import SessionLimits
from hub.core.patterns import PatternTree, check_pattern, matches
from hub.core.ports import DirectoryBroker, Spawn
from hub.core.publication import BEGINNING, Position
from hub.core.pushes import PatternSubscribed, PatternUnsubscribed, Push, Reply
from hub.core.recovery.pattern_entering import (
    SLICE_CHANNELS,
    PatternEntering,
    goes_back,
    may_join,
    of_channel,
    ok_of,
    resumes_beside,
)
from hub.core.recovery.start import Opened, Start
from hub.core.recovery.subscribing import Subscribing
from hub.core.session.places import Following, SessionPatterns
from hub.core.session.session import Session
from hub.core.session.subscription import Subscription
from hub.errors import (
    BadRequestError,
    ConflictError,
    HubError,
    TooManySubscriptionsError,
    UnavailableError,
)

# Sessions that join a channel before other work gets its turn: 26 us each, measured on fakes.
SLICE_SESSIONS = 64
# Channels that are looked at, or left, in one turn: 15 us each, measured on fakes.
LEFT_AT_ONCE = 64
TOO_MANY = "too_many_channels"
"""The reason for which the hub ends a pattern."""


class PatternSubscribing:
    """The patterns of a node's sessions."""

    def __init__(
        self,
        *,
        membership: Membership,
        subscribing: Subscribing,
        fanout: Fanout,
        broker: DirectoryBroker,
        limits: SessionLimits,
        spawn: Spawn,
        on_fault: Callable[[Session, Exception], None],
    ) -> None:
        self._membership = membership
        self._subscribing = subscribing
        self._entering = PatternEntering(subscribing)
        self._channels = membership.channels
        self._fanout = fanout
        self._broker = broker
        self._limits = limits
        self._spawn = spawn
        self._on_fault = on_fault
        self._tree: PatternTree[Following] = PatternTree()
        self._beginning: dict[Following, None] = {}
        """Patterns that have not begun."""
        membership.goes_on = self.appeared
        self.held = 0
        """The number of all sessions' patterns. Figures need it every second."""

    # -- beginning -------------------------------------------------------------------------

    async def subscribe(
        self, session: Session, command: SubscribePattern, *, reply_in_stream: bool
    ) -> Mapping[str, object]:
        """Join all channels that match, and answer before the first message of any.

        Return the reply's `ok`. On `HubError` nothing has changed.
        """
        self._check(session, command)
        if (several := session.dialect.several) is not None:
            speak(session, several)
        following = Following(session, command)
        if session.patterns is None:
            session.patterns = SessionPatterns()
        session.patterns.by_text[command.pattern] = following
        self._tree.add(command.pattern, following)
        self._beginning[following] = None
        self.held += 1
        try:
            self._broker.follow(self)
            most = len(session.subscriptions) + self._room(session) + 1
            found = await self._broker.matching(command.pattern, most)
            names = self._wanted(following, found, most)
            positions = await self._begin(following, names, reply_in_stream=reply_in_stream)
        except BaseException:
            # Without a wait: its task may be ending. Nearly always it has joined no channel.
            for _ in self._ending(following):
                pass
            raise
        session.places.progressed()
        return ok_of(command.pattern, positions)

    def _check(self, session: Session, command: SubscribePattern) -> None:
        if session.closing:
            raise UnavailableError("the session is closing")
        pattern = check_pattern(command.pattern)
        session.identity.check_pattern(pattern)
        held = () if session.patterns is None else session.patterns.by_text
        if pattern in held:
            raise ConflictError(f"already subscribed to {pattern!r}")
        if len(held) >= self._limits.max_patterns:
            raise TooManySubscriptionsError(
                f"a session may have {self._limits.max_patterns} patterns"
            )
        for name in command.since or ():
            if name != pattern and not matches(pattern, name):
                raise BadRequestError(f"since names {name!r}, which {pattern!r} does not match")

    def _wanted(self, following: Following, known: Sequence[str], most: int) -> Sequence[str]:
        """Return the channels to begin with; raise `TooManySubscriptionsError` for too many.

        `known` are the channels that match, or `most` of them where there are more.
        """
        session, pattern = following.session, following.pattern
        resumed = following.command.since or {}
        found = [name for name in known if may_join(following, name)]
        found += [name for name in resumed if name != pattern and may_join(following, name)]
        names = tuple(dict.fromkeys(found))
        more = [name for name in names if name not in session.subscriptions]
        if len(more) > (room := self._room(session)) or len(known) == most:
            raise TooManySubscriptionsError(
                f"{pattern!r} matches more channels than the {room:,} that may still come through "
                "patterns of this session"
            )
        return names

    def _room(self, session: Session) -> int:
        """Return how many more channels may come through patterns."""
        through = 0 if session.patterns is None else session.patterns.count(session.subscriptions)
        of_dialect = session.dialect.max_channels - len(session.subscriptions)
        return max(0, min(self._limits.max_pattern_channels - through, of_dialect))

    async def _begin(
        self, following: Following, names: Sequence[str], *, reply_in_stream: bool
    ) -> Mapping[str, Position]:
        session, command = following.session, following.command
        held = session.subscriptions
        missing = [name for name in names if name not in held or resumes_beside(command)]
        for name in missing:
            self._channels.joining(name)
        try:
            opened: list[Opened] = []
            self._broker.expect([name for name in missing if name not in self._channels])
            for number, name in enumerate(missing, 1):
                if number % SLICE_CHANNELS == 0:
                    await NEXT_TURN
                channel = await self._channels.open(name)
                opened.append((channel, of_channel(command, channel)))
            began = await self._subscribing.starts.of(opened)
            if session.closing or following.over:
                raise UnavailableError("the session is closing")
            return await self._enter_all(
                following, names, opened, began, reply_in_stream=reply_in_stream
            )
        finally:
            for name in missing:
                self._channels.joined(name)

    async def _enter_all(
        self,
        following: Following,
        names: Sequence[str],
        opened: Sequence[Opened],
        began: Sequence[Start],
        *,
        reply_in_stream: bool,
    ) -> Mapping[str, Position]:
        """Answer, and join channels whose starts are known."""
        session, command = following.session, following.command
        starts = {
            channel.name: (channel, asked, at)
            for (channel, asked), at in zip(opened, began, strict=True)
            # The session may have joined through another pattern meanwhile.
            if (held := session.subscriptions.get(channel.name)) is None or goes_back(held, at)
        }
        for _, asked, at in starts.values():
            before = asked.since if at.reset else None
            session.places.start(asked.channel, at.position if before is None else before)
        begun = {name: at.position for name, (_, _, at) in starts.items()}
        held_at = {name: held.position for name, held in session.subscriptions.items()}
        places = held_at | begun
        positions = {name: places[name] for name in names if name in places}
        following_since, following.meanwhile = following.meanwhile or {}, None
        del self._beginning[following]
        if session.dialect.marks_positions:
            session.tell_positions()
        if reply_in_stream and not command.in_url:
            session.push(Reply(command.id, ok_of(command.pattern, positions)))
        else:
            session.push(PatternSubscribed(command.pattern, positions))
        await self._entering.enter(following, starts)
        for name in following_since:
            if name not in session.subscriptions:
                self.appeared(name)
        return positions

    def counts(self) -> Sequence[tuple[str, int]]:
        """Return the patterns of this node's sessions, each with its number of sessions."""
        return self._tree.counts()

    # -- channels that appear --------------------------------------------------------------

    def appeared(self, name: str) -> None:
        """Join a channel that has its first publication now, or its first after an end.

        Sessions join before that publication where they can. One that has had the end goes on after
        it. Where the channel keeps history, many join in turns, and read that publication.
        """
        for each in self._beginning:
            assert each.meanwhile is not None  # noqa: S101 - it has not begun
            most = self._limits.max_pattern_channels
            if matches(each.pattern, name) and len(each.meanwhile) <= most:
                each.meanwhile[name] = None
        if not (found := self._tree.matching(name)):
            return
        if (channel := self._channels.find(name)) is not None:
            channel.goes_on()
        at_once = SLICE_SESSIONS if self._channels.options(name).keeps_history else len(found)
        self._join_some(name, found[:at_once])
        if len(found) > at_once:
            self._spawn(self._join_others(name, found[at_once:]))

    async def _join_others(self, name: str, found: Sequence[Following]) -> None:
        for first in range(0, len(found), SLICE_SESSIONS):
            await NEXT_TURN
            self._join_some(name, found[first : first + SLICE_SESSIONS])

    def _join_some(self, name: str, found: Sequence[Following]) -> None:
        joining: dict[Position, list[Following]] = {}
        for each in found:
            held = name in each.session.subscriptions or name in each.entering
            if held or each.over or each.meanwhile is not None or not may_join(each, name):
                continue
            patterns = each.session.patterns
            ended = None if patterns is None else patterns.ended.get(name)
            joining.setdefault(ended or BEGINNING, []).append(each)
        for place, some in joining.items():
            work = self._join(name, place, some)
            if not self._broker.answers_at_once:
                self._spawn(work)
            elif isinstance(rest := begin(work), Rest):
                self._spawn(rest.run())

    def missed(self) -> None:
        """Look for channels that may have appeared unreported, as while the broker was away."""
        self._spawn(self._look_again())

    async def _look_again(self) -> None:
        # A session that may have fewer channels ends its pattern.
        most = self._limits.max_pattern_channels + self._limits.max_subscriptions + 1
        for pattern in self._tree.patterns():
            try:
                names = await self._broker.matching(pattern, most)
            except HubError:
                return  # The broker is away again, and reports its return.
            for number, name in enumerate(names, 1):
                self.appeared(name)
                if number % LEFT_AT_ONCE == 0:
                    await NEXT_TURN

    async def _join(self, name: str, since: Position, joining: Sequence[Following]) -> None:
        """Join a channel after `since`; close a session that cannot, so that its peer resumes."""
        self._channels.joining(name)
        try:
            channel = await self._channels.open(name)
            began = await self._start(channel, Subscribe(None, name, since))
            if since != BEGINNING:
                if channel.ended and began.recovered and not began.replayed:
                    return  # Nothing follows the end that the sessions have had.
                channel.goes_on()
            for following in joining:
                self._enter(following, channel, since, began)
        except HubError as error:
            for following in joining:
                following.session.close_error(error)
        except Exception as error:  # noqa: BLE001 - a publisher's call must not fail for it
            for following in joining:
                self._on_fault(following.session, error)
                following.session.close_error(HubError("internal error"))
        finally:
            self._channels.joined(name)

    async def _start(self, channel: Channel, command: Subscribe) -> Start:
        if not channel.offset and command.since == BEGINNING:
            return Start(channel.head, 0, recovered=True)
        [began] = await self._subscribing.starts.of([(channel, command)])
        return began

    def _enter(self, following: Following, channel: Channel, since: Position, began: Start) -> None:
        session, name = following.session, channel.name
        if following.over or session.closing or name in session.subscriptions:
            return
        if not self._room(session):
            leaving = self._leave(following, PatternUnsubscribed(following.pattern, TOO_MANY))
            if isinstance(rest := begin(leaving), Rest):
                self._spawn(rest.run())
            return
        asked = following.command
        command = Subscribe(None, name, since, None, asked.fill, asked.filter)
        session.places.start(name, since if began.reset else began.position)
        self._subscribing.enter_through_pattern(session, channel, command, began, announce=True)

    # -- ending ----------------------------------------------------------------------------

    async def unsubscribe(
        self, session: Session, command: UnsubscribePattern, *, reply_in_stream: bool
    ) -> Mapping[str, object] | None:
        """Leave the channels of this pattern alone, in turns; return the reply's `ok`."""
        patterns = session.patterns
        following = None if patterns is None else patterns.by_text.get(command.pattern)
        if following is None:
            raise BadRequestError(f"not subscribed to {command.pattern!r}")
        ok = {"pattern": command.pattern}
        if not reply_in_stream:
            await self._end(following)
            return ok
        await self._leave(following, Reply(command.id, ok))
        return None

    async def _leave(self, following: Following, push: Push) -> None:
        """End a pattern, and send `push` after all that its channels have for the session."""
        if (last := await self._end(following)) is not None:
            following.session.push_in_order(last, push)
        else:
            following.session.push(push)

    def leave_all(self, session: Session) -> None:
        """Drop the patterns of a session that has ended.

        Its channels that it has still to leave tell by which pattern it was in them.
        """
        if session.patterns is not None:
            for following in tuple(session.patterns.by_text.values()):
                self._forget(following)
            if not session.subscriptions:
                session.patterns.by_text.clear()

    async def _end(self, following: Following) -> Subscription | None:
        """End a pattern, and leave its channels in turns; return the last one that was left.

        Messages of a channel that the session has still to leave go on to it.
        """
        last = None
        for number, last in enumerate(self._ending(following), 1):  # noqa: B007 - the last of them
            if number % LEFT_AT_ONCE == 0:
                await NEXT_TURN
        return last

    def _ending(self, following: Following) -> Iterator[Subscription]:
        """Leave the channels that no other pattern of the session matches, and yield each.

        None is joined through the pattern from the first step on.
        """
        session, patterns = following.session, following.session.patterns
        if following.over or patterns is None:
            return
        self._forget(following)
        patterns.by_text.pop(following.pattern, None)
        how = f"its pattern {following.pattern} ended"
        for held in tuple(session.subscriptions.values()):
            ends = not (held.closed or session.closing) and held.through_pattern
            if ends and not patterns.covers(held.channel.name):
                self._membership.unsubscribe(session, held.channel.name, how=how)
                yield held

    def _forget(self, following: Following) -> None:
        following.over = True
        self._beginning.pop(following, None)
        self._tree.remove(following.pattern, following)
        self.held -= 1
        if not self._tree:
            self._broker.unfollow()
