"""Long polling: waits until there is something to answer a poll with.

A poll without a session is answered only when each of its channels has started, because the
positions in the answer name every channel. A later poll is answered as soon as one channel has
something. Each other channel then adds its history to the same answer, as far as there is room. A
poll that is cancelled while it waits has lost its peer (`PollSessions.give_up`).

A poll that comes to another node than its session's is sent on to that node
(`hub.admin.sessions.Poll`), and waits here as long as it waits there (`WaitingPolls`).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from hub.core.commands import PollRequest
from hub.errors import UnavailableError
from hub.transports.poll_sessions import Polling, PollSessions

ANSWER_NOW = "answer now"
"""A poll that is cancelled with this word is answered at once, and its session let go."""

# The time in which all channels of a first poll have to start: longer than a call to a broker takes
# before it fails. Guess, not measured.
_START_SECONDS = 10.0
# The time for the history of the other channels, once there is something to answer with; less for a
# session that goes on, because another node may wait for the answer. Guesses, not measured.
_TURNS_SECONDS = 5.0
_TURNS_ON_SECONDS = 0.5


class PollTransport:
    """Answers `GET /poll`."""

    def __init__(self, sessions: PollSessions) -> None:
        self._sessions = sessions

    async def poll(self, request: PollRequest) -> bytes:
        """Wait for the first push, `wait_seconds` at most; return the answer's JSON.

        Cancel it when its peer is gone, with `ANSWER_NOW` where it may be gone. Raises `HubError`
        where the registry refuses the session.
        """
        polling = self._sessions.begin(request)
        try:
            await self._wait(polling, request)
        except asyncio.CancelledError as cancelled:
            if cancelled.args[:1] != (ANSWER_NOW,) or polling.session.starting:
                self._sessions.abandon(polling)
                raise
            return self._sessions.last_answer(polling)
        except BaseException:
            self._sessions.give_up(polling, "a channel does not open")
            raise
        return self._sessions.answer(polling)

    async def _wait(self, polling: Polling, request: PollRequest) -> None:
        session, link = polling.session, polling.link
        begins = not polling.is_known
        changed = asyncio.Event()
        link.on_change = changed.set
        loop = asyncio.get_running_loop()
        due = loop.time() + request.wait_seconds
        if begins and not await _until(
            changed, lambda: link.ended or not session.starting, _START_SECONDS
        ):
            raise UnavailableError(f"channel {session.starting!r} does not open now")
        link.begin(request.max_bytes)
        await _until(changed, lambda: link.ended or link.has_frames, due - loop.time())
        await _until(
            changed,
            lambda: link.ended or link.full or not (session.replaying or session.starting),
            _TURNS_SECONDS if begins else _TURNS_ON_SECONDS,
        )
        # All pushes of one tick come with the same answer.
        await asyncio.sleep(0)


async def _until(changed: asyncio.Event, holds: Callable[[], bool], seconds: float) -> bool:
    """Wait until `holds` is true, and look whenever something changed; False when time ran out."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            while not holds():
                changed.clear()
                await changed.wait()
    except TimeoutError:
        return False
    return True


class WaitingPolls:
    """Polls that go on with a session of any node, until this node stops; one per node.

    A session of another node is not this node's, so no goodbye of a drain ends its poll. The poll
    is answered 503 instead, and its peer goes on from the same positions at another node.
    """

    def __init__(self) -> None:
        self._ends: set[asyncio.Future[None]] = set()
        self._ended = False

    async def poll(
        self, ask: Callable[[PollRequest], Awaitable[bytes]], request: PollRequest
    ) -> bytes:
        """Return the answer of the session's node; raise `UnavailableError` after `end_all`."""
        if self._ended:
            raise UnavailableError("this node stops: poll again")
        end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        answer = asyncio.ensure_future(ask(request))
        self._ends.add(end)
        try:
            either: set[asyncio.Future[Any]] = {answer, end}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            raise UnavailableError("this node stops: poll again")
        finally:
            self._ends.discard(end)
            answer.cancel()

    def end_all(self) -> None:
        """Answer the polls that wait, and those that still come: the node stops."""
        self._ended = True
        for end in self._ends:
            if not end.done():
                end.set_result(None)
