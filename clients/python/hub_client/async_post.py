"""POST for asyncio, straight to a hub: connections that are kept open, one request on each."""

import asyncio
import ssl
from typing import Any, cast

from hub_client.answer import (
    Answer,
    AnswerReader,
    PostFailedError,
    Server,
    cut,
    none_free,
    not_reached,
)


class AsyncPost:
    """Used in one event loop; connects when it is first used."""

    def __init__(
        self,
        server: Server,
        *,
        tls: ssl.SSLContext | None,
        max_connections: int,
        connect_seconds: float,
    ) -> None:
        """As `BlockingPost`."""
        self._server = server
        self._tls = tls if server.secure else None
        self._connect_seconds = connect_seconds
        self._places = asyncio.Semaphore(max_connections)
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self.is_closed = False

    async def post(self, body: bytes, *, seconds: float) -> Answer:
        """The answer; raise `PostFailedError` where none comes whole in `seconds`."""
        deadline = asyncio.get_running_loop().time() + seconds
        if self._places.locked():
            try:
                async with asyncio.timeout(self._connect_seconds):
                    await self._places.acquire()
            except TimeoutError:
                raise none_free() from None
        else:
            await self._places.acquire()
        try:
            connection = self._kept() or await self._connect()
            try:
                return await connection.exchange(self._server.request(body), deadline)
            finally:
                if connection.may_reuse and not self.is_closed:
                    self._idle.append(connection)
                else:
                    self._end(connection)
        finally:
            self._places.release()

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

    async def close(self) -> None:
        """End all connections; requests under way end as cut."""
        self.is_closed = True
        connections = tuple(self._open)
        for connection in connections:
            self._end(connection)
        if connections:
            await asyncio.wait({connection.over for connection in connections}, timeout=1.0)


class _Connection(asyncio.Protocol):
    """One socket."""

    def __init__(self) -> None:
        self.may_reuse = False
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._reader: AnswerReader | None = None
        self._answered: asyncio.Future[Answer] | None = None

    async def exchange(self, request: bytes, deadline: float) -> Answer:
        loop = asyncio.get_running_loop()
        self.may_reuse = False
        if self._transport is None or self._transport.is_closing():
            raise cut(None)
        self._reader, self._answered = AnswerReader(), loop.create_future()
        timer = loop.call_at(deadline, self._fail, cut(TimeoutError()))
        self._transport.write(request)
        try:
            return await self._answered
        finally:
            timer.cancel()
            self._answered = None

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _fail(self, error: PostFailedError) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(error)

    # -- called by the event loop ----------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._reader is None or self._answered is None or self._answered.done():
            self.may_reuse = False  # what nobody has asked for
            return
        try:
            self._reader.feed(data)
        except PostFailedError as error:
            self._fail(error)
        self._check()

    def eof_received(self) -> None:
        self.may_reuse = False
        if self._reader is None:
            return
        try:
            self._reader.end()
        except PostFailedError as error:
            self._fail(error)
        self._check(ended=True)

    def _check(self, *, ended: bool = False) -> None:
        if self._reader is None or self._reader.answer is None or self._answered is None:
            return
        if not self._answered.done():
            self.may_reuse = self._reader.may_reuse and not ended
            self._answered.set_result(self._reader.answer)

    def connection_lost(self, error: Exception | None) -> None:
        self.may_reuse = False
        self._fail(cut(error))
        if not self.over.done():
            self.over.set_result(None)
