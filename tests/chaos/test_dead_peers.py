"""Peers show signs of life: the silent ones are cut off and told, and the others are not."""

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from tests.chaos.operator import becomes_true, check_complete, operating
from tests.chaos.stalling import narrowly_subscribed, stall
from tests.chaos.subscriber import TRANSPORTS, WebSocketSubscriber, subscribed
from tests.support.frames import CLOSE, masked
from tests.support.hub_process import HubProcess
from tests.support.waiting import DEADLINE_SECONDS, eventually

HEARTBEAT_SECONDS = 1.0
PONG_TIMEOUT_SECONDS = 0.6
BEATS = 5
CLOSED_4504 = 'code="4504"'


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess(
        HUB_HEARTBEAT_SECONDS=str(HEARTBEAT_SECONDS),
        HUB_PONG_TIMEOUT_SECONDS=str(PONG_TIMEOUT_SECONDS),
        HUB_CLOSE_TIMEOUT_SECONDS="0.5",
    ) as hub:
        yield hub


async def test_peer_that_reads_nothing_is_cut_although_its_buffers_are_full(
    hub: HubProcess, transport: str
) -> None:
    """Its connection is gone from the process, and counted, without a byte read by it."""
    name = f"dead-{transport}"
    async with (
        operating(hub) as operator,
        narrowly_subscribed(hub.port, transport, name) as dead,
    ):
        before = await operator.metric("hub_closes_total", CLOSED_4504)
        descriptors = operator.descriptors
        await stall(operator, dead, [name])

        async def is_cut() -> bool:
            return await operator.connection(dead) is None

        # Before any limit that slow readers have (30 s), and for another reason.
        await becomes_true(is_cut)
        assert await operator.metric("hub_closes_total", CLOSED_4504) == before + 1
        await eventually(lambda: operator.descriptors < descriptors, what="a freed descriptor")


async def test_slow_reader_that_makes_progress_is_not_cut(hub: HubProcess) -> None:
    """The reader reads for several time-outs at a rate at which no pong can come in time."""
    async with operating(hub) as operator, contextlib.AsyncExitStack() as stack:
        slow = {
            f"slow-{transport}": await stack.enter_async_context(
                narrowly_subscribed(hub.port, transport, f"slow-{transport}")
            )
            for transport in TRANSPORTS
        }
        for reader in slow.values():
            reader.keep_reading(bytes_per_second=30_000)
        fast = await stack.enter_async_context(subscribed(hub.port, "sse", "fast"))
        fast.keep_reading()
        await operator.flood([*slow], 400)
        # By then two pings have been due, and two time-outs have passed since.
        await eventually(lambda: len(fast.beats) >= BEATS, what="heartbeats of another")
        for name, reader in slow.items():
            record = await operator.connection(reader)
            assert record is not None, f"{name} was cut"
            assert record["outbox_bytes"] > 0, "it was not slow at all"
            await reader.stop_reading()
            heads = await operator.flood([name], 1)
            await reader.read_until(lambda: reader.reached(name, heads[name]))  # noqa: B023 - awaited here
            check_complete(reader, name, heads[name])


async def test_peer_that_never_answers_pings_is_told_4504(hub: HubProcess) -> None:
    """The silent peer reads, so it sees the goodbye and the close code; one that
    answers pings stays connected."""
    async with (
        operating(hub) as operator,
        subscribed(hub.port, "websocket", "pings") as silent,
        subscribed(hub.port, "websocket", "pings") as answering,
    ):
        before = await operator.metric("hub_closes_total", CLOSED_4504)
        silent.answers_pings = False
        answering.keep_reading()
        await silent.read_to_end()
        assert silent.goodbye is not None
        assert silent.goodbye["code"] == silent.close_code == 4504
        assert await operator.metric("hub_closes_total", CLOSED_4504) == before + 1

        async def is_timed() -> bool:
            # Each has its own slot of the wheel: its ping may be due after the other's end.
            record = await operator.connection(answering)
            assert record is not None, "it answers and was cut"
            return record["round_trip_ms"] is not None

        await becomes_true(is_timed)
        assert await operator.metric("hub_heartbeat_round_trip_seconds_count") > 0


async def test_every_session_gets_a_frame_in_each_heartbeat(hub: HubProcess) -> None:
    """A browser cannot see pings: it gets pushes or comments, also while data flows.

    One is the other's clock: in each turn of the wheel everybody has one.
    """
    async with operating(hub) as operator, contextlib.AsyncExitStack() as stack:
        readers = [
            await stack.enter_async_context(subscribed(hub.port, transport, name))
            for transport in TRANSPORTS
            for name in ("calm", "busy")
        ]
        for reader in readers:
            reader.keep_reading()
        async with asyncio.timeout(DEADLINE_SECONDS):
            while min(len(reader.beats) for reader in readers) < BEATS:
                await operator.flood(["busy"], 5, size=100)
                await asyncio.sleep(0.02)
        counts = [len(reader.beats) for reader in readers]
        # One more for having been opened earlier, and one that is due sooner in each turn.
        assert max(counts) <= BEATS + 2, counts


@pytest.mark.parametrize("farewell", ["close frame", "end of stream"])
async def test_stalled_peer_that_leaves_without_reading_is_let_go(
    hub: HubProcess, farewell: str
) -> None:
    """The peer closed its side and keeps the socket, and the bytes that it is owed do not
    keep the hub's socket open."""
    async with operating(hub) as operator:
        await operator.connections()
        before = operator.descriptors
        async with narrowly_subscribed(hub.port, "websocket", "leaver") as leaver:
            assert isinstance(leaver, WebSocketSubscriber)
            await stall(operator, leaver, ["leaver"])
            if farewell == "close frame":
                leaver.peer.send(masked((1000).to_bytes(2), CLOSE))
            else:
                leaver.peer.end_sending()
            await eventually(lambda: operator.descriptors <= before, what="a freed descriptor")
            assert await operator.connection(leaver) is None
