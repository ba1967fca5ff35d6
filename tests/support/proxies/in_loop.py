"""A proxy in the event loop of the test, without a process: what a kind of it does is its own."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Self

_CONNECT_SECONDS = 10.0


class LoopProxy:
    """Runs from `async with` to its end.

    Args:
        hub_port: where the hub listens, on 127.0.0.1.
        limit_bytes: of one head, or of whatever is read up to a separator.
    """

    def __init__(self, hub_port: int, *, limit_bytes: int) -> None:
        self.url = ""
        self._hub_port = hub_port
        self._limit_bytes = limit_bytes
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def serve(self, browser: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        """Carries one connection; `answer` is closed afterwards."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", 0, limit=self._limit_bytes
        )
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def cut(self) -> None:
        """Ends every connection."""
        for connection in self._connections:
            connection.cancel()

    async def _accept(self, browser: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            # A peer that is gone, or the end of the test: a proxy passes that on and no more.
            with contextlib.suppress(OSError, EOFError, TimeoutError, asyncio.CancelledError):
                await self.serve(browser, answer)
        finally:
            answer.close()
            self._connections.discard(task)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Opens a connection to the hub."""
        opening = asyncio.open_connection("127.0.0.1", self._hub_port, limit=self._limit_bytes)
        return await asyncio.wait_for(opening, _CONNECT_SECONDS)


async def until_one_ends(*ways: Coroutine[object, object, None]) -> None:
    """Carries both directions of a connection: when one has ended, the other is given up."""
    running = {asyncio.create_task(way) for way in ways}
    try:
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in running:
            way.cancel()
        await asyncio.gather(*running, return_exceptions=True)
