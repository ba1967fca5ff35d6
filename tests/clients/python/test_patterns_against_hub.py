"""Patterns of the Python client against a real hub, over every transport."""

import asyncio
from collections.abc import AsyncIterator

import httpx2 as httpx
import pytest

from hub import Hub, Settings
from hub_client import ClientOptions, Gap, HubClient, Message, ReconnectTiming, Subscription
from hub_client.messages import ConnectionState, Presence
from tests.support.waiting import eventually

DEADLINE_SECONDS = 25.0
OPTIONS = ClientOptions(timing=ReconnectTiming(base_seconds=0.05, cap_seconds=0.3))
Items = Subscription[Message | Gap | Presence]


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with Hub(Settings(port=0, drain_seconds=0)) as hub:
        yield hub


async def take(items: Items, count: int) -> list[tuple[str, int]]:
    """The next messages, by channel; a gap is a failure."""
    came: list[tuple[str, int]] = []
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(came) < count:
            item = await anext(items)
            assert isinstance(item, Message), item
            came.append((item.channel, item.offset or 0))
    return sorted(came)


async def left_all(hub: Hub) -> bool:
    """Whether there is a connection without a subscription: others polled before."""
    async with httpx.AsyncClient(base_url=hub.url) as http:
        page = (await http.get("/api/connections")).json()
    return any(not each["subscriptions"] for each in page["connections"])


@pytest.mark.parametrize("transport", ["websocket", "sse", "poll"])
async def test_channels_that_appear_a_cut_and_another_client(hub: Hub, transport: str) -> None:
    """Messages that are published while the client is closed come after it
    connects again, each once."""
    only = (transport,)
    await hub.publish("p:a", 1)
    async with HubClient(hub.url, transports=only, options=OPTIONS) as client:
        items = client.subscribe_pattern("p:*", gaps=True, presence=True)
        by_name = client.subscribe("p:a", gaps=True, presence=True)
        await items.wait_started()
        await by_name.wait_started()
        for channel in ("p:a", "p:b", "q:a", "p:b"):
            await hub.publish(channel, 1)
        assert await take(items, 3) == [("p:a", 2), ("p:b", 1), ("p:b", 2)]
        assert await take(by_name, 1) == [("p:a", 2)]
        await client.close()
        for channel in ("p:c", "p:a"):
            await hub.publish(channel, 1)
        client.connect()
        assert await take(items, 2) == [("p:a", 3), ("p:c", 1)]
        assert await take(by_name, 1) == [("p:a", 3)]
        places = items.positions
    assert set(places) == {"p:a", "p:b", "p:c"}
    await hub.publish("p:b", 1)
    await hub.publish("p:d", 1)
    async with HubClient(hub.url, transports=only, options=OPTIONS) as client:
        items = client.subscribe_pattern("p:*", since=places, gaps=True, presence=True)
        assert await take(items, 2) == [("p:b", 3), ("p:d", 1)]
        items.close()
        await eventually(lambda: left_all(hub), seconds=DEADLINE_SECONDS)


@pytest.mark.parametrize("transport", ["websocket", "sse", "poll"])
async def test_publications_that_follow_an_end_come_too(hub: Hub, transport: str) -> None:
    """Its pattern matches the channel as before."""
    async with HubClient(hub.url, transports=(transport,), options=OPTIONS) as client:
        items = client.subscribe_pattern("p:*", gaps=True)
        await items.wait_started()
        await hub.publish("p:a", 1)
        await hub.publish("p:a", 1, end=True)
        assert await take(items, 2) == [("p:a", 1), ("p:a", 2)]
        for expected in (3, 4):
            await hub.publish("p:a", 1)
            assert await take(items, 1) == [("p:a", expected)]


async def test_a_polling_client_without_a_channel_keeps_its_session(hub: Hub) -> None:
    """The poll names the pattern that the client subscribed to by command, and that
    makes no second subscription."""
    said: list[ConnectionState] = []
    options = ClientOptions(timing=OPTIONS.timing, on_state=said.append)
    async with HubClient(hub.url, transports=("poll",), options=options) as client:
        items = client.subscribe_pattern("p:*", gaps=True, presence=True)
        await items.wait_started()
        for number in range(1, 4):
            await client.publish("q", number)
            await client.publish("p:a", number)
            assert await take(items, 1) == [("p:a", number)]
    assert [state.name for state in said] == ["connecting", "connected", "closed"]
