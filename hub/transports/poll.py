"""Long polling: a session whose link takes one answer's worth of frames at a time.

Between two polls the link takes nothing. Where there is history nothing is queued then
either: the subscriptions fill from it (`Subscription.fill`) when the peer comes back, and
where there is none the session's outbox holds what fits. A peer that repeats an older
position, because an answer was lost, or polls again while its last poll still waits, gets a
new session from there; where it keeps to one session and does not name all its channels, only
it can know from where, and is told that the session has ended. A poll that comes to another
node than its session's is sent on to that one (`hub.core.peers.Peers`).
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from hub.core.commands import Subscribe
from hub.core.deadlines import Deadline, Deadlines
from hub.core.engine import Engine
from hub.core.identity import Identity
from hub.core.polling import PollRequest
from hub.core.ports import MAX_AGENT_CHARACTERS, Dialect, Monotonic
from hub.core.session import Session
from hub.errors import BadRequestError, NotFoundError
from hub.wire.codes import CloseCode
from hub.wire.poll import answer

# DESIGN.md section 7: a polling session holds a lease of two waits.
_LEASE_WAITS = 2
_LEAST_LEASE_SECONDS = 10.0
# Of a session that was never continued: time for a first command or the next poll. Who polls
# without `connection` leaves one behind with every answer.
_FIRST_LEASE_SECONDS = 5.0


class PollLink:
    """Implements `hub.core.ports.Link`; open for frames only while a poll waits."""

    __slots__ = (
        "_blocked",
        "_frames",
        "_max_bytes",
        "_taking",
        "address",
        "ended",
        "ready",
        "session",
        "user_agent",
    )

    transport = "poll"
    answers_pings = False

    def __init__(self, *, address: str, user_agent: str) -> None:
        self.address = address
        self.user_agent = user_agent[:MAX_AGENT_CHARACTERS]
        self.session: Session | None = None
        self.ended = False
        self.ready = asyncio.Event()
        """Set while there is something to answer with."""
        self._taking = False
        self._blocked = False
        self._frames = bytearray()
        self._max_bytes = 0

    @property
    def taking(self) -> bool:
        """Whether a poll waits now."""
        return self._taking

    def begin(self, max_bytes: int) -> None:
        """A poll waits: take what the session owes, nothing more once it is `max_bytes`."""
        self._taking = True
        self._max_bytes = max_bytes
        if self._blocked and self.session is not None:
            self._blocked = False
            self.session.on_writable()

    def take(self) -> bytes:
        """The poll is answered with what came; nothing more is taken until the next."""
        frames, self._frames = bytes(self._frames), bytearray()
        self._taking = False
        self.ready.clear()
        if frames and self.session is not None:
            # Or the replay went on, and left one message here that ends the next poll at once:
            # who is behind would get one message for each round trip. Where there was nothing,
            # it may: whoever never waits gets something with the next poll.
            self._blocked = True
            self.session.writable = False
        return frames

    def send(self, data: bytes) -> int:
        if data and (not self._taking or len(self._frames) >= self._max_bytes):
            return 0
        self._keep(data)
        return len(data)

    def finish(self, rest: bytes) -> None:
        self._blocked = True
        self._keep(rest)

    def _keep(self, data: bytes) -> None:
        self._frames += data
        if data:
            self.ready.set()

    def cork(self) -> None:
        """An answer gathers anyway."""

    def uncork(self) -> bool:
        return True

    def ping(self, payload: bytes) -> bytes:  # noqa: ARG002 - the port's shape
        return b""

    def acknowledged_bytes(self) -> int:
        # Between two polls there is nobody to acknowledge anything: the lease decides how
        # long the session lives, not the heartbeat, for which it always makes progress.
        return time.monotonic_ns()

    def unsent_bytes(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def close(self, code: int, reason: str) -> None:  # noqa: ARG002 - the port's shape
        self.abort()

    def abort(self) -> None:
        self.ended = True
        self.ready.set()
        if self.session is not None:
            # There is no connection whose end would be reported later.
            self.session.lost(CloseCode.ABNORMAL, "no further poll")


@dataclass(slots=True)
class _Polling:
    """One polling session between its polls."""

    session: Session
    link: PollLink
    answered: Mapping[str, str]
    """Channel to position, as the last answer said."""
    began: frozenset[str] = frozenset()
    """Channels that the last answer named and the one before did not."""
    lease: Deadline | None = None


class PollTransport:
    """Answers `GET /poll`; keeps the polling sessions of the node."""

    def __init__(
        self,
        *,
        engine: Engine,
        dialect: Dialect,
        session_dialect: Dialect,
        deadlines: Deadlines,
        clock: Monotonic,
    ) -> None:
        """`session_dialect` is for who keeps to one session (`PollRequest.session`)."""
        self._engine = engine
        self._dialect = dialect
        self._session_dialect = session_dialect
        self._deadlines = deadlines
        self._clock = clock
        self._polling: dict[str, _Polling] = {}

    async def poll(self, request: PollRequest) -> bytes:
        """Wait for the first push, `wait_seconds` at most; return the answer's JSON.

        Raises `HubError`: what the engine refuses.
        """
        polling = self._find(request) or self._open(request, request.channels, request.identity)
        self._release(polling)
        link = polling.link
        try:
            link.begin(request.max_bytes)
            await self._wait(link, request.wait_seconds)
        finally:
            self._lease(polling, _lease_seconds(request))
            frames = link.take()
        if not link.ended:
            places = polling.session.subscriptions.values()
            before = polling.answered
            polling.answered = {s.channel.name: str(s.position) for s in places}
            polling.began = frozenset(polling.answered).difference(before)
        # Else the last ones stand beside the goodbye: what came since may repeat.
        return answer(frames, polling.answered, self._engine.welcome(polling.session))

    async def _wait(self, link: PollLink, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await link.ready.wait()
        except TimeoutError:
            return
        # What belongs to the same tick comes with the same answer.
        await asyncio.sleep(0)

    # -- which session -----------------------------------------------------------------------

    def _find(self, request: PollRequest) -> _Polling | None:
        if request.connection is None:
            return None
        session = self._engine.find(request.connection, request.secret or "")
        if (polling := self._polling.get(session.id)) is None:
            raise BadRequestError(f"connection {session.id!r} does not poll")
        if not polling.link.taking and self._matches(polling, request):
            return polling
        # An answer was lost, or the peer of the poll that still waits is gone.
        channels = tuple(session.subscriptions)
        self._end(polling, "continued by another poll")
        if request.session and not request.since.keys() >= set(channels):
            # Where the peer is in the others it knows better: it has to begin anew.
            raise NotFoundError(f"an answer to {session.id!r} was lost: begin a new session")
        return self._open(request, channels, session.identity)

    def _matches(self, polling: _Polling, request: PollRequest) -> bool:
        """Whether the peer has what it was last answered.

        Who keeps to one session names at least one channel that was new in the answer: else it
        has not seen where the subscription started. Browsers send a poll again by themselves.
        """
        known, since = polling.answered, request.since
        if request.session and polling.began and polling.began.isdisjoint(since):
            return False
        return all(known.get(name) == str(position) for name, position in since.items())

    def _open(
        self, request: PollRequest, channels: tuple[str, ...], identity: Identity
    ) -> _Polling:
        self._engine.check_open()
        since = request.since
        link = PollLink(address=request.address, user_agent=request.user_agent)
        dialect = self._session_dialect if request.session else self._dialect
        subscriptions = [
            Subscribe(None, name, since.get(name), request.last, fill=True, in_url=True)
            for name in channels
        ]
        session = self._engine.open(link, dialect, identity, subscriptions=subscriptions)
        asked = {name: str(position) for name, position in since.items()}
        polling = self._polling[session.id] = _Polling(session, link, asked)
        return polling

    # -- how long ----------------------------------------------------------------------------

    def _release(self, polling: _Polling) -> None:
        if polling.lease is not None:
            polling.lease.cancel()
            polling.lease = None

    def _lease(self, polling: _Polling, seconds: float) -> None:
        due = self._clock() + seconds
        polling.lease = self._deadlines.at(due, lambda: self._end(polling, "no further poll"))
        if polling.link.ended:
            self._polling.pop(polling.session.id, None)

    def _end(self, polling: _Polling, reason: str) -> None:
        self._polling.pop(polling.session.id, None)
        polling.session.close(CloseCode.NORMAL, reason)


def _lease_seconds(request: PollRequest) -> float:
    if request.connection is None:
        return _FIRST_LEASE_SECONDS
    return max(_LEASE_WAITS * request.wait_seconds, _LEAST_LEASE_SECONDS)
