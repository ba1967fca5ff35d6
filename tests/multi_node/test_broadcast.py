"""Several hub processes on one healthy Redis are one hub."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx2 as httpx
import pytest

from tests.multi_node.checker import Truth, faults
from tests.multi_node.fleet import Seat, hubs, kept, publish, seats
from tests.support.hub_process import HubProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually


@pytest.fixture
async def three(redis: RedisServer) -> AsyncIterator[list[HubProcess]]:
    async with hubs(redis.url, 3) as started:
        yield started


async def first_event(hub: HubProcess, channel: str, last_id: str) -> tuple[str, object]:
    """The id and data of the first message of a stream that resumes at `last_id`."""
    headers = {"Last-Event-ID": last_id}
    async with httpx.AsyncClient(timeout=10) as client:
        url = f"{hub.url}/sse?channel={channel}"
        async with client.stream("GET", url, headers=headers) as stream:
            event, at = "", ""
            async for line in stream.aiter_lines():
                field, _, value = line.partition(": ")
                if field == "event":
                    event = value
                elif field == "id":
                    at = value
                elif field == "data" and not event:
                    return at, json.loads(value)["data"]
                elif not field:
                    event = ""
    raise AssertionError("the stream ended")


async def test_three_nodes_are_one_hub(three: list[HubProcess], channel: str) -> None:
    """Publications of all reach the sessions of all, in one order, once; a calm hub has no gap.

    A session resumes at another node, over WebSocket and over SSE, without loss; and a key
    makes a retry harmless at whichever node it arrives.
    """
    async with seats(channel, *three) as taken:
        acknowledged = await _publish_from_all(three, channel)
        assert sorted(offset for _, offset in acknowledged) == list(range(1, 91))
        await eventually(lambda: all(len(seat.data) == 90 for seat in taken))
        await _resume_elsewhere(three, channel, taken[0])
        head, held = await kept(three[2], channel)
        await eventually(lambda: all(seat.view.position == head for seat in taken))
        truth = Truth(acknowledged, held, head, may_lose=False, epochs=1)
        assert faults([seat.view for seat in taken], truth) == []
        assert len({tuple(map(str, seat.data)) for seat in taken}) == 1
    await _resume_sse(three, channel)
    await _retry_elsewhere(three, channel)


async def _publish_from_all(nodes: list[HubProcess], channel: str) -> dict[tuple[str, int], object]:
    """Thirty from each node, side by side."""

    async def thirty(hub: HubProcess, number: int) -> dict[tuple[str, int], object]:
        items = [{"channel": channel, "data": [number, n]} for n in range(30)]
        async with httpx.AsyncClient(timeout=10) as client:
            told = (await client.post(f"{hub.url}/api/publish", json=items)).json()
        pairs = zip(told, items, strict=True)
        return {(one["epoch"], one["offset"]): item["data"] for one, item in pairs}

    results = await asyncio.gather(*(thirty(hub, n) for n, hub in enumerate(nodes)))
    return {at: data for result in results for at, data in result.items()}


async def _resume_elsewhere(nodes: list[HubProcess], channel: str, seat: Seat) -> None:
    await seat.leave()
    for number in range(5):
        (await publish(nodes[1], channel, f"missed {number}")).raise_for_status()
    await seat.join(nodes[2])
    await eventually(lambda: len(seat.data) == 95)


async def _resume_sse(nodes: list[HubProcess], channel: str) -> None:
    (epoch, head), held = await kept(nodes[0], channel)
    at, data = await first_event(nodes[0], channel, f"{epoch}:{head - 3}")
    assert (at, data) == (f"{epoch}:{head - 2}", held[epoch, head - 2])
    assert await first_event(nodes[1], channel, at) == (
        f"{epoch}:{head - 1}",
        held[epoch, head - 1],
    )


async def _retry_elsewhere(nodes: list[HubProcess], channel: str) -> None:
    first = await publish(nodes[0], channel, "once", key="k")
    again = await publish(nodes[1], channel, "once", key="k")
    assert again.json() == first.json() | {"duplicate": True}
    assert (await publish(nodes[2], channel, "other", key="k")).status_code == 409
