"""The connection that pub/sub comes in on: what Redis is told, and when it is believed."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from hub.brokers.redis.link.connection import Connector
from hub.brokers.redis.link.outcomes import RedisNoAnswerError, RedisNotSentError
from hub.brokers.redis.link.pubsub import Listeners, PubSubConnection
from hub.brokers.redis.options import RedisOptions
from hub.core.counters import Counters
from tests.brokers.redis.channels.rig import PubSubNames
from tests.brokers.redis.fakes import Command, FakeConnection, FakeEndpoint, Log
from tests.core.fakes import FakeClock
from tests.support.waiting import eventually


class Heard:
    """Notes what a pub/sub connection delivers."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, bytes]] = []
        self.subscribed: list[Sequence[bytes]] = []
        self.fails = False

    def on_message(self, name: bytes, message: bytes) -> None:
        if self.fails:
            raise RuntimeError("a fault of the core")
        self.messages.append((name, message))


class Rig:
    def __init__(self, endpoint: FakeEndpoint, options: RedisOptions) -> None:
        self.endpoint, self.heard, self.log = endpoint, Heard(), Log()
        self.pubsub = PubSubConnection(
            Connector(endpoint, options, FakeClock(), self.log.logger, Counters()),
            on_message=self.heard.on_message,
            on_subscribed=self.heard.subscribed.append,
        )

    @property
    def server(self) -> FakeConnection:
        return self.endpoint.newest

    async def written(self, count: int) -> list[Command]:
        await eventually(lambda: len(self.server.commands) >= count, what=f"{count} commands")
        return self.server.commands


@asynccontextmanager
async def connected(
    *names: bytes,
    command_timeout_seconds: float = 5.0,
    endpoint: FakeEndpoint | None = None,
    replies_at_once: int = 200,
) -> AsyncGenerator[Rig]:
    rig = Rig(
        endpoint or FakeEndpoint(),
        RedisOptions(
            batch_size=2,
            replies_at_once=replies_at_once,
            backoff_first_seconds=0.0,
            command_timeout_seconds=command_timeout_seconds,
        ),
    )
    for name in names:
        rig.pubsub.add(name)
    task = asyncio.create_task(rig.pubsub.run())
    try:
        await rig.pubsub.up.wait()
        yield rig
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def confirmed(name: bytes) -> list[object]:
    return [b"subscribe", name, 1]


async def test_names_are_subscribed_in_batches_and_again_on_each_new_connection() -> None:
    """One command for many channels, and none is forgotten with a connection."""
    async with connected(b"a", b"b", b"c") as rig:
        asked = [(b"SUBSCRIBE", b"a", b"b"), (b"SUBSCRIBE", b"c")]
        assert await rig.written(2) == asked
        rig.server.breaks()
        await eventually(lambda: rig.pubsub.connects == 2)
        assert await rig.written(2) == asked


async def test_a_turn_subscribes_to_one_batch_of_names() -> None:
    """To pack 100,000 names took 50 ms. One that is not wanted by its turn is never asked for."""
    names = [b"%d" % number for number in range(20)]
    async with connected(*names) as rig:
        counts = [0]
        for _ in range(99):
            await asyncio.sleep(0)
            counts.append(len(rig.server.commands))
            if counts[-1] == 3 and rig.pubsub.hears(b"none") is False:
                rig.pubsub.remove(names[18])
                rig.pubsub.remove(names[19])
        assert max(after - before for before, after in pairwise(counts)) == 1
        await rig.pubsub.up.wait()
        rig.pubsub.add(b"later")
        assert (await rig.written(10))[9] == (b"SUBSCRIBE", b"later")
        asked = [name for _, *batch in rig.server.commands for name in batch]
        assert asked == [*names[:18], b"later"]


async def test_a_barrier_does_not_wait_for_names_that_are_still_to_be_subscribed() -> None:
    """The barrier is for channels that are already subscribed, and it has a deadline, so its
    ping goes before the names."""
    async with connected(*(b"%d" % number for number in range(20))) as rig:
        passing = asyncio.create_task(rig.pubsub.barrier())
        await eventually(lambda: (b"PING", b"1") in rig.server.commands)
        assert rig.server.commands.index((b"PING", b"1")) < 5
        rig.server.say([b"pong", b"1"])
        await passing


async def test_a_turn_takes_a_bounded_number_of_confirmations_and_messages() -> None:
    """All that a read brings in one step is 3,500 of them. Their order stays."""
    async with connected(b"a", b"b", b"c", b"d", b"e", replies_at_once=2) as rig:
        await rig.written(3)
        rig.server.say(*(confirmed(name) for name in (b"a", b"b", b"c", b"d", b"e")))
        rig.server.say(*([b"message", b"a", b"%d" % number] for number in range(9)))
        await eventually(lambda: len(rig.heard.messages) == 9)
        assert max(map(len, rig.heard.subscribed)) <= 2
        assert b"".join(n for names in rig.heard.subscribed for n in names) == b"abcde"
        assert rig.heard.messages == [(b"a", b"%d" % number) for number in range(9)]


async def test_a_name_is_heard_from_its_confirmation_to_the_end_of_the_connection() -> None:
    async with connected(b"a") as rig:
        await rig.written(1)
        assert not rig.pubsub.hears(b"a")
        rig.server.say(confirmed(b"a"))
        await eventually(lambda: rig.heard.subscribed == [[b"a"]])
        assert rig.pubsub.hears(b"a")
        rig.server.breaks()
        await eventually(lambda: rig.pubsub.connects == 2)
        assert not rig.pubsub.hears(b"a")


async def test_confirmations_of_one_iteration_are_told_together() -> None:
    """Heads of many channels are asked for in one pipeline."""
    async with connected(b"a", b"b") as rig:
        await rig.written(1)
        rig.server.say(confirmed(b"a"), confirmed(b"b"))
        await eventually(lambda: rig.heard.subscribed == [[b"a", b"b"]])


async def test_a_name_that_comes_back_before_redis_was_told_is_confirmed_at_once() -> None:
    """Redis sends it all the time, and would confirm nothing."""
    async with connected(b"a") as rig:
        await rig.written(1)
        rig.server.say(confirmed(b"a"))
        await eventually(lambda: rig.heard.subscribed)
        rig.pubsub.remove(b"a")
        rig.pubsub.add(b"a")
        await eventually(lambda: rig.heard.subscribed == [[b"a"], [b"a"]])
        assert rig.server.commands == [(b"SUBSCRIBE", b"a")]


async def test_a_name_that_is_removed_is_heard_no_more() -> None:
    async with connected(b"a") as rig:
        await rig.written(1)
        rig.server.say(confirmed(b"a"))
        await eventually(lambda: rig.pubsub.hears(b"a"))
        rig.pubsub.remove(b"a")
        assert (await rig.written(2))[1] == (b"UNSUBSCRIBE", b"a")
        assert not rig.pubsub.hears(b"a")


async def test_a_barrier_is_passed_by_its_own_answer_behind_all_messages() -> None:
    """Whatever Redis had published before it has been delivered by then."""
    async with connected() as rig:
        first, second = (asyncio.create_task(rig.pubsub.barrier()) for _ in range(2))
        pings = await rig.written(2)
        rig.server.say([b"message", b"a", b"1"], [b"pong", pings[0][1]])
        await first
        assert rig.heard.messages == [(b"a", b"1")]
        assert not second.done()
        rig.server.say([b"pong", pings[1][1]])
        await second


async def test_a_barrier_fails_without_a_connection_with_it_and_after_its_time() -> None:
    """Not sent, so it may be asked again; silent, so nobody knows."""
    async with connected(command_timeout_seconds=0.05) as rig:
        with pytest.raises(RedisNoAnswerError):
            await rig.pubsub.barrier()
        waiting = asyncio.create_task(rig.pubsub.barrier())
        await rig.written(2)
        rig.endpoint.refuses = ConnectionRefusedError("gone")
        rig.server.breaks()
        with pytest.raises(RedisNotSentError):
            await waiting
        with pytest.raises(RedisNotSentError):
            await rig.pubsub.barrier()


async def test_a_fault_of_the_core_does_not_cost_the_connection() -> None:
    """The fault is logged with its traceback, and the next message is delivered."""
    async with connected(b"a") as rig:
        rig.heard.fails = True
        rig.server.say([b"message", b"a", b"1"])
        await eventually(lambda: rig.log.lines == [("exception", "redis_message_failed")])
        rig.heard.fails = False
        rig.server.say([b"message", b"a", b"2"])
        await eventually(lambda: rig.heard.messages == [(b"a", b"2")])
        assert rig.pubsub.connects == 1


async def test_a_connection_that_is_dropped_is_closed_and_made_anew() -> None:
    async with connected(b"a") as rig:
        first = rig.server
        rig.pubsub.drop("deaf")
        await eventually(lambda: rig.pubsub.connects == 2)
        assert first.closed


def test_a_listener_gets_what_comes_under_its_name_until_it_is_ignored() -> None:
    """Listening twice is listening once."""
    names, got = PubSubNames(), list[bytes]()
    listeners = Listeners(names)
    listeners.listen(b"ask", got.append)
    listeners.listen(b"ask", got.append)
    assert names.wanted == [b"ask"]
    assert listeners.receive(b"ask", b"1")
    assert not listeners.receive(b"other", b"2")
    listeners.ignore(b"ask")
    assert not listeners.receive(b"ask", b"3")
    assert got == [b"1"]
    assert not names.wanted
