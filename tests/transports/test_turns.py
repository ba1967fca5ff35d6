"""How much of the event loop's time goes to peers that have more to do than one turn takes."""

import asyncio

from hub.transports.turns import TASK_SECONDS, TURN_SECONDS, Lane
from tests.core.fakes import FakeClock

PIECE_SECONDS = 0.0001


class Endless:
    """A peer with more to do, however many pieces of its work are done."""

    def __init__(self, lane: Lane, clock: FakeClock) -> None:
        self._lane = lane
        self._clock = clock
        self.pieces = 0

    def piece(self) -> None:
        self.pieces += 1
        self._clock.advance(PIECE_SECONDS)
        self._lane.wait(self.piece)


async def pieces_behind(other_seconds: float, *, waits_for_a_core: bool = False) -> int:
    """Return how many pieces a turn does where the loop's other work takes so long before it."""
    clock = FakeClock(100.0)
    lane = Lane(clock, (lambda: 7.0) if waits_for_a_core else None)
    peer = Endless(lane, clock)
    lane.wait(peer.piece)
    clock.advance(other_seconds)
    await asyncio.sleep(0)
    return peer.pieces


async def test_a_callback_that_waits_again_comes_after_the_loops_other_work() -> None:
    """Where that is short: a broadcast to a few, another connection."""
    assert await pieces_behind(0.0) == 1
    assert await pieces_behind(4 * TURN_SECONDS) == 1


async def test_behind_long_other_work_a_turn_takes_a_share_of_it() -> None:
    """Else a hub with many subscribers takes in little, however fast it could write that."""
    assert 20 <= await pieces_behind(0.008) <= 21


async def test_a_turn_is_bounded_however_long_the_loop_was_held_up() -> None:
    assert 50 <= await pieces_behind(10.0) <= 51


async def test_the_time_for_which_the_thread_had_no_core_is_no_other_work() -> None:
    """On a busy machine each turn took 5 ms, and callers that waited for it waited longer still."""
    assert await pieces_behind(10.0, waits_for_a_core=True) == 1


async def test_tasks_that_are_cancelled_together_end_in_many_turns() -> None:
    """The work that a task does when it is cancelled is not seen by the turn that cancels it."""
    clock, ended = FakeClock(100.0), list[int]()
    lane = Lane(clock)

    async def waits(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    tasks = [asyncio.create_task(waits(number)) for number in range(100)]
    await asyncio.sleep(0)
    for task in tasks:
        lane.cancel(task)
    most = 0
    while len(ended) < len(tasks):
        before = len(ended)
        await asyncio.sleep(0)
        most = max(most, len(ended) - before)
    assert most <= 2 * TURN_SECONDS / TASK_SECONDS
    assert all(task.cancelled() for task in tasks)


async def test_a_longer_turn_ends_where_nobody_has_more_to_do() -> None:
    clock, done = FakeClock(100.0), list[int]()
    lane = Lane(clock)
    for number in range(3):
        lane.wait(lambda number=number: done.append(number))  # type: ignore[misc]  # binds the loop's value
    clock.advance(1.0)
    await asyncio.sleep(0)
    assert (done, len(lane)) == ([0, 1, 2], 0)
