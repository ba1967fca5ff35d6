"""A reader that stops reading costs its limits, delays nobody, and learns what it missed."""

from collections.abc import Iterator

import pytest

from tests.chaos.operator import check_complete, operating
from tests.chaos.stalling import flood_beside, narrowly_subscribed, stall
from tests.chaos.subscriber import subscribed
from tests.support.hub_process import HubProcess

MAX_MESSAGES = 60
MAX_BYTES = 200_000
# A peer that never reads absorbed 169 KiB (measured), without bounds 4 MiB.
KERNEL_BYTES = 512 * 1024


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess(
        HUB_OUTBOX_MAX_MESSAGES=str(MAX_MESSAGES), HUB_OUTBOX_MAX_BYTES=str(MAX_BYTES)
    ) as hub:
        yield hub


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_stalled_reader_gets_what_was_in_flight_one_gap_and_the_newest(
    hub: HubProcess, transport: str, count: int
) -> None:
    """Each channel of the connection has its gap, and a reader beside it
    gets all messages meanwhile."""
    names = [f"stalled-{transport}-{count}-{index}" for index in range(count)]
    async with (
        operating(hub) as operator,
        subscribed(hub.port, transport, *names) as healthy,
        narrowly_subscribed(hub.port, transport, *names) as stalled,
    ):
        healthy.keep_reading()
        await stall(operator, stalled, names)
        heads = await flood_beside(operator, healthy, names, steps=20, count=30)
        record = await operator.connection(stalled)
        assert record is not None
        assert 0 < record["outbox_bytes"] <= MAX_BYTES
        assert 0 < record["outbox_messages"] <= MAX_MESSAGES * count

        await stalled.read_until(lambda: all(stalled.reached(name, heads[name]) for name in names))

        for name in names:
            assert check_complete(healthy, name, heads[name]) == []
            gaps = check_complete(stalled, name, heads[name])
            assert [gap["reason"] for gap in gaps] == ["slow"], gaps
        dropped = sum(gap["to"] - gap["from"] + 1 for gap in stalled.of("gap"))
        assert dropped == record["dropped"]


async def test_kernel_hides_little_of_what_a_stalled_reader_is_owed(
    hub: HubProcess, transport: str
) -> None:
    """Of 8 MB published it reads a small part from the kernel before its gap, also with the
    kernel's own choice of receive buffer.
    """
    name = f"kernel-{transport}"
    async with operating(hub) as operator, subscribed(hub.port, transport, name) as stalled:
        heads = await operator.flood([name], 4000)
        await stalled.read_until(lambda: stalled.of("gap"))
        assert stalled.peer.received_bytes < KERNEL_BYTES
        await stalled.read_until(lambda: stalled.reached(name, heads[name]))
        assert check_complete(stalled, name, heads[name])


async def test_memory_for_a_stalled_reader_is_bounded(hub: HubProcess, transport: str) -> None:
    """While 30 MB are published for it the process grows by a fraction of that.

    In requests of 150 KB: of one of 3.75 MB malloc keeps up to 15 MB for the next, also where
    nobody subscribes, and the process holds 2 MB of it (measured).
    """
    name = f"memory-{transport}"
    async with (
        operating(hub) as operator,
        narrowly_subscribed(hub.port, transport, name),
    ):
        await operator.flood([name], 500, size=15_000, at_once=10)
        before = operator.rss_bytes
        await operator.flood([name], 2000, size=15_000, at_once=10)
        assert operator.rss_bytes - before < 6_000_000


async def test_reader_that_stalls_again_is_told_again(hub: HubProcess, transport: str) -> None:
    """Each stop of one subscription has a gap of its own, and nothing comes twice."""
    name = f"again-{transport}"
    async with (
        operating(hub) as operator,
        narrowly_subscribed(hub.port, transport, name) as stalled,
    ):
        heads: dict[str, int] = {}
        for _ in range(3):
            heads = await operator.flood([name], 400)
            await stalled.read_until(lambda: stalled.reached(name, heads[name]))  # noqa: B023 - awaited here
        assert len(check_complete(stalled, name, heads[name])) >= 3


async def test_stalled_sse_stream_resumes_where_its_last_event_id_says(hub: HubProcess) -> None:
    """The first stream and the second one together hold every message."""
    names = ["resumed-a", "resumed-b"]
    async with operating(hub) as operator:
        async with narrowly_subscribed(hub.port, "sse", *names) as first:
            await stall(operator, first, names)
            heads = await operator.flood(names, 300)
            await first.read_until(
                lambda: all(f"{heads[name]}" in first.last_event_id for name in names)
            )
            for name in names:
                check_complete(first, name, heads[name])
        heads = await operator.flood(names, 5)
        async with subscribed(hub.port, "sse", *names, last_event_id=first.last_event_id) as second:
            await second.read_until(lambda: all(second.reached(n, heads[n]) for n in names))
            for name in names:
                offsets = [push["offset"] for push in second.of("message", channel=name)]
                assert offsets == list(range(heads[name] - 4, heads[name] + 1))
