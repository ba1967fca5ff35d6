"""The canary and the write check, on a Redis that says what a test wants."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

import pytest
from redis.exceptions import ResponseError

from hub.brokers.redis.link.health import Canary, WriteCheck
from hub.brokers.redis.link.pubsub import PubSubConnection
from tests.brokers.redis.fakes import Command, Rig
from tests.support.waiting import eventually

DEADLINE_SECONDS = 8.0


class Subscribed:
    """A pub/sub connection that has the canary's name; barriers pass at once."""

    def __init__(self) -> None:
        self.up = asyncio.Event()
        self.up.set()
        self.connects = 1
        self.connected_at_seconds = 0.0
        self.barriers = 0
        self.drops: list[str] = []

    def hears(self, name: bytes) -> bool:
        return True

    def drop(self, why: str) -> None:
        self.drops.append(why)

    async def barrier(self) -> None:
        self.barriers += 1


class Watched:
    """A canary; `receivers` is what PUBLISH is answered."""

    def __init__(self, calls: Rig) -> None:
        self.calls = calls
        self.receivers = 1
        self.sent: list[bytes] = []
        calls.endpoint.answer = self._answer
        self.pubsub = Subscribed()
        self.canary = Canary(
            calls=calls.calls,
            pubsub=cast("PubSubConnection", self.pubsub),
            options=calls.options,
            clock=calls.clock,
        )

    def _answer(self, command: Command) -> object:
        self.sent.append(command[2])
        return self.receivers

    async def send(self) -> bytes:
        """One more; its number."""
        count = len(self.sent)
        self.calls.clock.advance(0.001)
        self.canary.hurry()
        await eventually(lambda: len(self.sent) > count)
        return self.sent[-1]


@asynccontextmanager
async def watched() -> AsyncGenerator[Watched]:
    calls = Rig(canary_seconds=1e6, canary_deadline_seconds=DEADLINE_SECONDS)
    async with calls:
        made = Watched(calls)
        task = asyncio.create_task(made.canary.run())
        await eventually(lambda: made.sent)
        try:
            yield made
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_until_a_canary_was_heard_the_server_is_not_trusted() -> None:
    async with watched() as made:
        assert made.canary.problem() == "no canary was heard yet"
        made.calls.clock.advance(0.25)
        made.canary.hear(await made.send())
        assert made.canary.problem() is None


async def test_a_canary_tells_how_long_the_way_is() -> None:
    """Only the newest canary counts: an older one that comes late tells nothing new."""
    async with watched() as made:
        old, new = await made.send(), await made.send()
        made.calls.clock.advance(0.25)
        made.canary.hear(old)
        assert made.canary.round_trip_seconds is None
        made.canary.hear(new)
        assert made.canary.round_trip_seconds == pytest.approx(0.25)


async def test_a_server_is_deaf_after_the_deadline_and_not_before() -> None:
    async with watched() as made:
        made.canary.hear(await made.send())
        made.calls.clock.advance(DEADLINE_SECONDS)
        assert made.canary.problem() is None
        made.calls.clock.advance(0.1)
        assert made.canary.problem() == "no canary was heard for 8.1 s"


async def test_a_connection_that_hears_none_of_what_was_sent_is_given_up() -> None:
    """Counted from the first that was sent and not heard."""
    async with watched() as made:
        made.canary.hear(await made.send())
        await made.send()
        made.calls.clock.advance(DEADLINE_SECONDS - 0.01)
        await made.send()
        await made.send()
        assert not made.pubsub.drops
        made.calls.clock.advance(0.1)
        await made.send()
        await eventually(lambda: made.pubsub.drops == ["deaf: no canary was heard on it"])


async def test_a_redis_that_does_not_know_the_subscription_is_asked_twice() -> None:
    """SUBSCRIBE may just be on its way: the second time is behind a barrier."""
    async with watched() as made:
        made.receivers = 0
        await made.send()
        await eventually(
            lambda: made.pubsub.drops == ["deaf: Redis does not know its subscription"]
        )
        assert made.pubsub.barriers == 1


class Refusing:
    """Calls that end as a test says."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.check = WriteCheck(calls=rig.calls, options=rig.options, log=rig.log.logger)

    async def becomes(self, answer: object) -> None:
        """Answer so from now on, until the check has seen it."""
        asked: list[Command] = []

        def reply(command: Command) -> object:
            asked.append(command)
            return answer

        self.rig.endpoint.answer = reply
        await eventually(lambda: len(asked) > 1)


async def test_a_redis_that_refuses_to_write_is_known_and_said_once() -> None:
    """The refusal is logged in the server's own words, and once more when it
    takes publications again."""
    async with Rig(canary_seconds=0.001) as rig:
        made = Refusing(rig)
        task = asyncio.create_task(made.check.run())
        await made.becomes(1)
        assert made.check.refusal == ""
        await made.becomes(ResponseError("OOM command not allowed"))
        assert made.check.refusal == "OOM command not allowed"
        await made.becomes(1)
        await eventually(lambda: made.check.refusal == "")
        task.cancel()
        events = [event for _, event in rig.log.lines if event != "redis_refused"]
        assert events == ["redis_takes_no_publications", "redis_takes_publications_again"]


async def test_another_refusal_says_nothing_about_writing() -> None:
    async with Rig(canary_seconds=0.001) as rig:
        made = Refusing(rig)
        task = asyncio.create_task(made.check.run())
        await made.becomes(ResponseError("ERR unknown command"))
        assert made.check.refusal == ""
        task.cancel()


async def test_a_redis_that_cannot_be_asked_refuses_nothing() -> None:
    """The write check refuses nothing while Redis is away: the canary reports that."""
    rig = Rig(canary_seconds=1e6)
    check = WriteCheck(calls=rig.calls, options=rig.options, log=rig.log.logger)
    task = asyncio.create_task(check.run())
    await eventually(lambda: rig.counters.broker_call_errors["not_sent"])
    assert check.refusal == ""
    task.cancel()
