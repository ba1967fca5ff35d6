"""Background work of a process."""

import asyncio
from collections.abc import Callable

import pytest
import structlog
from structlog.testing import capture_logs

from hub.core.time.deadlines import GRANULARITY_SECONDS
from hub.observe.background import QUIET_SECONDS, Ticks, tasks, until_one_ends


async def test_a_task_that_fails_is_logged_and_ends_alone() -> None:
    """The others run until the block ends."""
    ended = list[str]()

    async def fail() -> None:
        raise ValueError

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("endless")

    with capture_logs() as logs:
        async with tasks(structlog.get_logger()) as spawn:
            spawn(endless())
            spawn(fail())
            await asyncio.sleep(0.01)
            assert ended == []
    assert [entry["event"] for entry in logs] == ["task_failed"]
    assert ended == ["endless"]


async def test_an_error_of_the_block_is_raised_as_it_is() -> None:
    """The caller who catches it need not know of a group, and the tasks have ended by then."""
    ended = list[str]()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("endless")

    async def fail_within() -> None:
        async with tasks(structlog.get_logger()) as spawn:
            spawn(endless())
            await asyncio.sleep(0)
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - this one, and no group of them
        await fail_within()
    assert ended == ["endless"]


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
        await asyncio.wait_for(third.wait(), 30)
        ticks.stop()
    assert [entry["event"] for entry in logs] == ["tick_failed"] * 2


async def test_a_tick_may_be_the_last_one() -> None:
    """A tick that stops the ticks is the last one."""
    ended, count = asyncio.Event(), 0

    def tick() -> None:
        nonlocal count
        count += 1
        ticks.stop()
        ended.set()

    ticks = Ticks(tick, structlog.get_logger())
    ticks.stop()
    ticks.start()
    await asyncio.wait_for(ended.wait(), 30)
    assert ticks._timer is None
    assert count == 1


async def test_when_one_ends_the_others_are_cancelled_first() -> None:
    """Its error is raised only when nothing runs any more."""
    ended = list[str]()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("this one")

    with pytest.raises(ValueError, match="this one"):
        await until_one_ends(endless(), fails())
    assert ended == ["cancelled"]


async def test_the_tick_after_a_quiet_one_is_further_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as nothing is due: each tick wakes the process."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    later, waits, quiet = loop.call_later, list[float](), iter([True, False, True])

    def at_once(seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        waits.append(seconds)
        return later(0, callback)

    def tick() -> None:
        if len(waits) == 4:
            ticks.stop()
            ended.set()

    ticks = Ticks(tick, structlog.get_logger(), quiet=lambda: next(quiet))
    monkeypatch.setattr(loop, "call_later", at_once)
    ticks.start()
    await ended.wait()
    assert waits == [GRANULARITY_SECONDS, QUIET_SECONDS, GRANULARITY_SECONDS, QUIET_SECONDS]
