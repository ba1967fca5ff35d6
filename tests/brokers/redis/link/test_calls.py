"""The connection for calls, on a server that answers what a test says."""

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest
from redis.exceptions import ResponseError

from hub.brokers.redis.link.outcomes import (
    RedisCall,
    RedisNoAnswerError,
    RedisNotSentError,
    RefusedError,
)
from tests.brokers.redis.fakes import SILENCE, Command, FakeEndpoint, Rig, let_be
from tests.support.waiting import eventually

CHANNEL = "hub:{c}:meta"


def pong(command: Command) -> object:
    return b"PONG"


async def test_calls_of_one_iteration_travel_in_one_write_and_are_answered_in_order() -> None:
    """One system call for many publications; the next iteration's are another write."""
    async with Rig() as rig:
        first, second = rig.calls.call("GET", "a"), rig.calls.call("GET", "b")
        await rig.written(2)
        assert rig.server.writes == [[(b"GET", b"a"), (b"GET", b"b")]]
        rig.server.say(b"1", b"2")
        assert [await first, await second] == [b"1", b"2"]
        assert rig.calls.pending == 0


async def test_without_a_connection_a_call_fails_at_once() -> None:
    """Nobody queues on a Redis that is away, and nothing was done."""
    rig = Rig()
    with pytest.raises(RedisNotSentError):
        rig.calls.call("GET", "a")
    assert rig.counters.broker_call_errors["not_sent"] == 1


async def test_calls_that_were_written_are_unknown_and_calls_that_were_not_are_known() -> None:
    """Redis answers two of five and goes; a sixth waits for a socket that takes no more."""
    async with Rig() as rig:
        server = rig.server
        server.takes_writes.clear()
        written = [rig.calls.call("SET", str(number)) for number in range(1, 6)]
        await rig.written(5)
        waiting = rig.calls.call("SET", "6")
        server.say(b"OK", b"OK")
        await asyncio.gather(*written[:2])
        server.breaks()
        ends = await asyncio.gather(*written, waiting, return_exceptions=True)
        assert ends[:2] == [b"OK", b"OK"]
        assert [type(end) for end in ends[2:5]] == [RedisNoAnswerError] * 3
        assert type(ends[5]) is RedisNotSentError
        assert rig.counters.broker_call_errors["no_answer"] == 3


async def test_calls_of_a_connection_that_ends_fail_in_turns_and_in_order() -> None:
    """Each has a caller who answers a publisher: 10,000 in one turn took a third of a second.

    Calls of the next connection do not wait for that.
    """
    async with Rig(failed_at_once=3) as rig:
        failed: list[int] = []
        first = rig.server
        for number in range(10):
            rig.calls.call("SET", str(number)).add_done_callback(
                lambda answer, number=number: failed.append(number * bool(answer.exception()))  # type: ignore[misc]
            )
        await rig.written(10)
        rig.endpoint.answer = pong
        first.breaks()
        counts = [0]
        while len(failed) < 10:
            await asyncio.sleep(0)
            counts.append(len(failed))
            rig.endpoint.moves.set()
        assert failed == list(range(10))
        assert max(after - before for before, after in pairwise(counts)) == 3
        await eventually(lambda: rig.calls.connects == 2)
        assert await rig.calls.call("PING") == b"PONG"


async def test_a_turn_takes_a_bounded_number_of_answers() -> None:
    async with Rig(replies_at_once=2) as rig:
        answered: list[object] = []
        for number in range(9):
            rig.calls.call("GET", str(number)).add_done_callback(
                lambda answer: answered.append(answer.result())
            )
        await rig.written(9)
        rig.server.say(*range(9))
        counts = [0]
        while len(answered) < 9:
            await asyncio.sleep(0)
            counts.append(len(answered))
        assert answered == list(range(9))
        assert max(after - before for before, after in pairwise(counts)) == 2


async def test_an_error_is_the_answer_of_its_call_alone() -> None:
    async with Rig() as rig:
        first, second = rig.calls.call("GET", "a"), rig.calls.call("GET", "b")
        rig.server.say(ResponseError("WRONGTYPE of another type"), b"2")
        with pytest.raises(RefusedError, match="WRONGTYPE"):
            await first
        assert await second == b"2"


async def test_calls_that_wait_for_redis_are_bounded_in_number() -> None:
    """One below the bound is taken, one above it is not sent."""
    async with Rig(max_pending_calls=2) as rig:
        waiting = [rig.calls.call("GET", "a"), rig.calls.call("GET", "b")]
        with pytest.raises(RedisNotSentError, match="2 calls wait"):
            rig.calls.call("GET", "c")
        rig.server.say(b"1", b"2")
        await asyncio.gather(*waiting)
        again = rig.calls.call("GET", "c")
        rig.server.say(b"3")
        assert await again == b"3"


async def test_calls_that_wait_for_redis_are_bounded_in_bytes() -> None:
    """`GET a` is 20 bytes as Redis reads it."""
    async with Rig(max_pending_bytes=40) as rig:
        waiting = [rig.calls.call("GET", "a"), rig.calls.call("GET", "b")]
        with pytest.raises(RedisNotSentError, match="40 bytes"):
            rig.calls.call("GET", "c")
        rig.server.say(b"1", b"2")
        await asyncio.gather(*waiting)
        let_be(rig.calls.call("GET", "c"))


async def test_a_silent_server_is_given_up_at_the_oldest_calls_deadline() -> None:
    """The server is not given up sooner: the clock is the hub's own, so a stall of
    the node does not count."""
    async with Rig() as rig:
        first = rig.server
        answer = rig.calls.call("GET", "a")
        await rig.written(1)
        rig.clock.advance(rig.options.command_timeout_seconds + 0.001)
        with pytest.raises(RedisNoAnswerError):
            await answer
        await eventually(lambda: rig.calls.connects == 2)
        assert first.closed


@pytest.mark.parametrize("refusal", ["READONLY a replica", "NOSCRIPT none", "LOADING wait"])
async def test_a_server_that_cannot_serve_is_left_once_it_has_answered(refusal: str) -> None:
    """A call that was written before the refusal is answered, and a later one is not sent."""
    async with Rig() as rig:
        first, second = rig.calls.call("SET", "a"), rig.calls.call("SET", "b")
        rig.server.say(ResponseError(refusal))
        with pytest.raises(RefusedError):
            await first
        with pytest.raises(RedisNotSentError):
            rig.calls.call("SET", "c")
        rig.server.say(b"OK")
        assert await second == b"OK"
        await eventually(lambda: rig.calls.connects == 2)
        assert rig.ups == 2


async def test_an_answer_that_nobody_asked_for_ends_the_connection() -> None:
    """Else every later answer would be taken for that of another call."""
    async with Rig() as rig:
        rig.server.say(b"what?")
        await eventually(lambda: rig.calls.connects == 2)


async def test_a_late_answer_of_a_server_that_was_replaced_does_not_count() -> None:
    """The answer of the replaced server is an error, because nobody will
    read there what it stored."""
    endpoint = FakeEndpoint()
    endpoint.may_be_replaced = True
    async with Rig(endpoint, stall_seconds=0.5, command_timeout_seconds=10.0) as rig:
        answer = rig.calls.call("SET", "a")
        await rig.written(1)
        rig.clock.advance(0.6)
        endpoint.replaced = True
        rig.server.say(b"OK")
        with pytest.raises(RedisNoAnswerError):
            await answer


async def test_a_late_answer_counts_where_the_server_is_confirmed() -> None:
    """One question for all that were late together."""
    endpoint = FakeEndpoint()
    endpoint.may_be_replaced = True
    async with Rig(endpoint, stall_seconds=0.5, command_timeout_seconds=10.0) as rig:
        answers = [rig.calls.call("SET", "a"), rig.calls.call("SET", "b")]
        await rig.written(2)
        rig.clock.advance(0.6)
        rig.server.say(b"OK", b"OK")
        assert await asyncio.gather(*answers) == [b"OK", b"OK"]
        assert endpoint.asked_anew == 1


async def test_a_line_that_could_not_be_entered_is_entered_before_the_next_function() -> None:
    """As long as the one is refused the other is; once it is taken it is not asked again."""
    rig = Rig()
    rig.line.entered = False
    async with rig:
        first = rig.calls.run_function("publish", (CHANNEL,), ("1",))
        assert [command[0] for command in await rig.written(2)] == [b"ENTER", b"publish"]
        rig.server.say(b"a line", b"1")
        assert await first == b"1"
        assert rig.line.met == [b"a line"]
        let_be(rig.calls.run_function("publish", (CHANNEL,), ("2",)))
        assert [command[0] for command in await rig.written(3)][2:] == [b"publish"]


async def test_a_call_that_follows_goes_behind_asking() -> None:
    """A server takes keys of a slot that is on its way to it only behind that."""
    async with Rig() as rig:
        original = rig.calls.call("GET", "a")
        let_be(original)
        packed = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n"
        answer = rig.calls.follow(RedisCall(packed, original, 0.0))
        assert await rig.written(3) == [(b"GET", b"a"), (b"ASKING",), (b"GET", b"a")]
        rig.server.say(b"1", b"OK", b"2")
        assert await answer == b"2"


class Following(FakeEndpoint):
    """Takes over what it is offered."""

    def __init__(self, answer: Callable[[Command], object]) -> None:
        super().__init__(answer)
        self.taken: list[str] = []

    def follow(self, call: RedisCall, refused: RefusedError) -> bool:
        self.taken.append(refused.code)
        return True


async def test_a_call_that_belongs_elsewhere_is_handed_over_and_gets_no_error() -> None:
    endpoint = Following(lambda _: ResponseError("TRYAGAIN in a moment"))
    async with Rig(endpoint) as rig:
        answer = rig.calls.run_function("publish", (CHANNEL, "log"), ())
        await eventually(lambda: endpoint.taken == ["TRYAGAIN"])
        assert not answer.done()


async def test_a_call_is_not_handed_over_where_a_later_one_would_overtake_it() -> None:
    """The later one needs fewer keys, so it may be taken here while the first one waits."""
    endpoint = Following(lambda _: SILENCE)
    async with Rig(endpoint) as rig:
        first = rig.calls.run_function("publish", (CHANNEL, "log", "once"), ())
        let_be(rig.calls.run_function("publish", (CHANNEL, "log"), ()))
        await rig.written(2)
        rig.server.say(ResponseError("TRYAGAIN in a moment"))
        with pytest.raises(RefusedError):
            await first
        assert not endpoint.taken


async def test_a_full_redis_is_said_once_a_minute() -> None:
    """A full Redis refuses thousands of publications a second, so the
    warning comes once a minute."""
    async with Rig(FakeEndpoint(lambda _: ResponseError("OOM full"))) as rig:
        for _ in range(3):
            with pytest.raises(RefusedError):
                await rig.calls.call("SET", "a")
        assert rig.log.lines.count(("warning", "redis_refused")) == 1
        rig.clock.advance(60.0)
        with pytest.raises(RefusedError):
            await rig.calls.call("SET", "a")
        assert rig.log.lines.count(("warning", "redis_refused")) == 2


async def test_something_is_asked_all_the_time_where_a_server_may_be_replaced() -> None:
    """The first answer after a silence would otherwise be late for a publisher."""
    endpoint = FakeEndpoint(pong)
    endpoint.may_be_replaced = True
    async with Rig(endpoint, stall_seconds=0.01) as rig:
        assert (await rig.written(2))[:2] == [(b"PING",), (b"PING",)]
