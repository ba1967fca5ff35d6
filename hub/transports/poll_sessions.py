"""The polling sessions of a node: the session of a poll, its answer, and its end.

This module decides; `hub.transports.poll` waits. Every answer has the positions of all channels
behind its pushes, so the `since` of the next poll shows whether the answer arrived. If it did not,
a new session goes on from the peer's place: from its `since`, and for channels that `since` lacks
from the answer before, never from the head. A peer that keeps to one session and does not name all
its channels gets an error, because only the peer knows its places: the session has ended.

A session outlives its poll by a lease. The lease is short where no peer may continue the session.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hub.core.commands import PollRequest, Subscribe, SubscribePattern
from hub.core.identity import Identity
from hub.core.patterns import matches
from hub.core.ports import Monotonic
from hub.core.publication import Position
from hub.core.registry import SessionRegistry
from hub.core.session.outbox_budget import OutboxBudget
from hub.core.session.places import Place, has_ended, known_place
from hub.core.session.session import Session
from hub.core.time.deadlines import Deadline, Deadlines
from hub.errors import (
    BadRequestError,
    NotFoundError,
    TooManySubscriptionsError,
)
from hub.transports.poll_link import PollLink
from hub.wire.codes import CloseCode
from hub.wire.filters import read_filter
from hub.wire.poll import PollDialect, SessionPollDialect, answer
from hub.wire.query import of_pattern

# A polling session has a lease of two waits: a peer that comes back late still has its session.
_LEASE_WAITS = 2
_LEAST_LEASE_SECONDS = 10.0
# The lease of a session that was never continued: time for a first command or the next poll. A peer
# that polls without `connection` leaves one behind with every answer.
_FIRST_LEASE_SECONDS = 5.0
# The lease after a poll without an answer: its peer may come back over another connection.
_GONE_LEASE_SECONDS = 10.0
# One in so many connections of a node may be a session between two polls, which has no socket.
_RESTING_SHARE = 4
_LEAST_RESTING = 16

Positions = Mapping[str, Position]


@dataclass(slots=True, eq=False)
class Polling:
    """One polling session, between its polls and in them."""

    session: Session
    link: PollLink
    request: PollRequest
    """The poll that waits, or the last one."""
    answered: Positions = field(default_factory=dict)
    """Every channel's position in the last answer; before the first, in the request."""
    before: Positions = field(default_factory=dict)
    """Every channel's position in the answer before it."""
    lease: Deadline | None = None
    is_known: bool = False
    """Whether the peer was answered, and may know the session's id."""
    continued: bool = False
    """Whether any poll has gone on with the session."""
    given: bytes | None = None
    """The application's data for the welcome, until a poll shows that the peer has it."""
    of_channels: Mapping[str, bytes] = field(default_factory=dict)
    """The application's data for the channels that the session began with."""
    ever: set[str] = field(default_factory=set)
    """The channels and patterns of the session, and those left that its poll still names.

    A peer that names a channel no longer knows that it has left; such names are forgotten.
    """

    @property
    def moved(self) -> frozenset[str]:
        """The channels with pushes in the last answer."""
        return frozenset(n for n, at in self.answered.items() if self.before.get(n) != at)

    def has(self, request: PollRequest) -> bool:
        """Return whether the peer of `request` has got the last answer.

        An answer comes whole or not at all, so its channels decide: those that it moved are named
        at its positions, or else it was lost. Browsers send a poll again by themselves. A peer that
        keeps to one session names at least one channel that was new in the answer: else it has not
        seen where the subscription started.
        """
        since, moved = request.since, self.moved
        if named := since.keys() & moved:
            return all(since[name] == self.answered[name] for name in named)
        if request.session and self.answered.keys() - self.before.keys():
            return False
        return all(since[name] == self.answered[name] for name in since.keys() & self.answered)

    def places(self, request: PollRequest) -> Positions:
        """Return the places from which a peer goes on that has not got the last answer.

        A channel that it does not name goes on from the answer before; one that was new in the lost
        answer, from its start.
        """
        starts: Mapping[str, Place] = self.session.places
        known = self.answered if self.has(request) else self.before
        places: dict[str, Position] = {}
        for name, start in starts.items():
            wanted = known_place(start)
            if (place := request.since.get(name) or known.get(name) or wanted) is not None:
                places[name] = place
        return places


class PollSessions:
    """Finds, opens and ends polling sessions; one per node."""

    def __init__(
        self,
        *,
        registry: SessionRegistry,
        deadlines: Deadlines,
        clock: Monotonic,
        outbox_budget: OutboxBudget,
        choose: Callable[[int], int] = random.randrange,
    ) -> None:
        """`choose` picks one of so many channels, to read its history first."""
        self._registry = registry
        self._dialect = PollDialect()
        self._session_dialect = SessionPollDialect()
        """For a peer that keeps to one session (`PollRequest.session`)."""
        self._deadlines = deadlines
        self._clock = clock
        self._outbox_budget = outbox_budget
        self._counters = registry.counters
        self._choose = choose
        self._max_resting = max(_LEAST_RESTING, registry.max_connections // _RESTING_SHARE)
        self._polling: dict[str, Polling] = {}
        # Both in the order in which they are evicted.
        self._unclaimed: dict[Polling, None] = {}
        """Sessions between two polls that no poll has gone on with so far."""
        self._resting: dict[Polling, None] = {}
        """The other sessions between two polls."""

    @property
    def resting(self) -> int:
        """Number of sessions between two polls."""
        return len(self._unclaimed) + len(self._resting)

    # -- one poll ------------------------------------------------------------------------------

    def begin(self, request: PollRequest) -> Polling:
        """Return the session that answers a poll; its link takes nothing yet. Raises `HubError`."""
        polling = self._find(request) or self._open(
            request,
            [
                _subscribe(request, name, request.since.get(name), judged=True)
                for name in request.channels
            ],
            request.since,
            request.identity,
            request.patterns,
        )
        self._release(polling)
        polling.request = request
        return polling

    def answer(self, polling: Polling) -> bytes:
        """Return the answer's JSON, with the positions that go exactly with it."""
        frames = polling.link.take()
        polling.ever |= polling.session.places.keys()
        polling.before = polling.answered
        polling.answered = polling.session.resume_from()
        polling.is_known = True
        self._lease(polling, _lease_seconds(polling.request))
        moved = polling.moved
        # Channels that moved come last: a peer whose URL has no room for all keeps those.
        ordered = sorted(polling.answered.items(), key=lambda item: item[0] in moved)
        positions = {name: str(place) for name, place in ordered}
        welcome = self._registry.welcome(polling.session, polling.given)
        return answer(frames, positions, welcome, polling.of_channels)

    def last_answer(self, polling: Polling) -> bytes:
        """Answer a poll whose peer may be gone; a peer that is not goes on from the positions."""
        was_known = polling.is_known
        body = self.answer(polling)
        self._counters.polls_abandoned += 1
        self._release(polling)
        if was_known:
            self._lease(polling, _GONE_LEASE_SECONDS)
        else:
            self._end(polling, "its peer is gone")
        return body

    def abandon(self, polling: Polling) -> None:
        """End a poll whose peer is gone; its answer has no reader."""
        self._counters.polls_abandoned += 1
        self.give_up(polling, "its peer is gone")

    def give_up(self, polling: Polling, reason: str) -> None:
        """End a poll without an answer.

        No peer can go on with a session whose id it does not know. A peer that knows its session
        may come back.
        """
        polling.link.give_up()
        if polling.is_known:
            self._lease(polling, _GONE_LEASE_SECONDS)
        else:
            self._end(polling, reason)
            polling.link.drop()

    # -- which session -------------------------------------------------------------------------

    def _find(self, request: PollRequest) -> Polling | None:
        if request.connection is None:
            return None
        session = self._registry.find(request.connection, request.secret or "")
        if (polling := self._polling.get(session.id)) is None:
            raise BadRequestError(f"connection {session.id!r} does not poll")
        if not polling.link.taking and polling.has(request):
            polling.given, polling.of_channels = None, {}
            self._subscribe_more(polling, request)
            polling.continued = True
            return polling
        # An answer was lost, or the peer of the poll that still waits is gone.
        places = polling.places(request)
        patterns = () if session.patterns is None else tuple(session.patterns.by_text)
        by_name = [
            # The application may still be asked about a channel that has not begun.
            _subscribe(request, name, places.get(name), judged=held is not None)
            for name, at in session.places.items()
            if (held := session.subscriptions.get(name)) is None or not held.through_pattern
            if not (has_ended(at) and _through_pattern(session, name))
        ]
        self._end(polling, "continued by another poll")
        if request.session and not request.since.keys() >= places.keys():
            # Only the peer knows its places in the others: it has to begin anew.
            raise NotFoundError(f"an answer to {session.id!r} was lost: begin a new session")
        opened = self._open(request, by_name, places, session.identity, patterns)
        opened.given, opened.of_channels = polling.given, polling.of_channels
        return opened

    def _subscribe_more(self, polling: Polling, request: PollRequest) -> None:
        """Subscribe to channels that the poll names and its session never had.

        Not to channels that the session has left since, by a command or by an operator.
        """
        session = polling.session
        held = session.places.keys()
        polling.ever |= held | set(() if session.patterns is None else session.patterns.by_text)
        more = [name for name in request.channels if name not in polling.ever]
        patterns = [text for text in request.patterns if text not in polling.ever]
        ended = {name for name, at in session.places.items() if has_ended(at)}
        for name in ended.difference(request.channels):
            # Its peer knows. Places of a pattern's channels stay: it names them all.
            if not _through_pattern(session, name):
                session.places.forget(name)
        polling.ever &= held | {*request.channels, *request.patterns}
        for name in more:
            session.identity.check_subscribe(name)
        if more and len(held) - len(ended) + len(more) > session.dialect.max_channels:
            raise TooManySubscriptionsError(
                f"a session may hold {session.dialect.max_channels} subscriptions"
            )
        commands = [
            _subscribe(request, name, request.since.get(name), judged=False) for name in more
        ]
        for command in commands:
            session.places.expect(command)
        for command in commands:
            self._registry.commands.submit(session, command)
        for pattern in patterns:
            polling.ever.add(pattern)
            self._registry.commands.submit(session, _pattern(request, pattern, request.since))

    def _open(
        self,
        request: PollRequest,
        channels: Sequence[Subscribe],
        since: Positions,
        identity: Identity,
        patterns: tuple[str, ...],
    ) -> Polling:
        self._make_room()
        self._registry.check_open(request.address)
        self._registry.check_subject(identity.subject, request.address)
        # A channel that fills every answer must not be the first every time.
        first = self._choose(len(channels)) if channels else 0
        in_turn = [*channels[first:], *channels[:first]]
        link = PollLink(
            address=request.address, user_agent=request.user_agent, budget=self._outbox_budget
        )
        session = self._registry.open(
            link,
            self._session_dialect if request.session else self._dialect,
            identity,
            subscriptions=[
                *in_turn,
                *(_pattern(request, pattern, since) for pattern in patterns),
            ],
            named=request.named,
        )
        session.places.on_progress = link.progressed
        names = {each.channel for each in in_turn}
        places = {name: at for name, at in since.items() if name in names or patterns}
        polling = self._polling[session.id] = Polling(session, link, request, places, places)
        polling.given = request.given
        # With one session the pushed `subscribed` has it.
        polling.of_channels = {} if request.session else request.of_channels
        polling.ever |= set(patterns)
        return polling

    def _make_room(self) -> None:
        """Evict a session that no poll went on with, at the bound of connections."""
        if len(self._registry.sessions) >= self._registry.max_connections and self._unclaimed:
            self._evict(self._unclaimed)

    # -- how long ------------------------------------------------------------------------------

    def _release(self, polling: Polling) -> None:
        self._unclaimed.pop(polling, None)
        self._resting.pop(polling, None)
        if polling.lease is not None:
            polling.lease.cancel()
            polling.lease = None

    def _lease(self, polling: Polling, seconds: float) -> None:
        if polling.link.ended:
            polling.link.drop()
            self._polling.pop(polling.session.id, None)
            return
        due = self._clock() + seconds
        polling.lease = self._deadlines.at(due, lambda: self._end(polling, "no further poll"))
        (self._resting if polling.continued else self._unclaimed)[polling] = None
        while self.resting > self._max_resting:
            self._evict(self._unclaimed or self._resting)

    def _evict(self, resting: Mapping[Polling, None]) -> None:
        self._counters.polls_evicted += 1
        self._end(next(iter(resting)), "too many sessions between two polls")

    def _end(self, polling: Polling, reason: str) -> None:
        is_resting = polling.lease is not None
        self._release(polling)
        self._polling.pop(polling.session.id, None)
        polling.session.close(CloseCode.NORMAL, reason)
        if is_resting:
            # A poll that waits still takes the frames that came.
            polling.link.drop()


def _through_pattern(session: Session, name: str) -> bool:
    patterns = session.patterns
    return patterns is not None and any(matches(text, name) for text in patterns.by_text)


def _subscribe(
    request: PollRequest, name: str, since: Position | None, *, judged: bool
) -> Subscribe:
    """Return a subscription; `judged` where the application was asked, or need not be."""
    wanted = None if request.filter is None else read_filter(request.filter.encode())
    return Subscribe(
        None,
        name,
        since,
        request.last,
        fill=True,
        filter=wanted,
        in_url=True,
        every_ms=request.every_ms,
        state=request.state,
        judged=judged,
        given=request.of_channels.get(name),
    )


def _pattern(request: PollRequest, pattern: str, since: Positions) -> SubscribePattern:
    wanted = None if request.filter is None else read_filter(request.filter.encode())
    places = of_pattern(pattern, since)
    return SubscribePattern(
        None, pattern, places, request.last, fill=True, filter=wanted, in_url=True
    )


def _lease_seconds(request: PollRequest) -> float:
    if request.connection is None:
        return _FIRST_LEASE_SECONDS
    return max(_LEASE_WAITS * request.wait_seconds, _LEAST_LEASE_SECONDS)
