"""A stream of numbers, of which every one was acknowledged: 1, 2, 3, ..."""

import asyncio
import secrets
from typing import Any

import httpx2 as httpx

from tests.support.background import Background
from tests.support.waiting import eventually

_TRY_SECONDS = 5.0
_RETRY_SECONDS = 0.05
# About thirty numbers a second: enough to fall into every moment of a reconnect.
_STEP_SECONDS = 0.03


class Numbers(Background):
    """Publishes from `async with` on until `stop`, each again and again until it has a 200.

    Args:
        url: of the hub, or of what stands before several.
        channel: where; nobody else may publish there meanwhile.
    """

    def __init__(self, url: str, channel: str) -> None:
        super().__init__()
        self.channel = channel
        self._url = f"{url}/api/publish/{channel}"
        self._keys = secrets.token_hex(8)
        self._stopping = False
        self.published = 0
        """How many were acknowledged; the last number is the same."""
        self.start = ""
        """The position before the first number."""

    async def begin(self) -> None:
        async with httpx.AsyncClient(timeout=_TRY_SECONDS) as client:
            answer = await self._publish(client, 1)
        self.start = f"{answer['epoch']}:{int(answer['offset']) - 1}"

    async def more(self, count: int) -> None:
        """Wait until `count` more are published than now."""
        aim = self.published + count
        await eventually(lambda: self.published >= aim, seconds=40, what=f"number {aim}")

    async def stop(self) -> int:
        """Publish no more; the last number."""
        self._stopping = True
        await self.finished()
        return self.published

    async def run(self) -> None:
        async with httpx.AsyncClient(timeout=_TRY_SECONDS) as client:
            while not self._stopping:
                await self._publish(client, self.published + 1)
                await asyncio.sleep(_STEP_SECONDS)

    async def _publish(self, client: httpx.AsyncClient, number: int) -> dict[str, Any]:
        """The hub's answer. The key makes a repeat harmless, as long as the broker lives."""
        headers = {"Idempotency-Key": f"{self._keys}-{number}"}
        while True:
            try:
                answer = await client.post(self._url, json=number, headers=headers)
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == 200:
                self.published = number
                return dict(answer.json())
            await asyncio.sleep(_RETRY_SECONDS)
