"""Two thousand connections that only live: what they cost, and that nothing of them stays."""

import asyncio
import gc

import psutil

from hub import Hub, Settings
from hub.core.session.session import Session
from hub.transports.sse import SseConnection
from hub.transports.websocket import WebSocketConnection
from tests.chaos.crowd import crowd
from tests.chaos.operator import becomes_true, operating
from tests.chaos.subscriber import Subscriber, WebSocketSubscriber
from tests.support.hub_process import HubProcess
from tests.support.waiting import eventually

MANY = 2000
WAVE = 300
# The issue asks for 4 KiB on a quiet machine and `hub bench` measures that; this is the bound
# beyond which something per connection has crept in.
BYTES_EACH = 8 * 1024
BEATS = 3


def _channels(count: int) -> list[str]:
    return [f"idle-{index % 50}" for index in range(count)]


async def test_two_thousand_idle_connections_are_held_with_heartbeats() -> None:
    """All of them live through several intervals, each for at most 8 KiB, and none remains."""
    with HubProcess(HUB_HEARTBEAT_SECONDS="1", HUB_PONG_TIMEOUT_SECONDS="10") as hub:
        async with operating(hub) as operator:
            async with crowd(hub.port, "websocket", _channels(100)) as warm:
                before = operator.rss_bytes
                async with crowd(hub.port, "websocket", _channels(MANY)) as opened:
                    each = (operator.rss_bytes - before) / MANY
                    print(f"{each:,.0f} bytes per idle connection")
                    assert each < BYTES_EACH
                    everybody = [*warm, *opened]
                    for reader in everybody:
                        reader.keep_reading()
                    await eventually(
                        lambda: all(_is_well(reader) for reader in everybody), seconds=30
                    )
                    assert not any(reader.ended for reader in everybody)
                    assert await operator.connections() == len(everybody)
                    assert await operator.metric("hub_closes_total", 'code="4504"') == 0

            async def all_are_gone() -> bool:
                return await operator.connections() == 0

            await becomes_true(all_are_gone)
            assert await operator.metric("hub_channels") == 0


def _is_well(reader: Subscriber) -> bool:
    assert isinstance(reader, WebSocketSubscriber)
    return reader.pings >= BEATS and len(reader.beats) >= BEATS


async def test_connections_have_no_task_and_leave_nothing_behind() -> None:
    """Sessions, channels, deadlines and connections are released, wave after wave."""
    settings = Settings(port=0, drain_seconds=0, handshake_timeout_seconds=0.5)
    async with Hub(settings) as hub:
        rss: list[int] = []
        for transport in ("websocket", "sse", "websocket", "sse"):
            await _wave(hub, transport)
            rss.append(psutil.Process().memory_info().rss)
        # The later waves find the memory of the first ones.
        assert rss[-1] - rss[1] < WAVE * BYTES_EACH


def _held() -> int:
    """How many sessions and connections this process holds; slotted, so they take no weakref."""
    gc.collect()
    kinds = (Session, WebSocketConnection, SseConnection)
    return sum(type(found) in kinds for found in gc.get_objects())


async def _wave(hub: Hub, transport: str) -> None:
    """Subscribers come and go; everything that was made for them goes too."""
    node, port = hub.node, int(hub.url.rpartition(":")[2])
    tasks, held = len(asyncio.all_tasks()), _held()
    async with crowd(port, transport, _channels(WAVE)):
        await eventually(lambda: len(asyncio.all_tasks()) <= tasks, what="no task per connection")
        assert len(node.registry.sessions) == WAVE
        assert _held() == held + 2 * WAVE, "a session and a connection each"
    await eventually(lambda: not node.registry.sessions and not node.registry.leaving)

    await eventually(lambda: _held() == held, what="every connection's release")
    gauges = node.reporter.gauges()
    assert gauges.subscriptions == gauges.channels == gauges.outbox_bytes == 0
    await eventually(lambda: len(node.deadlines) == 0, what="every deadline's release")
