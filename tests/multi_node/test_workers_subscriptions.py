"""Each kind of subscription at each worker, whichever worker takes the publications."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

import httpx2 as httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.multi_node.fleet import NO_TLS, publish_one
from tests.multi_node.workers import WorkersHub
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(180)
NAMESPACES = '{"table":{"keyed":true}}'


@pytest.fixture(scope="module")
def hub() -> Iterator[WorkersHub]:
    with WorkersHub(HUB_NAMESPACES=NAMESPACES) as hub:
        yield hub


class Subscriber:
    """A WebSocket, and what it was pushed but for heartbeats."""

    def __init__(self, connection: ClientConnection, worker: str) -> None:
        self.worker = worker
        self.pushes: list[dict[str, Any]] = []
        self._connection = connection
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for raw in self._connection:
            push = json.loads(raw)
            if push["op"] != "heartbeat":
                self.pushes.append(push)

    def data(self) -> list[object]:
        return [push["data"] for push in self.pushes if push["op"] == "message"]

    async def has(self, count: int) -> None:
        """Wait for so many messages."""
        await eventually(lambda: len(self.data()) >= count)

    async def was_pushed(self, op: str) -> None:
        """Wait for a push of this kind."""
        await eventually(lambda: op in {push["op"] for push in self.pushes})

    async def end(self) -> None:
        await self._connection.close()
        await self._reading


@contextlib.asynccontextmanager
async def one_at_each(hub: WorkersHub, query: str) -> AsyncGenerator[list[Subscriber]]:
    """A subscriber at each of both workers, whose subscription has begun."""
    async with contextlib.AsyncExitStack() as stack:
        found: dict[str, Subscriber] = {}

        async def one_more() -> bool:
            connection = await connect(f"{hub.ws_url}?{query}", max_queue=None)
            welcome = json.loads(await connection.recv())
            if (worker := welcome["connection"][:8]) in found:
                await connection.close()
            else:
                found[worker] = Subscriber(connection, worker)
                stack.push_async_callback(found[worker].end)
            return len(found) == 2

        await eventually(one_more)
        await asyncio.gather(*(each.was_pushed("subscribed") for each in found.values()))
        yield list(found.values())


async def say(hub: WorkersHub, *items: dict[str, Any]) -> None:
    """One after another, each by a connection of its own: at any worker."""
    for item in items:
        answer = await publish_one(hub, item)
        assert answer.status_code == 200, answer.text


async def test_a_pattern_finds_channels_that_appear_at_any_worker(
    hub: WorkersHub, channel: str
) -> None:
    """Each message once, with the first of each channel."""
    await say(hub, {"channel": f"{channel}:0", "data": "before"})
    async with one_at_each(hub, f"pattern={channel}:*") as subscribers:
        await say(hub, *({"channel": f"{channel}:{n % 8}", "data": n} for n in range(24)))
        for each in subscribers:
            await each.has(24)
            assert sorted(map(str, each.data())) == sorted(map(str, range(24)))
            assert all(push["op"] in {"subscribed", "message"} for push in each.pushes)


async def test_a_filter_holds_at_any_worker(hub: WorkersHub, channel: str) -> None:
    """A publication that does not match moves the position, and is no gap."""
    wanted = httpx.QueryParams({"channel": channel, "filter": '{"league":"nba"}'})
    async with one_at_each(hub, str(wanted)) as subscribers:
        leagues = ("nba", "nfl", "nba", "nfl", "nba")
        items = [
            {"channel": channel, "data": n, "tags": {"league": league}}
            for n, league in enumerate(leagues * 3)
        ]
        await say(hub, *items)
        expected = [item["data"] for item in items if item["tags"] == {"league": "nba"}]
        for each in subscribers:
            await each.has(len(expected))
            assert each.data() == expected
            assert not [push for push in each.pushes if push["op"] == "gap"]


async def test_a_table_is_the_same_at_any_worker(hub: WorkersHub, channel: str) -> None:
    """Rows as of one position, then what follows it; also over HTTP."""
    table = f"table:{channel}"
    await say(hub, *({"channel": table, "key": f"k{n % 3}", "data": n} for n in range(6)))
    async with one_at_each(hub, f"channel={table}&state=true") as subscribers:
        # Their rows are as of a position before what follows.
        await asyncio.gather(*(each.was_pushed("state") for each in subscribers))
        await say(hub, {"channel": table, "key": "k1", "data": 10})
        await say(hub, {"channel": table, "key": "k2", "data": None, "remove": True})
        for each in subscribers:
            await each.has(2)
            (state,) = [push for push in each.pushes if push["op"] == "state"]
            assert {row["key"]: row["data"] for row in state["rows"]} == {"k0": 3, "k1": 4, "k2": 5}
    for _ in range(4):
        async with httpx.AsyncClient(timeout=10, verify=NO_TLS) as client:
            told = (await client.get(f"{hub.url}/api/channels/{table}/state")).json()
        assert {row["key"]: row["data"] for row in told["rows"]} == {"k0": 3, "k1": 10}


async def test_a_stream_resumes_at_another_worker_when_its_own_is_killed(channel: str) -> None:
    """As an `EventSource` does, by the last id that it has seen."""
    with WorkersHub() as hub:
        seen: list[int] = []
        async with asyncio.timeout(90), httpx.AsyncClient(timeout=30, verify=NO_TLS) as client:
            last_id = ""
            while len(seen) < 20:
                headers = {"Last-Event-ID": last_id} if last_id else {}
                with contextlib.suppress(httpx.HTTPError):
                    async for id_, worker, data in _events(client, hub, channel, headers):
                        last_id = id_ or last_id
                        if data is None:
                            await say(hub, {"channel": channel, "data": len(seen)})
                        else:
                            seen.append(data)
                            if len(seen) % 5 == 0:
                                hub.kill_child(worker)
                                break
                            await say(hub, {"channel": channel, "data": len(seen)})
        assert seen == list(range(20))


async def _events(
    client: httpx.AsyncClient, hub: WorkersHub, channel: str, headers: dict[str, str]
) -> AsyncIterator[tuple[str, int, int | None]]:
    """Yield the id, the worker and the data of each message, and first one without data."""
    url, worker, id_ = f"{hub.url}/sse?channel={channel}", 0, ""
    async with client.stream("GET", url, headers=headers) as answer:
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "id":
                id_ = value
            elif name == "data":
                push = json.loads(value)
                if push["op"] == "welcome":
                    worker = int(push["node"].rpartition("-")[2])
                elif push["op"] == "subscribed":
                    yield id_, worker, None
                elif push["op"] == "message":
                    yield id_, worker, push["data"]
