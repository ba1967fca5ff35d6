"""A TCP proxy before Redis whose connections fail in ways that a server alone does not."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from tests.support.waiting import eventually

_READ_BYTES = 64 * 1024


@dataclass(eq=False)
class _Pair:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    subscribes: bool = False
    deaf: bool = False
    """Whether bytes from Redis are thrown away; the connection stays open."""


class Proxy:
    """Forwards to 127.0.0.1:`target`; knows subscribers by their first SUBSCRIBE.

    A `target` that is changed is where new connections go.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self._pairs: set[_Pair] = set()
        self.port = 0
        self.cut_at: bytes | None = None
        """The next answer after a request with this in it is cut short: connection and all."""
        self._cutting = False
        self.cut_message = False
        """Whether what a subscriber is sent next is cut short: connection and all."""
        self.refused: bytes | None = None
        """Connections that say this are closed, such as part of a client's name."""
        self._released = asyncio.Event()
        self._released.set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def make_subscribers_deaf(self) -> None:
        """The connections that subscribe now get nothing any more; later ones do."""
        for pair in self._pairs:
            pair.deaf = pair.subscribes

    def hold_subscribers(self) -> None:
        """Keep back what Redis sends to subscribers, until `release_subscribers`."""
        self._released.clear()

    def release_subscribers(self) -> None:
        self._released.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back, forth = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            await _close(writer)
            return
        pair = _Pair(writer, forth)
        self._pairs.add(pair)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._requests(pair, reader))
                group.create_task(self._answers(pair, back))
        except* OSError:
            pass
        finally:
            await _close(pair.client, pair.server)
            self._pairs.discard(pair)

    async def _requests(self, pair: _Pair, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_READ_BYTES):
            if self.refused is not None and self.refused in data:
                pair.client.close()
                break
            pair.subscribes = pair.subscribes or b"SUBSCRIBE" in data
            if self.cut_at is not None and self.cut_at in data:
                self.cut_at, self._cutting = None, True
            pair.server.write(data)
            await pair.server.drain()
        pair.server.close()

    async def _answers(self, pair: _Pair, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_READ_BYTES):
            if self._cutting and not pair.subscribes:
                self._cutting = False
                pair.client.write(data[: len(data) // 2])
                break
            if self.cut_message and pair.subscribes:
                self.cut_message = False
                pair.client.write(data[: len(data) // 2])
                break
            if pair.subscribes:
                await self._released.wait()
            if not pair.deaf:
                pair.client.write(data)
                await pair.client.drain()
        pair.client.close()
        pair.server.close()

    def close(self) -> None:
        """Cut every connection, whatever is still to be written to it."""
        self.release_subscribers()
        for pair in tuple(self._pairs):
            pair.client.transport.abort()
            pair.server.transport.abort()


async def _close(*writers: asyncio.StreamWriter) -> None:
    for writer in writers:
        writer.close()
    for writer in writers:
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def proxy(target: int) -> AsyncGenerator[Proxy]:
    made = Proxy(target)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        made.close()
        await eventually(lambda: not made._pairs, what="the end of all connections")
