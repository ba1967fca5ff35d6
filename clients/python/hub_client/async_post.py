"""POST for asyncio, straight to a hub, over connections that are kept open with one request on
each.

A request on an open connection needs no task and no timer of its own: the call that brings it
writes it, and the call that reads the answer hands it on.
"""

import asyncio
import functools
import ssl
from collections.abc import Callable
from typing import Any, cast

from hub_client.answer import (
    AnswerReader,
    HttpResponse,
    PostFailedError,
    PostTarget,
    cut,
    none_free,
    not_reached,
)
from hub_client.window import FairSemaphore

OnAnswer = Callable[[HttpResponse | PostFailedError], None]


class AsyncPost:
    """The connections to one server. One event loop uses them; they connect when first used."""

    def __init__(
        self,
        server: PostTarget,
        *,
        tls: ssl.SSLContext | None,
        max_connections: int,
        connect_seconds: float,
    ) -> None:
        """Take the arguments of `BlockingPost`."""
        self._server = server
        self._tls = tls if server.secure else None
        self._connect_seconds = connect_seconds
        self._places = FairSemaphore(max_connections)
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._look: asyncio.TimerHandle | None = None
        """The one timer that gives up late answers."""
        self.is_closed = False

    def begin(self, body: bytes, *, seconds: float, on_answer: OnAnswer) -> bool:
        """Send now, if that needs no wait; False where it does, and nothing was sent.

        Args:
            body: of the request.
            seconds: within which the answer has to be whole.
            on_answer: told the answer, or why there is none; never before this returns.
        """
        if self.is_closed or not self._places.take():
            return False
        connection = self._kept()
        if connection is None:
            self._places.give_back()
            return False
        deadline = asyncio.get_running_loop().time() + seconds
        self._ask(connection, body, deadline, on_answer)
        return True

    async def post(self, body: bytes, *, seconds: float) -> HttpResponse:
        """Return the answer; raise `PostFailedError` where none comes whole within `seconds`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        if not self._places.take():
            try:
                await self._places.wait(self._connect_seconds)
            except TimeoutError:
                raise none_free() from None
        try:
            connection = self._kept() or await self._connect()
        except BaseException:
            self._places.give_back()
            raise
        known: asyncio.Future[HttpResponse | PostFailedError] = loop.create_future()
        self._ask(connection, body, deadline, functools.partial(_tell, known))
        try:
            answer = await known
        finally:
            if known.cancelled():
                # No caller waits for the answer any more, and no other may read it as its own.
                connection.give_up(cut(None))
        if isinstance(answer, PostFailedError):
            raise answer
        return answer

    def _ask(
        self, connection: "_Connection", body: bytes, deadline: float, on_answer: OnAnswer
    ) -> None:
        self._watch(deadline)
        on_end = functools.partial(self._answered, connection, on_answer)
        connection.ask(self._server.request(body), deadline, on_end)

    def _answered(
        self, connection: "_Connection", on_answer: OnAnswer, answer: HttpResponse | PostFailedError
    ) -> None:
        if connection.may_reuse and not self.is_closed:
            self._idle.append(connection)
        else:
            self._end(connection)
        self._places.give_back()
        on_answer(answer)

    def _kept(self) -> "_Connection | None":
        while self._idle:
            connection = self._idle.pop()
            if connection.may_reuse:
                return connection
            self._end(connection)
        return None

    async def _connect(self) -> "_Connection":
        server = self._server
        name = server.host if self._tls is not None else None
        loop = asyncio.get_running_loop()
        # RFC 8305 section 5. uvloop knows no such argument, and takes the addresses in turn.
        known = isinstance(loop, asyncio.BaseEventLoop)
        eyeballs: dict[str, Any] = {"happy_eyeballs_delay": 0.25} if known else {}
        try:
            async with asyncio.timeout(self._connect_seconds):
                _, connection = await loop.create_connection(
                    _Connection,
                    server.host,
                    server.port,
                    ssl=self._tls,
                    server_hostname=name,
                    **eyeballs,
                )
        except (OSError, UnicodeError) as error:
            raise not_reached(error) from None
        self._open.add(connection)
        return connection

    def _end(self, connection: "_Connection") -> None:
        self._open.discard(connection)
        connection.abort()

    # -- answers that are late -------------------------------------------------------------

    def _watch(self, deadline: float) -> None:
        if self._look is not None:
            if self._look.when() <= deadline:
                return
            self._look.cancel()
        self._look = asyncio.get_running_loop().call_at(deadline, self._give_up_late)

    def _give_up_late(self) -> None:
        self._look = None
        now = asyncio.get_running_loop().time()
        for connection in tuple(self._open):
            if connection.deadline is not None and connection.deadline <= now:
                connection.give_up(cut(TimeoutError()))
        waiting = [each.deadline for each in self._open if each.deadline is not None]
        if waiting:
            self._watch(min(waiting))

    async def close(self) -> None:
        """End all connections; requests under way end as cut off."""
        self.is_closed = True
        if self._look is not None:
            self._look.cancel()
        connections = tuple(self._open)
        for connection in connections:
            self._end(connection)
        if connections:
            await asyncio.wait({connection.over for connection in connections}, timeout=1.0)


class _Connection(asyncio.Protocol):
    """One socket."""

    def __init__(self) -> None:
        self.may_reuse = False
        self.deadline: float | None = None
        """The deadline of the awaited answer, on the loop's clock."""
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._reader = AnswerReader()
        self._on_answer: OnAnswer | None = None

    def ask(self, request: bytes, deadline: float, on_answer: OnAnswer) -> None:
        """Send `request`; `on_answer` is called once with the outcome."""
        self.may_reuse = False
        self.deadline, self._on_answer = deadline, on_answer
        self._reader.begin()
        if self._transport is None or self._transport.is_closing():
            asyncio.get_running_loop().call_soon(self.give_up, cut(None))
        else:
            self._transport.write(request)

    def give_up(self, error: PostFailedError) -> None:
        """Stop waiting for the answer."""
        self._tell(error)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _tell(self, answer: HttpResponse | PostFailedError) -> None:
        told, self._on_answer, self.deadline = self._on_answer, None, None
        if told is not None:
            told(answer)

    # -- called by the event loop ----------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._on_answer is None:
            self.may_reuse = False  # what nobody has asked for
            return
        try:
            self._reader.feed(data)
        except PostFailedError as error:
            self._tell(error)
        else:
            self._check()

    def eof_received(self) -> None:
        self.may_reuse = False
        if self._on_answer is None:
            return
        try:
            self._reader.end()
        except PostFailedError as error:
            self._tell(error)
        else:
            self._check(ended=True)

    def _check(self, *, ended: bool = False) -> None:
        answer = self._reader.answer
        if answer is not None:
            self.may_reuse = self._reader.may_reuse and not ended
            self._tell(answer)

    def connection_lost(self, error: Exception | None) -> None:
        self.may_reuse = False
        self._tell(cut(error))
        if not self.over.done():
            self.over.set_result(None)


def _tell(
    known: "asyncio.Future[HttpResponse | PostFailedError]", answer: HttpResponse | PostFailedError
) -> None:
    if not known.done():
        known.set_result(answer)
