"""The hub by long polling with POST /command, where a proxy lets no stream through.

Each answer names the position of every channel, and the next poll repeats it, so that the hub
notices an answer that was lost. The client does not rely on that: after any failure it resumes with
a new session from its own positions.
"""

from collections import deque

import httpx2

from hub_client.errors import ProtocolError
from hub_client.frames import PollAnswer, read_poll
from hub_client.http_session import HttpSession, UrlDialer, check, url_subscriptions
from hub_client.route import HTTP_ERRORS
from hub_client.transport import (
    ABNORMAL_CLOSE,
    CannotConnectError,
    DisconnectedError,
    Target,
    TransportConnection,
    encode_query,
    unreachable,
)

# The hub allows 60; an answer has to come before the client takes 1.5 heartbeats of silence
# for the end, and before proxies do (60 s, often less).
_MAX_WAIT_SECONDS = 25.0
_PATIENCE_SECONDS = 10.0


class PollDialer(UrlDialer):
    """Open a session by a first `GET /poll` that does not wait."""

    transport = "poll"

    async def _open(self, target: Target) -> TransportConnection:
        channels, query = url_subscriptions(target.subscribe)
        url = f"{target.base_url}/poll?session=true&wait=0" + (f"&{query}" if query else "")
        http = self._http.client(target.route)
        request = http.build_request("GET", url, headers=target.authorization)
        session = HttpSession(http, target)
        try:
            response = await http.send(request, stream=True)
            await check(response, "application/json")
            try:
                first = read_poll(await session.read(response))
            finally:
                await response.aclose()
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise unreachable(error) from None
        except HTTP_ERRORS as error:
            raise CannotConnectError(f"{type(error).__name__}: {error}") from None
        except (ProtocolError, DisconnectedError) as error:
            raise CannotConnectError(str(error), blocked=True) from None
        return PollConnection(session, first, frozenset(channels))


class PollConnection:
    """One session that is polled again and again."""

    transport = "poll"
    starts_in_reply = False
    streams = False

    def __init__(self, session: HttpSession, first: PollAnswer, in_url: frozenset[str]) -> None:
        self.in_url = in_url
        self._session = session
        self._wait_seconds = min(_MAX_WAIT_SECONDS, first.heartbeat_seconds)
        self._positions = first.positions
        self._frames = deque((first.welcome, *first.pushes))

    def welcomed(self, connection: str, secret: str) -> None:
        self._session.welcomed(connection, secret)

    async def receive(self) -> bytes:
        """Return the next push; b"" for an answer without one, which is a sign of life."""
        if not self._frames:
            answer = await self._poll()
            self._positions = answer.positions
            self._frames.extend(answer.pushes)
        return self._frames.popleft() if self._frames else b""

    async def _poll(self) -> PollAnswer:
        session = self._session
        # What the answer moved stands last in it: named first, because a URL has not room for all,
        # it shows whether the answer came.
        newest = reversed(tuple(self._positions.items()))
        places = tuple({_kind(name): name, "since": place} for name, place in newest)
        _, query = url_subscriptions(places)
        own = [("session", "true"), ("connection", session.connection)]
        own.append(("wait", f"{self._wait_seconds:g}"))
        url = f"{session.target.base_url}/poll?{encode_query(own)}" + (f"&{query}" if query else "")
        request = session.http.build_request("GET", url, headers=session.headers)
        seconds = self._wait_seconds + _PATIENCE_SECONDS
        status, body = await session.fetch(request, timeout_seconds=seconds)
        if status != httpx2.codes.OK:
            raise DisconnectedError(ABNORMAL_CLOSE, f"GET /poll: HTTP {status}")
        return self._same_session(body)

    def _same_session(self, body: bytes) -> PollAnswer:
        try:
            answer = read_poll(body)
        except ProtocolError as error:
            raise DisconnectedError(ABNORMAL_CLOSE, str(error)) from None
        if answer.connection != self._session.connection:
            raise DisconnectedError(ABNORMAL_CLOSE, "the hub began a new session")
        return answer

    async def send(self, command_id: int, command: bytes) -> bytes | None:
        return await self._session.send(command_id, command)

    async def close(self) -> None:
        """Close nothing: the hub forgets a session that is not polled."""


def _kind(name: str) -> str:
    """Return the kind of a position's key: a pattern stands among positions while it has no
    channel."""
    return "pattern" if "*" in name else "channel"
