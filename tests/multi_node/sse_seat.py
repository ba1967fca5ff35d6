"""A subscriber over server-sent events who resumes as an EventSource does: by the last id alone."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator

import httpx2 as httpx

from tests.multi_node.checker import Push
from tests.multi_node.fleet import TRY_SECONDS, Seat
from tests.support.hub_process import HubProcess

# More than the 25 s between two heartbeats.
SILENCE_SECONDS = 60.0


class SseSeat(Seat):
    """Judged by the same view as one over WebSocket; `close` after use."""

    def __init__(self, channel: str, name: str) -> None:
        super().__init__(channel, name)
        self._last_id = ""
        self._client = httpx.AsyncClient(timeout=httpx.Timeout(TRY_SECONDS, read=SILENCE_SECONDS))

    async def _try(self, hub: HubProcess) -> bool:
        headers = {"Last-Event-ID": self._last_id} if self._last_id else {}
        url, query = f"{hub.url}/sse", {"channel": self.channel}
        request = self._client.build_request("GET", url, params=query, headers=headers)
        try:
            response = await self._client.send(request, stream=True)
        except httpx.TransportError:
            return False
        pushes = self._pushes(response)
        try:
            async with asyncio.timeout(TRY_SECONDS):
                while (push := await anext(pushes))["op"] != "subscribed":
                    assert push["op"] in {"welcome", "heartbeat", "goodbye"}, push
        except (TimeoutError, StopAsyncIteration, httpx.TransportError):
            await response.aclose()
            return False
        self.view.feed(push)
        self.connects += 1
        self._reading = asyncio.create_task(self._read_on(response, pushes))
        return True

    async def _pushes(self, response: httpx.Response) -> AsyncGenerator[Push]:
        """Events as the standard dispatches them: an id counts once its block has ended."""
        last_id, data = self._last_id, ""
        async for line in response.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "id":
                last_id = value
            elif name == "data":
                data = value
            elif not line:
                self._last_id = last_id
                if data:
                    yield json.loads(data)
                data = ""

    async def _read_on(self, response: httpx.Response, pushes: AsyncGenerator[Push]) -> None:
        try:
            with contextlib.suppress(httpx.TransportError):
                async for push in pushes:
                    if push.get("channel") == self.channel:
                        self.view.feed(push)
        finally:
            await response.aclose()

    async def leave(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            self._reading = None

    async def close(self) -> None:
        await self.leave()
        await self._client.aclose()
