"""A proxy that loses one answer: the hub has done what was asked, and the connection is cut.

Networks and balancers do that, and a browser hides it: Chromium sends a request, also a POST,
once more by itself when a connection that was used before ends without an answer.
"""

import asyncio
import re

from tests.support.proxies.in_loop import LoopProxy, until_one_ends

_LIMIT = 1024 * 1024
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class LosingProxy(LoopProxy):
    """Runs from `async with` to its end.

    Args:
        hub_port: where the hub listens, on 127.0.0.1.
    """

    def __init__(self, hub_port: int) -> None:
        super().__init__(hub_port, limit_bytes=_LIMIT)
        self.lost: list[bytes] = []
        """The bodies that did not arrive."""
        self._marks: list[bytes] = []

    def lose(self, *marks: bytes) -> None:
        """Loses, for each mark, the next answer that contains it and states its length."""
        self._marks += marks

    async def serve(self, browser: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        hub, ask = await self.connect()
        try:
            await until_one_ends(_pump(browser, ask), self._answers(hub, answer))
        finally:
            ask.close()

    async def _answers(self, hub: asyncio.StreamReader, browser: asyncio.StreamWriter) -> None:
        """Pass answer after answer; return at the one that is lost."""
        while True:
            head = await hub.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            if length is None and b" 304 " not in head[:20]:
                browser.write(head)
                return await _pump(hub, browser)  # a stream
            body = await hub.readexactly(int(length[1])) if length else b""
            mark = next((mark for mark in self._marks if mark in body), None)
            if mark is not None:
                self._marks.remove(mark)
                self.lost.append(body)
                return None
            browser.write(head + body)
            await browser.drain()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(_LIMIT):
        sink.write(data)
        await sink.drain()
