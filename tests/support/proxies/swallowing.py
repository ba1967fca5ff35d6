"""A proxy that lets a WebSocket be made and then passes nothing: some firewalls do.

Everything else goes through, until the network is said to be gone.
"""

import asyncio

from tests.support.proxies.in_loop import LoopProxy, until_one_ends

_HEAD_BYTES = 64 * 1024
_HEAD_SECONDS = 60.0


class SwallowingProxy(LoopProxy):
    """Runs from `async with` to its end.

    Args:
        hub_port: where the hub listens, on 127.0.0.1.
        to_browser: whether frames to the browser are swallowed.
        to_hub: whether frames to the hub are swallowed.
    """

    def __init__(self, hub_port: int, *, to_browser: bool = False, to_hub: bool = False) -> None:
        super().__init__(hub_port, limit_bytes=_HEAD_BYTES)
        self.to_browser = to_browser
        self.to_hub = to_hub
        self.swallowed_bytes = 0
        self._network = asyncio.Event()
        self._network.set()

    def lift(self) -> None:
        """New connections pass whole from now on; old ones go on swallowing bytes."""
        self.to_browser = self.to_hub = False

    def block(self) -> None:
        """From now on nothing gets to a browser by WebSocket, and open WebSockets are cut."""
        self.to_browser = True
        self.cut()

    def freeze(self) -> None:
        """The network is gone: nothing passes, nothing is closed, new connections hang."""
        self._network.clear()

    def strand(self) -> None:
        """Behaves as when the network has changed: new connections pass, and those of
        the old one hang for ever."""
        self._network = asyncio.Event()
        self._network.set()

    async def serve(self, browser: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        network = self._network
        await network.wait()
        head = await asyncio.wait_for(browser.readuntil(b"\r\n\r\n"), _HEAD_SECONDS)
        hub, ask = await self.connect()
        try:
            ask.write(head)
            upgrade = b"\r\nupgrade: websocket" in head.lower()
            if upgrade:
                answer.write(await asyncio.wait_for(hub.readuntil(b"\r\n\r\n"), _HEAD_SECONDS))
            await until_one_ends(
                self._pump(network, browser, ask, upgrade and self.to_hub),
                self._pump(network, hub, answer, upgrade and self.to_browser),
            )
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
