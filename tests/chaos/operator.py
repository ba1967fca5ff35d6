"""Acts on a hub from outside: publishes much, and reads its connections and metrics."""

import contextlib
import json
import re
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from typing import Any

import httpx2 as httpx
import psutil

from tests.chaos.subscriber import Push, Subscriber
from tests.support.hub_process import HubProcess
from tests.support.stream import View
from tests.support.waiting import eventually

_TIMEOUT_SECONDS = 20.0
_BATCH = 250


class Operator:
    """Publishes and looks; one HTTP connection pool, opened by `operating`."""

    def __init__(self, hub: HubProcess, client: httpx.AsyncClient) -> None:
        self._client = client
        self._hub = hub
        self._process = psutil.Process(hub.pid)
        self._published: Counter[str] = Counter()

    @property
    def rss_bytes(self) -> int:
        return self._hub.memory_bytes

    @property
    def descriptors(self) -> int:
        return int(self._process.num_fds())

    async def flood(
        self,
        channels: Sequence[str],
        count: int,
        *,
        size: int = 2000,
        key: Callable[[int], str | None] = lambda _: None,
        at_once: int = _BATCH,
    ) -> dict[str, int]:
        """Publish `count` messages of about `size` bytes to each channel, in turn.

        A request has `at_once` messages for each channel.

        Returns each channel's head.
        """
        heads: dict[str, int] = {}
        for start in range(0, count, at_once):
            many = min(at_once, count - start)
            items = [self._item(name, size, key) for _ in range(many) for name in channels]
            answer = await self._client.post("/api/publish", content=json.dumps(items))
            assert answer.status_code == 200, answer.text[:500]
            heads |= {result["channel"]: result["offset"] for result in answer.json()}
        return heads

    def _item(self, channel: str, size: int, key: Callable[[int], str | None]) -> Push:
        number = self._published[channel]
        self._published[channel] += 1
        item: Push = {"channel": channel, "data": {"channel": channel, "n": number}}
        item["data"]["pad"] = "x" * size
        return item if (label := key(number)) is None else item | {"key": label}

    async def connection(self, subscriber: Subscriber) -> dict[str, Any] | None:
        """The hub's record of a session; None when it has ended."""
        answer = await self._client.get(f"/api/connections/{subscriber.connection}")
        return dict(answer.json()) if answer.status_code == 200 else None

    async def connections(self) -> int:
        answer = await self._client.get("/api/connections?limit=1")
        return int(answer.json()["total"])

    async def metric(self, name: str, label: str = "") -> float:
        """One sample of /metrics; `label` as it stands there, such as `code="4504"`."""
        page = (await self._client.get("/metrics")).text
        sample = re.escape(f"{name}{{{label}}}" if label else name)
        found = re.search(rf"^{sample} (\S+)$", page, re.MULTILINE)
        assert found is not None, f"{name} with {label!r} is not in /metrics"
        return float(found[1])


@contextlib.asynccontextmanager
async def operating(hub: HubProcess) -> AsyncGenerator[Operator]:
    async with httpx.AsyncClient(base_url=hub.url, timeout=_TIMEOUT_SECONDS) as client:
        yield Operator(hub, client)


async def becomes_true(
    condition: Callable[[], Coroutine[Any, Any, bool]], *, seconds: float = _TIMEOUT_SECONDS
) -> None:
    """`eventually` for a question to the hub."""
    # Said here, because a type checker cannot choose between the two kinds of condition.
    asked: Callable[[], bool | Awaitable[bool]] = condition
    await eventually(asked, seconds=seconds, what=condition.__name__)


def check_complete(subscriber: Subscriber, channel: str, head: int) -> list[Push]:
    """Assert that every offset from 1 to `head` came or was announced, once and in order.

    Returns the gaps.
    """
    view = View(channel)
    view.feed({"op": "subscribed", "position": ":0"})
    for push in subscriber.of("message", "gap", channel=channel):
        view.feed({**push, "epoch": ""})
        if push["op"] == "message":
            assert push["data"]["channel"] == channel, "a message of another channel"
            assert push["data"]["n"] == push["offset"] - 1, "an offset with other data"
    view.check()
    assert view.position == ("", head), f"{channel} ends at {view.position}, its head is {head}"
    return subscriber.of("gap", channel=channel)
