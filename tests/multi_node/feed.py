"""Numbered publications over several nodes to several channels, while things go wrong.

Even numbers have an idempotency key and are sent until they are in; odd ones have none and are
sent once. What is known of each is kept, to be compared with what subscribers saw.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Sequence

import httpx2 as httpx

from tests.support.hub_process import HubProcess
from tests.support.stream import Place
from tests.support.waiting import eventually

TRY_SECONDS = 10.0
# Enough to be in the middle of something at all times, little enough for a busy machine.
_PAUSE_SECONDS = 0.05


class Feed:
    """The publications to one channel, and the answers that publishers got."""

    def __init__(
        self, channel: str, nodes: Sequence[HubProcess], client: httpx.AsyncClient
    ) -> None:
        self.channel = channel
        self._nodes = nodes
        self._client = client
        self.said: dict[Place, object] = {}
        """Answered with 200: where it stands."""
        self.not_published: set[object] = set()
        """Said not to have been published, and not tried again."""
        self.refusals: Counter[str] = Counter()
        self.number = 0
        self.stopping = False

    async def run(self) -> None:
        while not self.stopping:
            await self.publish(self.number)
            self.number += 1
            await asyncio.sleep(_PAUSE_SECONDS)

    async def publish(self, number: int) -> None:
        """Once, or until it is in."""
        hub = self._nodes[number // 2 % len(self._nodes)]
        if number % 2:
            await self._attempt(hub, number, {})
            return
        headers = {"Idempotency-Key": f"key-{number}"}
        await eventually(
            lambda: self._attempt(hub, number, headers), seconds=30, what=f"publication {number}"
        )

    async def _attempt(self, hub: HubProcess, number: int, headers: dict[str, str]) -> bool:
        url = f"{hub.url}/api/publish/{self.channel}"
        answer = await self._client.post(url, json=number, headers=headers)
        told = answer.json()
        if answer.status_code == 200:
            assert (told["epoch"], told["offset"]) not in self.said
            self.said[told["epoch"], told["offset"]] = number
            return True
        assert answer.status_code == 503, answer.text
        assert int(answer.headers["Retry-After"]) >= 1
        assert told["code"] in {"not_published", "outcome_unknown"}
        self.refusals[told["code"]] += 1
        if told["code"] == "not_published" and not headers:
            self.not_published.add(number)
        return False

    async def runs(self, count: int = 20) -> None:
        """Return when so many more were taken."""
        goal = len(self.said) + count
        await eventually(
            lambda: len(self.said) >= goal, seconds=30, what=f"{goal} of {self.channel}"
        )


@contextlib.asynccontextmanager
async def feeding(
    channels: Sequence[str], nodes: Sequence[HubProcess]
) -> AsyncGenerator[Sequence[Feed]]:
    """One per channel, running until the end of `with` and then until all is answered."""
    async with httpx.AsyncClient(timeout=TRY_SECONDS) as client, asyncio.TaskGroup() as group:
        feeds = [Feed(channel, nodes, client) for channel in channels]
        for feed in feeds:
            group.create_task(feed.run())
        try:
            yield feeds
        finally:
            for feed in feeds:
                feed.stopping = True
