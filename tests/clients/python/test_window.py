"""Places that are taken in order: the window of a publisher, and its connections."""

import asyncio

import pytest

from hub_client.window import FairSemaphore
from tests.clients.python.fakes import DEADLINE_SECONDS


async def test_the_longest_waiter_gets_the_next_place() -> None:
    """Three wait for one place, and get it in the order in which they came."""
    turns, had = FairSemaphore(1), list[int]()
    assert turns.take()

    async def wait(number: int) -> None:
        await turns.wait(DEADLINE_SECONDS)
        had.append(number)
        turns.give_back()

    waiting = [asyncio.create_task(wait(number)) for number in range(3)]
    await asyncio.sleep(0)
    assert not turns.take()
    turns.give_back()
    await asyncio.gather(*waiting)
    assert had == [0, 1, 2]
    assert turns.take()


async def test_a_place_that_is_handed_over_cannot_be_taken_by_somebody_else() -> None:
    """A caller that comes between the hand-over and the next turn of the loop waits behind."""
    turns = FairSemaphore(1)
    assert turns.take()
    waiting = asyncio.create_task(turns.wait(DEADLINE_SECONDS))
    await asyncio.sleep(0)
    turns.give_back()
    assert turns.all_taken
    assert not turns.take()
    await waiting


@pytest.mark.parametrize("handed_over", [False, True])
async def test_somebody_who_gives_up_takes_no_place_along(handed_over: bool) -> None:
    """Also where the place was handed over in the moment of the cancellation."""
    turns = FairSemaphore(1)
    assert turns.take()
    waiting = asyncio.create_task(turns.wait(DEADLINE_SECONDS))
    await asyncio.sleep(0)
    if handed_over:
        turns.give_back()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    if not handed_over:
        turns.give_back()
    assert turns.take()


async def test_a_place_that_does_not_come_in_time_is_a_time_out() -> None:
    """A place that comes free later is not given to a caller that gave up."""
    turns = FairSemaphore(1)
    assert turns.take()
    with pytest.raises(TimeoutError):
        await turns.wait(0.001)
    turns.give_back()
    assert turns.take()
