"""How a hub stops: told, not all at once, and held up by nobody."""

import asyncio
import contextlib
import itertools
import signal
import time
from collections.abc import AsyncGenerator, Sequence

import httpx2 as httpx
import jwt
import pytest

from tests.chaos.operator import becomes_true, operating
from tests.chaos.stalling import narrowly_subscribed, stall
from tests.chaos.subscriber import TRANSPORTS, Subscriber, open_subscriber, subscribed
from tests.support.hub_process import HubProcess
from tests.support.raw_connection import END_OF_HEAD, RawConnection, get
from tests.support.waiting import eventually

GOING_SECONDS = 20.0
# Longer than any test may take: whoever waits for one of these has found a defect.
_LONG = "600"


def _hub(*, allow_tracebacks: bool = False, **environment: str) -> HubProcess:
    """A hub in which no time-out but those in `environment` ends anything."""
    return HubProcess(
        allow_tracebacks=allow_tracebacks,
        HUB_HANDSHAKE_TIMEOUT_SECONDS=_LONG,
        HUB_HEARTBEAT_SECONDS=_LONG,
        HUB_PONG_TIMEOUT_SECONDS=_LONG,
        **environment,
    )


@contextlib.asynccontextmanager
async def _readers(hub: HubProcess, count: int) -> AsyncGenerator[Sequence[Subscriber]]:
    """Half on WebSocket, half on SSE, all reading."""
    opening = [
        open_subscriber(hub.port, transport, ["news"])
        for transport, _ in zip(itertools.cycle(TRANSPORTS), range(count), strict=False)
    ]
    readers = await asyncio.gather(*opening)
    for reader in readers:
        reader.keep_reading()
    try:
        yield readers
    finally:
        for reader in readers:
            await reader.stop_reading()
            reader.peer.reset()


async def _exit_code(hub: HubProcess) -> int:
    return await asyncio.to_thread(hub.wait, GOING_SECONDS)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_every_session_is_told_and_closes_are_spread(number: signal.Signals) -> None:
    """1012 with the window to come back in, at about an even rate over HUB_DRAIN_SECONDS."""
    drain_seconds, count = 2.0, 60
    with _hub(HUB_DRAIN_SECONDS=str(drain_seconds)) as hub:
        async with _readers(hub, count) as readers:
            ended: dict[Subscriber, float] = {}

            def all_have_ended() -> bool:
                for reader in readers:
                    if reader.ended:
                        ended.setdefault(reader, time.monotonic())
                return len(ended) == count

            hub.signal(number)
            began = time.monotonic()
            await eventually(all_have_ended)
            assert await _exit_code(hub) == 0
        for reader in readers:
            assert reader.goodbye is not None
            assert reader.goodbye["code"] == reader.close_code == 1012
            assert reader.goodbye["reconnect_within_ms"] == drain_seconds * 1000
        times = sorted(at - began for at in ended.values())
        # An even rate has half of them after half the time; all at once has none or all.
        halfway = sum(at < times[-1] / 2 for at in times)
        assert 0.25 * count < halfway < 0.75 * count, times
        assert times[-1] > drain_seconds / 2
        assert max(b - a for a, b in itertools.pairwise(times)) < times[-1] / 2


async def test_draining_node_is_not_ready_and_refuses_sessions_with_the_listener_open() -> None:
    """For HUB_READY_DELAY_SECONDS nobody is closed yet: load balancers look elsewhere first."""
    # Long enough that a busy machine asks all of this within it.
    with _hub(HUB_READY_DELAY_SECONDS="4", HUB_DRAIN_SECONDS="0") as hub:
        async with (
            httpx.AsyncClient(base_url=hub.url, timeout=30) as client,
            operating(hub) as operator,
            subscribed(hub.port, "websocket", "news") as reader,
        ):
            reader.keep_reading()
            assert (await client.get("/readyz")).status_code == 200
            hub.signal(signal.SIGTERM)

            async def is_not_ready() -> bool:
                return (await client.get("/readyz")).status_code == 503

            await becomes_true(is_not_ready)
            assert (await client.get("/readyz")).json()["reasons"] == ["draining"]
            for target, upgrade in (("/ws?channel=a", True), ("/sse?channel=a", False)):
                peer = await RawConnection.connect(hub.port)
                peer.send(get(target, upgrade=upgrade))
                head = await peer.until(END_OF_HEAD)
                assert head.startswith(b"HTTP/1.1 503 "), head
                assert b"retry-after" in head.lower()
                peer.close()
            assert (await client.get("/poll?channel=a&wait=1")).status_code == 503
            heads = await operator.flood(["news"], 1)
            await eventually(lambda: reader.reached("news", heads["news"]))
            assert not reader.ended
            await eventually(lambda: reader.ended)
            assert reader.close_code == 1012
        assert await _exit_code(hub) == 0


async def test_hub_without_sessions_stops_at_once() -> None:
    """Nobody has to be told, so nothing of a long drain is waited for."""
    with _hub(HUB_DRAIN_SECONDS="600") as hub:
        hub.signal(signal.SIGTERM)
        assert await _exit_code(hub) == 0


async def test_second_signal_ends_a_drain_at_once() -> None:
    """Everybody is cut, and the exit code tells that it was not in order."""
    with _hub(HUB_DRAIN_SECONDS="600") as hub:
        async with _readers(hub, 10) as readers:
            hub.signal(signal.SIGTERM)
            await eventually(lambda: '"draining"' in hub.stderr)
            assert "a second signal stops at once" in hub.stderr
            hub.signal(signal.SIGTERM)
            assert await _exit_code(hub) == 128 + signal.SIGTERM
            await eventually(lambda: all(reader.ended for reader in readers))


async def test_nobody_can_hold_the_exit_up() -> None:
    """Not an SSE stream, a peer that reads nothing or never closes its side, a waiting poll, an
    idle kept-alive connection, or requests that never become whole.
    """
    # Uvicorn logs the request it has to cancel with a traceback.
    with _hub(
        allow_tracebacks=True, HUB_CLOSE_TIMEOUT_SECONDS="0.5", HUB_DRAIN_SECONDS="0.5"
    ) as hub:
        async with (
            operating(hub) as operator,
            contextlib.AsyncExitStack() as stack,
        ):
            for transport in TRANSPORTS:
                await stack.enter_async_context(subscribed(hub.port, transport, "idle"))
                stalled = await stack.enter_async_context(
                    narrowly_subscribed(hub.port, transport, "news")
                )
                await stall(operator, stalled, ["news"])
            for request in (
                b"",
                b"GET /ws HTT",
                b"POST /api/publish/a HT",
                b"POST /api/publish/a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1",
                get("/healthz"),
                get("/poll?channel=a&wait=60"),
            ):
                peer = await RawConnection.connect(hub.port)
                stack.callback(peer.reset)
                peer.send(request)
                if request == get("/healthz"):
                    await peer.until(END_OF_HEAD)

            async def the_poll_waits() -> bool:
                return await operator.metric("hub_connections", 'transport="poll"') == 1

            await becomes_true(the_poll_waits)
            hub.signal(signal.SIGTERM)
            assert await _exit_code(hub) == 0


async def test_waiting_poll_is_answered_with_the_goodbye() -> None:
    """The waiting peer gets a goodbye, and not a broken connection."""
    with _hub() as hub:
        async with (
            httpx.AsyncClient(base_url=hub.url, timeout=30) as client,
            operating(hub) as operator,
        ):
            first = (await client.get("/poll?channel=a&wait=0")).json()
            position = first["positions"]["a"]
            waiting = asyncio.create_task(client.get(f"/poll?channel=a&since=a={position}&wait=60"))

            async def both_are_open() -> bool:
                return await operator.metric("hub_connections", 'transport="poll"') == 2

            await becomes_true(both_are_open)
            hub.signal(signal.SIGTERM)
            answer = await waiting
        assert answer.status_code == 200
        assert [push["code"] for push in answer.json()["pushes"] if push["op"] == "goodbye"] == [
            1012
        ]
        assert await _exit_code(hub) == 0


async def test_crash_gives_each_channel_of_a_resuming_client_exactly_one_reset() -> None:
    """With the memory broker a restart is a new epoch; the stream continues in it."""
    channels = ["a", "b"]
    with _hub() as hub:
        async with operating(hub) as operator:
            await operator.flood(channels, 5, size=10)
            async with subscribed(hub.port, "websocket", *channels) as before:
                places = {push["channel"]: push["position"] for push in before.of("subscribed")}
            await asyncio.to_thread(hub.kill)
            await asyncio.to_thread(hub.restart)
        since = ",".join(f"{name}={place}" for name, place in places.items())
        async with operating(hub) as operator:
            for transport in TRANSPORTS:
                async with subscribed(hub.port, transport, *channels, last_event_id=since) as after:
                    heads = await operator.flood(channels, 3, size=10)
                    await after.read_until(
                        lambda: all(after.reached(name, heads[name]) for name in channels)  # noqa: B023 - awaited here
                    )
                    for name in channels:
                        (gap,) = after.of("gap", channel=name)
                        assert gap["reason"] == "reset"
                        begins = int(gap["position"].rpartition(":")[2])
                        offsets = [push["offset"] for push in after.of("message", channel=name)]
                        assert offsets == list(range(begins + 1, heads[name] + 1))


async def test_a_token_that_ends_after_the_world_holds_no_stop_up() -> None:
    """Whatever number its `exp` is: its session is one like any other."""
    key = "a-signing-key-of-more-than-32-bytes!"
    grants = {"subscribe": ["news"]}
    with _hub(HUB_TOKEN_KEYS=key, HUB_CLOSE_TIMEOUT_SECONDS="1") as hub:
        for ends in (1e17, 1e300, 1.7976931348623157e308):
            token = jwt.encode({"exp": ends, "hub": grants}, key, algorithm="HS256")
            for path in (f"/sse?channel=news&token={token}", f"/poll?channel=news&token={token}"):
                with contextlib.suppress(httpx.ReadTimeout):
                    httpx.get(f"{hub.url}{path}", timeout=0.5)
        hub.signal(signal.SIGTERM)
        assert await _exit_code(hub) == 0
