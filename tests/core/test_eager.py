"""Work begun at once: what waits goes on in a task, what does not never gets one."""

import asyncio

import pytest

from hub.core.eager import Rest, begin


async def _answer(value: int) -> int:
    return value


async def test_work_that_does_not_wait_is_answered_at_once() -> None:
    assert begin(_answer(7)) == 7


async def test_an_error_before_the_first_wait_is_raised_at_once() -> None:
    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        begin(fail())


async def test_work_that_waited_goes_on_in_a_task_with_all_its_waits() -> None:
    seen: list[str] = []
    later = asyncio.get_running_loop().create_future()

    async def work() -> str:
        seen.append("began")
        await asyncio.sleep(0)
        seen.append(await later)
        async with asyncio.timeout(30):
            await asyncio.sleep(0)
        return "done"

    rest = begin(work())
    assert isinstance(rest, Rest)
    assert seen == ["began"]
    task = asyncio.create_task(rest.run())
    await asyncio.sleep(0)
    later.set_result("waited")
    assert await task == "done"
    assert seen == ["began", "waited"]


async def test_a_cancelled_rest_is_cancelled_where_it_waits() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    rest = begin(work())
    assert isinstance(rest, Rest)
    task = asyncio.create_task(rest.run())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["cancelled"]


async def test_the_failure_of_what_it_waits_for_reaches_the_work() -> None:
    later = asyncio.get_running_loop().create_future()

    async def work() -> str:
        try:
            await later
        except ValueError as error:
            return f"caught {error}"
        return "nothing"

    rest = begin(work())
    assert isinstance(rest, Rest)
    later.set_exception(ValueError("bad"))
    assert await asyncio.create_task(rest.run()) == "caught bad"


async def test_a_rest_that_is_given_up_closes_its_work() -> None:
    closed: list[bool] = []

    async def work() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            closed.append(True)

    rest = begin(work())
    assert isinstance(rest, Rest)
    rest.close()
    assert closed == [True]
