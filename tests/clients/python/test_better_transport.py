"""A client on a lesser transport moves to a better one against a real hub, and nobody notices."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from hub_client import (
    ClientOptions,
    ConnectionState,
    Gap,
    HubClient,
    Message,
    Publisher,
    ReconnectTiming,
    Subscription,
)
from tests.support.hub_process import HubProcess
from tests.support.proxies.swallowing import SwallowingProxy
from tests.support.waiting import eventually

DEADLINE_SECONDS = 40.0
TIMING = ReconnectTiming(0.05, 0.3, open_timeout_seconds=3, better_seconds=0.05)
LESSER = ["sse", "poll"]


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    # Without history nothing mends what a change of transport would lose.
    with HubProcess(HUB_HISTORY_SIZE="0") as process:
        yield process


class Watched:
    """A client behind a proxy that swallows what a WebSocket brings, and its states."""

    def __init__(self, proxy: SwallowingProxy, lesser: str) -> None:
        self.states: list[ConnectionState] = []
        options = ClientOptions(timing=TIMING, on_state=self.states.append)
        self.client = HubClient(proxy.url, transports=("websocket", lesser), options=options)

    @property
    def transports(self) -> list[str]:
        """Those it was connected over, in order."""
        return [state.transport for state in self.states if state.name == "connected"]


@asynccontextmanager
async def numbers(hub: HubProcess, channel: str) -> AsyncIterator[asyncio.Event]:
    """Publishes 1, 2, 3, ... one after another until the event is set; ends with "end"."""
    enough = asyncio.Event()

    async def publish() -> None:
        number = 0
        async with Publisher(hub.url) as publisher:
            while not enough.is_set():
                number += 1
                await publisher.publish(channel, number)
            await publisher.publish(channel, "end")

    job = asyncio.create_task(publish())
    try:
        yield enough
    finally:
        enough.set()
        await job


async def all_of(items: "Subscription[Message | Gap]") -> list[object]:
    """Data and gaps up to the end."""
    seen: list[object] = []
    async for item in items:
        if isinstance(item, Message) and item.data == "end":
            break
        seen.append(item.data if isinstance(item, Message) else item)
    return seen


@pytest.mark.parametrize("lesser", LESSER)
async def test_a_better_transport_takes_over_and_nothing_is_lost_or_repeated(
    hub: HubProcess, lesser: str
) -> None:
    """A stream of numbers on a channel without history, while WebSockets begin to get through."""
    channel = f"moved:{lesser}"
    async with SwallowingProxy(hub.port, to_browser=True) as proxy:
        watched = Watched(proxy, lesser)
        async with watched.client as client:
            items = client.subscribe(channel, gaps=True)
            await items.wait_started(timeout_seconds=DEADLINE_SECONDS)
            reading = asyncio.create_task(all_of(items))
            async with numbers(hub, channel) as enough:
                proxy.lift()
                await eventually(
                    lambda: watched.transports[-1] == "websocket", seconds=DEADLINE_SECONDS
                )
                await client.ping()
                enough.set()
            async with asyncio.timeout(DEADLINE_SECONDS):
                seen = await reading
    assert len(seen) > 1
    assert seen == [*range(1, len(seen) + 1)]
    assert watched.transports == [lesser, "websocket"]
    assert [state.name for state in watched.states].count("waiting") == 0


@pytest.mark.parametrize("lesser", LESSER)
async def test_commands_and_new_subscriptions_do_not_notice_the_change(
    hub: HubProcess, lesser: str
) -> None:
    """One command after another, and a channel more each time: each gets its answer."""
    async with SwallowingProxy(hub.port, to_browser=True) as proxy:
        watched = Watched(proxy, lesser)
        async with watched.client as client:
            await client.wait_connected(timeout_seconds=DEADLINE_SECONDS)
            proxy.lift()
            kept: list[Subscription[Message]] = []
            async with asyncio.timeout(DEADLINE_SECONDS):
                while watched.transports[-1] != "websocket" or len(kept) < 2:
                    name = f"new:{lesser}:{len(kept)}"
                    if len(kept) < 30:
                        kept.append(client.subscribe(name))
                    await kept[-1].wait_started(timeout_seconds=DEADLINE_SECONDS)
                    await client.publish(kept[-1].channel, "there")
                for subscription in kept:
                    assert (await anext(subscription)).data == "there"
                kept[0].close()
                await client.publish(kept[1].channel, "still there")
    assert watched.transports == [lesser, "websocket"]


@pytest.mark.parametrize("lesser", LESSER)
async def test_a_better_transport_that_does_not_work_is_tried_again_and_costs_nothing(
    hub: HubProcess, lesser: str
) -> None:
    """The trial is repeated, and the connection that works goes on."""
    timing = ReconnectTiming(0.05, 0.3, open_timeout_seconds=2, better_seconds=0.01)
    states: list[ConnectionState] = []
    options = ClientOptions(timing=timing, on_state=states.append)
    async with SwallowingProxy(hub.port, to_hub=True) as proxy:
        async with HubClient(
            proxy.url, transports=("websocket", lesser), options=options
        ) as client:
            items = client.subscribe(f"kept:{lesser}", gaps=True)
            await items.wait_started(timeout_seconds=DEADLINE_SECONDS)
            # A ping that is swallowed is some bytes: one to begin with, and two more since.
            at_first = proxy.swallowed_bytes
            await eventually(lambda: proxy.swallowed_bytes > 2 * at_first, seconds=DEADLINE_SECONDS)
            await client.publish(f"kept:{lesser}", 1)
            async with asyncio.timeout(DEADLINE_SECONDS):
                item = await anext(items)
    assert isinstance(item, Message)
    assert [state.transport for state in states if state.name == "connected"] == [lesser]


async def test_a_client_that_is_closed_while_it_tries_leaves_nothing_behind(
    hub: HubProcess,
) -> None:
    """Neither a task nor a connection of the trial is left."""
    before = asyncio.all_tasks()
    async with SwallowingProxy(hub.port, to_hub=True) as proxy:
        around = asyncio.all_tasks() - before
        watched = Watched(proxy, "sse")
        async with watched.client as client:
            await client.wait_connected(timeout_seconds=DEADLINE_SECONDS)
            at_first = proxy.swallowed_bytes
            await eventually(lambda: proxy.swallowed_bytes > at_first, seconds=DEADLINE_SECONDS)
        await eventually(lambda: asyncio.all_tasks() <= before | around, what="the end of tasks")
