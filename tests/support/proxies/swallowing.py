"""A proxy that lets a WebSocket be made and then passes nothing: some firewalls do.

Everything else goes through, until the network is said to be gone. In the event loop of the
test, without a process.
"""

import asyncio
import contextlib
from types import TracebackType
from typing import Self

_HEAD_BYTES = 64 * 1024
_CONNECT_SECONDS = 10.0
_HEAD_SECONDS = 60.0


class SwallowingProxy:
    """Runs from `async with` to its end.

    Args:
        hub_port: where the hub listens, on 127.0.0.1.
        to_browser: whether frames to the browser are swallowed.
        to_hub: whether frames to the hub are swallowed.
    """

    def __init__(self, hub_port: int, *, to_browser: bool = False, to_hub: bool = False) -> None:
        self.to_browser = to_browser
        self.to_hub = to_hub
        self.url = ""
        self.swallowed_bytes = 0
        self._hub_port = hub_port
        self._network = asyncio.Event()
        self._network.set()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_HEAD_BYTES)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def lift(self) -> None:
        """New connections pass whole; those that swallow go on doing so."""
        self.to_browser = self.to_hub = False

    def block(self) -> None:
        """From now on nothing gets to a browser by WebSocket, and what is open is cut."""
        self.to_browser = True
        self.cut()

    def freeze(self) -> None:
        """The network is gone: nothing passes, nothing is closed, new connections hang."""
        self._network.clear()

    def strand(self) -> None:
        """Another network is there: new connections pass; those of the old one hang for ever."""
        self._network = asyncio.Event()
        self._network.set()

    def cut(self) -> None:
        """End every connection."""
        for connection in self._connections:
            connection.cancel()

    async def _accept(self, browser: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            # A peer that is gone, or the end of the test: a proxy passes that on and no more.
            with contextlib.suppress(OSError, EOFError, TimeoutError, asyncio.CancelledError):
                await self._serve(browser, answer)
        finally:
            answer.close()
            self._connections.discard(task)

    async def _serve(self, browser: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        network = self._network
        await network.wait()
        head = await asyncio.wait_for(browser.readuntil(b"\r\n\r\n"), _HEAD_SECONDS)
        opening = asyncio.open_connection("127.0.0.1", self._hub_port, limit=_HEAD_BYTES)
        hub, ask = await asyncio.wait_for(opening, _CONNECT_SECONDS)
        try:
            ask.write(head)
            upgrade = b"\r\nupgrade: websocket" in head.lower()
            if upgrade:
                answer.write(await asyncio.wait_for(hub.readuntil(b"\r\n\r\n"), _HEAD_SECONDS))
            pumps = {
                asyncio.create_task(self._pump(network, browser, ask, upgrade and self.to_hub)),
                asyncio.create_task(self._pump(network, hub, answer, upgrade and self.to_browser)),
            }
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            ask.close()

    async def _pump(
        self,
        network: asyncio.Event,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        swallow: bool,
    ) -> None:
        while data := await source.read(_HEAD_BYTES):
            await network.wait()
            if swallow:
                self.swallowed_bytes += len(data)
            else:
                sink.write(data)
                await sink.drain()
