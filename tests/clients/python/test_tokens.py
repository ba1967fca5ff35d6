"""A token may take longer than a transport, is asked for once, and holds nothing up."""

import asyncio

import pytest

from hub_client import ClientOptions, HubClient, ReconnectTiming, tokens
from hub_client.messages import ConnectionState
from hub_client.tokens import TokenSource
from tests.clients.python.fakes import DEADLINE_SECONDS, Peer, message, stay, websocket_hub, welcome

ONLY_WEBSOCKET = ("websocket",)


async def test_a_token_takes_its_own_time_and_not_the_transports() -> None:
    """Longer than a transport has; it is asked for once, and nothing is blamed."""
    asked = 0
    states: list[ConnectionState] = []

    async def slow() -> str:
        nonlocal asked
        asked += 1
        await asyncio.sleep(2.5)
        return "t1"

    timing = ReconnectTiming(open_timeout_seconds=1.5)
    options = ClientOptions(timing=timing, on_state=states.append)

    async with (
        websocket_hub(stay) as fake,
        HubClient(fake.url, token=slow, options=options) as client,
    ):
        await client.wait_connected(timeout_seconds=DEADLINE_SECONDS)
        assert asked == 1
        assert fake.headers[0]["Authorization"] == "Bearer t1"
    assert [state.name for state in states] == ["connecting", "connected", "closed"]


async def test_a_token_that_does_not_come_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A function that hangs is given up in the end, and what it raises is no end."""
    monkeypatch.setattr(tokens, "_ASK_TIMEOUT_SECONDS", 0.05)
    answers = [_hang(), _fail(), _tell("t1")]
    source = TokenSource(lambda: answers.pop(0))
    with pytest.raises(TimeoutError):
        await source.current()
    with pytest.raises(OSError, match="cold"):
        await source.current()
    assert await source.current() == "t1"


async def _hang() -> str:
    await asyncio.sleep(3600)
    return "too late"


async def _fail() -> str:
    raise OSError("cold")


async def _tell(token: str) -> str:
    return token


async def test_a_second_asker_for_a_token_waits_for_the_answer_to_the_first() -> None:
    """A renewal and an attempt beside it are one request to the application."""
    granted: asyncio.Queue[str] = asyncio.Queue()
    source = TokenSource(granted.get)
    asking = [asyncio.create_task(source.current()) for _ in range(3)]
    await asyncio.sleep(0)
    granted.put_nowait("t1")
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await asyncio.gather(*asking) == ["t1"] * 3


async def test_messages_go_on_while_a_token_is_renewed() -> None:
    """However long that takes; and the wait ends with the client."""
    granted: asyncio.Queue[str] = asyncio.Queue()
    granted.put_nowait("t1")
    renewed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.push(welcome())
        await peer.start("e1:0")
        await peer.push({"op": "expiring", "in_seconds": 30}, {"op": "expiring", "in_seconds": 15})
        await peer.push(message("a", 1), message("a", 2))
        assert (await peer.command("authenticate"))["token"] == "t2"
        renewed.set()
        await peer.push({"op": "expiring", "in_seconds": 30})
        await peer.push(message("a", 3))

    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        websocket_hub(script) as fake,
        HubClient(fake.url, token=granted.get, transports=ONLY_WEBSOCKET) as client,
    ):
        offsets = []
        async for item in client.subscribe("a"):
            offsets.append(item.offset)
            if item.offset == 2:
                granted.put_nowait("t2")
                await renewed.wait()
            if item.offset == 3:
                break
        assert offsets == [1, 2, 3]


async def test_a_token_that_has_not_begun_is_presented_again_until_it_has() -> None:
    """1013 is no reason to ask for another one, nor to stay away."""
    asked = 0

    def early() -> str:
        nonlocal asked
        asked += 1
        return "early"

    async def refuse(peer: Peer) -> None:
        reason = "token is not valid for another 20 seconds"
        await peer.push({"op": "goodbye", "code": 1013, "reason": reason})
        await peer.socket.close(1013, reason)

    options = ClientOptions(timing=ReconnectTiming(base_seconds=0.01, cap_seconds=0.02))
    async with (
        websocket_hub(refuse, refuse, refuse, refuse, stay) as fake,
        HubClient(fake.url, token=early, transports=ONLY_WEBSOCKET, options=options) as client,
    ):
        await client.wait_connected(timeout_seconds=DEADLINE_SECONDS)
        assert asked == 1
        assert fake.connections == 5


async def test_a_token_has_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that starts cold, and a slow phone, take more than ten seconds."""
    limits: list[float | None] = []
    timeout = asyncio.timeout

    def noted(seconds: float | None) -> asyncio.Timeout:
        limits.append(seconds)
        return timeout(seconds)

    monkeypatch.setattr(asyncio, "timeout", noted)
    assert await TokenSource(lambda: "t1").current() == "t1"
    assert limits == [60]
