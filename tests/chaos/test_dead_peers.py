"""Signs of life: who is cut, who is not, and who is told."""

import contextlib
import itertools
import time
from collections.abc import Iterator

import pytest

from tests.chaos.operator import becomes_true, check_complete, operating
from tests.chaos.stalling import SMALL_BUFFER_BYTES, stall
from tests.chaos.subscriber import TRANSPORTS, WebSocketSubscriber, subscribed
from tests.support.hub_process import HubProcess
from tests.support.raw_peer import CLOSE, client_frame
from tests.support.waiting import eventually

HEARTBEAT_SECONDS = 1.0
PONG_TIMEOUT_SECONDS = 0.6
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
        subscribed(hub.port, transport, name, receive_buffer_bytes=SMALL_BUFFER_BYTES) as dead,
    ):
        before = await operator.metric("hub_closes_total", CLOSED_4504)
        descriptors = operator.descriptors
        await stall(operator, dead, [name])
        full_since = time.monotonic()

        async def is_cut() -> bool:
            return await operator.connection(dead) is None

        await becomes_true(is_cut)
        # Far from the limits that slow readers have; three times leaves room for a busy machine.
        limit = HEARTBEAT_SECONDS + PONG_TIMEOUT_SECONDS
        assert time.monotonic() - full_since < 3 * limit
        assert await operator.metric("hub_closes_total", CLOSED_4504) == before + 1
        await eventually(lambda: operator.descriptors < descriptors, what="a freed descriptor")


async def test_slow_reader_that_makes_progress_is_not_cut(hub: HubProcess) -> None:
    """It reads for several time-outs at a rate at which no pong can come in time."""
    async with operating(hub) as operator, contextlib.AsyncExitStack() as stack:
        slow = {
            f"slow-{transport}": await stack.enter_async_context(
                subscribed(
                    hub.port,
                    transport,
                    f"slow-{transport}",
                    receive_buffer_bytes=SMALL_BUFFER_BYTES,
                )
            )
            for transport in TRANSPORTS
        }
        for reader in slow.values():
            reader.keep_reading(bytes_per_second=30_000)
        await operator.flood([*slow], 400)
        enough = time.monotonic() + 2 * (HEARTBEAT_SECONDS + PONG_TIMEOUT_SECONDS)
        await eventually(lambda: time.monotonic() > enough)
        for name, reader in slow.items():
            record = await operator.connection(reader)
            assert record is not None, f"{name} was cut"
            assert record["outbox_bytes"] > 0, "it was not slow at all"
            await reader.stop_reading()
            heads = await operator.flood([name], 1)
            await reader.read_until(lambda: reader.reached(name, heads[name]))  # noqa: B023 - awaited here
            check_complete(reader, name, heads[name])


async def test_peer_that_never_answers_pings_is_told_4504(hub: HubProcess) -> None:
    """It reads, so it sees the goodbye and the close code; one that answers lives on."""
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
    """A browser cannot see pings: it gets pushes or comments, also while data flows."""
    async with operating(hub) as operator, contextlib.AsyncExitStack() as stack:
        opened = time.monotonic()
        readers = [
            await stack.enter_async_context(subscribed(hub.port, transport, name))
            for transport in TRANSPORTS
            for name in ("calm", "busy")
        ]
        for reader in readers:
            reader.keep_reading()
        while time.monotonic() < opened + 3.2 * HEARTBEAT_SECONDS:
            await operator.flood(["busy"], 5, size=100)
        for reader in readers:
            between = [b - a for a, b in itertools.pairwise([opened, *reader.beats])]
            assert len(between) >= 3
            # Nearly twice: the test's own machine may be late, a missed beat is twice.
            assert max(between) < HEARTBEAT_SECONDS * 1.9, between


@pytest.mark.parametrize("farewell", ["close frame", "end of stream"])
async def test_stalled_peer_that_leaves_without_reading_is_let_go(
    hub: HubProcess, farewell: str
) -> None:
    """It closed its side and keeps the socket: what it is owed must not hold the hub's."""
    async with operating(hub) as operator:
        await operator.connections()
        before = operator.descriptors
        async with subscribed(
            hub.port, "websocket", "leaver", receive_buffer_bytes=SMALL_BUFFER_BYTES
        ) as leaver:
            assert isinstance(leaver, WebSocketSubscriber)
            await stall(operator, leaver, ["leaver"])
            if farewell == "close frame":
                await leaver.peer.send(client_frame(CLOSE, (1000).to_bytes(2)))
            else:
                leaver.peer.end_sending()
            await eventually(lambda: operator.descriptors <= before, what="a freed descriptor")
            assert await operator.connection(leaver) is None
