"""Replies and heartbeats overtake data, and are bounded too."""

import time
from collections.abc import Iterator

import pytest

from tests.chaos.operator import becomes_true, check_complete, operating
from tests.chaos.stalling import narrowly_subscribed, stall
from tests.chaos.subscriber import WebSocketSubscriber
from tests.support.frames import masked
from tests.support.hub_process import HubProcess
from tests.support.waiting import eventually

# hub.core.options.SessionLimits.control_max_bytes, which is no setting.
CONTROL_MAX_BYTES = 64 * 1024
PING = masked(b'{"op":"ping","id":1}')


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess(
        HUB_HEARTBEAT_SECONDS="1",
        HUB_PONG_TIMEOUT_SECONDS="60",
        HUB_CLOSE_TIMEOUT_SECONDS="60",
    ) as hub:
        yield hub


async def test_replies_and_pings_overtake_queued_data(hub: HubProcess) -> None:
    """A ping sent behind a megabyte of data is answered before the data; the answer to an
    unsubscribe keeps its channel's order.
    """
    async with (
        operating(hub) as operator,
        narrowly_subscribed(hub.port, "websocket", "lane") as stalled,
    ):
        assert isinstance(stalled, WebSocketSubscriber)
        await stall(operator, stalled, ["lane"])
        head = (await operator.flood(["lane"], 300))["lane"]
        owed_before = await operator.connection(stalled)
        await stalled.command(op="unsubscribe", id="left", channel="lane")
        await stalled.command(op="ping", id="overtakes")

        async def both_are_owed() -> bool:
            record = await operator.connection(stalled)
            assert record is not None
            assert owed_before is not None
            return (
                record["outbox_bytes"] > owed_before["outbox_bytes"] and not record["subscriptions"]
            )

        await becomes_true(both_are_owed)
        await stalled.read_until(lambda: len(stalled.of("reply")) == 2)

        assert [reply["id"] for reply in stalled.of("reply")] == ["overtakes", "left"]
        assert stalled.pushes[-1]["id"] == "left"
        check_complete(stalled, "lane", head)
        place = stalled.pushes.index(stalled.of("reply")[0])
        assert len(stalled.pushes) - place > 200, "the ping's reply waited for the data"


async def test_heartbeats_overtake_queued_data(hub: HubProcess, transport: str) -> None:
    """Signs of life come before what a stalled reader is owed."""
    name = f"beating-{transport}"
    async with (
        operating(hub) as operator,
        narrowly_subscribed(hub.port, transport, name) as stalled,
    ):
        await stall(operator, stalled, [name])
        head = (await operator.flood([name], 300))[name]
        owed = await operator.connection(stalled)
        assert owed is not None

        async def heartbeat_is_owed() -> bool:
            record = await operator.connection(stalled)
            return record is not None and record["outbox_bytes"] > owed["outbox_bytes"]

        await becomes_true(heartbeat_is_owed)
        resumed = time.monotonic()
        await stalled.read_until(lambda: any(beat > resumed for beat in stalled.beats))
        assert not stalled.reached(name, head), "the heartbeat waited for the data"
        await stalled.read_until(lambda: stalled.reached(name, head))
        check_complete(stalled, name, head)


async def test_peer_that_sends_commands_and_never_reads_is_closed_with_4508(
    hub: HubProcess,
) -> None:
    """The replies that wait for the peer stay within the control lane's
    limit until it is closed."""
    async with (
        operating(hub) as operator,
        narrowly_subscribed(hub.port, "websocket", "talk") as talker,
    ):
        before = await operator.metric("hub_closes_total", 'code="4508"')
        rss, descriptors = operator.rss_bytes, operator.descriptors

        async def is_closed() -> bool:
            talker.peer.send_some(PING * 500)
            record = await operator.connection(talker)
            assert record is None or record["outbox_bytes"] <= CONTROL_MAX_BYTES
            return record is None

        await becomes_true(is_closed)
        assert await operator.metric("hub_closes_total", 'code="4508"') == before + 1
        assert operator.rss_bytes - rss < 10_000_000
        await talker.read_until(lambda: talker.goodbye)
        assert talker.goodbye is not None
        assert talker.goodbye["code"] == 4508
        # Reading from it was paused while its commands waited; its end is noticed all the same.
        talker.peer.reset()
        await eventually(lambda: operator.descriptors < descriptors, what="a freed descriptor")
