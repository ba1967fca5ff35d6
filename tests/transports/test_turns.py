"""How much of the event loop's time goes to peers that have more to do than one turn takes."""

import asyncio

from hub.transports.turns import TURN_SECONDS, Lane
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


async def pieces_behind(other_seconds: float) -> int:
    """Return how many pieces a turn does where the loop's other work takes so long before it."""
    clock = FakeClock(100.0)
    lane = Lane(clock)
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


async def test_a_longer_turn_ends_where_nobody_has_more_to_do() -> None:
    clock, done = FakeClock(100.0), list[int]()
    lane = Lane(clock)
    for number in range(3):
        lane.wait(lambda number=number: done.append(number))  # type: ignore[misc]  # binds the loop's value
    clock.advance(1.0)
    await asyncio.sleep(0)
    assert (done, len(lane)) == ([0, 1, 2], 0)
