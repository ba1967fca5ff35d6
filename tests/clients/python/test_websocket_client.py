"""The client over WebSocket, against a hub played by a script."""

import asyncio

import pytest

from hub_client import (
    ClientOptions,
    ConnectionState,
    Gap,
    HubClient,
    Position,
    RejectedError,
    UnauthorizedError,
)
from tests.clients.python.fakes import (
    DEADLINE_SECONDS,
    ONLY_WEBSOCKET,
    QUICK,
    Peer,
    message,
    reset,
    started,
    take,
    websocket_hub,
    welcome,
)
from tests.clients.python.fakes import (
    websocket_client as client,
)


async def test_messages_of_one_channel_arrive_in_order_with_their_bytes_untouched() -> None:
    """`data` parses exactly and `raw_data` is what came, a 23-digit integer included."""

    async def script(peer: Peer) -> None:
        await peer.push(welcome())
        await peer.start("e1:0")
        big = '{"op":"message","channel":"a","offset":1,"time":5,"key":"k","from":"ann",'
        await peer.socket.send(big + '"data":{"n": 12345678901234567890123}}')
        await peer.push(message("a", 2))
        await peer.socket.wait_closed()

    async with websocket_hub(script) as fake, client(fake.url) as hub:
        first, second = await take(hub.subscribe("a"), 2)
    assert first.data == {"n": 12345678901234567890123}
    assert first.raw_data == b'{"n": 12345678901234567890123}'
    assert (first.time_ms, first.key, first.sender) == (5, "k", "ann")
    assert second.position == Position("e1", 2)


async def test_a_cut_connection_is_resumed_from_the_last_message() -> None:
    """The second subscribe carries the last position, and what repeats is dropped."""
    asked: list[object] = []

    async def first(peer: Peer) -> None:
        await peer.push(welcome())
        await peer.start("e1:0")
        await peer.push(message("a", 1), message("a", 2))
        await peer.socket.close(1012)

    async def second(peer: Peer) -> None:
        await peer.push(welcome())
        asked.append((await peer.start("e1:2"))["since"])
        await peer.push(message("a", 2), message("a", 3))
        await peer.socket.wait_closed()

    async with websocket_hub(first, second) as fake, client(fake.url) as hub:
        items = await take(hub.subscribe("a", gaps=True), 3)
    assert asked == ["e1:2"]
    assert [item.position.offset for item in items if item.position] == [1, 2, 3]


async def test_a_new_epoch_after_a_restart_shows_as_exactly_one_reset() -> None:
    """The application hears once that offsets start anew, then gets the new epoch."""

    async def first(peer: Peer) -> None:
        await peer.push(welcome())
        await peer.start("e1:0")
        await peer.push(message("a", 1))
        await peer.socket.close(1012)

    async def second(peer: Peer) -> None:
        await peer.push(welcome())
        await peer.push(started(await peer.command(), "e2:0", recovered=False))
        await peer.push(reset("a", "e2:0"), message("a", 1))
        await peer.socket.wait_closed()

    gaps: list[Gap] = []
    async with websocket_hub(first, second) as fake, client(fake.url) as hub:
        one, two = await take(hub.subscribe("a", on_gap=gaps.append), 2)
    assert [gap.reason for gap in gaps] == ["reset"]
    assert (one.position, two.position) == (Position("e1", 1), Position("e2", 1))


async def test_a_forbidding_close_code_ends_iterations_and_commands_with_a_typed_error() -> None:
    """After 4403 the client does not come back: everything raises what the hub said."""

    async def script(peer: Peer) -> None:
        await peer.push(welcome())
        await peer.command()
        await peer.socket.close(4403, "not you")

    async with websocket_hub(script) as fake, client(fake.url) as hub:
        with pytest.raises(RejectedError, match="not you") as raised:
            await take(hub.subscribe("a"), 1)
        with pytest.raises(RejectedError):
            await hub.publish("a", 1)
    assert (raised.value.close_code, raised.value.code) == (4403, "forbidden")
    assert fake.connections == 1


async def test_a_callable_token_is_asked_once_more_after_4401() -> None:
    """The second handshake carries the new token; a second refusal is final."""
    tokens = iter(["old", "new", "never asked for"])

    async def refuse(peer: Peer) -> None:
        await peer.socket.close(4401, "expired")

    async with websocket_hub(refuse, refuse) as fake:
        options = ClientOptions(timing=QUICK)
        async with HubClient(
            fake.url, token=lambda: next(tokens), transports=ONLY_WEBSOCKET, options=options
        ) as hub:
            with pytest.raises(UnauthorizedError):
                await take(hub.subscribe("a"), 1)
    presented = [headers["authorization"] for headers in map(lowered, fake.headers)]
    assert presented == ["Bearer old", "Bearer new"]


async def test_a_token_about_to_end_is_renewed_on_the_same_connection() -> None:
    """`expiring` makes the client ask for a new token and present it by `authenticate`."""
    tokens = iter(["one", "two"])
    presented: asyncio.Queue[str] = asyncio.Queue()

    async def fresh() -> str:
        return next(tokens)

    async def script(peer: Peer) -> None:
        await peer.push(welcome(), {"op": "expiring", "in_seconds": 30})
        presented.put_nowait((await peer.command("authenticate"))["token"])
        await peer.socket.wait_closed()

    async with (
        websocket_hub(script) as fake,
        HubClient(fake.url, token=fresh, transports=ONLY_WEBSOCKET),
    ):
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await presented.get() == "two"
    assert fake.connections == 1


async def test_silence_beyond_one_and_a_half_heartbeats_makes_the_client_reconnect() -> None:
    """A connection that says nothing is dead, whatever the kernel believes."""

    async def silent(peer: Peer) -> None:
        await peer.push(welcome(heartbeat_seconds=0.02))
        await peer.start("e1:0")
        await peer.push(message("a", 1))
        await peer.socket.wait_closed()

    async def alive(peer: Peer) -> None:
        await peer.push(welcome())
        await peer.start("e1:1")
        await peer.push(message("a", 2))
        await peer.socket.wait_closed()

    states: list[ConnectionState] = []
    async with (
        websocket_hub(silent, alive) as fake,
        client(fake.url, on_state=states.append) as hub,
    ):
        items = await take(hub.subscribe("a"), 2)
    assert [item.offset for item in items] == [1, 2]
    assert any("no frame in" in state.detail for state in states)


async def test_a_goodbye_moves_the_client_within_its_window_without_waiting_for_the_close() -> None:
    """The hub asks to come back within 20 ms and leaves the connection open: the client goes."""

    async def leaving(peer: Peer) -> None:
        await peer.push(welcome())
        await peer.start("e1:0")
        goodbye = {"op": "goodbye", "code": 1012, "reason": "draining"}
        await peer.push(message("a", 1), {**goodbye, "reconnect_within_ms": 20})
        await peer.socket.wait_closed()

    async def next_node(peer: Peer) -> None:
        await peer.push(welcome())
        assert (await peer.start("e1:1"))["since"] == "e1:1"
        await peer.push(message("a", 2))
        await peer.socket.wait_closed()

    async with websocket_hub(leaving, next_node) as fake, client(fake.url) as hub:
        assert [item.offset for item in await take(hub.subscribe("a"), 2)] == [1, 2]


def lowered(headers: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
