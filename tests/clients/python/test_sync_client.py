"""Subscribing without asyncio: a thread iterates, against a hub played by a script."""

import asyncio
import threading

import pytest

from hub_client import (
    ClientOptions,
    ClosedError,
    CommandError,
    Gap,
    Message,
    Position,
    ReconnectTiming,
    SyncHubClient,
)
from tests.clients.python.fakes import (
    DEADLINE_SECONDS,
    Peer,
    message,
    reset,
    stay,
    websocket_hub,
    welcome,
)

OPTIONS = ClientOptions(timing=ReconnectTiming(0.01, 0.05, open_timeout_seconds=5))
ONLY_WEBSOCKET = ("websocket",)


def client(url: str) -> SyncHubClient:
    return SyncHubClient(url, transports=ONLY_WEBSOCKET, options=OPTIONS)


async def in_a_thread(call: object, *arguments: object) -> object:
    assert callable(call)
    async with asyncio.timeout(DEADLINE_SECONDS):
        return await asyncio.to_thread(call, *arguments)


async def test_a_loop_gets_messages_and_gaps_in_their_order_through_a_cut() -> None:
    """`on_gap` is called in the thread that iterates, at the gap's place."""

    async def first(peer: Peer) -> None:
        await peer.push(welcome())
        await peer.start("e1:0")
        await peer.push(*(message("a", offset) for offset in range(1, 201)))
        await peer.socket.close(1012)

    async def second(peer: Peer) -> None:
        await peer.push(welcome())
        assert (await peer.start("e2:0"))["since"] == "e1:200"
        await peer.push(reset("a", "e2:0"), message("a", 1))
        await peer.socket.wait_closed()

    def run(url: str) -> tuple[list[object], Position | None]:
        seen: list[object] = []
        threads: list[object] = []

        def on_gap(gap: Gap) -> None:
            seen.append(gap.reason)
            threads.append(threading.current_thread())

        with client(url) as hub, hub.subscribe("a", on_gap=on_gap) as items:
            for item in items:
                seen.append(item.offset)
                if len(seen) == 202:
                    break
            assert threads == [threading.current_thread()]
            return seen, items.position

    async with websocket_hub(first, second) as fake:
        seen, position = await asyncio.to_thread(run, fake.url)
    assert seen == [*range(1, 201), "reset", 1]
    assert position == Position("e2", 1)


async def test_gaps_stand_in_the_loop_where_they_are_asked_for() -> None:
    async def script(peer: Peer) -> None:
        await peer.push(welcome())
        await peer.start("e1:0")
        gap = {"op": "gap", "channel": "a", "epoch": "e1", "reason": "slow", "from": 1, "to": 3}
        await peer.push(gap, message("a", 4))
        await peer.socket.wait_closed()

    def run(url: str) -> list[type]:
        with client(url) as hub:
            items = hub.subscribe("a", gaps=True)
            return [type(next(items)), type(next(items))]

    async with websocket_hub(script) as fake:
        assert await in_a_thread(run, fake.url) == [Gap, Message]


async def test_a_wait_that_is_given_up_loses_nothing() -> None:
    """The message that comes later is the next one's."""
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.push(welcome())
        await peer.start("e1:0")
        await go.wait()
        await peer.push(message("a", 1))
        await peer.socket.wait_closed()

    def run(url: str, loop: asyncio.AbstractEventLoop) -> int | None:
        with client(url) as hub:
            items = hub.subscribe("a")
            with pytest.raises(TimeoutError):
                items.receive(timeout_seconds=0.05)
            loop.call_soon_threadsafe(go.set)
            item = items.receive(timeout_seconds=DEADLINE_SECONDS)
            return item.offset if item is not None else None

    async with websocket_hub(script) as fake:
        assert await in_a_thread(run, fake.url, asyncio.get_running_loop()) == 1


async def test_commands_answer_and_raise_as_those_of_the_asynchronous_client() -> None:
    async def script(peer: Peer) -> None:
        await peer.push(welcome())
        command = await peer.command("publish")
        ok = {"channel": "a", "epoch": "e1", "offset": 7}
        await peer.push({"op": "reply", "id": command["id"], "ok": ok})
        command = await peer.command("history")
        error = {"code": "forbidden", "message": "no grant", "retryable": False}
        await peer.push({"op": "reply", "id": command["id"], "error": error})
        await peer.socket.wait_closed()

    def run(url: str) -> object:
        with client(url) as hub:
            hub.wait_connected()
            published = hub.publish("a", 1)
            with pytest.raises(CommandError, match="no grant"):
                hub.history("a")
            return published.position

    async with websocket_hub(script) as fake:
        assert await in_a_thread(run, fake.url) == Position("e1", 7)


async def test_closing_ends_the_loop_of_another_thread_and_leaves_no_thread() -> None:
    """Quietly; a command afterwards says that the client is closed."""
    before = set(threading.enumerate())

    def run(url: str) -> list[object]:
        hub = client(url)
        with hub:
            items = hub.subscribe("a")
            hub.wait_connected()
            seen: list[object] = []
            reading = threading.Thread(target=lambda: seen.extend(items))
            reading.start()
        reading.join(DEADLINE_SECONDS)
        assert not reading.is_alive()
        with pytest.raises(ClosedError):
            hub.ping()
        return seen

    async with websocket_hub(stay) as fake:
        assert await in_a_thread(run, fake.url) == []
    left = set(threading.enumerate()) - before
    assert [thread.name for thread in left if thread.name == "hub_client"] == []
