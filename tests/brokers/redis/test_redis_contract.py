"""The Redis broker keeps what every broker has to keep: `tests.brokers.test_contract`, again.

Only the `rig` differs: it waits after each publication until it has been delivered, and makes
Redis older instead of moving a clock.
"""

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any, cast

import pytest
from redis import Redis

from hub.brokers.redis.broker import RedisBroker
from hub.brokers.redis.keys import DEFAULT_PREFIX, Keys
from hub.core.ports import PublishRequest, PublishResult
from hub.core.publication import Position, Publication
from hub.core.pushes import Change, Gap, PresenceReset
from tests.brokers.conftest import NAMESPACES
from tests.brokers.redis.nodes import FAST, TestNode
from tests.brokers.rig import Rig
from tests.brokers.test_contract import *  # noqa: F403 - all there is, and what will be
from tests.core.fakes import FakeClock
from tests.support.redis_server import RedisServer

# Redis tells the time, to which the test holds a fake clock: see test_redis_publishing for it.
del test_a_publication_is_delivered_with_everything_it_was_given  # noqa: F821 - from the contract

# Comparing would tell the node what the test's ageing removed.
OPTIONS = replace(FAST, reconcile_seconds=60)


class _Ageing(FakeClock):
    """Advancing shortens what everything in Redis still has to live."""

    def __init__(self, redis: RedisServer) -> None:
        super().__init__()
        self._port = redis.port

    def advance(self, seconds: float) -> None:
        milliseconds = int(seconds * 1000)
        with Redis(port=self._port, protocol=2) as client:
            for key in client.scan_iter():
                if key.endswith(b":log"):
                    _age_entries(client, key, milliseconds)
                if key.endswith(b":rows"):
                    _age_rows(client, key, milliseconds)
                if client.pttl(key) < 0:
                    continue
                client.pexpire(key, client.pttl(key) - milliseconds)


def _age_entries(client: Redis, log: bytes, milliseconds: int) -> None:
    lifetime, entries = client.pttl(log), client.xrange(log) or []
    client.delete(log)
    for identifier, fields in entries:
        assert identifier is not None
        assert fields is not None
        message = fields[b"m"]
        assert isinstance(message, bytes)
        epoch, offset, time_ms, rest = message.split(b"\n", 3)
        older = b"%d" % (int(time_ms) - milliseconds)
        aged: dict[Any, Any] = {"m": b"\n".join((epoch, offset, older, rest))}
        if (until := fields.get(b"x")) is not None:
            aged["x"] = int(until) - milliseconds
        client.xadd(log, aged, id=identifier)
    client.pexpire(log, lifetime)


def _age_rows(client: Redis, rows: bytes, milliseconds: int) -> None:
    held = cast("dict[bytes, bytes]", client.hgetall(rows))
    for key, message in held.items():
        epoch, offset, time_ms, rest = message.split(b"\n", 3)
        older = b"%d" % (int(time_ms) - milliseconds)
        client.hset(cast("str", rows), cast("str", key), b"\n".join((epoch, offset, older, rest)))


class _Node(TestNode):
    """Hands down what comes to the rig."""

    def __init__(self, redis: RedisServer, rig: Rig, prefix: str) -> None:
        options = replace(OPTIONS, keys=Keys(prefix))
        super().__init__(redis.url, options=options, namespaces=NAMESPACES)
        self._rig = rig

    def deliver(self, publication: Publication) -> None:
        self._rig.deliver(publication)

    def lost(self, gap: Gap) -> None:
        self._rig.lost(gap)

    def reset(self, channel: str, head: Position) -> None:
        self._rig.reset(channel, head)

    def announce(self, channel: str, change: Change | PresenceReset) -> None:
        self._rig.announce(channel, change)


class _Settled:
    """A broker whose publications have been delivered when it answers."""

    answers_at_once = False
    publish_now = None
    publish_many_now = None
    publish_many = None

    def __init__(self, broker: RedisBroker) -> None:
        self._broker = broker
        self.publish_soon = broker.publish_soon
        self.history = broker.history
        self.state = broker.state
        self.clear = broker.clear
        self.subscribe = broker.subscribe
        self.unsubscribe = broker.unsubscribe
        self.follow = broker.follow
        self.unfollow = broker.unfollow
        self.matching = broker.matching
        self.expect = broker.expect

    async def publish(self, request: PublishRequest) -> PublishResult:
        result = await self._broker.publish(request)
        await self._broker.shard(request.channel)._pubsub.barrier()
        return result


@pytest.fixture(params=[DEFAULT_PREFIX, "Staging_2.eu-west"])
def prefix(request: pytest.FixtureRequest) -> str:
    """The prefix of all names in Redis."""
    return str(request.param)


@pytest.fixture
async def rig(calm_redis: RedisServer, prefix: str) -> AsyncGenerator[Rig]:
    """A Redis broker whose node subscribes to nothing yet."""
    made = Rig(_Ageing(calm_redis))
    async with _Node(calm_redis, made, prefix) as node:
        await node.is_ready()
        made.broker = _Settled(node.broker)
        meta = Keys(prefix).meta
        made.forget = lambda channel: calm_redis.ask("DEL", meta(channel))
        yield made
    assert calm_redis.ask("FLUSHALL") == b"+OK\r\n"


async def test_rows_outlive_an_epoch_and_are_older_than_all_of_the_next(rig: Rig) -> None:
    """A server that was promoted has them: to forget them would empty every table."""
    before = [await rig.publish("table:a", b"1", key=key) for key in "abcd"]
    rig.forget("table:a")
    page = await rig.broker.state("table:a", "", 10)
    assert page.head.epoch != before[0].epoch
    assert [(row.key, row.offset) for row in page.rows] == [("a", 0), ("b", 0), ("c", 0), ("d", 0)]
    await rig.publish("table:a", b"2", key="b")
    await rig.publish("table:a", b"2", key="e")
    rows = await rig.rows("table:a")
    assert len(rows) == 4
    assert (rows["b"], rows["e"]) == ((1, b"2"), (2, b"2"))
