"""Calls that a server of a cluster refused: where they go, in which order, until when."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from redis.exceptions import AskError, ResponseError

from hub.brokers.redis.link.calls import CallConnection
from hub.brokers.redis.link.outcomes import RedisCall, RedisNoAnswerError, RefusedError
from hub.brokers.redis.options import RedisOptions
from hub.brokers.redis.topology.moves import Redirects
from tests.brokers.redis.channels.rig import ShardRig
from tests.brokers.redis.fakes import SILENCE, Command, FakeEndpoint, Rig
from tests.support.waiting import eventually

HERE, THERE = "10.0.0.1:7000", "10.0.0.2:7000"
ASK = AskError(f"42 {THERE}", status_code="ASK")
TRYAGAIN = ResponseError("TRYAGAIN in a moment")
STRAY = ResponseError("STRAY abc 123")


class Servers:
    """Two servers of a cluster, and the calls that each has seen behind ASKING."""

    def __init__(self, options: RedisOptions, here: Rig, there: Rig) -> None:
        self.rigs = {HERE: here, THERE: there}
        self.seen: list[tuple[str, bytes]] = []
        self.says: dict[str, list[object]] = {HERE: [], THERE: []}
        """The next answers of each server; after them it answers `b"OK"`."""
        self.in_order = True
        self.asked_about: list[str] = []
        for address, rig in self.rigs.items():
            rig.endpoint.answer = self._answers(address)
        self.around = ShardRig()
        self.redirects = Redirects(
            calls_at=self._calls_at,
            address_of=lambda place: place,
            came_in_order=self._came_in_order,
            options=options,
            clock=self.around.clock,
            spawn=self.around.context.spawn,
        )

    def _calls_at(self, address: str) -> CallConnection:
        return self.rigs[address].calls

    async def _came_in_order(self, about: str, refused: RefusedError, address: str) -> bool:
        assert refused.counted_by == ("abc", "123")
        assert address == THERE
        self.asked_about.append(about)
        return self.in_order

    def _answers(self, address: str) -> Callable[[Command], object]:
        def answer(command: Command) -> object:
            if command[0] == b"ASKING":
                return b"OK"
            self.seen.append((address, b" ".join(command)))
            return self.says[address].pop(0) if self.says[address] else b"OK"

        return answer

    def refused(self, what: str, error: ResponseError, *, about: str = "news") -> RedisCall:
        """A call that `HERE` refused, taken over."""
        call = RedisCall(
            b"*1\r\n$%d\r\n%s\r\n" % (len(what), what.encode()),
            asyncio.get_running_loop().create_future(),
            self.around.clock() + 5.0,
            about=about,
        )
        assert self.redirects.take(call, RefusedError(error), HERE)
        return call


@asynccontextmanager
async def servers(options: RedisOptions | None = None) -> AsyncGenerator[Servers]:
    async with AsyncExitStack() as stack:
        # Deadlines are the call's own here.
        rigs = [
            await stack.enter_async_context(Rig(FakeEndpoint(), command_timeout_seconds=60.0))
            for _ in range(2)
        ]
        made = Servers(options or RedisOptions(), *rigs)
        yield made
        await made.redirects.stop()


async def test_a_call_goes_where_it_was_pointed_and_its_answer_comes_back() -> None:
    async with servers() as made:
        call = made.refused("a", ASK)
        assert await call.answer == b"OK"
        assert made.seen == [(THERE, b"a")]


async def test_a_call_whose_keys_are_under_way_is_tried_again_in_a_moment() -> None:
    """The call is tried again at the same server until it is taken."""
    async with servers() as made:
        made.says[HERE] = [TRYAGAIN]
        call = made.refused("a", TRYAGAIN)
        assert await call.answer == b"OK"
        assert made.seen == [(HERE, b"a"), (HERE, b"a")]


async def test_calls_about_one_channel_keep_their_order_and_others_do_not_wait() -> None:
    async with servers() as made:
        made.says[THERE] = [SILENCE]
        first, second = made.refused("a", ASK), made.refused("b", ASK)
        await eventually(lambda: made.seen)
        other = made.refused("c", TRYAGAIN, about="sports")
        assert await other.answer == b"OK"
        assert made.seen == [(THERE, b"a"), (HERE, b"c")]
        # The answer to `a` is still to come; nothing about `news` overtakes it.
        assert not first.answer.done()
        assert not second.answer.done()
    assert isinstance(first.answer.exception(), RedisNoAnswerError)
    assert isinstance(second.answer.exception(), RefusedError)


async def test_an_error_that_points_nowhere_is_the_calls_answer() -> None:
    async with servers() as made:
        made.says[THERE] = [ResponseError("OOM full")]
        call = made.refused("a", ASK)
        with pytest.raises(RefusedError, match="OOM"):
            await call.answer


async def test_at_its_deadline_a_call_ends_with_what_is_known() -> None:
    """The call was refused everywhere, so it ends with that refusal: nothing was done."""
    async with servers() as made:
        made.around.clock.advance(1e3)
        made.says[HERE] = [TRYAGAIN] * 1000
        call = RedisCall(
            b"*1\r\n$1\r\na\r\n", asyncio.get_running_loop().create_future(), 0.0, "news"
        )
        assert made.redirects.take(call, RefusedError(TRYAGAIN), HERE)
        with pytest.raises(RefusedError, match="TRYAGAIN"):
            await call.answer


async def test_redirected_calls_that_wait_are_bounded_and_give_their_room_back() -> None:
    """The bounds are those of calls, and a call that finds no room is
    refused with its first error."""
    async with servers(RedisOptions(max_pending_calls=1)) as made:
        call = made.refused("a", ASK)
        more = RedisCall(b"x", asyncio.get_running_loop().create_future(), 1e9, "news")
        assert not made.redirects.take(more, RefusedError(ASK), HERE)
        await call.answer
        await made.refused("b", ASK).answer


@pytest.mark.parametrize("in_order", [True, False])
async def test_a_channel_that_came_from_elsewhere_is_adopted_before_the_call(
    in_order: bool,
) -> None:
    """With the members' word: it goes on, or the next call begins an epoch."""
    async with servers() as made:
        made.in_order = in_order
        made.says[THERE] = [STRAY]
        call = made.refused("a", ASK)
        assert await call.answer == b"OK"
        assert made.asked_about == ["news"]
        adopt = b"adopt 2 news news abc %d" % in_order
        assert made.seen == [(THERE, b"a"), (THERE, adopt), (THERE, b"a")]
