"""Connections that end by a reset in the middle of a broadcast while new ones take their place.

The kernel gives a closed descriptor's number to the next connection. A write to the old number
would put one subscriber's bytes into another's stream.
"""

import asyncio
import random

from tests.chaos.operator import Operator, check_complete, operating
from tests.chaos.stalling import SMALL_BUFFER_BYTES
from tests.chaos.subscriber import TRANSPORTS, Subscriber, open_subscriber, subscribed
from tests.support.hub_process import HubProcess
from tests.support.stream import View
from tests.support.waiting import eventually

CHANNELS = [f"distinct-{index}" for index in range(8)]
ROUNDS = 25
CROWD = 40


def _check(reader: Subscriber, channel: str) -> None:
    """Every byte parsed, and whatever came is the channel's own, in order."""
    assert {push["channel"] for push in reader.of("message", "subscribed", "gap")} == {channel}
    view = View(channel)
    for push in reader.of("message", "subscribed", "gap"):
        view.feed(push)
        if push["op"] == "message":
            assert push["data"]["channel"] == channel
            assert push["data"]["n"] == push["offset"] - 1
    view.check()


async def _come_and_go(hub: HubProcess, publishing: asyncio.Event) -> int:
    """Open subscribers and reset them at any moment, some of them with unread data."""
    random_ = random.Random(7)
    seen = 0
    while publishing.is_set():
        opened: list[tuple[Subscriber, str]] = []
        for _ in range(CROWD):
            name = random_.choice(CHANNELS)
            small = SMALL_BUFFER_BYTES if random_.random() < 0.5 else None
            reader = await open_subscriber(
                hub.port, random_.choice(TRANSPORTS), [name], receive_buffer_bytes=small
            )
            opened.append((reader, name))
            if random_.random() < 0.5:
                earlier, channel = opened.pop(random_.randrange(len(opened)))
                _check(earlier, channel)
                earlier.peer.reset()
        for reader, name in opened:
            if reader.peer.unread_bytes:
                await reader.read(200_000)
            _check(reader, name)
            seen += len(reader.of("message"))
            reader.peer.reset()
    return seen


async def _publish(operator: Operator, publishing: asyncio.Event) -> dict[str, int]:
    heads: dict[str, int] = {}
    for _ in range(ROUNDS):
        heads = await operator.flood(CHANNELS, 20, size=1500)
        await asyncio.sleep(0)
    publishing.clear()
    return heads


async def test_no_stream_ever_carries_a_byte_of_another() -> None:
    """Steady readers get all of their own channel, passing ones nothing else; no error is
    logged (`HubProcess` looks for tracebacks) and no descriptor is left.
    """
    with HubProcess(HUB_OUTBOX_MAX_BYTES="10000000", HUB_OUTBOX_MAX_MESSAGES="100000") as hub:
        async with operating(hub) as operator:
            await operator.connections()
            before = operator.descriptors
            publishing = asyncio.Event()
            publishing.set()
            async with (
                subscribed(hub.port, "websocket", CHANNELS[0]) as one,
                subscribed(hub.port, "sse", CHANNELS[1]) as other,
            ):
                one.keep_reading()
                other.keep_reading()
                crowd = asyncio.gather(*(_come_and_go(hub, publishing) for _ in range(3)))
                heads = await _publish(operator, publishing)
                assert sum(await crowd) > 0, "the passing readers saw nothing at all"
                for reader, name in ((one, CHANNELS[0]), (other, CHANNELS[1])):
                    await eventually(lambda: reader.reached(name, heads[name]))  # noqa: B023 - awaited here
                    assert check_complete(reader, name, heads[name]) == []
            await eventually(lambda: operator.descriptors <= before, what="freed descriptors")
        assert '"level":"error"' not in hub.stderr, hub.stderr
