"""The polling sessions of a node: which one a poll goes on with, what it is answered, who ends it.

Decisions only; `hub.transports.poll` does the waiting. Every answer names all channels, exactly as
far as its pushes go, so the next poll's `since` tells whether it arrived. Where it did not, a new
session goes on from what the peer has: from its `since`, and for what that lacks from the answer
before, never from the head. Where the peer keeps to one session and does not name all its channels,
only it can know from where, and is told that the session has ended.

A session outlives its poll by a lease, which is short where nobody may continue it.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hub.core.commands import PollRequest, Subscribe, SubscribePattern
from hub.core.identity import Identity
from hub.core.patterns import matches
from hub.core.ports import Dialect, Monotonic
from hub.core.publication import Position
from hub.core.registry import SessionRegistry
from hub.core.session.outbox import OutboxBudget
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
from hub.wire.poll import answer
from hub.wire.query import of_pattern

# A polling session holds a lease of two waits: who comes back late is still who it was.
_LEASE_WAITS = 2
_LEAST_LEASE_SECONDS = 10.0
# Of a session that was never continued: time for a first command or the next poll. Who polls
# without `connection` leaves one behind with every answer.
_FIRST_LEASE_SECONDS = 5.0
# Of one whose poll went without an answer: its peer may come back over another connection.
_GONE_LEASE_SECONDS = 10.0
# Of all connections of a node, so many may be sessions between two polls: nobody speaks for them.
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
    """Every channel's position, as the last answer said; before the first as it was asked for."""
    before: Positions = field(default_factory=dict)
    """The same of the answer before it."""
    lease: Deadline | None = None
    is_known: bool = False
    """Whether the peer was answered, and may know the session by its name."""
    continued: bool = False
    """Whether any poll went on with it."""
    given: bytes | None = None
    """What the application gives along with its yes, until a poll shows that the peer has it."""
    of_channels: Mapping[str, bytes] = field(default_factory=dict)
    """The same for the channels that it began with."""
    ever: set[str] = field(default_factory=set)
    """The channels and patterns that it is in, and of those that it has left the ones that its
    poll still names.

    A peer that names a channel no longer has been told; names that are left for good are forgotten.
    """

    @property
    def moved(self) -> frozenset[str]:
        """The channels that the last answer had something of."""
        return frozenset(n for n, at in self.answered.items() if self.before.get(n) != at)

    def has(self, request: PollRequest) -> bool:
        """Whether who asks this has got the last answer.

        An answer comes whole or not at all, so what its channels show decides: those that it moved
        are named as it said, or else it was lost. Browsers send a poll again by themselves. A peer
        that keeps to one session names at least one channel that was new in the answer: else it has
        not seen where the subscription started.
        """
        since, moved = request.since, self.moved
        if named := since.keys() & moved:
            return all(since[name] == self.answered[name] for name in named)
        if request.session and self.answered.keys() - self.before.keys():
            return False
        return all(since[name] == self.answered[name] for name in since.keys() & self.answered)

    def places(self, request: PollRequest) -> Positions:
        """Where to go on for who asks this without having got the last answer.

        What it does not name it has as far as the answer before told; what was new in the lost
        one, from its start.
        """
        starts: Mapping[str, Place] = self.session.places
        known = self.answered if self.has(request) else self.before
        places: dict[str, Position] = {}
        for name, start in starts.items():
            asked = known_place(start)
            if (place := request.since.get(name) or known.get(name) or asked) is not None:
                places[name] = place
        return places


class PollSessions:
    """One per node."""

    def __init__(
        self,
        *,
        registry: SessionRegistry,
        dialect: Dialect,
        session_dialect: Dialect,
        deadlines: Deadlines,
        clock: Monotonic,
        outbox_budget: OutboxBudget,
        choose: Callable[[int], int] = random.randrange,
    ) -> None:
        """`session_dialect` is for who keeps to one session (`PollRequest.session`).

        `choose` picks one of so many channels, to read its history first.
        """
        self._registry = registry
        self._dialect = dialect
        self._session_dialect = session_dialect
        self._deadlines = deadlines
        self._clock = clock
        self._outbox_budget = outbox_budget
        self._counters = registry.counters
        self._choose = choose
        self._max_resting = max(_LEAST_RESTING, registry.max_connections // _RESTING_SHARE)
        self._polling: dict[str, Polling] = {}
        # In the order in which they will be the first to go.
        self._unclaimed: dict[Polling, None] = {}
        """Between two polls, and none went on with it so far."""
        self._resting: dict[Polling, None] = {}
        """The others between two polls."""

    @property
    def resting(self) -> int:
        """How many sessions are between two polls."""
        return len(self._unclaimed) + len(self._resting)

    # -- one poll ------------------------------------------------------------------------------

    def begin(self, request: PollRequest) -> Polling:
        """The session that answers this; its link takes nothing yet. Raises `HubError`."""
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
        """The answer's JSON, and the positions that go exactly with it."""
        frames = polling.link.take()
        polling.ever |= polling.session.places.keys()
        polling.before = polling.answered
        polling.answered = polling.session.resume_from()
        polling.is_known = True
        self._lease(polling, _lease_seconds(polling.request))
        moved = polling.moved
        # What moved comes last: whose URL has not room for all begins there.
        ordered = sorted(polling.answered.items(), key=lambda item: item[0] in moved)
        positions = {name: str(place) for name, place in ordered}
        welcome = self._registry.welcome(polling.session, polling.given)
        return answer(frames, positions, welcome, polling.of_channels)

    def last_answer(self, polling: Polling) -> bytes:
        """Answer a poll whose peer may be gone; whoever is not goes on from the positions."""
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
        """The poll's peer is gone: nobody takes its answer."""
        self._counters.polls_abandoned += 1
        self.give_up(polling, "its peer is gone")

    def give_up(self, polling: Polling, reason: str) -> None:
        """The poll goes without an answer.

        Nobody can go on with a session whose name nobody was told. A peer that was told of its
        session may come back.
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
            # One that has not begun yet may be what the application is still being asked about.
            _subscribe(request, name, places.get(name), judged=held is not None)
            for name, at in session.places.items()
            if (held := session.subscriptions.get(name)) is None or not held.through_pattern
            if not (has_ended(at) and _through_pattern(session, name))
        ]
        self._end(polling, "continued by another poll")
        if request.session and not request.since.keys() >= places.keys():
            # Where the peer is in the others it knows better: it has to begin anew.
            raise NotFoundError(f"an answer to {session.id!r} was lost: begin a new session")
        opened = self._open(request, by_name, places, session.identity, patterns)
        opened.given, opened.of_channels = polling.given, polling.of_channels
        return opened

    def _subscribe_more(self, polling: Polling, request: PollRequest) -> None:
        """A client that names a channel which its session never had asks for it.

        Not one that the session has left since, by a command or on an operator's word.
        """
        session = polling.session
        held = session.places.keys()
        polling.ever |= held | set(() if session.patterns is None else session.patterns.by_text)
        more = [name for name in request.channels if name not in polling.ever]
        patterns = [text for text in request.patterns if text not in polling.ever]
        ended = {name for name, at in session.places.items() if has_ended(at)}
        for name in ended.difference(request.channels):
            # Its peer has been told. Places of a pattern's channels stay: it names them all.
            if not _through_pattern(session, name):
                session.places.forget(name)
        polling.ever &= held | {*request.channels, *request.patterns}
        for name in more:
            session.identity.check_subscribe(name)
        if more and len(held) - len(ended) + len(more) > session.dialect.max_channels:
            raise TooManySubscriptionsError(
                f"a session may hold {session.dialect.max_channels} subscriptions"
            )
        asked = [_subscribe(request, name, request.since.get(name), judged=False) for name in more]
        for command in asked:
            session.places.expect(command)
        for command in asked:
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
        # One that fills every answer must not be the first every time.
        first = self._choose(len(channels)) if channels else 0
        asked = [*channels[first:], *channels[:first]]
        link = PollLink(
            address=request.address, user_agent=request.user_agent, budget=self._outbox_budget
        )
        session = self._registry.open(
            link,
            self._session_dialect if request.session else self._dialect,
            identity,
            subscriptions=[
                *asked,
                *(_pattern(request, pattern, since) for pattern in patterns),
            ],
            named=request.named,
        )
        session.places.on_progress = link.progressed
        names = {each.channel for each in asked}
        places = {name: at for name, at in since.items() if name in names or patterns}
        polling = self._polling[session.id] = Polling(session, link, request, places, places)
        polling.given = request.given
        # Else it stands in the `subscribed` that is pushed.
        polling.of_channels = {} if request.session else request.of_channels
        polling.ever |= set(patterns)
        return polling

    def _make_room(self) -> None:
        """At the bound of connections, a session that nobody went on with gives way."""
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
            # A poll that waits is answered with what came.
            polling.link.drop()


def _through_pattern(session: Session, name: str) -> bool:
    patterns = session.patterns
    return patterns is not None and any(matches(text, name) for text in patterns.by_text)


def _subscribe(
    request: PollRequest, name: str, since: Position | None, *, judged: bool
) -> Subscribe:
    """`judged` is whether the application was asked about it, where it is asked at all."""
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
