"""The pace of a node's housekeeping."""

import asyncio

import structlog
from structlog.testing import capture_logs

from hub.node.ticks import Ticks


async def test_a_tick_that_fails_is_logged_and_the_next_one_comes() -> None:
    """As often as it fails."""
    third, count = asyncio.Event(), 0

    def tick() -> None:
        nonlocal count
        count += 1
        if count == 3:
            third.set()
            return
        raise ValueError(count)

    with capture_logs() as logs:
        ticks = Ticks(tick, structlog.get_logger())
        ticks.start()
        await asyncio.wait_for(third.wait(), 10)
        ticks.stop()
    assert [entry["event"] for entry in logs] == ["tick_failed"] * 2


async def test_a_tick_may_be_the_last_one() -> None:
    """Who stops it within one gets no other."""
    ended, count = asyncio.Event(), 0

    def tick() -> None:
        nonlocal count
        count += 1
        ticks.stop()
        ended.set()

    ticks = Ticks(tick, structlog.get_logger())
    ticks.stop()
    ticks.start()
    await asyncio.wait_for(ended.wait(), 10)
    assert ticks._timer is None
    assert count == 1
