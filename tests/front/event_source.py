"""An EventSource as the HTML standard has it: a status that is not 200 turns it off for good.

See https://html.spec.whatwg.org/multipage/server-sent-events.html, section 9.2.
"""

import asyncio
import contextlib

import httpx2 as httpx

from tests.support.background import Background
from tests.support.event_stream import blocks

_RETRY_MILLISECONDS = 300
"""Until the server says otherwise; browsers take 3,000 to 5,000."""


class EventSource(Background):
    """Runs from `async with` to its end.

    Args:
        url: of the stream.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._retry_ms = _RETRY_MILLISECONDS
        self._last_id = ""
        self.opened = 0
        """How many times a stream said `subscribed`."""
        self.failure = ""
        """Why it will never come back; empty while it would."""

    async def run(self) -> None:
        async with httpx.AsyncClient(timeout=httpx.Timeout(5, read=None)) as client:
            while not self.failure:
                # A network error: the connection is made again.
                with contextlib.suppress(httpx.TransportError):
                    await self._read(client)
                if not self.failure:
                    await asyncio.sleep(self._retry_ms / 1000)

    async def _read(self, client: httpx.AsyncClient) -> None:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self._last_id:
            headers["Last-Event-ID"] = self._last_id
        async with client.stream("GET", self._url, headers=headers) as answer:
            kind = answer.headers.get("content-type", "")
            if answer.status_code != 200 or not kind.startswith("text/event-stream"):
                self.failure = f"{answer.status_code} {kind}"
                return
            async for block in blocks(answer.aiter_lines()):
                if block.retry_ms is not None:
                    self._retry_ms = block.retry_ms
                if block.id is not None:
                    self._last_id = block.id
                self.opened += block.event == "subscribed"
