"""The client and the command line against a real hub process on its own port."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from hub_client import (
    ClientOptions,
    Gap,
    HubClient,
    Message,
    Outgoing,
    Published,
    Publisher,
    PublisherOptions,
    PublishRetry,
    ReconnectTiming,
    Subscription,
)
from tests.support.hub_process import HubProcess
from tests.support.redis_server import RedisServer, is_installed
from tests.support.waiting import eventually

DEADLINE_SECONDS = 25.0
OPTIONS = ClientOptions(timing=ReconnectTiming(base_seconds=0.05, cap_seconds=0.3))
TRANSPORTS = ["websocket", "sse", "poll"]


@asynccontextmanager
async def running_hub() -> AsyncIterator[HubProcess]:
    """History holds what a test publishes: between two polls there is nothing else."""
    hub = HubProcess(HUB_HISTORY_SIZE="1000")
    await asyncio.to_thread(hub.__enter__)
    try:
        yield hub
    finally:
        await asyncio.to_thread(hub.__exit__, None, None, None)


async def restarted(hub: HubProcess, end: signal.Signals) -> None:
    """End it as `end` does and start it on the same port, while the loop goes on."""
    hub.signal(end)
    await asyncio.to_thread(hub.wait)
    await asyncio.to_thread(hub.restart)


async def more(count: Callable[[], int]) -> None:
    """Wait until `count` has grown by 20."""
    enough = count() + 20
    await eventually(lambda: count() >= enough, seconds=DEADLINE_SECONDS)


async def take(items: "Subscription[Message | Gap]", count: int) -> "list[Message | Gap]":
    async with asyncio.timeout(DEADLINE_SECONDS):
        return [await anext(items) for _ in range(count)]


def data_of(items: "list[Message | Gap]") -> list[object]:
    return [item.data for item in items if isinstance(item, Message)]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_numbered_stream_arrives_complete_in_order_and_exact(transport: str) -> None:
    """The subscription gets the published payloads byte for byte."""
    payloads = [b'{"n": %d, "big": 12345678901234567890123}' % number for number in range(500)]
    async with (
        running_hub() as hub,
        HubClient(hub.url, transports=(transport,), options=OPTIONS) as client,
        Publisher(hub.url) as publisher,
    ):
        subscription = client.subscribe("prices", gaps=True)
        await subscription.wait_started()
        outcomes = await publisher.publish_many(Outgoing("prices", data) for data in payloads)
        items = await take(subscription, len(payloads))
    assert all(isinstance(outcome, Published) for outcome in outcomes)
    assert [item.raw_data for item in items if isinstance(item, Message)] == payloads


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_history_last_since_and_publish_work_over_every_transport(transport: str) -> None:
    """The commands of the wire contract, with their answers."""
    async with (
        running_hub() as hub,
        HubClient(hub.url, transports=(transport,), options=OPTIONS) as client,
    ):
        live = client.subscribe("a", gaps=True)
        positions = [(await client.publish("a", number)).position for number in range(5)]
        assert data_of(await take(live, 5)) == [0, 1, 2, 3, 4]
        page = await client.history("a", since=positions[1], limit=2)
        live.close()
        newest = await take(client.subscribe("a", last=2, gaps=True), 2)
        assert await client.ping() > 0
    assert [item.data for item in page.messages] == [2, 3]
    assert page.position == positions[4]
    assert data_of(newest) == [3, 4]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_history_is_read_page_by_page_in_both_directions(transport: str) -> None:
    """`next` leads from page to page and is None behind the last; a moment may be a `datetime`."""
    async with (
        running_hub() as hub,
        HubClient(hub.url, transports=(transport,), options=OPTIONS) as client,
    ):
        before = datetime.now(UTC)
        for number in range(5):
            await client.publish("a", number)
        for reverse, expected in ((False, [0, 1, 2, 3, 4]), (True, [4, 3, 2, 1, 0])):
            page = await client.history("a", limit=2, reverse=reverse, from_time=before)
            found = [message.data for message in page.messages]
            while page.next is not None:
                page = await client.history("a", since=page.next, limit=2, reverse=reverse)
                found += [message.data for message in page.messages]
            assert found == expected
        plain = await client.history("a", limit=3)
        rest = await client.history("a", since=plain.next)
        later = await client.history("a", from_time=before + timedelta(days=1))
    assert [message.data for message in rest.messages] == [3, 4]
    assert (rest.next, later.messages, later.next) == (None, (), None)
    with pytest.raises(ValueError, match="no time zone"):
        await client.history("a", from_time=before.replace(tzinfo=None))


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_saved_position_resumes_in_another_client(transport: str) -> None:
    """`since` replays exactly what was missed in between."""
    async with running_hub() as hub, Publisher(hub.url) as publisher:
        first = await publisher.publish("a", 1)
        await publisher.publish("a", 2)
        await publisher.publish("a", 3)
        async with HubClient(hub.url, transports=(transport,), options=OPTIONS) as client:
            items = await take(client.subscribe("a", since=first.position, gaps=True), 2)
    assert data_of(items) == [2, 3]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "drained"])
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_restarted_hub_shows_as_exactly_one_reset_per_channel(
    transport: str, end: signal.Signals
) -> None:
    """With the memory broker history is gone: one gap `reset`, then the new epoch from 1."""
    async with (
        running_hub() as hub,
        Publisher(hub.url) as publisher,
        HubClient(hub.url, transports=(transport,), options=OPTIONS) as client,
    ):
        subscriptions = {name: client.subscribe(name, gaps=True) for name in ("a", "b")}
        for name, subscription in subscriptions.items():
            await subscription.wait_started()
            await publisher.publish(name, "before")
            await take(subscription, 1)
        for restart in range(2):
            await restarted(hub, end)
            for name, subscription in subscriptions.items():
                (gap,) = await take(subscription, 1)
                assert isinstance(gap, Gap)
                assert gap.reason == "reset"
                await publisher.publish(name, restart)
                (item,) = await take(subscription, 1)
                assert isinstance(item, Message)
                assert (item.data, item.epoch) == (restart, gap.epoch)


@pytest.mark.timeout(180)  # four starts of a hub, on a machine that others use too
@pytest.mark.skipif(not is_installed(), reason="no redis-server here")
async def test_with_redis_nothing_is_missing_and_nothing_twice_however_the_hub_restarts() -> None:
    """Numbers without a pause, a client of each kind, a kill and two drains: 0, 1, 2, ..."""
    patient = PublisherOptions(PublishRetry(for_seconds=45, base_seconds=0.02, cap_seconds=0.2))
    sent = 0
    stop = asyncio.Event()

    async def publish(publisher: Publisher) -> None:
        nonlocal sent
        while not stop.is_set():
            await publisher.publish("a", sent)
            sent += 1

    async def read(hub: HubProcess, transport: str) -> list[object]:
        async with HubClient(hub.url, transports=(transport,), options=OPTIONS) as client:
            subscription = client.subscribe("a", gaps=True)
            await subscription.wait_started()
            ready.release()
            items: list[object] = []
            async for item in subscription:
                if isinstance(item, Message) and item.data == "end":
                    break
                items.append(item.data if isinstance(item, Message) else item)
            return items

    ready = asyncio.Semaphore(0)
    with (
        RedisServer() as redis,
        HubProcess(HUB_BROKER=redis.url, HUB_HISTORY_SIZE="10000") as hub,
    ):
        readers = [asyncio.create_task(read(hub, transport)) for transport in TRANSPORTS]
        for _ in readers:
            await ready.acquire()
        async with Publisher(hub.url, options=patient) as publisher:
            publishing = asyncio.create_task(publish(publisher))
            for end in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
                await more(lambda: sent)
                await restarted(hub, end)
            stop.set()
            await publishing
            await publisher.publish("a", "end")
        async with asyncio.timeout(DEADLINE_SECONDS):
            received = await asyncio.gather(*readers)
    assert received == [[*range(sent)]] * len(TRANSPORTS)


async def test_hub_subscribe_survives_a_restart_and_prints_one_reset() -> None:
    """The command line keeps the promise too; its lines are the wire's objects."""
    async with running_hub() as hub, Publisher(hub.url) as publisher:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "hub", "subscribe", "a", "--url", hub.url),
            stdout=PIPE,
            stderr=PIPE,
        )
        try:
            assert process.stderr is not None
            async with asyncio.timeout(DEADLINE_SECONDS):
                while b"subscribed" not in await process.stderr.readline():
                    assert process.returncode is None
            await publisher.publish("a", {"n": 1})
            before = await read_line(process)
            await restarted(hub, signal.SIGKILL)
            gap = await read_line(process)
            await publisher.publish("a", {"n": 2})
            after = await read_line(process)
        finally:
            process.kill()
            await process.communicate()
    assert (before["op"], before["data"]) == ("message", {"n": 1})
    assert (gap["op"], gap["reason"]) == ("gap", "reset")
    assert (after["op"], after["offset"], after["data"]) == ("message", 1, {"n": 2})


async def test_hub_publish_streams_lines_to_a_running_hub() -> None:
    """Lines of stdin are in the channel's history in their order."""
    async with running_hub() as hub:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "hub", "publish", "logs", "-", "--url", hub.url),
            stdin=PIPE,
            stderr=PIPE,
        )
        async with asyncio.timeout(DEADLINE_SECONDS):
            _, err = await process.communicate(b'{"n": 1}\nplain\n3\n')
        async with HubClient(hub.url, options=OPTIONS) as client:
            page = await client.history("logs")
    assert process.returncode == 0, err
    assert [item.data for item in page.messages] == [{"n": 1}, "plain", 3]


async def read_line(process: Process) -> dict[str, object]:
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_SECONDS):
        line: dict[str, object] = json.loads(await process.stdout.readline())
    return line
